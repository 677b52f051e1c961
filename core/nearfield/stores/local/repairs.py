"""Mend and copy a collection's database."""

from __future__ import annotations

import os
import shutil
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from nearfield.errors import CollectionExistsError, CorruptionError, ReadOnlyError
from nearfield.stores.base import RepairReport
from nearfield.stores.local import manifest, schema
from nearfield.stores.local.connections import opened
from nearfield.stores.local.files import DatabaseFolder, sync_file, sync_folder
from nearfield.stores.local.inspection import SELECT_ROWS, row_problem, structure_problems
from nearfield.stores.local.keyword import rebuild_index
from nearfield.stores.local.ledger import drop_damaged
from nearfield.stores.local.locking import lock_folder, take_alone
from nearfield.stores.local.salvage import mend_records, salvage

if TYPE_CHECKING:
    from pathlib import Path

    from nearfield.stores.base import CollectionInfo
    from nearfield.stores.local.connections import ConnectionPool

__all__ = ["backup", "repair"]

_LOCK_TIMEOUT_S = 10.0


def repair(pool: ConnectionPool, folder: DatabaseFolder, info: CollectionInfo) -> RepairReport:
    """Set damaged rows aside and rebuild the keyword index; rebuild the file if it must be.

    Raises:
        CollectionInUseError: The file must be rebuilt, and the collection is open elsewhere.
        ReadOnlyError: The collection was opened with ``read_only=True``.
    """
    if pool.read_only:
        raise ReadOnlyError(
            f"{pool.path} was opened with read_only=True; open it without to repair it"
        )
    with pool.borrow() as connection:
        broken = bool(structure_problems(connection))
    try:
        done = None if broken else _quarantine(pool, info.embedding.dimension)
    except CorruptionError:  # the keyword index cannot even be emptied
        done = None
    damaged, actions = done or _rebuild_file(pool, folder, info)
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
        with folder.work_in_progress() as unfinished:
            unfinished.folder.mkdir()
            unfinished.database.touch()
            with pool.borrow() as source, opened(unfinished.database) as target:
                source.backup(target)
            sync_file(unfinished.database)
            sync_folder(unfinished.folder)
            unfinished.folder.rename(files.folder)
        sync_folder(folder.root)


def _quarantine(pool: ConnectionPool, dimension: int) -> tuple[list[str], list[str]]:
    """Move damaged rows to the table ``quarantine``; return their ids and what was done."""
    with pool.writing() as connection:
        problems = [
            (row[0], problem)
            for row in connection.execute(SELECT_ROWS)
            if (problem := row_problem(row, dimension)) is not None
        ]
        for slot, problem in problems:
            connection.execute(
                "INSERT INTO quarantine (slot, id, metadata, text, vector, problem) "
                "SELECT slot, id, metadata, text, vector, ? "
                "FROM documents LEFT JOIN vectors USING (slot) WHERE slot = ?",
                (problem.detail, slot),
            )
            connection.execute("DELETE FROM documents WHERE slot = ?", (slot,))
        # Other processes may have read these vectors when they were well.
        orphans = "FROM vectors WHERE slot NOT IN (SELECT slot FROM documents)"
        connection.execute(f"INSERT INTO tombstones (slot) SELECT slot {orphans}")
        deleted = connection.execute(f"DELETE {orphans}").rowcount
        mend_records(connection)
        dropped = drop_damaged(connection)
        rebuild_index(connection)
        manifest.replace_segments(
            connection, 0, manifest.LAST_SLOT, []
        )  # they may hold what was set aside
    actions = ["rebuilt the keyword index"]
    if dropped:
        actions.insert(0, f"dropped {dropped} damaged records of the ledger")
    if problems:
        actions.insert(0, f"moved {len(problems)} damaged documents to the table quarantine")
    if deleted:
        actions.insert(0, f"deleted {deleted} vectors that have no intact document")
    return [problem.id for _, problem in problems if problem.id is not None], actions


def _rebuild_file(
    pool: ConnectionPool, folder: DatabaseFolder, info: CollectionInfo
) -> tuple[list[str], list[str]]:
    """Copy all that is undamaged into a new file; return the ids left out and what was done."""
    files = folder.collection(info.name)
    pool.close_idle()
    with lock_folder(folder, _LOCK_TIMEOUT_S), folder.work_in_progress() as rebuilt:
        take_alone(files)
        # A new identity: whoever comes back to the file must read it anew.
        collection_id = uuid.uuid4().hex
        schema.create_file(rebuilt, info, collection_id=collection_id)
        with opened(files.database) as old, opened(rebuilt.database) as new:
            salvaged = salvage(old, new, info.embedding.dimension)
        sync_file(rebuilt.database)
        kept = folder.set_aside(info.name, datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f"))
        _keep(files.database, kept)
        rebuilt.database.replace(files.database)
        sync_folder(files.folder)
    pool.expect(collection_id)
    lost = (
        f"left out {len(salvaged.damaged)} damaged documents and {salvaged.unnamed} nameless ones"
    )
    return salvaged.damaged, [
        "rebuilt the database file from every row that could be read",
        lost,
        f"kept the damaged file in {kept}",
    ]


def _keep(database: Path, folder: Path) -> None:
    """Keep a file under a second name, so that there is no moment without the collection."""
    folder.mkdir()
    kept = folder / database.name
    try:
        os.link(database, kept)
    except OSError:  # the file system has no hard links
        shutil.copyfile(database, kept)
        sync_file(kept)
    sync_folder(folder)
    sync_folder(folder.parent)
