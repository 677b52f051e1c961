"""The memtable: the rows that no sealed segment holds, in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nearfield.stores.local.arrays import GrowingArray
from nearfield.stores.local.parts import Part
from nearfield.stores.local.rows import decode_vector

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.stores.local.columns import Column

    SlotRange = tuple[int, int]
    """The first slot and the last."""

__all__ = ["Memtable", "read_vectors"]

_LOAD_ROWS = 256
"""Few enough that a batch of vectors stays in the processor's cache."""


class Memtable:
    """Vectors in arrays that only ever grow at the end, so that parts handed out stay as they are.

    Not safe to change from several threads at once.
    """

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._slots = GrowingArray(np.int64)
        self._vectors = GrowingArray(np.float32, dimension)
        self._norms = GrowingArray(np.float32)

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def slots(self) -> NDArray[np.int64]:
        """The slot of each row, ascending."""
        return self._slots.view()

    def part(self, live: NDArray[np.bool_], columns: Mapping[str, Column]) -> Part:
        """Return the rows as a part of a collection."""
        slots, vectors, norms = self._slots.view(), self._vectors.view(), self._norms.view()
        return Part(slots, vectors, norms, live, int(np.count_nonzero(live)), columns)

    def load(
        self, connection: sqlite3.Connection, gaps: Sequence[SlotRange], *, expected: int
    ) -> None:
        """Append the rows in some ranges of slots, ascending and beyond the last row.

        Args:
            connection: In a transaction.
            gaps: The ranges.
            expected: About how many rows there will be in all, to make room once.

        Raises:
            CorruptionError: What is stored is not what was written.
        """
        if not len(self):
            self._vectors.reserve(expected)
        for first, last in gaps:
            for slots, vectors in read_vectors(connection, first, last, self._dimension):
                self._slots.extend(slots)
                self._vectors.extend(vectors)
                self._norms.extend(
                    np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
                )

    def select(self, rows: NDArray[np.int64]) -> Memtable:
        """Return some of the rows in new arrays."""
        selected = Memtable(self._dimension)
        selected._slots = self._slots.select(rows)
        selected._vectors = self._vectors.select(rows)
        selected._norms = self._norms.select(rows)
        return selected


def read_vectors(
    connection: sqlite3.Connection, first: int, last: int, dimension: int, limit: int = -1
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Read the verified vectors from one slot to another, both included, in batches.

    Args:
        connection: In a transaction.
        first: The first slot.
        last: The last slot.
        dimension: Of the vectors.
        limit: The most rows to read; all of them if it is negative.

    Yields:
        Slots of shape (n,) and vectors of shape (n, dimension).
    """
    cursor = connection.execute(
        "SELECT slot, checksum, vector FROM vectors WHERE slot BETWEEN ? AND ? "
        "ORDER BY slot LIMIT ?",
        (first, last, limit),
    )
    while rows := cursor.fetchmany(_LOAD_ROWS):
        blob = b"".join(
            [decode_vector(slot, checksum, vector, dimension) for slot, checksum, vector in rows]
        )
        vectors = np.frombuffer(blob, "<f4").reshape(len(rows), dimension)
        yield np.fromiter((row[0] for row in rows), np.int64), vectors
