"""Copy what is intact from a damaged database file into a new one."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nearfield.errors import CorruptionError
from nearfield.stores.local import manifest
from nearfield.stores.local.inspection import SELECT_ROWS, row_problem
from nearfield.stores.local.keyword import rebuild_index
from nearfield.stores.local.ledger import copy_records
from nearfield.stores.local.plans import DEFAULT_TARGET
from nearfield.stores.local.rows import INSERT_DOCUMENT, INSERT_VECTOR
from nearfield.stores.local.schema import read_state

__all__ = ["Salvage", "mend_records", "salvage"]

_SELECT_DOCUMENT = """
SELECT slot, CAST(id AS BLOB), sequence, created_at, checksum, metadata,
       text_checksum, CAST(text AS BLOB), NULL, NULL
FROM documents
"""
"""A row of :data:`SELECT_ROWS` whose vector cannot be read."""

_INSERT_QUARANTINE = (
    "INSERT INTO quarantine (slot, id, metadata, text, vector, problem) VALUES (?, ?, ?, ?, ?, ?)"
)
_LONGEST_GAP = 1_000_000
"""Slots in a row that cannot be read before the search for more is given up."""


@dataclass(frozen=True, slots=True)
class Salvage:
    """What came of it.

    Attributes:
        damaged: The ids of the documents that were left out.
        unnamed: How many more there were whose ids could not be read.
    """

    damaged: list[str]
    unnamed: int


def salvage(old: sqlite3.Connection, new: sqlite3.Connection, dimension: int) -> Salvage:
    """Copy rows one by one, so that a damaged page costs only the rows on it.

    Damaged rows that can be read at all go to the new file's table ``quarantine``.
    """
    old.execute("PRAGMA cell_size_check = OFF")  # the checksums judge what a bad page still gives
    sequence, recorded = _recorded(old)
    slots: dict[str, int] = {}
    damaged: dict[str, None] = {}
    new.execute("BEGIN")
    for slot in _slots(old):
        row = _read_row(old, slot)
        if row is None:
            continue
        problem = row_problem(row, dimension)
        if problem is None:
            _copy_row(row, new, slots)
            continue
        _set_aside(row, new, problem.detail)
        if problem.id is not None:
            damaged[problem.id] = None
    for identifier in _indexed_ids(old):
        damaged[identifier] = None
    _copy_quarantine(old, new)
    new.execute("UPDATE state SET sequence = ?", (sequence,))
    mend_records(new)
    copy_records(old, new)
    rebuild_index(new)
    new.execute("COMMIT")
    left_out = [identifier for identifier in damaged if identifier not in slots]
    return Salvage(left_out, max(0, recorded - len(slots) - len(left_out)))


def mend_records(connection: sqlite3.Connection) -> None:
    """Count anew what is recorded about the collection as a whole; this is a write of its own."""
    connection.execute(
        "UPDATE state SET documents = (SELECT count(*) FROM documents), "
        "sequence = 1 + max(0, CAST(sequence AS INTEGER), "
        "(SELECT coalesce(max(sequence), 0) FROM documents))"
    )
    try:
        manifest.read_target(connection)
    except CorruptionError:
        manifest.write_target(connection, DEFAULT_TARGET)
    connection.execute(
        "UPDATE sqlite_sequence SET seq = max(CAST(seq AS INTEGER), "
        "(SELECT coalesce(max(slot), 0) FROM documents)) WHERE name = 'documents'"
    )


def _recorded(old: sqlite3.Connection) -> tuple[int, int]:
    """Return the number of the last write and of documents, zeros where they are damaged."""
    try:
        return read_state(old)[:2]
    except (sqlite3.DatabaseError, CorruptionError):
        return 0, 0


def _slots(old: sqlite3.Connection) -> Iterator[int]:
    """Find the slots in use, ascending, stepping over pages that cannot be read."""
    highest = _highest_slot(old)
    last = failures = 0
    while failures < _LONGEST_GAP:
        try:
            rows = old.execute("SELECT slot FROM documents WHERE slot > ? ORDER BY slot", (last,))
            for (slot,) in rows:
                if slot <= last:  # a page that is out of place
                    break
                yield slot
                last, failures = slot, 0
            else:
                return
        except sqlite3.DatabaseError:
            if last >= highest:
                return
        last += 1
        failures += 1


def _highest_slot(old: sqlite3.Connection) -> int:
    """Return the highest slot that anything that can be read speaks of."""
    highest = 0
    for statement in (
        "SELECT seq FROM sqlite_sequence WHERE name = 'documents'",
        "SELECT max(slot) FROM documents",
        "SELECT max(slot) FROM vectors",
    ):
        with contextlib.suppress(sqlite3.DatabaseError):
            row = old.execute(statement).fetchone()
            if row is not None and isinstance(row[0], int):
                highest = max(highest, row[0])
    return highest


def _read_row(old: sqlite3.Connection, slot: int) -> tuple[Any, ...] | None:
    for select in (SELECT_ROWS, _SELECT_DOCUMENT):
        with contextlib.suppress(sqlite3.DatabaseError):
            cursor = old.execute(f"{select} WHERE documents.slot = ?", (slot,))
            row: tuple[Any, ...] | None = cursor.fetchone()
            return row
    return None


def _copy_row(row: tuple[Any, ...], new: sqlite3.Connection, slots: dict[str, int]) -> None:
    slot, identifier, *head, text, vector_checksum, vector = row
    identifier = identifier.decode()
    older = slots.get(identifier)
    if older is not None:  # an outdated page came back to life; the newest slot is the truth
        new.execute("DELETE FROM documents WHERE slot = ?", (older,))
        new.execute("DELETE FROM vectors WHERE slot = ?", (older,))
    new.execute(INSERT_DOCUMENT, (slot, identifier, *head, text.decode()))
    new.execute(INSERT_VECTOR, (slot, vector_checksum, vector))
    slots[identifier] = slot


def _set_aside(row: tuple[Any, ...], new: sqlite3.Connection, detail: str) -> None:
    slot, identifier, _, _, _, metadata, _, text, _, vector = row
    new.execute(_INSERT_QUARANTINE, (slot, identifier, metadata, text, vector, detail))


def _indexed_ids(old: sqlite3.Connection) -> Iterator[str]:
    """List the ids that the index knows, also of documents whose own page is lost."""
    with contextlib.suppress(sqlite3.DatabaseError):
        for (identifier,) in old.execute("SELECT id FROM documents ORDER BY id"):
            if isinstance(identifier, str):
                yield identifier


def _copy_quarantine(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.DatabaseError):
        for row in old.execute("SELECT slot, id, metadata, text, vector, problem FROM quarantine"):
            new.execute(_INSERT_QUARANTINE, row)
