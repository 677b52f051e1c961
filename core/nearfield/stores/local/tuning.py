"""Measuring an index on the rows it holds: recall against exact answers, and CPU time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from nearfield.stores.local import flat
from nearfield.stores.local.plans import OperatingPoint, PlanKind, pareto_front

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.documents import Metric
    from nearfield.stores.local.indexes import CodeIndex, GraphIndex

    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]

__all__ = ["Sample", "draw_sample", "measure_codes", "measure_exact", "measure_graph"]

K = 10
"""Recall is measured at this k."""
_QUERIES = 500
_CANDIDATES = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_DEEPEST_CANDIDATES = _CANDIDATES[-1]
_TIMED_QUERIES = 48
_Z = 1.96
"""Standard errors to either side of a 95 % interval."""
_SEED = 20


@dataclass(frozen=True, slots=True)
class Sample:
    """Queries and their exact answers.

    Attributes:
        queries: Shape (m, dimension).
        truth: The positions of each query's K best rows, shape (m, K), −1 where there are fewer.
        own: The row that each query was taken from, −1 for one that was given, shape (m,).
    """

    queries: FloatArray
    truth: IntArray
    own: IntArray


def draw_sample(
    vectors: FloatArray,
    norms: FloatArray,
    metric: Metric,
    queries: FloatArray | None = None,
    *,
    checkpoint: Callable[[], None] = lambda: None,
) -> Sample:
    """Take rows as queries, unless some are given, and find their exact answers.

    A row is left out of its own answers.
    """
    own = np.full(0 if queries is None else len(queries), -1, np.int64)
    if queries is None:
        generator = np.random.default_rng(_SEED)
        own = np.sort(generator.choice(len(vectors), min(_QUERIES, len(vectors)), replace=False))
        queries = np.ascontiguousarray(vectors[own])
    truth = np.full((len(queries), K), -1, np.int64)
    for start in range(0, len(queries), 32):
        checkpoint()
        found = flat.top_k_many(
            vectors, norms, queries[start : start + 32], K + 1, metric=metric, positions=None
        )
        for row, (positions, _) in enumerate(found, start=start):
            kept = positions[positions != own[row]][:K]
            truth[row, : len(kept)] = kept
    return Sample(queries, truth, own)


def measure_codes(
    index: CodeIndex, sample: Sample, rerank_us: float, *, checkpoint: Callable[[], None]
) -> tuple[list[OperatingPoint], float]:
    """Sweep how many lists are looked into and how many candidates are reranked.

    Returns:
        The Pareto front, and what comparing every code costs, in CPU microseconds.
    """
    kind = PlanKind.SCAN if index.lists == 1 else PlanKind.LISTS
    depths = [1]
    while depths[-1] < index.lists:
        depths.append(min(index.lists, max(depths[-1] + 1, int(depths[-1] * 1.5))))
    points: list[OperatingPoint] = []
    cost_us = 0.0
    for depth in depths:
        checkpoint()
        cost_us = _cost_us(index, sample.queries, depth)
        swept = _sweep(index, sample, kind, depth, cost_us, rerank_us)
        points += swept
        if min(point.recall for point in swept) > 0.9999 or swept[-1].recall_low == 1.0:  # noqa: PLR2004
            break
    scan_us = _cost_us(index, sample.queries, index.lists)
    return pareto_front(points), scan_us


def measure_graph(
    index: GraphIndex, sample: Sample, rerank_us: float, *, checkpoint: Callable[[], None]
) -> list[OperatingPoint]:
    """Sweep how far the graph is walked."""
    points: list[OperatingPoint] = []
    for depth in (16, 24, 32, 48, 64, 96, 128, 192, 256):
        checkpoint()
        cost_us = _cost_us(index, sample.queries, depth)
        points += _sweep(index, sample, PlanKind.GRAPH, depth, cost_us, rerank_us, deepest=depth)
    return pareto_front(points)


def measure_exact(
    vectors: FloatArray, norms: FloatArray, metric: Metric, queries: FloatArray
) -> tuple[float, float]:
    """Return the CPU microseconds of comparing one true vector among many, and one candidate."""
    count = min(len(vectors), 4096)
    generator = np.random.default_rng(_SEED)
    many = np.sort(generator.choice(len(vectors), count, replace=False))
    few = many[:: max(1, count // 64)].copy()

    def search(positions: IntArray) -> None:
        for query in queries[:_TIMED_QUERIES]:
            flat.top_k_one(vectors, norms, query[np.newaxis], K, metric=metric, positions=positions)

    timed = min(len(queries), _TIMED_QUERIES)
    many_us = _cpu_us(partial(search, many)) / timed
    few_us = _cpu_us(partial(search, few)) / timed
    per_row = max(1e-3, (many_us - few_us) / max(1, len(many) - len(few)))
    return per_row, max(per_row, few_us / len(few))


def _sweep(
    index: CodeIndex | GraphIndex,
    sample: Sample,
    kind: PlanKind,
    depth: int,
    cost_us: float,
    rerank_us: float,
    deepest: int = _DEEPEST_CANDIDATES,
) -> list[OperatingPoint]:
    rows = index.candidates(sample.queries, deepest + 1, depth, None)
    hits = _found_at(rows, sample)
    wanted = np.maximum(1, (sample.truth >= 0).sum(axis=1))
    points = []
    for candidates in [c for c in _CANDIDATES if c <= deepest]:
        recalls = (hits <= candidates).sum(axis=1) / wanted
        mean = float(recalls.mean())
        error = _Z * float(recalls.std(ddof=1)) / np.sqrt(len(recalls)) if len(recalls) > 1 else 1.0
        points.append(
            OperatingPoint(
                kind,
                depth,
                candidates,
                recall=mean,
                recall_low=max(0.0, mean - float(error)),
                recall_p5=float(np.percentile(recalls, 5)),
                cost_us=cost_us + candidates * rerank_us,
            )
        )
    return points


def _found_at(rows: IntArray, sample: Sample) -> IntArray:
    """Return the rank at which each true neighbour is a candidate, a large one if it is none."""
    ranks = np.full(sample.truth.shape, 1 << 40, np.int64)
    for number, (found, truth, own) in enumerate(zip(rows, sample.truth, sample.own, strict=True)):
        order = np.argsort(found, kind="stable")
        at = np.searchsorted(found[order], truth)
        at = np.minimum(at, len(found) - 1)
        there = (found[order][at] == truth) & (truth >= 0)
        rank = order[at] + 1
        own_at = np.flatnonzero(found == own)
        if own >= 0 and len(own_at):
            rank = rank - (rank > own_at[0] + 1)
        ranks[number, there] = rank[there]
    return ranks


def _cost_us(index: CodeIndex | GraphIndex, queries: FloatArray, depth: int) -> float:
    timed = queries[:_TIMED_QUERIES]

    def search() -> None:
        for query in timed:
            index.candidates(query[np.newaxis], 64, depth, None)

    return _cpu_us(search) / len(timed)


def _cpu_us(work: Callable[[], None]) -> float:
    """Return the CPU time of this thread, the better of two runs, in microseconds."""
    times = []
    for _ in range(2):
        start = time.thread_time_ns()
        work()
        times.append((time.thread_time_ns() - start) / 1e3)
    return min(times)
