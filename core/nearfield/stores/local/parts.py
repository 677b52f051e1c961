"""A part of a collection: rows that are searched together, of a sealed segment or the memtable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nearfield.stores.base import PlanStep
from nearfield.stores.local import flat
from nearfield.stores.local.columns import Column, filter_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.documents import Metric
    from nearfield.filters import Filter
    from nearfield.stores.local.segments import Segment

    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]
    Ranked = tuple[IntArray, NDArray[np.float64]]

__all__ = ["Part", "Selection"]

_CACHED_FILTERS = 32
_CACHED_BYTES = 64 << 20
_BYTES_PER_ROW = 9
"""What a cached filter can take for each row: a mask, and a position if it matches."""


class Selection:
    """The rows of a part that a search may return.

    Attributes:
        mask: True for each of them, shape (n,); None when that is every row.
        count: How many they are.
    """

    def __init__(self, mask: NDArray[np.bool_], count: int) -> None:
        self.mask = None if count == len(mask) else mask
        self.count = count

    @cached_property
    def positions(self) -> IntArray | None:
        """The rows, ascending; None when that is all of them."""
        return None if self.mask is None else np.flatnonzero(self.mask)

    @cached_property
    def bits(self) -> NDArray[np.uint8] | None:
        """The mask as FAISS reads it, eight rows to a byte, the lowest bit first."""
        return None if self.mask is None else np.packbits(self.mask, bitorder="little")


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some of a collection's rows as of one committed write. Immutable but for its caches.

    Attributes:
        slots: Each row's slot, ascending, shape (n,).
        vectors: Shape (n, dimension).
        norms: The vectors' lengths, shape (n,).
        live: False for a row that was deleted, shape (n,).
        live_count: How many rows are not.
        columns: The metadata fields that filters have asked for so far.
        segment: The files behind the rows; None for the memtable.
    """

    slots: IntArray
    vectors: FloatArray
    norms: FloatArray
    live: NDArray[np.bool_]
    live_count: int
    columns: Mapping[str, Column]
    segment: Segment | None = None
    _selections: dict[Filter | None, Selection] = field(default_factory=dict)

    def selection(self, where: Filter | None) -> Selection:
        """Return the rows that are live and match."""
        found = self._selections.get(where)
        if found is None:
            mask = self.live
            count = self.live_count
            if where is not None:
                mask = mask & filter_mask(where, self.columns, len(self.slots))
                count = int(np.count_nonzero(mask))
            room = _CACHED_BYTES // (_BYTES_PER_ROW * max(1, len(self.slots)))
            if len(self._selections) >= min(_CACHED_FILTERS, max(2, room)):
                self._selections.clear()
            found = self._selections[where] = Selection(mask, count)
        return found

    def without(self, dead: IntArray) -> Part:
        """Return the part with some slots marked dead; those that it does not hold are ignored."""
        if not len(self.slots) or not len(dead):
            return self
        rows = np.minimum(np.searchsorted(self.slots, dead), len(self.slots) - 1)
        rows = rows[(self.slots[rows] == dead) & self.live[rows]]
        if not len(rows):
            return self
        live = self.live.copy()
        live[rows] = False
        return replace(self, live=live, live_count=int(np.count_nonzero(live)), _selections={})

    def among(self, slots: IntArray) -> Part:
        """Return the part with all rows dead but those in some slots, ascending."""
        live = self.live & np.isin(self.slots, slots, assume_unique=True)
        return replace(self, live=live, live_count=int(np.count_nonzero(live)), _selections={})

    def with_columns(self, columns: Mapping[str, Column]) -> Part:
        """Return the part with other columns."""
        return replace(self, columns=columns)

    def matching_slots(self, where: Filter | None) -> IntArray:
        """Return the slots that are live and match, ascending."""
        positions = self.selection(where).positions
        return self.slots if positions is None else self.slots[positions]

    def search(
        self,
        queries: FloatArray,
        k: int,
        *,
        metric: Metric,
        where: Filter | None,
        exact: bool = False,
        steps: list[PlanStep] | None = None,
    ) -> list[Ranked]:
        """Find the k best rows for each query.

        Args:
            queries: Shape (queries, dimension).
            k: How many.
            metric: How to compare.
            where: Only rows that match.
            exact: Whether to compare every vector, whatever the plan says.
            steps: Takes a note of what was done.

        Returns:
            For each query, slots and exact scores, best first, with all that tie with the last.

        Raises:
            DamagedSegmentError: The segment's files are not as they were written.
        """
        selection = self.selection(where)
        if selection.count == 0:
            return [flat.NOTHING for _ in queries]
        if self.segment is None:
            found = self._scan(queries, k, metric, selection, steps)
        else:
            planned = None if exact else self.segment.plan_for(selection, k)
            if planned is None:
                self.segment.verify(selection.positions)
                found = self._scan(queries, k, metric, selection, steps)
            else:
                found = self.segment.search(queries, k, planned, selection, steps)
        return [(self.slots[rows], scores) for rows, scores in found]

    def _scan(
        self,
        queries: FloatArray,
        k: int,
        metric: Metric,
        selection: Selection,
        steps: list[PlanStep] | None,
    ) -> list[Ranked]:
        if steps is not None:
            steps.append(
                PlanStep(
                    "exact scan" if self.segment else "memtable, exact scan",
                    rows=len(self.slots),
                    matching=selection.count,
                    compared=selection.count,
                    reranked=selection.count,
                    predicted_recall=1.0,
                )
            )
        search = flat.top_k_many if len(queries) > 1 else flat.top_k_one
        return search(
            self.vectors,
            self.norms,
            queries,
            k,
            metric=metric,
            positions=selection.positions,
        )
