"""Verify, mend and copy a collection's database."""

from __future__ import annotations

import sqlite3
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nearfield.errors import CollectionExistsError, CorruptionError
from nearfield.stores.base import CheckReport, Include, Problem, RepairReport
from nearfield.stores.local import schema
from nearfield.stores.local.connections import opened
from nearfield.stores.local.files import CollectionFiles, DatabaseFolder, sync_file, sync_folder
from nearfield.stores.local.keyword import rebuild_index, verify_index
from nearfield.stores.local.locking import lock_folder, take_alone
from nearfield.stores.local.rows import (
    INSERT_DOCUMENT,
    INSERT_VECTOR,
    decode_document,
    decode_vector,
)

if TYPE_CHECKING:
    from pathlib import Path

    from nearfield.stores.base import CollectionInfo
    from nearfield.stores.local.connections import ConnectionPool

__all__ = ["backup", "check", "repair"]

_LOCK_TIMEOUT_S = 10.0

_ROWS = """
SELECT documents.slot, CAST(id AS BLOB), sequence, created_at, documents.checksum, metadata,
       CAST(text AS BLOB), vectors.checksum, vector
FROM documents LEFT JOIN vectors ON vectors.slot = documents.slot
"""
"""Text is read as bytes: damaged text need not be UTF-8."""


def check(pool: ConnectionPool, dimension: int) -> CheckReport:
    """Verify the database's structure, every checksum and the keyword index."""
    with pool.borrow() as connection:
        problems = _structure_problems(connection)
    documents = 0
    try:
        with pool.reading() as connection:
            for row in connection.execute(f"{_ROWS} ORDER BY documents.slot"):
                problem = _row_problem(row, dimension)
                if problem is None:
                    documents += 1
                else:
                    problems.append(problem)
            problems += _orphans(connection)
    except CorruptionError as error:
        problems.append(Problem("structure", str(error)))
    if not pool.read_only and not any(problem.kind == "structure" for problem in problems):
        try:
            with pool.writing() as connection:
                verify_index(connection)
        except CorruptionError:
            problems.append(Problem("keyword_index", "the keyword index disagrees with the texts"))
    return CheckReport(documents, tuple(problems))


def repair(pool: ConnectionPool, folder: DatabaseFolder, info: CollectionInfo) -> RepairReport:
    """Set damaged rows aside and rebuild the keyword index; rebuild the file if it must be.

    Raises:
        CollectionInUseError: The file must be rebuilt, and the collection is open elsewhere.
    """
    with pool.borrow() as connection:
        broken = bool(_structure_problems(connection))
    if broken:
        pool.close_idle()
        damaged, actions = _rebuild_file(folder, info)
    else:
        damaged, actions = _quarantine(pool, info.embedding.dimension)
    with pool.reading() as connection:
        documents = connection.execute("SELECT count(*) FROM documents").fetchone()[0]
    return RepairReport(documents, tuple(damaged), tuple(actions))


def backup(pool: ConnectionPool, name: str, destination: Path) -> None:
    """Copy the database, as of one moment and while others write, into a database folder.

    Raises:
        CollectionExistsError: The destination holds a collection of this name.
    """
    folder = DatabaseFolder(destination)
    files = folder.collection(name)
    with lock_folder(folder, _LOCK_TIMEOUT_S):
        if files.folder.exists():
            raise CollectionExistsError(
                f"{destination} already holds a collection {name!r}; choose a new folder for the "
                "backup",
                name=name,
            )
        unfinished = CollectionFiles(folder.temporary(f"backup-{uuid.uuid4().hex}"))
        unfinished.folder.mkdir()
        unfinished.database.touch()
        with pool.borrow() as source, opened(unfinished.database) as target:
            source.backup(target)
        sync_file(unfinished.database)
        sync_folder(unfinished.folder)
        unfinished.folder.rename(files.folder)
        sync_folder(folder.root)


def _structure_problems(connection: sqlite3.Connection) -> list[Problem]:
    try:
        rows = connection.execute("PRAGMA integrity_check").fetchall()
    except sqlite3.DatabaseError as error:
        return [Problem("structure", str(error))]
    return [Problem("structure", detail) for (detail,) in rows if detail != "ok"]


