"""What the collection is at one moment, in parts, and how memory follows the database."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import nlargest
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.errors import CorruptionError
from nearfield.filters import lookup
from nearfield.stores.local import manifest
from nearfield.stores.local.columns import Column
from nearfield.stores.local.memtable import Memtable
from nearfield.stores.local.plans import DEFAULT_TARGET, Target
from nearfield.stores.local.rows import SELECT_HEADS, decode_metadata, missing, verify_head
from nearfield.stores.local.schema import State, read_state
from nearfield.stores.local.segment_files import DamagedSegmentError
from nearfield.stores.local.segments import Segment
from nearfield.stores.local.tombstones import newest_tombstone, overslept, slots_since

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.documents import Metric
    from nearfield.filters import Filter
    from nearfield.stores.base import CollectionInfo, PlanStep
    from nearfield.stores.local.files import CollectionFiles
    from nearfield.stores.local.memtable import SlotRange
    from nearfield.stores.local.parts import Part
    from nearfield.stores.local.segments import SegmentRecord

__all__ = ["Snapshot", "Snapshots"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The collection as of one committed write. Any number of threads may read it.

    Attributes:
        sequence: The number of the write it shows.
        parts: The rows, in ranges of slots that do not overlap.
        unsealed: How many rows the memtable holds.
        rows: How many rows there are, deleted ones included.
        fields: The metadata fields that all parts have columns for.
        target: The recall to hold.
        dead_share: The share of dead rows in the segment that has most.
        thorough: Whether every index was tried for every segment.
    """

    sequence: int
    parts: tuple[Part, ...]
    unsealed: int
    rows: int
    fields: frozenset[str]
    target: Target
    dead_share: float
    thorough: bool

    @property
    def sealed(self) -> bool:
        """Whether any rows are in segments, so that a search may be approximate."""
        return self.rows > self.unsealed

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        metric: Metric,
        where: Filter | None = None,
        exact: bool = False,
        steps: list[PlanStep] | None = None,
    ) -> list[list[tuple[int, float]]]:
        """Find the k best rows for each query; see :meth:`Part.search`.

        Returns:
            For each query, slots and exact scores in any order, with all that tie with the k-th.
        """
        found = [
            part.search(queries, k, metric=metric, where=where, exact=exact, steps=steps)
            for part in self.parts
        ]
        return [_merged(rankings, k) for rankings in zip(*found, strict=True)]

    def among(self, slots: NDArray[np.int64]) -> Snapshot:
        """Return what is left when only some slots, ascending, count as live."""
        return replace(self, parts=tuple(part.among(slots) for part in self.parts))

    def memory_bytes(self) -> int:
        """Return what indexes and the memtable's vectors take, mapped files included."""
        return sum(
            part.vectors.nbytes if part.segment is None else part.segment.record.index_bytes
            for part in self.parts
        )

    def matching_slots(self, where: Filter | None) -> NDArray[np.int64]:
        """Return the slots that are live and match, ascending."""
        found = [part.matching_slots(where) for part in self.parts]
        if len(found) == 1:
            return found[0]
        return np.sort(np.concatenate([np.empty(0, np.int64), *found]))

    def count(self, where: Filter | None) -> int:
        """Count the rows that are live and match."""
        return sum(part.selection(where).count for part in self.parts)


_NEVER = Snapshot(-1, (), 0, 0, frozenset(), DEFAULT_TARGET, 0.0, thorough=True)


class _SegmentMovedError(Exception):
    """A segment's files are gone; the manifest that names them may be outdated."""


class _OutdatedError(Exception):
    """Rows were sealed, deleted and unsealed again unseen, which leaves no tombstones."""


