"""Who may touch a collection's files: the folder's lock, and being alone with a collection."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nearfield.errors import CollectionInUseError, StoreBusyError
from nearfield.stores.local.connections import opened, translated_errors
from nearfield.stores.local.files import make_folder

if TYPE_CHECKING:
    from nearfield.stores.local.files import CollectionFiles, DatabaseFolder

__all__ = ["lock_folder", "take_alone"]


@contextlib.contextmanager
def lock_folder(folder: DatabaseFolder, timeout_s: float) -> Iterator[None]:
    """Hold the database's lock: one process at a time opens, creates, renames or drops."""
    import filelock  # `import nearfield` need not pay for it

    with translated_errors(folder.root):
        make_folder(folder.root)
        lock = filelock.FileLock(folder.lock)
        try:
            lock.acquire(timeout=timeout_s)
        except filelock.Timeout as error:
            raise StoreBusyError(
                f"{folder.lock} stayed locked for {timeout_s} s; another process is opening or "
                "changing a collection there, try again"
            ) from error
        try:
            yield
        finally:
            lock.release()


def take_alone(files: CollectionFiles) -> None:
    """Make sure that no one has the collection open; the folder's lock keeps it so.

    Leaving WAL mode is what SQLite permits only to a database's sole connection; the next one to
    open it goes back to WAL.
    """
    with opened(files.database) as connection:
        try:
            mode = connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                raise
            mode = "wal"
    if mode != "delete":
        raise CollectionInUseError(
            f"the collection at {files.folder} is open, here or in another process; close it there "
            "first"
        )
