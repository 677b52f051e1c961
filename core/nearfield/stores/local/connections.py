"""SQLite connections: how they are set up, shared between threads, and survive a fork."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nearfield.errors import (
    ClosedError,
    CorruptionError,
    NearfieldError,
    ReadOnlyError,
    StorageFullError,
    StoreBusyError,
    StoreError,
)
from nearfield.stores.durability import Durability
from nearfield.stores.local.forks import FORKS

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

__all__ = ["ConnectionPool", "log_ahead", "opened", "translated_errors"]

_LOG_SIZE_BYTES = 8_000_000
"""How long the write-ahead log may get before it is moved into the database."""
_LOG_ROWS = 2000
"""How many changed rows make it worth a look; a commit counts as a few more."""
_COMMIT_ROWS = 16


class translated_errors:  # noqa: N801  # reads as the context manager that it is
    """Turn SQLite's and the operating system's errors into nearfield's."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            _raise_translated(error, str(self._path))


def _raise_translated(error: BaseException, path: str) -> None:
    """Raise what an error of SQLite or the operating system is to nearfield; pass others over."""
    if isinstance(error, NearfieldError):  # some are OSErrors too
        return
    if isinstance(error, sqlite3.Error):
        raise _translate_sqlite(error, path) from error
    if isinstance(error, OSError):
        raise _translate_os(error, path) from error


def _corruption(path: str, detail: str) -> CorruptionError:
    return CorruptionError(
        f"{path} is damaged ({detail}); run `nearfield check`, then `nearfield repair`, or "
        "restore a backup",
        path=path,
    )


def _full(path: str) -> StorageFullError:
    return StorageFullError(
        f"the disk that holds {path} is full; nothing was written, free some space and repeat"
    )


def _read_only(path: str, detail: str) -> ReadOnlyError:
    return ReadOnlyError(
        f"{path} cannot be written ({detail}); check the permissions of the file and its folder, "
        "or open it with read_only=True"
    )


def _translate_os(error: OSError, path: str) -> NearfieldError:
    detail = error.strerror or str(error)
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return _full(path)
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return _read_only(path, detail)
    return StoreError(f"{path} cannot be used: {detail}; check that the folder exists")


