"""Which segment to build next, and how one is built: rows come from the database, always."""

from __future__ import annotations

import shutil
import sqlite3
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfield.stores.local import manifest, tombstones
from nearfield.stores.local.ladder import Ladder
from nearfield.stores.local.memtable import read_vectors
from nearfield.stores.local.schema import read_state
from nearfield.stores.local.segment_files import SegmentWriter
from nearfield.stores.local.segments import SegmentRecord
from nearfield.stores.local.tuning import Rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nearfield.stores.base import CollectionInfo
    from nearfield.stores.local.connections import ConnectionPool
    from nearfield.stores.local.files import CollectionFiles
    from nearfield.stores.local.plans import Target

__all__ = ["Compaction", "Policy", "Task"]

_READ_ROWS = 4096
"""Read in one transaction: short enough that SQLite's log can be started anew."""
_SETTLED_RATIO = 10


@dataclass(frozen=True, slots=True)
class Policy:
    """When segments are built.

    Attributes:
        index_rows: A collection of fewer rows has no segments: all of it is searched exactly.
        seal_rows: So many rows in the memtable make a segment.
        bulk_rows: A write alone has no segment built before there are so many: what no one
            searches costs no one time, and fewer, larger segments are less work.
        quiet_seal_rows: So many are enough when no one writes.
        fan_in: So many segments of like size are merged.
        dead_share: A segment with more dead rows than this share is built anew.
        most_unsealed: Writes wait while the memtable is longer.
        quiet_s: No one writes when no one did for so long.
        automatic: Whether this is seen to in the background.
    """

    index_rows: int = 20_000
    seal_rows: int = 16_384
    bulk_rows: int = 65_536
    quiet_seal_rows: int = 1_024
    fan_in: int = 4
    dead_share: float = 0.25
    most_unsealed: int = 200_000
    quiet_s: float = 2.0
    automatic: bool = True


@dataclass(frozen=True, slots=True)
class Task:
    """A segment to build.

    Attributes:
        first_slot: From this slot …
        last_slot: … to this one.
        thorough: Whether to try every index that may be faster, not only the one that is quick to
            build.
    """

    first_slot: int
    last_slot: int
    thorough: bool


