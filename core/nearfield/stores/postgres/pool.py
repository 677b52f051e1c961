"""The connections of an open collection: kept, lent, and made anew where they were lost."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

import psycopg
from psycopg import errors as sql_errors
from psycopg.pq import TransactionStatus
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from nearfield.errors import ClosedError, StoreBusyError, StoreError
from nearfield.stores.postgres import rows
from nearfield.stores.postgres.connections import GRACE_S, Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nearfield.stores.postgres.connections import Server

__all__ = ["Pool"]

_Result = TypeVar("_Result")

_SIZE = 16
_CONFLICTS = (
    sql_errors.SerializationFailure,
    sql_errors.DeadlockDetected,
    sql_errors.UniqueViolation,  # two wrote one new id at once; the second replaces it
)
_LOST = {
    None,  # the connection broke, or could not be made
    sql_errors.AdminShutdown.sqlstate,
    sql_errors.CrashShutdown.sqlstate,
    sql_errors.CannotConnectNow.sqlstate,
}


class Pool:
    """At most 16 connections, each made in the thread that first needs it.

    Who makes a pool has had a connection to the server before.

    Safe in threads, and made anew in a child of a fork.

    Args:
        server: Where to.
        lock: The advisory lock that each connection shares as long as it lives.
    """

    def __init__(self, server: Server, *, lock: int) -> None:
        self.server = server
        self._lock = lock
        self._closed = False
        self._inherited: list[Connection] = []
        self._start()

    def run(self, operation: Callable[[Connection], _Result], *, repeat: bool = True) -> _Result:
        """Run an operation on a connection.

        It is run again, within the time there is, after a conflict with another writer, and where
        the server went away; so it must have the same effect however often it is run.

        Args:
            operation: What to do; the connection is in autocommit mode.
            repeat: Whether to run it again after the server went away.
        """
        if repeat:
            return self._insist(partial(self._attempt, operation))
        return self._insist(partial(self._attempt_alive, operation), repeat=False)

    @contextmanager
    def lend(self) -> Iterator[Connection]:
        """Lend a connection in autocommit mode, one that was alive a moment ago."""
        connection = self._insist(self._take_alive)
        try:
            connection.patience_s = self.server.timeout_s + GRACE_S
            yield connection
        finally:
            self._give_back(connection)

    def _insist(self, attempt: Callable[[float], _Result], *, repeat: bool = True) -> _Result:
        """Make an attempt, and others within the time there is; each is told what is left of it."""
        until_s = time.monotonic() + self.server.timeout_s
        try:
            try:
                return attempt(self.server.timeout_s)
            except psycopg.Error as error:
                if not self._passes(error, repeat=repeat) or time.monotonic() > until_s:
                    raise
            for another in Retrying(
                stop=stop_after_delay(max(0.0, until_s - time.monotonic())),
                wait=wait_random_exponential(multiplier=0.02, max=1.0),
                retry=retry_if_exception(lambda error: self._passes(error, repeat=repeat)),
                reraise=True,
            ):
                with another:
                    return attempt(max(0.0, until_s - time.monotonic()))
        except psycopg.Error as error:
            raise self.server.translated(error) from error
        raise StoreError("no attempt was made")  # not reached: the last one raises

    def check_open(self) -> None:
        """Raise ``ClosedError`` after the end."""
        if self._closed:
            raise ClosedError("the collection was closed; open it again")
        if self._process != os.getpid():
            # The parent's connections are the parent's: neither used here nor closed.
            self._inherited += self._idle
            self._start()

    def close(self) -> None:
        """Close every connection: those that are lent, when they come back."""
        self._closed = True
        if self._process == os.getpid():
            self._drop_idle()

    def __del__(self) -> None:
        """Close what was never closed."""
        if hasattr(self, "_idle"):
            self.close()

    def _start(self) -> None:
        self._process = os.getpid()
        self._guard = threading.Lock()
        self._free: SimpleQueue[None] = SimpleQueue()  # quicker than a semaphore
        for _ in range(_SIZE):
            self._free.put(None)
        self._idle: list[Connection] = []

    def _attempt(self, operation: Callable[[Connection], _Result], patience_s: float) -> _Result:
        connection = self._take(patience_s)
        try:
            return operation(connection)
        finally:
            self._give_back(connection)

    def _attempt_alive(
        self, operation: Callable[[Connection], _Result], patience_s: float
    ) -> _Result:
        del patience_s  # what finds a connection that is alive has its own
        with self.lend() as connection:
            return operation(connection)

    def _take_alive(self, patience_s: float) -> Connection:
        connection = self._take(patience_s)
        try:
            connection.execute("SELECT")
        except BaseException:
            self._give_back(connection)
            raise
        return connection

    def _take(self, patience_s: float) -> Connection:
        """Return a connection that no one else has, and that waits so long for each answer."""
        self.check_open()
        free = self._free
        try:
            free.get(timeout=patience_s)
        except Empty:
            raise StoreBusyError(
                f"{_SIZE} calls or scans of this collection are under way, and none ended within "
                f"timeout_s={self.server.timeout_s:g}; end the scans, or allow more time"
            ) from None
        try:
            with self._guard:
                connection = self._idle.pop() if self._idle else None
            connection = connection or self._made(patience_s)
        except BaseException:
            free.put(None)
            raise
        connection.patience_s = patience_s + GRACE_S
        return connection

    def _give_back(self, connection: Connection) -> None:
        try:
            is_idle = connection.pgconn.transaction_status == TransactionStatus.IDLE
            with self._guard:
                if is_idle and not self._closed:
                    self._idle.append(connection)
                    return
            connection.close()
        finally:
            self._free.put(None)

    def _drop_idle(self) -> None:
        with self._guard:
            dropped, self._idle = self._idle, []
        for connection in dropped:
            connection.close()

    def _made(self, patience_s: float) -> Connection:
        connection = self.server.connection(patience_s, known=True)
        try:
            rows.register(connection)
            # Held as long as the connection lives: who wants to drop the collection sees it.
            connection.execute("SELECT pg_advisory_lock_shared(%s)", (self._lock,))
        except BaseException:
            connection.close()
            raise
        return connection

    def _passes(self, error: BaseException, *, repeat: bool) -> bool:
        lost = isinstance(error, psycopg.OperationalError)
        if repeat and lost and getattr(error, "sqlstate", None) in _LOST:
            self._drop_idle()  # the others are lost, too
            return True
        return isinstance(error, _CONFLICTS)
