"""Measuring an index on the rows it holds: recall against exact answers, and CPU time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nearfield.stores.local import flat
from nearfield.stores.local.plans import OperatingPoint, PlanKind, pareto_front
from nearfield.stores.recall import K, estimate, invent_queries

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.documents import Metric
    from nearfield.stores.local.indexes import CodeIndex, GraphIndex

    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]

__all__ = ["Rows", "Sample", "Sweep"]

_QUERIES = 450
_FILTERED_QUERIES = 90
_CANDIDATES = (40, 60, 80, 100, 120, 160, 240, 320, 480)
"""Fewer would save a few microseconds, and make recall depend on what is asked the most."""
_FILTERED_CANDIDATES = (*_CANDIDATES, 720, 1080, 1600)
_GRAPH_CANDIDATES = (10, 16, 24, 40)
_LIST_DEPTHS = (2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
_GRAPH_DEPTHS = (24, 32, 48, 64, 96, 128, 192)
_TIMED_QUERIES = 40
_EXACT_ROWS = 2048
_RERANKED = (40, 320)
_ENOUGH = 0.9995
"""No deeper search is measured once the sampled recall is this good."""
_SEED = 20


@dataclass(frozen=True, slots=True)
class Rows:
    """Vectors to measure on.

    Attributes:
        vectors: Shape (n, dimension).
        norms: Their lengths, shape (n,).
        metric: How they are compared.
    """

    vectors: FloatArray
    norms: FloatArray
    metric: Metric

    def truth(self, queries: FloatArray, k: int, positions: IntArray | None) -> list[IntArray]:
        """Return the k best rows for each query, and all that tie with the last."""
        search = flat.top_k_many if len(queries) > 1 else flat.top_k_one
        found = search(
            self.vectors, self.norms, queries, k, metric=self.metric, positions=positions
        )
        return [rows for rows, _ in found]


@dataclass(frozen=True, slots=True)
class Sample:
    """Queries and their exact answers.

    Attributes:
        queries: Shape (m, dimension).
        truth: The positions of each query's K best rows, shape (m, K), −1 where there are fewer.
        own: The row that each query was taken from, −1 for one that was given, shape (m,).
        allowed: The rows that a filter takes, None for all.
    """

    queries: FloatArray
    truth: IntArray
    own: IntArray
    allowed: NDArray[np.bool_] | None = None

    @classmethod
    def draw(
        cls,
        rows: Rows,
        queries: FloatArray | None,
        checkpoint: Callable[[], None],
        *,
        count: int = _QUERIES,
        allowed: NDArray[np.bool_] | None = None,
        seed: int = _SEED,
    ) -> Sample:
        """Take rows as queries, unless some are given, and find their exact answers.

        A row is left out of its own answers.
        """
        own = np.full(0 if queries is None else len(queries), -1, np.int64)
        if queries is None:
            queries, own = invent_queries(rows.vectors, count, seed)
        positions = None if allowed is None else np.flatnonzero(allowed)
        truth = np.full((len(queries), K), -1, np.int64)
        for start in range(0, len(queries), 64):
            checkpoint()
            found = rows.truth(queries[start : start + 64], K + 1, positions)
            for number, best in enumerate(found, start=start):
                kept = best[best != own[number]][:K]
                truth[number, : len(kept)] = kept
        return cls(queries, truth, own, allowed)

    @property
    def bits(self) -> NDArray[np.uint8] | None:
        """The allowed rows, eight to a byte."""
        return None if self.allowed is None else np.packbits(self.allowed, bitorder="little")


class Sweep:
    """Measures the indexes of one segment.

    Args:
        rows: What the segment holds.
        queries: Queries to measure with; None to take rows.
        checkpoint: Called between steps; may raise to give up.
    """

    def __init__(
        self, rows: Rows, queries: FloatArray | None, checkpoint: Callable[[], None]
    ) -> None:
        self._rows = rows
        self._queries = queries
        self._checkpoint = checkpoint
        self.sample = Sample.draw(rows, queries, checkpoint)
        query = self.sample.queries[:1]
        self.exact_us = _cpu_us(lambda: self._rows.truth(query, K, None))
        self.exact_us_per_row = self._exact_cost_us(_EXACT_ROWS)
        few, many = (self._rerank_cost_us(count) for count in _RERANKED)
        self._rerank_us = max(0.01, (many - few) / (_RERANKED[1] - _RERANKED[0]))
        self._start_us = max(0.0, few - _RERANKED[0] * self._rerank_us)

    def scan(self, index: CodeIndex) -> list[OperatingPoint]:
        """Measure how many candidates a scan of all codes needs, without filters and with."""
        points = self._points(index, PlanKind.SCAN, 1, _CANDIDATES, [self.sample])
        filtered = list(self._filtered_samples())
        points += self._points(
            index, PlanKind.SCAN, 1, _FILTERED_CANDIDATES, filtered, filtered=True
        )
        return pareto_front(points)

    def lists(self, index: CodeIndex) -> list[OperatingPoint]:
        """Measure how many lists have to be looked into."""
        return self._deeper(index, PlanKind.LISTS, _LIST_DEPTHS, _CANDIDATES)

    def graph(self, index: GraphIndex) -> list[OperatingPoint]:
        """Measure how far a graph has to be walked."""
        return self._deeper(index, PlanKind.GRAPH, _GRAPH_DEPTHS, _GRAPH_CANDIDATES)

    def _deeper(
        self,
        index: CodeIndex | GraphIndex,
        kind: PlanKind,
        depths: tuple[int, ...],
        candidates: tuple[int, ...],
    ) -> list[OperatingPoint]:
        points: list[OperatingPoint] = []
        for depth in depths:
            points += self._points(index, kind, depth, candidates, [self.sample])
            if max(point.recall for point in points) >= _ENOUGH:
                break
        return pareto_front(points)

    def _points(
        self,
        index: CodeIndex | GraphIndex,
        kind: PlanKind,
        depth: int,
        candidates: tuple[int, ...],
        samples: list[Sample],
        *,
        filtered: bool = False,
    ) -> list[OperatingPoint]:
        self._checkpoint()
        most = candidates[-1]
        ranks = []
        for sample in samples:
            found = index.candidates(sample.queries, most + 1, depth, sample.bits)
            ranks.append((_ranks(found, sample), sample))
        cost_us = max(self._cost_us(index, depth, sample) for sample in samples)
        points = []
        for count in candidates:
            worst = min(
                (estimate(recalls(found <= count, sample.truth)) for found, sample in ranks),
                key=lambda measured: measured.low,
            )
            points.append(
                OperatingPoint(
                    kind,
                    depth,
                    count,
                    recall=worst.mean,
                    recall_low=worst.low,
                    recall_high=worst.high,
                    recall_p5=worst.p5,
                    queries=worst.queries,
                    cost_us=cost_us + self._start_us + count * self._rerank_us,
                    filtered=filtered,
                )
            )
            if worst.mean >= _ENOUGH:
                break
        return points

    def _filtered_samples(self) -> Iterator[Sample]:
        """Draw samples under filters as hard as they come: half-spaces and balls."""
        rows = self._rows
        generator = np.random.default_rng(_SEED + 1)
        total = len(rows.vectors)
        for share in (0.5, 0.1, 0.03):
            direction = generator.standard_normal((1, rows.vectors.shape[1]), np.float32)[0]
            centre = np.array(rows.vectors[generator.integers(total)])
            for towards in (direction, centre):
                self._checkpoint()
                along = _products(rows.vectors, towards)
                allowed = along >= np.quantile(along, 1 - share)
                yield Sample.draw(
                    rows,
                    self._queries if self._queries is None else self._queries[:_FILTERED_QUERIES],
                    self._checkpoint,
                    count=_FILTERED_QUERIES,
                    allowed=allowed,
                    seed=int(generator.integers(1 << 30)),
                )

    def _exact_cost_us(self, count: int) -> float:
        """Return the CPU time of comparing one true vector, of so many that lie anywhere."""
        generator = np.random.default_rng(_SEED)
        total = len(self._rows.vectors)
        queries = self.sample.queries[:_TIMED_QUERIES]
        chosen = [
            np.sort(generator.integers(0, total, min(count, total))) for _ in range(len(queries))
        ]

        def search() -> None:
            for query, positions in zip(queries, chosen, strict=True):
                self._rows.truth(query[np.newaxis], K, positions)

        return _cpu_us(search) / len(queries) / min(count, total)

    def _rerank_cost_us(self, count: int) -> float:
        """Return the CPU time of reranking so many candidates that lie anywhere."""
        rows = self._rows
        generator = np.random.default_rng(_SEED)
        queries = self.sample.queries[:_TIMED_QUERIES]
        chosen = generator.integers(0, len(rows.vectors), (len(queries), 1, count))

        def search() -> None:
            for query, candidates in zip(queries, chosen, strict=True):
                asked = query[np.newaxis]
                flat.rerank(rows.vectors, rows.norms, asked, candidates, K, metric=rows.metric)

        return _cpu_us(search) / len(queries)

    def _cost_us(self, index: CodeIndex | GraphIndex, depth: int, sample: Sample) -> float:
        """Return the CPU time of naming candidates for one query, on one thread."""
        bits = sample.bits
        queries = sample.queries[:_TIMED_QUERIES]

        def search() -> None:
            for query in queries:
                index.candidates(query[np.newaxis], 64, depth, bits)

        return _cpu_us(search) / len(queries)


def recalls(found: NDArray[np.bool_], truth: IntArray) -> NDArray[np.float64]:
    """Return recall by query: the share of the true neighbours that was found."""
    there = truth >= 0
    return np.asarray((found & there).sum(axis=1) / np.maximum(1, there.sum(axis=1)))


def _ranks(rows: IntArray, sample: Sample) -> IntArray:
    """Return the rank at which each true neighbour is a candidate, a large one if it is none."""
    same = rows[:, np.newaxis, :] == sample.truth[:, :, np.newaxis]
    ranks = same.argmax(axis=2) + 1
    itself = rows == sample.own[:, np.newaxis]
    own_rank = np.where(itself.any(axis=1), itself.argmax(axis=1) + 1, rows.shape[1] + 1)
    ranks -= ranks > own_rank[:, np.newaxis]
    there = same.any(axis=2) & (sample.truth >= 0)
    return np.where(there, ranks, 1 << 40)


def _products(vectors: FloatArray, towards: FloatArray) -> FloatArray:
    """Return inner products in blocks, on as many cores as numpy uses for a small product."""
    return np.concatenate(
        [vectors[start : start + 8192] @ towards for start in range(0, len(vectors), 8192)]
    )


def _cpu_us(work: Callable[[], object]) -> float:
    """Return the CPU time of this thread, the better of two runs, in microseconds."""
    times = []
    for _ in range(2):
        start = time.thread_time_ns()
        work()
        times.append((time.thread_time_ns() - start) / 1e3)
    return min(times)
