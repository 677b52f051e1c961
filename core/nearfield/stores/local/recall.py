"""Recall of the collection as a whole: measured when it is tuned, and watched while it is used."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nearfield.stores.base import RecallEstimate
from nearfield.stores.recall import K, estimate, invent_queries, recall

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.documents import Metric
    from nearfield.filters import Filter
    from nearfield.stores.local.snapshots import Snapshot

    FloatArray = NDArray[np.float32]

__all__ = ["Measurement", "measure", "repeated"]

_QUERIES = 400
_SEED = 7


@dataclass(frozen=True, slots=True)
class Measurement:
    """What searching a collection was measured to give and to cost.

    Attributes:
        recall: Recall@10 over the queries.
        cost_us: CPU microseconds a query, on one thread, without fetching documents.
        exact_cost_us: The same for comparing every vector.
    """

    recall: RecallEstimate
    cost_us: float
    exact_cost_us: float


def measure(snapshot: Snapshot, metric: Metric, queries: FloatArray | None = None) -> Measurement:
    """Search as planned and exactly, and compare.

    Args:
        snapshot: The collection.
        metric: How its vectors are compared.
        queries: Shape (m, dimension); None to make some from the documents.
    """
    if not any(part.live_count for part in snapshot.parts):
        return Measurement(RecallEstimate(1.0, 1.0, 1.0, 1.0, 0), 0.0, 0.0)
    own = np.full(0 if queries is None else len(queries), -1, np.int64)
    if queries is None:
        queries, own = _drawn(snapshot)
    snapshot.search(queries[:1], K + 1, metric=metric)  # imports and caches are not to be timed
    # One after the other: an exact scan would leave nothing of the index in the caches.
    start = time.thread_time_ns()
    found = [snapshot.search(query[np.newaxis], K + 1, metric=metric)[0] for query in queries]
    middle = time.thread_time_ns()
    truth = [
        snapshot.search(query[np.newaxis], K + 1, metric=metric, exact=True)[0] for query in queries
    ]
    planned_us, exact_us = (middle - start) / 1e3, (time.thread_time_ns() - middle) / 1e3
    values = [
        recall(_best(mine, slot), _best(exact, slot))
        for mine, exact, slot in zip(found, truth, own.tolist(), strict=True)
    ]
    count = len(values)
    return Measurement(estimate(np.array(values)), planned_us / count, exact_us / count)


def repeated(
    snapshot: Snapshot,
    query: FloatArray,
    found: list[tuple[int, float]],
    k: int,
    *,
    where: Filter | None,
    metric: Metric,
) -> float:
    """Search again by comparing every vector, and return the recall of what was found."""
    truth = snapshot.search(query[np.newaxis], k, metric=metric, where=where, exact=True)[0]
    return recall(_top(found, k), _top(truth, k))


def _drawn(snapshot: Snapshot) -> tuple[FloatArray, NDArray[np.int64]]:
    """Make queries from live rows, and tell the slots of those that are rows themselves."""
    live = sum(part.live_count for part in snapshot.parts)
    queries, slots = [], []
    for part in snapshot.parts:
        rows = np.flatnonzero(part.live)
        count = round(_QUERIES * len(rows) / live)
        if not count:
            continue
        generator = np.random.default_rng(_SEED)
        pool = np.sort(generator.choice(rows, min(len(rows), 2 * count), replace=False))
        if part.segment is not None:
            part.segment.verify(pool)
        made, own = invent_queries(part.vectors[pool], count, _SEED)
        queries.append(made)
        slots.append(np.where(own < 0, -1, part.slots[pool][own]))
    return np.concatenate(queries), np.concatenate(slots)


def _best(ranked: list[tuple[int, float]], own: int) -> list[tuple[int, float]]:
    return _top([pair for pair in ranked if pair[0] != own], K)


def _top(ranked: list[tuple[int, float]], k: int) -> list[tuple[int, float]]:
    return sorted(ranked, key=lambda pair: -pair[1])[:k]
