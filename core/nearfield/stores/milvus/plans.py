"""How many of an index's lists are searched."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from nearfield.stores.base import RecallEstimate, TradeOff, TuningReport
from nearfield.stores.recall import estimate, recall

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["LISTS", "Plan", "Ranking", "choose"]

Ranking: TypeAlias = list[tuple[str, float]]
"""Ids, each with a score, best first."""

LISTS = 1024
"""In a segment, Milvus's ``nlist``. A search of all of them is exact."""
_PROBES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Milvus's ``nprobe``."""
_US = 1e6


@dataclass(frozen=True, slots=True)
class Plan:
    """A setting for searches.

    Attributes:
        probes: The lists of each segment that a search without a filter goes through (Milvus's
            ``nprobe``). Of an index without lists, every vector is compared in any case.
        recall: What was measured with it.
        sealed_us: What was written up to this moment, in microseconds since 1970, is in lists.
    """

    probes: int = LISTS
    recall: float = 1.0
    sealed_us: int = 0

    def __str__(self) -> str:
        return "every vector" if self.probes == LISTS else f"{self.probes} of {LISTS} lists"


def choose(
    search: Callable[[NDArray[np.float32], int], Ranking],
    queries: NDArray[np.float32],
    truth: list[Ranking],
    exact_us: float,
    *,
    target_recall: float,
    latency_ms: float | None,
    has_lists: bool,
) -> tuple[Plan, TuningReport]:
    """Measure plans, and take the quickest whose recall is above the target with confidence.

    Args:
        search: Takes a query and a number of lists, and returns the best K.
        queries: What to ask, shape (m, dimension).
        truth: The exact best K for each.
        exact_us: Microseconds for one exact search.
        target_recall: The mean recall@10 to hold.
        latency_ms: The most a query may take, in milliseconds of waiting.
        has_lists: Whether there is a choice.
    """
    measured: list[tuple[Plan, RecallEstimate, float]] = []
    for probes in _PROBES if has_lists and target_recall < 1.0 and len(queries) else ():
        search(queries[0], probes)  # what is loaded at first is not to be timed
        start = time.perf_counter()
        found = [search(query, probes) for query in queries]
        cost_us = (time.perf_counter() - start) * _US / len(queries)
        reached = estimate(np.array(list(map(recall, found, truth))))
        measured.append((Plan(probes, reached.mean), reached, cost_us))
        if reached.low >= target_recall:
            break
    exact = (Plan(), RecallEstimate(1.0, 1.0, 1.0, 1.0, len(queries)), exact_us)
    fit = [each for each in measured if each[1].low >= target_recall]
    chosen = min([exact, *fit], key=lambda each: each[2])
    shortfalls = []
    if latency_ms is not None and chosen[2] > latency_ms * 1000:
        shortfalls.append(
            f"a query takes {chosen[2] / 1000:.3f} ms, {latency_ms} ms were asked for; ask for a "
            "lower recall"
        )
    return chosen[0], TuningReport(
        target_recall=target_recall,
        recall=chosen[1],
        cost_us=chosen[2],
        exact_cost_us=exact_us,
        memory_bytes=0,
        met=not shortfalls,
        shortfalls=tuple(shortfalls),
        front=tuple(
            TradeOff(str(plan), reached, cost_us, chosen=plan is chosen[0])
            for plan, reached, cost_us in (*measured, exact)
        ),
    )