def _row_problem(row: tuple[Any, ...], dimension: int) -> Problem | None:
    slot, identifier, *values, text, vector_checksum, vector = row
    shown = identifier.decode(errors="replace") if isinstance(identifier, bytes) else None
    try:
        decode_document((slot, identifier.decode(), *values, text.decode()), Include())
    except (CorruptionError, UnicodeDecodeError, AttributeError) as error:
        return Problem("document", f"slot {slot}: {error}", shown)
    if vector is None:
        return Problem("vector", f"slot {slot}: the vector is missing", shown)
    try:
        decode_vector(slot, vector_checksum, vector, dimension)
    except (CorruptionError, TypeError) as error:
        return Problem("vector", f"slot {slot}: {error}", shown)
    return None


def _orphans(connection: sqlite3.Connection) -> list[Problem]:
    rows = connection.execute(
        "SELECT slot FROM vectors WHERE slot NOT IN (SELECT slot FROM documents)"
    )
    return [Problem("vector", f"slot {slot}: a vector without a document") for (slot,) in rows]


def _quarantine(pool: ConnectionPool, dimension: int) -> tuple[list[str], list[str]]:
    """Move damaged rows to the table ``quarantine``; return their ids and what was done."""
    with pool.writing() as connection:
        problems = [
            (row[0], problem)
            for row in connection.execute(_ROWS)
            if (problem := _row_problem(row, dimension)) is not None
        ]
        for slot, problem in problems:
            connection.execute(
                "INSERT INTO quarantine (slot, id, metadata, text, vector, problem) "
                "SELECT slot, id, metadata, text, vector, ? "
                "FROM documents LEFT JOIN vectors USING (slot) WHERE slot = ?",
                (problem.detail, slot),
            )
            connection.execute("DELETE FROM documents WHERE slot = ?", (slot,))
            connection.execute("INSERT INTO tombstones (slot) VALUES (?)", (slot,))
        orphans = connection.execute(
            "DELETE FROM vectors WHERE slot NOT IN (SELECT slot FROM documents)"
        ).rowcount
        connection.execute("UPDATE state SET sequence = sequence + 1")
        rebuild_index(connection)
    actions = ["rebuilt the keyword index"]
    if problems:
        actions.insert(0, f"moved {len(problems)} damaged documents to the table quarantine")
    if orphans > len(problems):
        actions.insert(0, f"deleted {orphans - len(problems)} vectors without a document")
    return [problem.id for _, problem in problems if problem.id is not None], actions


def _rebuild_file(folder: DatabaseFolder, info: CollectionInfo) -> tuple[list[str], list[str]]:
    """Copy all that is undamaged into a new file; return the ids left out and what was done."""
    files = folder.collection(info.name)
    with lock_folder(folder, _LOCK_TIMEOUT_S):
        take_alone(files)
        rebuilt = CollectionFiles(folder.temporary(f"repair-{uuid.uuid4().hex}"))
        with opened(files.database) as old:
            birth = schema.read_birth(old, str(files.database))
            schema.create_file(rebuilt, info, collection_id=birth.collection_id)
            with opened(rebuilt.database) as new:
                damaged, unreadable = _salvage(old, new, info.embedding.dimension)
        sync_file(rebuilt.database)
        kept = folder.set_aside(info.name, datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f"))
        files.folder.rename(kept)
        rebuilt.folder.rename(files.folder)
        sync_folder(folder.root)
    return damaged, [
        "rebuilt the database file from every row that could be read",
        f"left out {len(damaged)} damaged documents and {unreadable} unreadable rows",
        f"kept the damaged files in {kept}",
    ]


def _salvage(
    old: sqlite3.Connection, new: sqlite3.Connection, dimension: int
) -> tuple[list[str], int]:
    """Copy rows one by one, so that a damaged page costs only the rows on it."""
    damaged: list[str] = []
    unreadable = 0
    last, sequence = old.execute(
        "SELECT (SELECT seq FROM sqlite_sequence WHERE name = 'documents'), "
        "(SELECT sequence FROM state)"
    ).fetchone()
    new.execute("BEGIN")
    for slot in range(1, (last or 0) + 1):
        try:
            row = old.execute(f"{_ROWS} WHERE documents.slot = ?", (slot,)).fetchone()
        except sqlite3.DatabaseError:
            unreadable += 1
            continue
        if row is None:
            continue
        problem = _row_problem(row, dimension)
        if problem is not None:
            damaged += [] if problem.id is None else [problem.id]
            continue
        _, identifier, *values, text, checksum, vector = row
        new.execute(INSERT_DOCUMENT, (slot, identifier.decode(), *values, text.decode()))
        new.execute(INSERT_VECTOR, (slot, checksum, vector))
    new.execute("UPDATE state SET sequence = ?", (sequence + 1,))
    rebuild_index(new)
    new.execute("COMMIT")
    return damaged, unreadable
