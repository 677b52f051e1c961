"""The index ladder: which indexes a segment gets. Each is built, measured, and kept if it pays."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from nearfield.stores.local.indexes import CodeIndex, GraphIndex
from nearfield.stores.local.plans import OperatingPoint, PlanKind, cheapest
from nearfield.stores.local.segment_files import INDEXES
from nearfield.stores.local.tuning import Rows, Sweep

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.stores.local.plans import Target
    from nearfield.stores.local.segment_files import FileSeal, SegmentWriter

    FloatArray = NDArray[np.float32]
    Checkpoint = Callable[[], None]

__all__ = ["Ladder"]

_LISTS_FROM_ROWS = 50_000
"""Below, a scan of all codes takes no longer than finding the nearest lists."""
_GRAPH_UP_TO_RECALL = 0.97
"""Above, graphs lost to the other plans on all data they were measured on (docs/design.md)."""
_TRIAL_ROWS = 16_384
_TRIAL_RECALL = 0.95
_TRIAL_SHARE = 0.06
"""Lists pay if the true neighbours lie in fewer of them than this share."""
_PAYS = 0.9
"""An index is kept if it takes no more than this share of the time of the next best."""


class Ladder:
    """Builds the indexes of one segment.

    Attributes:
        front: The settings worth using, of all indexes that were kept.
        files: The indexes' files.
        thorough: Whether every index was tried that might be faster.
        exact_us: What comparing every vector costs, in CPU microseconds.
        exact_us_per_row: What comparing one of a few rows that lie anywhere costs.

    Args:
        writer: Where the rows were written, and the indexes go.
        rows: The rows.
        target: What they are to reach.
        checkpoint: Called between steps; may raise to give up.
        budget_bytes: The most memory that the indexes may take; None for any.
        queries: Queries to measure with, shape (m, dimension); None to take rows.
    """

    def __init__(
        self,
        writer: SegmentWriter,
        rows: Rows,
        target: Target,
        checkpoint: Checkpoint,
        *,
        budget_bytes: int | None = None,
        queries: FloatArray | None = None,
    ) -> None:
        self._writer = writer
        self._rows = rows
        self._target = target
        self._checkpoint = checkpoint
        self._budget_bytes = budget_bytes
        self._sweep = Sweep(rows, queries, checkpoint)
        self.exact_us = self._sweep.exact_us
        self.exact_us_per_row = self._sweep.exact_us_per_row
        self.front: list[OperatingPoint] = []
        self.files: dict[str, FileSeal] = {}
        self.thorough = False

    def build(self, *, thorough: bool) -> None:
        """Build a scan of codes and, if there is time to be thorough, what may be faster."""
        scan = _build_codes(self._rows, 1, self._checkpoint)
        self._keep(PlanKind.SCAN, scan, self._sweep.scan(scan))
        del scan
        count = len(self._rows.vectors)
        try_lists = count >= _LISTS_FROM_ROWS
        try_graph = self._target.recall <= _GRAPH_UP_TO_RECALL
        self.thorough = thorough or not (try_lists or try_graph)
        if not thorough:
            return
        if try_lists and self._lists_pay():
            lists = _build_codes(self._rows, _lists_for(count), self._checkpoint)
            points = self._sweep.lists(lists)
            if self._pays(points):
                self._keep(PlanKind.LISTS, lists, points)
            del lists
        if try_graph and self._graph_pays():
            graph = _build_graph(self._rows, self._checkpoint)
            points = self._sweep.graph(graph)
            if self._pays(points):
                self._keep(PlanKind.GRAPH, graph, points)

    def _keep(
        self, kind: PlanKind, index: CodeIndex | GraphIndex, points: list[OperatingPoint]
    ) -> None:
        self._checkpoint()
        name = INDEXES[kind]
        path = self._writer.folder / name
        index.write(path)
        taken = path.stat().st_size + sum(seal.size_bytes for seal in self.files.values())
        if self.files and self._budget_bytes is not None and taken > self._budget_bytes:
            path.unlink()
            return
        self.files[name] = self._writer.seal(name)
        self.front += points

    def _pays(self, points: list[OperatingPoint]) -> bool:
        """Tell whether some points are worth an index, at the target."""
        best = cheapest(self.front, self._target.recall)
        point = cheapest(points, self._target.recall)
        return point is not None and (best is None or point.cost_us <= _PAYS * best.cost_us)

    def _lists_pay(self) -> bool:
        """Divide a few rows into lists, and see how many lists the true neighbours are in."""
        trial = self._trial()
        lists = _build_codes(trial, _lists_for(len(trial.vectors)), self._checkpoint)
        points = Sweep(trial, None, self._checkpoint).lists(lists)
        best = cheapest(points, _TRIAL_RECALL)
        return best is not None and best.depth <= _TRIAL_SHARE * lists.lists

    def _graph_pays(self) -> bool:
        """Build a graph of a few rows; a walk grows a little faster than the logarithm of n."""
        best = cheapest(self.front, self._target.recall)
        trial = self._trial()
        graph = _build_graph(trial, self._checkpoint)
        points = Sweep(trial, None, self._checkpoint).graph(graph)
        point = cheapest(points, self._target.recall)
        if point is None:
            return False
        growth = math.log(len(self._rows.vectors)) / math.log(len(trial.vectors))
        return best is None or point.cost_us * growth**2 <= _PAYS * best.cost_us

    def _trial(self) -> Rows:
        total = len(self._rows.vectors)
        generator = np.random.default_rng(total)
        chosen = np.sort(generator.choice(total, min(total, _TRIAL_ROWS), replace=False))
        return Rows(self._rows.vectors[chosen], self._rows.norms[chosen], self._rows.metric)


def _build_codes(rows: Rows, lists: int, checkpoint: Checkpoint) -> CodeIndex:
    dimension = rows.vectors.shape[1]
    code_dims = max(1, min(4, dimension // 64))
    return CodeIndex.build(
        lambda start, end: rows.vectors[start:end],
        len(rows.vectors),
        dimension=dimension,
        metric=rows.metric,
        lists=lists,
        # Lists are looked into for the sake of few comparisons, so these may be finer.
        code_dims=code_dims if lists == 1 else max(1, code_dims // 2),
        checkpoint=checkpoint,
    )


def _build_graph(rows: Rows, checkpoint: Checkpoint) -> GraphIndex:
    return GraphIndex.build(
        lambda start, end: rows.vectors[start:end],
        len(rows.vectors),
        dimension=rows.vectors.shape[1],
        metric=rows.metric,
        checkpoint=checkpoint,
    )


def _lists_for(count: int) -> int:
    """Return about 4.5·√n, as a power of two: what was fastest at 200,000 (docs/design.md)."""
    return int(2 ** round(math.log2(4.5 * math.sqrt(count))))