class Compaction:
    """Builds the segments of one collection.

    Args:
        info: The collection.
        pool: Its database.
        files: Its files.
        policy: When to build.
    """

    def __init__(
        self,
        info: CollectionInfo,
        pool: ConnectionPool,
        files: CollectionFiles,
        policy: Policy,
    ) -> None:
        self._info = info
        self._pool = pool
        self._files = files
        self.policy = policy

    def next_task(self, unusable: frozenset[int], *, settle: bool) -> Task | None:
        """Return what to build next, None when nothing is worth it.

        Args:
            unusable: Segments whose files are of no use.
            settle: Whether to leave as few segments and unsealed rows as is worthwhile, as after a
                bulk load, rather than to keep up with one.
        """
        policy = self.policy
        with self._pool.reading() as connection:
            records = manifest.read_segments(connection)
            sealed, unsealed, newest = _extents(connection, records)
            gap = _first_gap(connection, sealed)
        for record in records:
            if record.segment_id in unusable:
                return Task(record.first_slot, record.last_slot, settle)
        thinned = _thin_out(records, sealed, policy, settle=settle)
        if unsealed + sum(extent.live for extent in sealed) < policy.index_rows:
            return thinned
        if gap is not None:
            return Task(*gap, settle)
        if unsealed >= (policy.quiet_seal_rows if settle else policy.seal_rows):
            return _seal(sealed, unsealed, newest, policy, settle=settle)
        if thinned or not settle:
            return thinned
        return _merge(sealed, policy) or _finish(records)

    def pending_rows(self) -> int:
        """Return how many rows are in no segment, 0 while the collection is too small for one."""
        with self._pool.reading() as connection:
            sealed, unsealed, _ = _extents(connection, manifest.read_segments(connection))
        rows = unsealed + sum(extent.live for extent in sealed)
        return unsealed if rows >= self.policy.index_rows else 0

    def set_target(self, target: Target) -> frozenset[int]:
        """Set the recall to hold; return the segments that were built for another."""
        with self._pool.writing() as connection:
            manifest.write_target(connection, target)
            records = manifest.read_segments(connection)
        return frozenset(record.segment_id for record in records)

    def rebuild(
        self,
        outdated: frozenset[int],
        queries: NDArray[np.float32] | None,
        checkpoint: Callable[[], None],
    ) -> None:
        """Build segments anew for the recall that is to be held now.

        Args:
            outdated: Which ones, if they are still there.
            queries: Queries to measure all segments with, shape (m, dimension); None to take rows.
            checkpoint: Called between steps; may raise to give up.
        """
        with self._pool.reading() as connection:
            records = manifest.read_segments(connection)
        for record in records:
            if record.segment_id in outdated or queries is not None:
                task = Task(record.first_slot, record.last_slot, thorough=True)
                self.run(task, checkpoint, queries)

    def run(
        self,
        task: Task,
        checkpoint: Callable[[], None],
        queries: NDArray[np.float32] | None = None,
    ) -> bool:
        """Build a segment and enter it into the manifest.

        Args:
            task: What to build.
            checkpoint: Called between steps; may raise to give up.
            queries: Queries to measure with; None to take rows.

        Returns:
            Whether it was entered; False if another process changed the same range meanwhile.
        """
        with self._pool.reading() as connection:
            before = _overlapping(manifest.read_segments(connection), task)
            tombstone = tombstones.newest_tombstone(connection)
        writer = SegmentWriter(
            self._files.segments / f".{uuid.uuid4().hex}.tmp", self._info.embedding.dimension
        )
        try:
            self._copy_rows(writer, task, checkpoint)
            record = self._index(writer, task, checkpoint, queries)
            if record is not None:
                writer.move(self._files.segments / record.folder)
        finally:
            writer.discard()
        with self._pool.writing() as connection:
            if _overlapping(manifest.read_segments(connection), task) != before:
                return False
            if tombstones.overslept(tombstones.newest_tombstone(connection), tombstone):
                return False  # some of the rows that were deleted meanwhile left no trace
            manifest.replace_segments(
                connection, task.first_slot, task.last_slot, [record] if record else []
            )
            tombstones.forget_in(connection, task.first_slot, task.last_slot, writer.slots())
        return True

    def sweep(self) -> None:
        """Throw away folders that the manifest does not name; only while the lease is held."""
        with self._pool.reading() as connection:
            known = {record.folder for record in manifest.read_segments(connection)}
        if not self._files.segments.is_dir():
            return
        for entry in self._files.segments.iterdir():
            if entry.name not in known:
                shutil.rmtree(entry, ignore_errors=True)

    def _copy_rows(self, writer: SegmentWriter, task: Task, checkpoint: Callable[[], None]) -> None:
        """Copy live rows in short transactions; what is deleted meanwhile leaves a tombstone."""
        dimension = self._info.embedding.dimension
        next_slot = task.first_slot
        while next_slot <= task.last_slot:
            checkpoint()
            with self._pool.reading() as connection:
                batches = list(
                    read_vectors(connection, next_slot, task.last_slot, dimension, _READ_ROWS)
                )
            for slots, vectors in batches:
                writer.append(slots, vectors)
            if not batches:
                break
            next_slot = int(batches[-1][0][-1]) + 1

    def _index(
        self,
        writer: SegmentWriter,
        task: Task,
        checkpoint: Callable[[], None],
        queries: NDArray[np.float32] | None,
    ) -> SegmentRecord | None:
        """Index what was copied, and measure the index."""
        files = writer.finish_rows()
        if not writer.rows:
            return None
        rows = Rows(writer.vectors(), writer.norms(), self._info.metric)
        with self._pool.reading() as connection:
            target = manifest.read_target(connection)
            documents = max(writer.rows, read_state(connection).documents)
        budget_bytes = None
        if target.memory_bytes is not None:
            budget_bytes = target.memory_bytes * writer.rows // documents
        ladder = Ladder(
            writer, rows, target, checkpoint, budget_bytes=budget_bytes, queries=queries
        )
        ladder.build(thorough=task.thorough)
        return SegmentRecord(
            segment_id=0,
            first_slot=task.first_slot,
            last_slot=task.last_slot,
            folder=uuid.uuid4().hex,
            rows=writer.rows,
            files={**files, **ladder.files},
            front=tuple(ladder.front),
            exact_us=ladder.exact_us,
            exact_us_per_row=ladder.exact_us_per_row,
            thorough=ladder.thorough,
        )


