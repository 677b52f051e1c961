"""How searches go: through the index's graph at some depth, or past it."""

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

__all__ = ["QUERIES", "SEED", "Plan", "Ranking", "choose"]

Ranking: TypeAlias = list[tuple[str, float]]
"""Ids, each with a score, best first."""

QUERIES = 200
SEED = 7
_DEPTHS = (20, 40, 80, 160, 320, 640, 1280, 2560)
"""Milvus's ``ef``."""
_US = 1e6


@dataclass(frozen=True, slots=True)
class Plan:
    """A setting for searches.

    Attributes:
        depth: Milvus's ``ef``, raised to the number of candidates where that is more; None to
            fetch and compare every vector.
        recall: What was measured with it; None before the first tuning.
    """

    depth: int | None = 160
    recall: float | None = None

    def __str__(self) -> str:
        return "every vector" if self.depth is None else f"graph, ef {self.depth}"


def choose(
    search: Callable[[NDArray[np.float32], int], Ranking],
    queries: NDArray[np.float32],
    truth: list[Ranking],
    exact_us: float,
    *,
    target_recall: float,
    latency_ms: float | None,
) -> tuple[Plan, TuningReport]:
    """Measure depths, and take the quickest whose recall is above the target with confidence.

    Args:
        search: Takes a query and a depth, and returns the best K.
        queries: What to ask, shape (m, dimension).
        truth: The exact best K for each.
        exact_us: Microseconds for one exact search.
        target_recall: The mean recall@10 to hold.
        latency_ms: The most a query may take, in milliseconds of waiting.
    """
    measured: list[tuple[Plan, RecallEstimate, float]] = []
    for depth in _DEPTHS if target_recall < 1.0 and len(queries) else ():
        search(queries[0], depth)  # what is loaded at first is not to be timed
        start = time.perf_counter()
        found = [search(query, depth) for query in queries]
        cost_us = (time.perf_counter() - start) * _US / len(queries)
        reached = estimate(np.array(list(map(recall, found, truth))))
        measured.append((Plan(depth, reached.mean), reached, cost_us))
        if reached.low >= target_recall:
            break
    exact = (Plan(None, 1.0), RecallEstimate(1.0, 1.0, 1.0, 1.0, len(queries)), exact_us)
    fit = [each for each in measured if each[1].low >= target_recall]
    # To fetch everything is a way out alone: on a server others wait for it, too.
    chosen = min(fit, key=lambda each: each[2]) if fit else exact
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
