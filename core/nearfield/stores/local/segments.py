"""Sealed segments: immutable rows in mapped files, with an index and what was measured of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from nearfield.errors import CorruptionError
from nearfield.stores.local import flat
from nearfield.stores.local.indexes import CodeIndex, GraphIndex
from nearfield.stores.local.parts import Part, PartTrace
from nearfield.stores.local.plans import OperatingPoint, PlanKind, Target, cheapest
from nearfield.stores.local.segment_files import (
    BLOCK_ROWS,
    BLOCKS,
    CODES,
    GRAPH,
    NORMS,
    SLOTS,
    VECTORS,
    DamagedSegmentError,
    FileSeal,
    map_vectors,
    read_array,
    read_sealed,
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
_GRAPH_SHARE = 0.9
"""A graph is searched while no more than a tenth of its rows are dead: its walk passes through
rows that it may not return, and stops early where all that are near are such."""


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
        exact_us_per_row: What comparing one true vector costs, in CPU microseconds.
        scan_us: What comparing every code costs.
    """

    segment_id: int
    first_slot: int
    last_slot: int
    folder: str
    rows: int
    files: dict[str, FileSeal]
    front: tuple[OperatingPoint, ...]
    exact_us_per_row: float
    scan_us: float

    def to_json(self) -> str:
        """Return what :meth:`from_json` reads."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str) -> SegmentRecord:
        """Read a record, or raise ``msgspec.DecodeError``."""
        return msgspec.json.decode(text, type=cls)

    @property
    def size_bytes(self) -> int:
        """The size of the files that are read whole."""
        return sum(seal.size_bytes for seal in self.files.values())


@dataclass(frozen=True, slots=True)
class Plan:
    """How one search goes through a segment.

    Attributes:
        point: The setting it follows.
        candidates: How many rows to compare by their true vectors.
        depth: Lists to look into, or how far to walk a graph.
        filtered_matches: With several lists and a filter: how many matching rows the lists looked
            into must hold; None to look into ``depth`` lists whatever they hold.
    """

    point: OperatingPoint
    candidates: int
    depth: int
    filtered_matches: int | None = None


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
            self._codes = CodeIndex.from_bytes(
                read_sealed(folder, CODES, record.files), dimension, metric
            )
            self._graph = None
            if GRAPH in record.files:
                data = read_sealed(folder, GRAPH, record.files)
                self._graph = GraphIndex.from_bytes(data, dimension, metric)
        except FileNotFoundError:
            raise
        except (CorruptionError, OSError, ValueError) as error:
            raise self._damaged(str(error)) from error
        self._verified = np.zeros(len(self._blocks), np.bool_)
        self._all_verified = False
        self.retarget(target)

    def retarget(self, target: Target) -> None:
        """Choose the settings that hold a recall."""
        graphs = self._graph is not None
        usable = [p for p in self.record.front if graphs or p.kind is not PlanKind.GRAPH]
        codes = [p for p in usable if p.kind is not PlanKind.GRAPH]
        self.target = target
        self.point = cheapest(usable, target)
        self._filtered_point = cheapest(codes, target)

    def part(self, live: NDArray[np.bool_]) -> Part:
        """Return the rows as a part of a collection."""
        count = int(np.count_nonzero(live))
        return Part(self.slots, self.vectors, self.norms, live, count, {}, self)

    def plan_for(self, selection: Selection, k: int) -> Plan | None:
        """Choose how to search among some rows; None to compare every true vector of theirs."""
        rows, matching = len(self.slots), selection.count
        all_but_dead = matching >= rows * _GRAPH_SHARE
        point = self.point if all_but_dead else self._filtered_point
        if point is None:
            return None
        candidates = max(point.candidates, -(-point.candidates * k // _TUNED_K))
        if candidates * 2 >= matching:
            return None
        cost_us = point.cost_us + (candidates - point.candidates) * self.record.exact_us_per_row
        if not all_but_dead:
            cost_us = max(cost_us, min(self.record.scan_us, 4 * cost_us))
        if matching * self.record.exact_us_per_row <= cost_us:
            return None
        depth = point.depth
        wanted = None
        if point.kind is PlanKind.LISTS:
            if k > _TUNED_K:
                depth = min(self._codes.lists, -(-depth * k // _TUNED_K))
            if selection.mask is not None:
                wanted = self._matches_to_see(depth, matching)
        return Plan(point, candidates, depth, wanted)

    def search(
        self,
        queries: FloatArray,
        k: int,
        plan: Plan,
        selection: Selection,
        trace: list[PartTrace] | None,
    ) -> list[Ranked]:
        """Follow a plan; arguments and results as of :meth:`Part.search`, but for row numbers."""
        if plan.filtered_matches is None:
            index = self._graph if plan.point.kind is PlanKind.GRAPH else self._codes
            found = index.candidates(queries, plan.candidates, plan.depth, selection.bits)  # type: ignore[union-attr]
        else:
            found = self._candidates_among(queries, plan, selection)
        if trace is not None:
            trace.append(self._trace(plan, selection, int((found >= 0).sum())))
        enough = min(k, selection.count)
        return [
            self._rerank(query, rows, k, enough, selection)
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
        import zlib

        for block in blocks.tolist():
            data = self.vectors[block * BLOCK_ROWS : (block + 1) * BLOCK_ROWS].data.cast("B")
            if zlib.crc32(data) != self._blocks[block]:
                raise self._damaged(f"block {block} of {VECTORS} is not as it was written")
        self._verified[blocks] = True
        self._all_verified = bool(self._verified.all())

    def _rerank(
        self, query: FloatArray, rows: IntArray, k: int, enough: int, selection: Selection
    ) -> Ranked:
        rows = rows[rows >= 0]
        if len(rows) < enough:  # the lists or the graph led nowhere; a filter never costs results
            positions = selection.positions
            self.verify(positions)
        else:
            positions = np.sort(rows)
            self.verify(positions)
        return flat.top_k_one(
            self.vectors, self.norms, query[np.newaxis], k, metric=self._metric, positions=positions
        )[0]

    def _matches_to_see(self, depth: int, matching: int) -> int:
        """Return how many matching rows the lists looked into must hold.

        Without a filter, ``depth`` lists hold about n·depth/lists rows. How many matching rows
        must be seen for the same recall grows with the root of their number.
        """
        rows = len(self.slots)
        seen = rows * depth / self._codes.lists
        return int(np.ceil(seen * np.sqrt(matching / rows)))

    def _candidates_among(self, queries: FloatArray, plan: Plan, selection: Selection) -> IntArray:
        """Look into as many lists as hold enough matching rows, by query."""
        matches = selection.per_list(self._codes)
        order = self._codes.nearest_lists(queries)
        seen = np.cumsum(matches[order], axis=1)
        enough = np.argmax(seen >= min(plan.filtered_matches or 0, selection.count), axis=1) + 1
        depths = np.minimum(
            self._codes.lists, np.maximum(plan.depth, 1 << np.ceil(np.log2(enough)).astype(int))
        )
        found = np.full((len(queries), plan.candidates), -1, np.int64)
        for depth in np.unique(depths).tolist():
            chosen = np.flatnonzero(depths == depth)
            found[chosen] = self._codes.candidates(
                queries[chosen], plan.candidates, depth, selection.bits
            )
        return found

    def _trace(self, plan: Plan, selection: Selection, reranked: int) -> PartTrace:
        rows = len(self.slots)
        point = plan.point
        names = {
            PlanKind.SCAN: "scan of codes",
            PlanKind.LISTS: f"{plan.depth} of {self._codes.lists} lists of codes",
            PlanKind.GRAPH: f"graph, depth {plan.depth}",
        }
        share = {
            PlanKind.SCAN: 1.0,
            PlanKind.LISTS: plan.depth / self._codes.lists,
            PlanKind.GRAPH: 0.0,
        }
        return PartTrace(
            f"{names[point.kind]}, rerank of {plan.candidates}",
            rows=rows,
            matching=selection.count,
            compared=int(rows * share[point.kind]),
            reranked=reranked,
            predicted_recall=point.recall,
        )

    def _damaged(self, detail: str) -> DamagedSegmentError:
        return DamagedSegmentError(
            f"segment {self.record.segment_id} is damaged ({detail}); it is rebuilt from the "
            "database",
            segment_id=self.record.segment_id,
        )