@dataclass(frozen=True, slots=True)
class _Extent:
    first: int
    last: int
    live: int


def _extents(
    connection: sqlite3.Connection, records: Sequence[SegmentRecord]
) -> tuple[list[_Extent], int, int]:
    """Return the segments with their live rows, the unsealed rows, and the newest slot."""
    documents = read_state(connection).documents
    newest = connection.execute(
        "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'documents'), 0)"
    ).fetchone()[0]
    extents = []
    for record in records:
        dead = tombstones.count_in(connection, record.first_slot, record.last_slot)
        extents.append(_Extent(record.first_slot, record.last_slot, max(0, record.rows - dead)))
    unsealed = documents - sum(extent.live for extent in extents)
    return extents, max(0, unsealed), newest


def _first_gap(
    connection: sqlite3.Connection, extents: Sequence[_Extent]
) -> tuple[int, int] | None:
    """Return slots before the last segment that hold rows and are in no segment."""
    start = 1
    for extent in extents:
        gap = (start, extent.first - 1)
        rows = connection.execute("SELECT 1 FROM vectors WHERE slot BETWEEN ? AND ? LIMIT 1", gap)
        if rows.fetchone():
            return gap
        start = extent.last + 1
    return None


def _seal(
    sealed: Sequence[_Extent], unsealed: int, newest: int, policy: Policy, *, settle: bool
) -> Task:
    """Put the memtable into a segment, with the newest segments where that is due."""
    merged = _suffix_to_merge(sealed, unsealed, policy, settle=settle)
    if merged:
        return Task(merged[0].first, newest, settle)
    return Task(sealed[-1].last + 1 if sealed else 1, newest, settle)


def _thin_out(
    records: Sequence[SegmentRecord], sealed: Sequence[_Extent], policy: Policy, *, settle: bool
) -> Task | None:
    """Build a segment anew that has many dead rows."""
    for extent, record in zip(sealed, records, strict=True):
        if record.rows - extent.live > policy.dead_share * record.rows:
            return Task(extent.first, extent.last, settle)
    return None


def _merge(sealed: Sequence[_Extent], policy: Policy) -> Task | None:
    """Leave no segment that is not much larger than all newer ones."""
    if len(sealed) > 1:
        merged = _suffix_to_merge(sealed[:-1], sealed[-1].live, policy, settle=True)
        if merged:
            return Task(merged[0].first, sealed[-1].last, thorough=True)
    return None


def _finish(records: Sequence[SegmentRecord]) -> Task | None:
    """Try the indexes for which there was no time while writes came in."""
    for record in records:
        if not record.thorough:
            return Task(record.first_slot, record.last_slot, thorough=True)
    return None


def _suffix_to_merge(
    extents: Sequence[_Extent], rows: int, policy: Policy, *, settle: bool
) -> list[_Extent]:
    """Return the newest segments that are worth merging with so many newer rows.

    While writes come in, so many segments of like size become one, so that a row is copied about
    log(n) times. To settle, no segment is left that is not much larger than all newer ones.
    """
    merged: list[_Extent] = []
    older = list(extents)
    while older:
        if settle:
            taken = 1 if older[-1].live < _SETTLED_RATIO * rows else 0
        else:
            limit = policy.fan_in * max(rows, policy.seal_rows)
            taken = 0
            while taken < len(older) and older[-1 - taken].live < limit:
                taken += 1
            taken = taken if taken + 1 >= policy.fan_in else 0
        if not taken:
            break
        merged = [*older[-taken:], *merged]
        rows += sum(extent.live for extent in older[-taken:])
        older = older[:-taken]
    return merged


def _overlapping(records: Sequence[SegmentRecord], task: Task) -> set[int]:
    return {
        record.segment_id
        for record in records
        if record.last_slot >= task.first_slot and record.first_slot <= task.last_slot
    }
