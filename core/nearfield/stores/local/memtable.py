"""The vectors and columns in memory, and how they follow the database."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.errors import CorruptionError
from nearfield.filters import lookup
from nearfield.stores.local.arrays import GrowingArray
from nearfield.stores.local.columns import Column, filter_mask
from nearfield.stores.local.rows import (
    SELECT_HEADS,
    decode_metadata,
    decode_vector,
    missing,
    verify_head,
)
from nearfield.stores.local.schema import read_state

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.filters import Filter

__all__ = ["Memtable", "Snapshot"]

_LOAD_ROWS = 256
"""Few enough that a batch of vectors stays in the processor's cache."""
_CACHED_FILTERS = 32


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The collection as of one committed write. Immutable; any number of threads may read it.

    Attributes:
        sequence: The number of the write it shows.
        slots: Each row's slot, ascending, shape (n,).
        vectors: Shape (n, dimension).
        norms: The vectors' lengths, shape (n,).
        live: False for a row that was deleted since it was read, shape (n,).
        columns: The metadata fields that filters have asked for so far.
    """

    sequence: int
    slots: NDArray[np.int64]
    vectors: NDArray[np.float32]
    norms: NDArray[np.float32]
    live: NDArray[np.bool_]
    columns: Mapping[str, Column]
    _positions: dict[Filter | None, NDArray[np.int64] | None] = field(default_factory=dict)

    def positions(self, where: Filter | None) -> NDArray[np.int64] | None:
        """Return the rows that are live and match, ascending; None when that is all of them."""
        try:
            return self._positions[where]
        except KeyError:
            mask = self.live
            if where is not None:
                mask = mask & filter_mask(where, self.columns, len(self.slots))
            found = None if mask.all() else np.flatnonzero(mask)
            if len(self._positions) >= _CACHED_FILTERS:
                self._positions.clear()
            self._positions[where] = found
            return found

    def matching_slots(self, where: Filter | None) -> NDArray[np.int64]:
        """Return the slots that are live and match, ascending."""
        positions = self.positions(where)
        return self.slots if positions is None else self.slots[positions]


class Memtable:
    """Every vector of the collection in memory, kept up to date from the database.

    It follows other processes' writes and this one's own in the same way: before a search, rows
    beyond the last slot are read and tombstoned slots are marked dead.
    """

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._lock = threading.Lock()
        self._reset()

    @property
    def sequence(self) -> int:
        """The number of the last write that was read."""
        return self._snapshot.sequence

    def at(
        self, connection: sqlite3.Connection, paths: frozenset[str] = frozenset(), *, reached: int
    ) -> Snapshot | None:
        """Return what the connection's open transaction sees, with columns for some paths.

        Args:
            connection: In a transaction.
            paths: The metadata fields that will be asked for.
            reached: :attr:`sequence`, read before the transaction began.

        Returns:
            None if another thread has already moved on to a later write: begin a new transaction.

        Raises:
            CorruptionError: What is stored is not what was written.
        """
        sequence, documents = read_state(connection)
        if sequence < reached:
            raise CorruptionError(
                f"the number of the last write went back from {reached} to {sequence}: the file "
                "was replaced or damaged; close the collection and open it again"
            )
        snapshot = self._snapshot
        if snapshot.sequence == sequence and paths <= snapshot.columns.keys():
            return snapshot
        with self._lock:
            if self._snapshot.sequence > sequence:
                return None
            if self._snapshot.sequence < sequence:
                self._catch_up(connection, sequence, documents)
            missing = paths - self._snapshot.columns.keys()
            if missing:
                self._add_columns(connection, missing)
            return self._snapshot

    def _reset(self) -> None:
        self._slots = GrowingArray(np.int64)
        self._vectors = GrowingArray(np.float32, self._dimension)
        self._norms = GrowingArray(np.float32)
        self._tombstone = 0  # the last one applied
        self._publish(-1, np.empty(0, np.bool_), {})

    def _publish(
        self, sequence: int, live: NDArray[np.bool_], columns: Mapping[str, Column]
    ) -> None:
        self._snapshot = Snapshot(
            sequence, self._slots.view(), self._vectors.view(), self._norms.view(), live, columns
        )

    def _catch_up(self, connection: sqlite3.Connection, sequence: int, documents: int) -> None:
        try:
            if self._snapshot.sequence < 0 or self._missed_tombstones(connection):
                self._reset()
                self._tombstone = _newest_tombstone(connection)
            columns = self._snapshot.columns
            known = len(self._slots)
            self._append_rows(connection, columns)
            live = np.ones(len(self._slots), np.bool_)
            live[:known] = self._snapshot.live
            self._bury(connection, live)
            count = int(np.count_nonzero(live))
            _refuse_other_count(count, documents)
            self._publish(sequence, live, columns)
            if count * 4 < 3 * len(live):
                self._compact()
        except BaseException:
            self._reset()  # half-appended rows must not be appended again
            raise

    def _missed_tombstones(self, connection: sqlite3.Connection) -> bool:
        oldest = connection.execute("SELECT min(position) FROM tombstones").fetchone()[0]
        return oldest is not None and oldest > self._tombstone + 1

    def _append_rows(self, connection: sqlite3.Connection, columns: Mapping[str, Column]) -> None:
        known = len(self._slots)
        last = int(self._slots.view()[-1]) if known else 0
        if not known:
            total = connection.execute("SELECT count(*) FROM documents").fetchone()[0]
            self._vectors.reserve(total)
        cursor = connection.execute(
            "SELECT slot, checksum, vector FROM vectors WHERE slot > ? ORDER BY slot", (last,)
        )
        while rows := cursor.fetchmany(_LOAD_ROWS):
            blob = b"".join(
                [
                    decode_vector(slot, checksum, vector, self._dimension)
                    for slot, checksum, vector in rows
                ]
            )
            vectors = np.frombuffer(blob, "<f4").reshape(len(rows), self._dimension)
            self._slots.extend(np.fromiter((row[0] for row in rows), np.int64))
            self._vectors.extend(vectors)
            self._norms.extend(np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)))
        if columns:
            slots = self._slots.view()[known:]
            _extend_columns(connection, columns, slots, np.ones(len(slots), np.bool_))

    def _bury(self, connection: sqlite3.Connection, live: NDArray[np.bool_]) -> None:
        rows = connection.execute(
            "SELECT position, coalesce(CAST(slot AS INTEGER), 0) FROM tombstones "
            "WHERE position > ? ORDER BY position",
            (self._tombstone,),
        ).fetchall()
        if not rows:
            return
        self._tombstone = rows[-1][0]
        slots = self._slots.view()
        dead = np.fromiter((row[1] for row in rows), np.int64)
        # A slot that was written and deleted between two visits was never read.
        dead = dead[np.isin(dead, slots)]
        live[np.searchsorted(slots, dead)] = False

    def _add_columns(self, connection: sqlite3.Connection, paths: frozenset[str]) -> None:
        added = {path: Column() for path in paths}
        old = self._snapshot
        _extend_columns(connection, added, old.slots, old.live)
        self._publish(old.sequence, old.live, {**old.columns, **added})

    def _compact(self) -> None:
        """Copy the live rows together; snapshots handed out before keep the old arrays."""
        old = self._snapshot
        rows = np.flatnonzero(old.live)
        self._slots = self._slots.select(rows)
        self._vectors = self._vectors.select(rows)
        self._norms = self._norms.select(rows)
        columns = {path: column.select(rows) for path, column in old.columns.items()}
        self._publish(old.sequence, np.ones(len(rows), np.bool_), columns)


def _refuse_other_count(vectors: int, documents: int) -> None:
    if vectors != documents:
        raise CorruptionError(
            f"{documents} documents were written and {vectors} vectors are there; run "
            "`nearfield check`, then `nearfield repair`"
        )


def _newest_tombstone(connection: sqlite3.Connection) -> int:
    newest: int | None = connection.execute("SELECT max(position) FROM tombstones").fetchone()[0]
    return newest or 0


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