class Snapshots:
    """Follows the database: other processes' writes and this one's own in the same way.

    Before a search, rows beyond the last slot are read, and slots with a tombstone marked dead.
    When the manifest changed, segments are opened, and the memtable is left with the other rows.
    """

    def __init__(self, info: CollectionInfo, files: CollectionFiles) -> None:
        self._info = info
        self._files = files
        self._lock = threading.Lock()
        self._unusable: set[int] = set()
        self._moved: set[int] = set()
        self._reset()

    @property
    def sequence(self) -> int:
        """The number of the last write that was read."""
        return self._snapshot.sequence

    def quiet_s(self) -> float:
        """Return for how many seconds no write was seen."""
        return time.monotonic() - self._changed_at

    @property
    def unusable(self) -> frozenset[int]:
        """The segments that the manifest names and that cannot be read."""
        return frozenset(self._unusable)

    def at(
        self, connection: sqlite3.Connection, paths: frozenset[str] = frozenset(), *, reached: int
    ) -> Snapshot | None:
        """Return what the connection's open transaction sees, with columns for some paths.

        Args:
            connection: In a transaction.
            paths: The metadata fields that will be asked for.
            reached: :attr:`sequence`, read before the transaction began.

        Returns:
            None if another thread or process has already moved on to a later write: begin a new
            transaction.

        Raises:
            CorruptionError: What is stored is not what was written.
        """
        state = read_state(connection)
        if state.sequence < reached:
            raise CorruptionError(
                f"the number of the last write went back from {reached} to {state.sequence}: the "
                "file was replaced or damaged; close the collection and open it again"
            )
        snapshot = self._snapshot
        if snapshot.sequence == state.sequence and paths <= snapshot.fields:
            return snapshot
        with self._lock:
            if self._snapshot.sequence > state.sequence:
                return None
            if self._snapshot.sequence < state.sequence:
                try:
                    try:
                        self._catch_up(connection, state)
                    except _OutdatedError:
                        self._reset()
                        self._catch_up(connection, state)
                except _SegmentMovedError:
                    self._reset()
                    return None
                except BaseException:
                    self._reset()  # half-appended rows must not be appended again
                    raise
            wanted = paths - self._snapshot.fields
            if wanted:
                self._add_columns(connection, wanted)
            return self._snapshot

    def discard(self, segment_id: int) -> None:
        """Read a segment's rows from the database from now on."""
        with self._lock:
            self._unusable.add(segment_id)
            self._reset()

    def reopen(self) -> None:
        """Open and verify the segments' files anew; those known to be of no use stay so."""
        with self._lock:
            self._moved.clear()
            self._reset()

    def forget(self) -> None:
        """Read everything anew."""
        with self._lock:
            self._unusable.clear()
            self._moved.clear()
            self._reset()

    def _reset(self) -> None:
        self._memtable = Memtable(self._info.embedding.dimension)
        self._recent = self._memtable.part(np.empty(0, np.bool_), {})
        self._sealed: list[Part] = []
        self._gaps: list[SlotRange] = []
        self._generation = -1
        self._target = DEFAULT_TARGET
        self._tombstone = 0  # the last one applied
        self._snapshot = _NEVER
        self._changed_at = time.monotonic()

    def _catch_up(self, connection: sqlite3.Connection, state: State) -> None:
        newest = newest_tombstone(connection)
        if self._snapshot.sequence < 0 or overslept(newest, self._tombstone):
            self._reset()
            self._tombstone = newest
        anew = self._snapshot.sequence < 0
        if state.generation != self._generation:
            self._follow_manifest(connection)
            self._generation = state.generation
        self._append_rows(connection, state)
        dead = slots_since(connection, self._tombstone)
        self._tombstone = newest
        self._sealed = [part.without(dead) for part in self._sealed]
        self._recent = self._recent.without(dead)
        live = self._recent.live_count
        if live * 4 < 3 * len(self._recent.slots):
            self._keep_recent(np.flatnonzero(self._recent.live))
        count = live + sum(part.live_count for part in self._sealed)
        if count != state.documents and not anew:
            raise _OutdatedError
        _refuse_other_count(count, state.documents)
        self._publish(state.sequence)

    def _publish(self, sequence: int) -> None:
        parts = (*self._sealed, self._recent)
        parts = tuple(part for part in parts if len(part.slots)) or parts[-1:]
        fields = frozenset.intersection(*(frozenset(part.columns) for part in parts))
        if sequence != self._snapshot.sequence:
            self._changed_at = time.monotonic()
        self._snapshot = Snapshot(
            sequence,
            parts,
            unsealed=len(self._recent.slots),
            rows=sum(len(part.slots) for part in parts),
            fields=fields,
            target=self._target,
            dead_share=max(
                (1 - part.live_count / len(part.slots) for part in self._sealed), default=0.0
            ),
            thorough=all(part.segment.record.thorough for part in self._sealed if part.segment),
        )

    def _follow_manifest(self, connection: sqlite3.Connection) -> None:
        """Open the segments there are now, and leave the memtable with the other rows."""
        target = self._target = manifest.read_target(connection)
        opened = {part.segment.record.segment_id: part for part in self._sealed if part.segment}
        dead = slots_since(connection, 0)
        sealed = []
        records = manifest.read_segments(connection)
        self._unusable &= {record.segment_id for record in records}
        moved = False
        for record in records:
            part = opened.get(record.segment_id)
            try:
                segment = self._open(record, target) if part is None else part.segment
            except _SegmentMovedError:
                moved = True  # look at the others too: the next look must find none newly gone
                continue
            if segment is None:
                continue
            if part is None:
                part = segment.part(np.ones(len(segment.slots), np.bool_))
            segment.retarget(target)
            sealed.append(part.without(dead))
        if moved:
            raise _SegmentMovedError
        self._sealed = sealed
        ranges = [
            (p.segment.record.first_slot, p.segment.record.last_slot) for p in sealed if p.segment
        ]
        gaps = _gaps_between(ranges)
        if all(_covered(gap, self._gaps) for gap in gaps):
            kept = np.zeros(len(self._recent.slots), np.bool_)
            for first, last in gaps:
                kept |= (self._recent.slots >= first) & (self._recent.slots <= last)
            self._keep_recent(np.flatnonzero(kept & self._recent.live))
        else:
            self._memtable = Memtable(self._info.embedding.dimension)
            self._recent = self._memtable.part(np.empty(0, np.bool_), {})
        self._gaps = gaps

    def _open(self, record: SegmentRecord, target: Target) -> Segment | None:
        """Open a segment; None if its files are of no use."""
        if record.segment_id in self._unusable:
            return None
        folder = self._files.segments / record.folder
        info = self._info
        try:
            return Segment(record, folder, info.embedding.dimension, info.metric, target)
        except FileNotFoundError:
            if record.segment_id not in self._moved:
                self._moved.add(record.segment_id)
                raise _SegmentMovedError from None
        except DamagedSegmentError:
            pass
        self._unusable.add(record.segment_id)
        return None

    def _append_rows(self, connection: sqlite3.Connection, state: State) -> None:
        """Read the rows that neither a segment nor the memtable holds yet."""
        known = len(self._memtable)
        last = int(self._memtable.slots[-1]) if known else 0
        gaps = [(max(first, last + 1), end) for first, end in self._gaps if end > last]
        sealed = sum(part.live_count for part in self._sealed)
        self._memtable.load(connection, gaps, expected=max(0, state.documents - sealed))
        columns, slots = self._recent.columns, self._memtable.slots[known:]
        if columns:
            _extend_columns(connection, columns, slots, np.ones(len(slots), np.bool_))
        if len(slots):
            live = np.concatenate([self._recent.live, np.ones(len(slots), np.bool_)])
            self._recent = self._memtable.part(live, columns)

    def _keep_recent(self, rows: NDArray[np.int64]) -> None:
        """Copy rows of the memtable together; snapshots handed out before keep the old arrays."""
        old = self._recent
        if len(rows) == len(old.slots):
            return
        columns = {path: column.select(rows) for path, column in old.columns.items()}
        live = old.live[rows]
        self._memtable = self._memtable.select(rows)
        self._recent = self._memtable.part(live, columns)

    def _add_columns(self, connection: sqlite3.Connection, paths: frozenset[str]) -> None:
        self._sealed = [_with_columns(connection, part, paths) for part in self._sealed]
        self._recent = _with_columns(connection, self._recent, paths)
        self._publish(self._snapshot.sequence)


