"""Tombstones: which slots no longer hold a document, for whoever has read them before."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["bury", "count_in", "forget_in", "newest_tombstone", "overslept", "slots_since"]

_KEPT = 100_000
"""A process that slept through more deletions than this reads the collection anew."""
_TRIMMED_EVERY = 10_000
"""Tombstones between two looks at which of them can go."""


def bury(connection: sqlite3.Connection, slots: Iterable[int]) -> None:
    """Enter slots whose rows were deleted, in the transaction that deleted them.

    The newest tombstones are kept, and those of slots that a segment may still hold.
    """
    rows = [(slot,) for slot in slots]
    connection.executemany("INSERT INTO tombstones (slot) VALUES (?)", rows)
    newest = newest_tombstone(connection)
    if newest // _TRIMMED_EVERY != (newest - len(rows)) // _TRIMMED_EVERY:
        connection.execute(
            "DELETE FROM tombstones WHERE position <= ? "
            "AND slot > (SELECT coalesce(max(last_slot), 0) FROM segments)",
            (newest - _KEPT,),
        )


def newest_tombstone(connection: sqlite3.Connection) -> int:
    """Return the position of the newest tombstone, 0 if there is none."""
    newest: int | None = connection.execute("SELECT max(position) FROM tombstones").fetchone()[0]
    return newest or 0


def overslept(newest: int, seen: int) -> bool:
    """Tell whether tombstones after the last one seen may be gone."""
    return newest - seen > _KEPT


def slots_since(connection: sqlite3.Connection, position: int) -> NDArray[np.int64]:
    """Return the slots whose tombstones are younger than one."""
    rows = connection.execute(
        "SELECT coalesce(CAST(slot AS INTEGER), 0) FROM tombstones WHERE position > ?", (position,)
    )
    return np.fromiter((slot for (slot,) in rows), np.int64)


def count_in(connection: sqlite3.Connection, first_slot: int, last_slot: int) -> int:
    """Count the tombstones of slots from one to another."""
    count: int = connection.execute(
        "SELECT count(*) FROM tombstones WHERE slot BETWEEN ? AND ?", (first_slot, last_slot)
    ).fetchone()[0]
    return count


def forget_in(
    connection: sqlite3.Connection, first_slot: int, last_slot: int, held: NDArray[np.int64]
) -> None:
    """Delete the tombstones of a range of slots, but for those that the range's segment holds.

    So each tombstone that is left is a dead row of a segment, and counting them counts those.
    Whoever missed the others follows the manifest, which changes in the same transaction.
    """
    rows = connection.execute(
        "SELECT position, slot FROM tombstones WHERE slot BETWEEN ? AND ?", (first_slot, last_slot)
    ).fetchall()
    if not rows:
        return
    positions, slots = np.array(rows, np.int64).T
    forgotten = positions[~np.isin(slots, held)]
    connection.executemany(
        "DELETE FROM tombstones WHERE position = ?", ((each,) for each in forgotten.tolist())
    )