def _translate_sqlite(error: sqlite3.Error, path: str) -> NearfieldError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
    if "Could not decode to UTF-8" in str(error):
        return _corruption(path, "stored text is not UTF-8")
    match code:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            translated: NearfieldError = StoreBusyError(
                f"{path} stayed locked by another writer for the whole timeout; try again, or "
                "open with a larger timeout_s"
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            translated = _read_only(path, str(error))
        case sqlite3.SQLITE_FULL:
            translated = _full(path)
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            translated = _corruption(path, str(error))
        case sqlite3.SQLITE_ERROR | sqlite3.SQLITE_CONSTRAINT | sqlite3.SQLITE_MISMATCH if (
            "no such module" not in str(error)
        ):  # the statements are right, so the schema or the rows that they meet are not
            translated = _corruption(path, str(error))
        case _:
            translated = StoreError(
                f"SQLite failed on {path} ({error}); check that the disk and the folder are well"
            )
    return translated


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database file for one task that has it alone; errors come out as nearfield's."""
    with FORKS.using(str(path.resolve())), translated_errors(path):
        connection = _connect(path, timeout_s=1.0, durability=Durability.FULL, mode="mode=rw")
        with contextlib.closing(connection):
            yield connection


def _connect(
    path: Path,
    *,
    timeout_s: float,
    durability: Durability,
    mode: str,
    factory: type[sqlite3.Connection] = sqlite3.Connection,
) -> sqlite3.Connection:
    """Open an existing file; ``mode`` never creates, as an absent file is no empty collection."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{mode}",
        uri=True,
        timeout=timeout_s,
        isolation_level=None,
        check_same_thread=False,  # lent to one thread at a time
        cached_statements=256,
        factory=factory,
    )
    try:
        connection.execute(f"PRAGMA synchronous = {durability.value}")
        connection.execute("PRAGMA cache_size = -5000")  # KiB, for each connection
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA cell_size_check = ON")  # notices damage sooner
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # see ConnectionPool._move_log
    except BaseException:
        connection.close()
        raise
    return connection


def log_ahead(connection: sqlite3.Connection) -> None:
    """Write changes to a log first, so that readers and a writer do not wait for each other."""
    connection.execute("PRAGMA journal_mode = WAL")


class _UnsharedConnection(sqlite3.Connection):
    """A connection that takes the file to never change; see ``ConnectionPool._connect_read_only``.

    Attributes:
        stamp: What the file looked like when it was opened.
    """

    stamp: tuple[int, int, bool]


class _Loan:
    """A connection for one operation: taken, put back, and its errors translated.

    Written out as a class, as every search pays for it: generators would cost several times as
    much.
    """

    __slots__ = ("_connection", "_pool", "_transaction")

    def __init__(self, pool: ConnectionPool, *, transaction: bool = False) -> None:
        self._pool = pool
        self._transaction = transaction

    def __enter__(self) -> sqlite3.Connection:
        connection = self._connection = self._pool.take()
        if self._transaction:
            try:
                connection.execute("BEGIN")
            except BaseException as error:
                self._end(error)
                raise
        return connection

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        pool, connection = self._pool, self._connection
        try:
            if error is not None:
                _raise_translated(error, str(pool.path))
                return
            if self._transaction:
                with translated_errors(pool.path):
                    connection.execute("COMMIT")
            if pool.is_outdated(connection):
                raise StoreBusyError(f"{pool.path} was changed while it was read; try again")
        finally:
            if connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):  # a failed COMMIT rolled back already
                    connection.rollback()
            pool.put_back(connection)


class ConnectionPool:
    """The connections of one open collection.

    Any thread borrows a connection for one operation; one lock admits one writer at a time. Before
    the process forks, all connections are closed; parent and child open their own again at their
    next call.
    """

    def __init__(
        self,
        path: Path,
        *,
        timeout_s: float,
        durability: Durability,
        read_only: bool,
    ) -> None:
        self.path = path
        self.read_only = read_only
        self._log = path.with_name(f"{path.name}-wal")
        self._resolved = str(path.resolve())
        self._collection_id: str | None = None
        self._file: tuple[int, int] | None = None
        self.timeout_s = timeout_s
        self._durability = durability
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._idle_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._rows_logged = _LOG_ROWS  # others may have left a long log
        FORKS.add(self)

    def expect(self, collection_id: str) -> None:
        """Go on with this collection, and refuse any other that takes the file's place."""
        self._collection_id = collection_id
        self._file = self._file_now()

    def borrow(self) -> _Loan:
        """Lend a connection in autocommit mode; SQLite's errors come out as nearfield's."""
        return _Loan(self)

    def reading(self) -> _Loan:
        """Lend a connection inside a read transaction: one unchanging view of the data."""
        return _Loan(self, transaction=True)

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection inside a write transaction, committed at the end or rolled back."""
        if self.read_only:
            raise ReadOnlyError(
                f"{self.path} was opened with read_only=True; open it without to write"
            )
        if not self._write_lock.acquire(timeout=self.timeout_s):
            raise StoreBusyError(
                f"another thread was writing to {self.path} for more than {self.timeout_s} s; "
                "try again, or open with a larger timeout_s"
            )
        try:
            with self.borrow() as connection:
                connection.execute("BEGIN IMMEDIATE")
                if self._rows_logged >= _LOG_ROWS:
                    self._move_log(connection)
                rows_before = connection.total_changes
                yield connection
                connection.execute("COMMIT")
                self._rows_logged += connection.total_changes - rows_before + _COMMIT_ROWS
        finally:
            self._write_lock.release()

    def close(self) -> None:
        """Close the idle connections now and the borrowed ones as they come back."""
        with self._idle_lock:
            self._closed = True
        self.close_idle()

    def close_idle(self) -> None:
        """Close the connections that no one has borrowed; others are opened when needed."""
        with self._idle_lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _move_log(self, connection: sqlite3.Connection) -> None:
        """Copy a long log into the database, so that this write can start the log anew.

        SQLite would do it after a commit, when others may write again; up to version 3.51.2 that
        can lose what they write (https://sqlite.org/wal.html#walresetbug). So it is done here,
        while the connection holds the write lock.
        """
        if self._log.exists() and self._log.stat().st_size >= _LOG_SIZE_BYTES:
            other = self._connect()
            try:
                other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            finally:
                other.close()
            # A transaction that began before the copy would still add to the log's end.
            connection.execute("ROLLBACK")
            connection.execute("BEGIN IMMEDIATE")
        self._rows_logged = 0

    def take(self) -> sqlite3.Connection:
        """Return an open connection, for :meth:`put_back` to be called with it."""
        FORKS.enter(self._resolved)
        try:
            return self._idle_or_new()
        except BaseException:
            FORKS.leave(self._resolved)
            raise

    def _idle_or_new(self) -> sqlite3.Connection:
        with self._idle_lock:
            if self._closed:
                raise ClosedError(f"the collection at {self.path} was closed; open it again")
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            return self._connect()
        if self._file != self._file_now():  # SQLite would go on with a file that has no name
            connection.close()
            self.close_idle()
            raise self._replaced()
        if self.is_outdated(connection):
            connection.close()
            return self._connect()
        return connection

    def _file_now(self) -> tuple[int, int] | None:
        """Return which file stands at the path, None for none: one put there anew is another."""
        try:
            status = os.stat(self.path)  # noqa: PTH116  # every search pays for it
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def _replaced(self) -> ClosedError:
        what = "replaced" if self.path.exists() else "dropped or renamed"
        return ClosedError(
            f"the collection at {self.path} was {what} since it was opened; open it again"
        )

    def _connect(self) -> sqlite3.Connection:
        if self._collection_id is not None and self._file != self._file_now():
            raise self._replaced()
        with translated_errors(self.path):
            connection = self._connect_read_only() if self.read_only else self._open("mode=rw")
            try:
                if self._collection_id is not None:
                    self._refuse_replaced(connection)
                    if not self.read_only:
                        log_ahead(connection)
            except BaseException:
                connection.close()
                raise
        return connection

    def _refuse_replaced(self, connection: sqlite3.Connection) -> None:
        row = connection.execute("SELECT collection_id FROM state").fetchone()
        if row != (self._collection_id,):
            raise self._replaced()

    def _open(
        self, mode: str, factory: type[sqlite3.Connection] = sqlite3.Connection
    ) -> sqlite3.Connection:
        return _connect(
            self.path,
            timeout_s=self.timeout_s,
            durability=self._durability,
            mode=mode,
            factory=factory,
        )

    def _connect_read_only(self) -> sqlite3.Connection:
        try:
            return self._open("mode=ro")
        except sqlite3.OperationalError:
            if os.access(self.path.parent, os.W_OK) or self._log.exists():
                raise
        # SQLite cannot make its shared memory file in a folder that it may not write to; with no
        # log to read there is nothing to share, until someone else writes.
        stamp = self._stamp()
        connection = self._open("mode=ro&immutable=1", factory=_UnsharedConnection)
        if isinstance(connection, _UnsharedConnection):
            connection.stamp = stamp
        return connection

    def is_outdated(self, connection: sqlite3.Connection) -> bool:
        """Whether someone wrote to the file that a connection opened without sharing it."""
        if not isinstance(connection, _UnsharedConnection):
            return False
        try:
            return connection.stamp != self._stamp()
        except FileNotFoundError:
            return True

    def _stamp(self) -> tuple[int, int, bool]:
        """Return what changes when someone writes to the file, or is about to."""
        status = self.path.stat()
        return status.st_mtime_ns, status.st_size, self._log.exists()

    def put_back(self, connection: sqlite3.Connection) -> None:
        """Keep a connection for the next one who borrows, or close it if that is the end."""
        try:
            with self._idle_lock:
                if not self._closed:
                    self._idle.append(connection)
                    return
            connection.close()
        finally:
            FORKS.leave(self._resolved)

    def before_fork(self) -> None:
        """Close the connections that no one has borrowed, and lend none until after the fork."""
        self._idle_lock.acquire()
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def after_fork_in_parent(self) -> None:
        """Go on; connections are opened again when needed."""
        self._idle_lock.release()

    def after_fork_in_child(self) -> None:
        """Go on in the child; threads that held or awaited the locks are gone."""
        self._idle_lock = threading.Lock()
        self._write_lock = threading.Lock()