def _merged(
    rankings: Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]], k: int
) -> list[tuple[int, float]]:
    """Join what was found in the parts: the k best and all that tie with the last."""
    ranked = [
        pair
        for slots, scores in rankings
        for pair in zip(slots.tolist(), scores.tolist(), strict=True)
    ]
    if len(rankings) > 1 and len(ranked) > k:
        kth = nlargest(k, (score for _, score in ranked))[-1]
        ranked = [pair for pair in ranked if pair[1] >= kth]
    return ranked


def _gaps_between(ranges: Sequence[SlotRange]) -> list[SlotRange]:
    """Return the slots that ascending ranges leave out; the last gap has no end."""
    gaps = []
    start = 1
    for first, last in ranges:
        if first > start:
            gaps.append((start, first - 1))
        start = last + 1
    return [*gaps, (start, manifest.LAST_SLOT)]


def _covered(gap: SlotRange, gaps: Sequence[SlotRange]) -> bool:
    return any(first <= gap[0] and gap[1] <= last for first, last in gaps)


def _refuse_other_count(vectors: int, documents: int) -> None:
    if vectors != documents:
        raise CorruptionError(
            f"{documents} documents were written and {vectors} vectors are there; run "
            "`nearfield check`, then `nearfield repair`"
        )


def _with_columns(connection: sqlite3.Connection, part: Part, paths: frozenset[str]) -> Part:
    added = {path: Column() for path in paths if path not in part.columns}
    if not added:
        return part
    _extend_columns(connection, added, part.slots, part.live)
    return part.with_columns({**part.columns, **added})


def _extend_columns(
    connection: sqlite3.Connection,
    columns: Mapping[str, Column],
    slots: NDArray[np.int64],
    live: NDArray[np.bool_],
) -> None:
    """Append to each column the values of some slots, ascending; dead ones have no document."""
    if not len(slots):
        return
    values: dict[str, list[Any]] = {path: [] for path in columns}
    cursor = connection.execute(
        f"{SELECT_HEADS} WHERE slot BETWEEN ? AND ? ORDER BY slot", (int(slots[0]), int(slots[-1]))
    )
    row = cursor.fetchone()
    for slot, is_live in zip(slots.tolist(), live.tolist(), strict=True):
        metadata = {}
        if is_live:
            while row is not None and row[0] < slot:
                row = cursor.fetchone()
            if row is None or row[0] != slot:
                raise missing("the document", slot)
            verify_head(row)
            metadata = decode_metadata(row[5])
        for path, column_values in values.items():
            column_values.append(lookup(metadata, path))
    for path, column in columns.items():
        column.extend(values[path])
