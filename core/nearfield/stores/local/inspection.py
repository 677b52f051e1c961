"""Find what is damaged in a collection's database."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

from nearfield.errors import CorruptionError
from nearfield.stores.base import CheckReport, Include, Problem
from nearfield.stores.local import manifest, schema
from nearfield.stores.local.keyword import verify_index
from nearfield.stores.local.ledger import ledger_problems
from nearfield.stores.local.plans import DEFAULT_TARGET
from nearfield.stores.local.rows import decode_document, decode_vector
from nearfield.stores.local.segments import Segment

if TYPE_CHECKING:
    from nearfield.stores.base import CollectionInfo
    from nearfield.stores.local.connections import ConnectionPool
    from nearfield.stores.local.files import CollectionFiles

__all__ = ["SELECT_ROWS", "check", "row_problem", "structure_problems"]

SELECT_ROWS = """
SELECT documents.slot, CAST(id AS BLOB), sequence, created_at, documents.checksum, metadata,
       text_checksum, CAST(text AS BLOB), vectors.checksum, vector
FROM documents LEFT JOIN vectors ON vectors.slot = documents.slot
"""
"""Text is read as bytes: damaged text need not be UTF-8."""


def check(pool: ConnectionPool, info: CollectionInfo, files: CollectionFiles) -> CheckReport:
    """Verify the database's structure, every checksum, the keyword index and the segments."""
    documents = 0
    dimension = info.embedding.dimension
    with pool.borrow() as connection:
        problems = structure_problems(connection)
    try:
        with pool.reading() as connection:
            for row in connection.execute(f"{SELECT_ROWS} ORDER BY documents.slot"):
                problem = row_problem(row, dimension)
                if problem is None:
                    documents += 1
                else:
                    problems.append(problem)
            problems += _orphans(connection)
            problems += _record_problems(connection, str(pool.path))
            problems += ledger_problems(connection)
    except CorruptionError as error:
        problems.append(Problem("structure", str(error)))
    if not pool.read_only and not any(problem.kind == "structure" for problem in problems):
        problems += _index_problems(pool)
    try:
        problems += _segment_problems(pool, info, files)
    except CorruptionError as error:
        problems.append(Problem("structure", str(error)))
    return CheckReport(documents, tuple(problems))


def structure_problems(connection: sqlite3.Connection) -> list[Problem]:
    """Return what SQLite finds wrong with its own pages and indexes."""
    try:
        rows = connection.execute("PRAGMA integrity_check").fetchall()
    except sqlite3.DatabaseError as error:
        return [Problem("structure", str(error))]
    return [Problem("structure", detail) for (detail,) in rows if detail != "ok"]


def row_problem(row: tuple[Any, ...], dimension: int) -> Problem | None:
    """Return what is wrong with a row of :data:`SELECT_ROWS`."""
    slot, identifier, *head, text, vector_checksum, vector = row
    shown = identifier.decode(errors="replace") if isinstance(identifier, bytes) else None
    try:
        decode_document((slot, identifier.decode(), *head, text.decode()), Include())
    except (CorruptionError, UnicodeDecodeError, AttributeError) as error:
        return Problem("document", f"slot {slot}: {error}", shown)
    if vector is None:
        return Problem("vector", f"slot {slot}: the vector is missing", shown)
    try:
        decode_vector(slot, vector_checksum, vector, dimension)
    except CorruptionError as error:
        return Problem("vector", f"slot {slot}: {error}", shown)
    return None


def _orphans(connection: sqlite3.Connection) -> list[Problem]:
    rows = connection.execute(
        "SELECT slot FROM vectors WHERE slot NOT IN (SELECT slot FROM documents)"
    )
    return [Problem("vector", f"slot {slot}: a vector without a document") for (slot,) in rows]


def _record_problems(connection: sqlite3.Connection, path: str) -> list[Problem]:
    """Compare what is recorded about the collection as a whole with what there is."""
    problems = []
    try:
        schema.read_birth(connection, path)
        manifest.read_target(connection)
        documents = schema.read_state(connection).documents
        count = connection.execute("SELECT count(*) FROM documents").fetchone()[0]
        if documents != count:
            detail = f"{documents} documents were written and {count} are there"
            problems.append(Problem("record", detail))
    except CorruptionError as error:
        problems.append(Problem("record", str(error)))
    last, top = connection.execute(
        "SELECT (SELECT seq FROM sqlite_sequence WHERE name = 'documents'), "
        "(SELECT max(slot) FROM documents)"
    ).fetchone()
    if top is not None and (not isinstance(last, int) or last < top):
        detail = f"the last slot is recorded as {last}, and slot {top} is in use"
        problems.append(Problem("record", detail))
    return problems


def _index_problems(pool: ConnectionPool) -> list[Problem]:
    try:
        with pool.writing() as connection:
            verify_index(connection)
    except CorruptionError:
        return [Problem("keyword_index", "the keyword index disagrees with the texts")]
    return []


def _segment_problems(
    pool: ConnectionPool, info: CollectionInfo, files: CollectionFiles
) -> list[Problem]:
    """Read every file of the segments; what is wrong with one costs time, and no document."""
    with pool.reading() as connection:
        records = manifest.read_segments(connection)
    problems = {}
    for record in records:
        folder = files.segments / record.folder
        try:
            opened = Segment(record, folder, info.embedding.dimension, info.metric, DEFAULT_TARGET)
            opened.verify(None)
        except (CorruptionError, OSError) as error:
            problems[record.segment_id] = Problem("segment", str(error))
    with pool.reading() as connection:  # another may have put others in their place
        left = {record.segment_id for record in manifest.read_segments(connection)}
    return [problem for segment_id, problem in problems.items() if segment_id in left]
