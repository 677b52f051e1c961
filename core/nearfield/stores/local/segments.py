"""Sealed segments: immutable rows in mapped files, with an index and what was measured of it."""

from __future__ import annotations

import math
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from nearfield.errors import CorruptionError
from nearfield.stores.base import PlanStep
from nearfield.stores.local import flat
from nearfield.stores.local.indexes import CodeIndex, GraphIndex, worker_threads
from nearfield.stores.local.parts import Part
from nearfield.stores.local.plans import (
    OperatingPoint,
    PlanKind,
    Target,
    cheapest,
    cheapest_of_each_kind,
)
from nearfield.stores.local.segment_files import (
    BLOCK_ROWS,
    BLOCKS,
    INDEXES,
    NORMS,
    SLOTS,
    VECTORS,
    DamagedSegmentError,
    FileSeal,
    map_vectors,
    read_array,
    verify_file,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from nearfield.documents import Metric
    from nearfield.stores.local.parts import Selection

    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]
    Ranked = tuple[IntArray, NDArray[np.float64]]

__all__ = ["Plan", "Segment", "SegmentRecord"]

_TUNED_K = 10
_QUERIES_PER_THREAD = 32
_RERANKED_AT_ONCE = 32
"""Queries whose candidates are compared together: enough to spread Python's cost."""
_FEW_DEAD = 0.9
"""Plans that were measured without filters serve while no more than a tenth of the rows are dead:
lists and graphs lead to rows that they may not return, and a scan finds others in their place."""
_KINDS: dict[PlanKind, type[CodeIndex | GraphIndex]] = {
    PlanKind.SCAN: CodeIndex,
    PlanKind.LISTS: CodeIndex,
    PlanKind.GRAPH: GraphIndex,
}


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """What the manifest says of a segment.

    Attributes:
        segment_id: Never used twice.
        first_slot: The segment holds every row from this slot on …
        last_slot: … to this one that was live when it was built.
        folder: The name of its folder.
        rows: How many rows it holds.
        files: Its files, by name; the vectors are sealed block by block instead.
        front: The settings worth using, as measured when it was built or last tuned.
        exact_us: What comparing every true vector costs, in CPU microseconds.
        exact_us_per_row: What comparing one of a few rows that lie anywhere costs.
        thorough: Whether every index was tried; while writes come in there is no time for it.
    """

    segment_id: int
    first_slot: int
    last_slot: int
    folder: str
    rows: int
    files: dict[str, FileSeal]
    front: tuple[OperatingPoint, ...]
    exact_us: float
    exact_us_per_row: float
    thorough: bool

    def to_json(self) -> str:
        """Return what :meth:`from_json` reads."""
        return msgspec.json.encode(self).decode()

    @property
    def index_bytes(self) -> int:
        """The size of all files but the vectors."""
        return sum(seal.size_bytes for seal in self.files.values())

    def point(self, target: Target) -> OperatingPoint | None:
        """Return the cheapest setting that reaches a target; None for an exact scan."""
        return cheapest(self.front, target.recall)

    def plan(self, target: Target) -> str:
        """Spell how it is searched for a target."""
        point = self.point(target)
        return "exact scan" if point is None else str(point)

    def predicted_recall(self, target: Target) -> float:
        """Return the recall measured for that."""
        point = self.point(target)
        return 1.0 if point is None else point.recall

    @classmethod
    def from_json(cls, text: str) -> SegmentRecord:
        """Read a record, or raise ``msgspec.DecodeError``."""
        return msgspec.json.decode(text, type=cls)


@dataclass(frozen=True, slots=True)
class Plan:
    """How one search goes through a segment.

    Attributes:
        point: The setting it follows.
        candidates: How many rows to compare by their true vectors.
        depth: Lists to look into, or how far to walk a graph.
        cost_us: What that takes, in CPU microseconds.
    """

    point: OperatingPoint
    candidates: int
    depth: int
    cost_us: float


