"""Vectors by key in one SQLite file, which may be damaged, full, locked or gone at any time."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
import zlib
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from nearfield.embedders.forks import begin_anew_after_fork
from nearfield.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

__all__ = ["APPLICATION_ID", "FORMAT_VERSION", "VectorFile"]

_LOG = logging.getLogger(__name__)
_Result = TypeVar("_Result")

APPLICATION_ID = 0x6E66_6563
FORMAT_VERSION = 1
_SCHEMA = (
    """CREATE TABLE vectors (
        key BLOB PRIMARY KEY, vector BLOB NOT NULL, checksum INTEGER NOT NULL, used INTEGER NOT NULL
    )""",
    "CREATE INDEX vectors_by_use ON vectors (used)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT_VERSION}",
)
_PAGE_BYTES = 8192
"""Holds five vectors of 384 components and little else; the default of 4096 wastes a quarter."""
_BUSY_TIMEOUT_S = 5.0
_BATCH = 512
"""Keys looked up in one turn, so that other threads have theirs."""
_EVICTED_SHARE = 0.1
"""What goes at once when the file is full, so that not every call has to make room."""
_DAMAGE_CODES = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
"""What other errors say (busy, full, read-only) may pass by itself."""


class VectorFile:
    """Keys and vectors in SQLite. Nothing it is asked fails; at worst nothing is found or kept.

    Any number of threads and processes may share a file, and use it after a fork.

    Args:
        path: The file; it and its folder are made at the first use.
        max_bytes: The size to keep it to; None for no bound.
    """

    def __init__(self, path: Path, max_bytes: int | None) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        self._told: set[str] = set()
        begin_anew_after_fork(self)

    def __del__(self) -> None:
        if getattr(self, "_connection", None) is not None:
            self._disconnect()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the vectors that are there and whole."""
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), _BATCH):
            read = partial(self._read, keys=keys[start : start + _BATCH])
            nothing: dict[bytes, bytes] = {}
            found |= self._attempt(read, nothing)
        return found

    def put(self, vectors: dict[bytes, bytes]) -> None:
        """Store vectors, and make room for them where there is a bound."""
        self._attempt(partial(self._write, vectors=vectors), None)

    def close(self) -> None:
        """Close the file; what is asked afterwards raises ``ClosedError``. Twice is fine."""
        with self._lock:
            self._closed = True
            self._disconnect()

    def _read(self, connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        found = {}
        for key in keys:
            row = connection.execute(
                "SELECT vector, checksum FROM vectors WHERE key = ?", (key,)
            ).fetchone()
            if row is not None and isinstance(row[0], bytes) and _checksum(key, row[0]) == row[1]:
                found[key] = row[0]
        if found and self._max_bytes is not None:
            now = time.time_ns()
            with _transaction(connection):
                connection.executemany(
                    "UPDATE vectors SET used = ? WHERE key = ?", [(now, key) for key in found]
                )
        return found

    def _write(self, connection: sqlite3.Connection, vectors: dict[bytes, bytes]) -> None:
        now = time.time_ns()
        with _transaction(connection):
            connection.executemany(
                "INSERT OR REPLACE INTO vectors (key, vector, checksum, used) VALUES (?, ?, ?, ?)",
                [(key, vector, _checksum(key, vector), now) for key, vector in vectors.items()],
            )
            if self._max_bytes is not None:
                _evict(connection, self._max_bytes)

    def _attempt(
        self, operation: Callable[[sqlite3.Connection], _Result], otherwise: _Result
    ) -> _Result:
        with self._lock:
            if self._closed:
                raise ClosedError(
                    f"the embedding cache {os.fspath(self.path)!r} was closed; make another "
                    "CachedEmbedder"
                )
            # Damage may have been cured by another process meanwhile, so look again before the
            # file is set aside.
            for cure in (self._disconnect, self._set_aside, None):
                try:
                    return operation(self._connect())
                except _NewerFileError as error:
                    self._tell(str(error))
                    return otherwise
                except (sqlite3.Error, OSError, _ForeignFileError) as error:
                    if cure is None or not _cured_by_another_file(error):
                        self._tell(f"{type(error).__name__}: {error}")
                        return otherwise
                    cure()
        return otherwise

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            try:
                _prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _set_aside(self) -> None:
        self._disconnect()
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.set-aside-{number}")).exists():
            number += 1
        for suffix in ("", "-wal", "-shm"):
            part = self.path.with_name(self.path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        self._tell(f"it is damaged or something else, and was renamed to {aside.name}")

    def _tell(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            _LOG.warning("embedding cache %s: %s", self.path, message)

    def begin_anew(self) -> None:
        """Forget, in a forked child, the parent's connection, which must not even be closed."""
        if self._connection is not None:
            _abandoned.append(self._connection)
        self._connection = None
        self._lock = threading.Lock()  # the old one's holder may be a thread of the parent


_abandoned: list[sqlite3.Connection] = []


class _ForeignFileError(Exception):
    """The file is a database, but no cache."""


class _NewerFileError(Exception):
    """The file is a cache, but of a format that is not to be touched here."""


def _cured_by_another_file(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code in _DAMAGE_CODES or isinstance(error, _ForeignFileError)


def _prepare(connection: sqlite3.Connection) -> None:
    """Make a new file a cache, and refuse one that is none before anything in it is changed."""
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum = FULL")
    else:
        _check_format(connection)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint = 256")
    with _transaction(connection):
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            for statement in _SCHEMA:
                connection.execute(statement)
    _check_format(connection)


def _check_format(connection: sqlite3.Connection) -> None:
    [application] = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        raise _ForeignFileError("it is the database of another program")
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if version != FORMAT_VERSION:
        raise _NewerFileError(
            f"it has format version {version}, and this nearfield reads and writes "
            f"{FORMAT_VERSION}; texts are embedded without it"
        )


def _evict(connection: sqlite3.Connection, max_bytes: int) -> None:
    while _used_bytes(connection) > max_bytes:
        [rows] = connection.execute("SELECT count(*) FROM vectors").fetchone()
        if not rows:
            break
        connection.execute(
            "DELETE FROM vectors WHERE rowid IN (SELECT rowid FROM vectors ORDER BY used LIMIT ?)",
            (max(int(rows * _EVICTED_SHARE), 1),),
        )


def _used_bytes(connection: sqlite3.Connection) -> int:
    names = ("page_count", "freelist_count", "page_size")
    count, free, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    return int((count - free) * size)


def _checksum(key: bytes, vector: bytes) -> int:
    # With the key, or a vector that came to stand in another's row would be taken for it.
    return zlib.crc32(vector, zlib.crc32(key))


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