class Segment:
    """An opened segment. Its files are read and verified when they are first needed.

    Args:
        record: What the manifest says of it.
        folder: Where its files are.
        dimension: Of its vectors.
        metric: How they are compared.
        target: The recall to hold, and the limits to keep.

    Raises:
        DamagedSegmentError: A file is not as it was written.
        FileNotFoundError: A file is missing; another process may have replaced the segment.
    """

    def __init__(
        self, record: SegmentRecord, folder: Path, dimension: int, metric: Metric, target: Target
    ) -> None:
        self.record = record
        self._metric = metric
        try:
            self.slots: IntArray = read_array(folder, SLOTS, record.files)
            self.norms: FloatArray = read_array(folder, NORMS, record.files)
            self.vectors = map_vectors(folder, record.rows, dimension)
            self._blocks = read_array(folder, BLOCKS, record.files)
            self._indexes = {
                kind: _KINDS[kind].map(verify_file(folder, name, record.files), metric)
                for kind, name in INDEXES.items()
                if name in record.files
            }
        except FileNotFoundError:
            raise
        except (CorruptionError, OSError, ValueError, RuntimeError, AttributeError) as error:
            raise self._damaged(str(error)) from error
        held = [len(self.slots), len(self.norms), *(i.rows for i in self._indexes.values())]
        if any(rows != record.rows for rows in held):
            raise self._damaged(f"its files hold {held} rows")
        self._verified = np.zeros(len(self._blocks), np.bool_)
        self._all_verified = False
        self.retarget(target)

    def retarget(self, target: Target) -> None:
        """Choose the settings that hold a recall."""
        self.point = self.record.point(target)
        front, recall = self.record.front, target.recall
        self._points = cheapest_of_each_kind(front, recall)
        self._filtered_points = cheapest_of_each_kind(front, recall, filtered=True)

    def part(self, live: NDArray[np.bool_]) -> Part:
        """Return the rows as a part of a collection."""
        count = int(np.count_nonzero(live))
        return Part(self.slots, self.vectors, self.norms, live, count, {}, self)

    def plan_for(self, selection: Selection, k: int) -> Plan | None:
        """Choose how to search among some rows; None to compare every true vector of theirs."""
        few_dead = selection.count >= len(self.slots) * _FEW_DEAD
        points = self._points if few_dead else self._filtered_points
        if not points:
            return None
        plan = min([self._scaled(point, k) for point in points], key=lambda plan: plan.cost_us)
        exact_us = selection.count * self.record.exact_us_per_row
        if selection.mask is None:
            exact_us = min(exact_us, self.record.exact_us)
        if 2 * plan.candidates >= selection.count or exact_us <= plan.cost_us:
            return None
        return plan

    def _scaled(self, point: OperatingPoint, k: int) -> Plan:
        """Return what a setting takes to find k, in proportion to what it was measured for."""
        growth = max(k / _TUNED_K, 1.0)
        candidates, depth = math.ceil(point.candidates * growth), point.depth
        if point.kind is PlanKind.SCAN:
            cost_us = point.cost_us + (candidates - point.candidates) * self.record.exact_us_per_row
        else:  # more neighbours lie in more lists, and farther apart in a graph
            depth, cost_us = math.ceil(depth * growth), point.cost_us * growth
        return Plan(point, candidates, depth, cost_us)

    def search(
        self,
        queries: FloatArray,
        k: int,
        plan: Plan,
        selection: Selection,
        steps: list[PlanStep] | None,
    ) -> list[Ranked]:
        """Follow a plan; arguments and results as of :meth:`Part.search`, but for row numbers."""
        threads = len(queries) // _QUERIES_PER_THREAD
        if threads > 1 and (threads := min(threads, worker_threads())) > 1:
            chunks = np.array_split(queries, threads)
            with ThreadPoolExecutor(threads) as workers:
                ranked = list(
                    workers.map(lambda chunk: self._search(chunk, k, plan, selection), chunks)
                )
            found = [each for chunk in ranked for each in chunk]
        else:
            found = self._search(queries, k, plan, selection)
        if steps is not None:
            steps.append(self._step(plan, selection))
        return found

    def _search(
        self, queries: FloatArray, k: int, plan: Plan, selection: Selection
    ) -> list[Ranked]:
        index = self._indexes[plan.point.kind]
        found = index.candidates(queries, plan.candidates, plan.depth, selection.bits)
        if found.shape[1] > k and found.min() >= 0:
            self.verify(found)
            ranked = []
            for start in range(0, len(queries), _RERANKED_AT_ONCE):
                some = slice(start, start + _RERANKED_AT_ONCE)
                ranked += flat.rerank(
                    self.vectors, self.norms, queries[some], found[some], k, metric=self._metric
                )
            return ranked
        return [
            self._compare(query, rows[rows >= 0], k, selection)
            for query, rows in zip(queries, found, strict=True)
        ]

    def verify(self, positions: IntArray | None) -> None:
        """Verify the vectors of some rows, or all, before they are used for the first time.

        Raises:
            DamagedSegmentError: They are not as they were written.
        """
        if self._all_verified:
            return
        if positions is None:
            blocks = np.flatnonzero(~self._verified)
        else:
            blocks = positions // BLOCK_ROWS
            if self._verified[blocks].all():
                return
            blocks = np.unique(blocks[~self._verified[blocks]])
        for block in blocks.tolist():
            data = self.vectors[block * BLOCK_ROWS : (block + 1) * BLOCK_ROWS].data.cast("B")
            if zlib.crc32(data) != self._blocks[block]:
                raise self._damaged(f"block {block} of {VECTORS} is not as it was written")
        self._verified[blocks] = True
        self._all_verified = bool(self._verified.all())

    def _compare(self, query: FloatArray, rows: IntArray, k: int, selection: Selection) -> Ranked:
        """Compare a query with the rows that were found, or with all if those are too few."""
        positions = np.sort(rows) if len(rows) >= min(k, selection.count) else selection.positions
        self.verify(positions)
        return flat.top_k_one(
            self.vectors, self.norms, query[np.newaxis], k, metric=self._metric, positions=positions
        )[0]

    def _step(self, plan: Plan, selection: Selection) -> PlanStep:
        rows, point = len(self.slots), plan.point
        index = self._indexes[point.kind]
        if point.kind is PlanKind.GRAPH:
            name, compared = f"graph, depth {plan.depth}", plan.depth
        elif isinstance(index, CodeIndex) and index.lists > 1:
            depth = min(plan.depth, index.lists)
            name, compared = f"{depth} of {index.lists} lists", rows * depth // index.lists
        else:
            name, compared = "scan of codes", rows
        return PlanStep(
            f"{name}, {plan.candidates} reranked",
            rows=rows,
            matching=selection.count,
            compared=compared,
            reranked=plan.candidates,
            predicted_recall=point.recall,
        )

    def _damaged(self, detail: str) -> DamagedSegmentError:
        return DamagedSegmentError(
            f"segment {self.record.segment_id} is damaged ({detail}); it is rebuilt from the "
            "database",
            segment_id=self.record.segment_id,
        )
