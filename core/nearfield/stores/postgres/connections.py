"""Connections to a PostgreSQL server: pooled, bounded in time, tried again where that is safe."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import psycopg
from pgvector.psycopg import register_vector
from psycopg import errors as sql_errors
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from nearfield.errors import (
    ClosedError,
    CorruptionError,
    InvalidURLError,
    NearfieldError,
    ReadOnlyError,
    StorageFullError,
    StoreBusyError,
    StoreError,
    StoreUnavailableError,
)
from nearfield.stores.postgres import rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Connection", "Pool", "Server", "connected"]


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that remembers what its searches are set to."""

    plan: object = None


_Result = TypeVar("_Result")

_SCHEMA = "nearfield"
_POOL_SIZE = 16
_CONFLICTS = (
    sql_errors.SerializationFailure,
    sql_errors.DeadlockDetected,
    sql_errors.UniqueViolation,  # two wrote one new id at once; the second replaces it
)


@dataclass(frozen=True, slots=True)
class Server:
    """Where a database is, and how it is spoken to.

    Attributes:
        address: What libpq connects with; may hold a password, so it is never shown.
        shown: The URL without its password.
        schema: The schema that holds the collections.
        timeout_s: Seconds for a call, with all its attempts.
        read_only: Whether to refuse every write.
        durable: Whether a commit waits for the disk.
    """

    address: str
    shown: str
    schema: str
    timeout_s: float
    read_only: bool
    durable: bool

    @classmethod
    def at(cls, url: str, *, timeout_s: float, read_only: bool, durable: bool) -> Server:
        """Read a URL such as ``postgresql://user@host:5432/database?schema=nearfield``."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise InvalidURLError(
                "the database URL cannot be read; expected postgresql://user@host:5432/database"
            ) from None
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        schema = options.pop("schema", _SCHEMA)
        options.setdefault("application_name", "nearfield")
        options.setdefault("connect_timeout", str(max(2, int(timeout_s))))
        options.setdefault("tcp_user_timeout", str(max(1000, int(timeout_s * 1000))))
        host = parts.hostname or ""
        place = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
        user = quote(unquote(parts.username or ""), safe="")
        shown = f"postgresql://{user}{'@' if user else ''}{place}{parts.path}"
        address = f"postgresql://{parts.netloc}{parts.path}?{urlencode(options, quote_via=quote)}"
        try:
            conninfo_to_dict(address)
        except psycopg.ProgrammingError:
            raise InvalidURLError(
                f"{shown} has an option or a part that PostgreSQL's client does not know; expected "
                "postgresql://user@host:5432/database, with options such as ?sslmode=require"
            ) from None
        return cls(address, shown, schema, timeout_s, read_only, durable)

    def connect(self) -> Connection:
        """Open a connection for one task; the caller closes it."""
        with self.errors():
            connection = Connection.connect(self.address, autocommit=True)
            try:
                self.prepare(connection)
            except BaseException:
                connection.close()
                raise
            return connection

    def prepare(self, connection: Connection) -> None:
        """Set a new connection up."""
        milliseconds = max(1, int(self.timeout_s * 1000))
        settings = {
            "statement_timeout": str(milliseconds),
            "lock_timeout": str(milliseconds),
            "timezone": "UTC",
            "default_transaction_read_only": "on" if self.read_only else "off",
        }
        if not self.durable:
            settings["synchronous_commit"] = "off"
        names = ", ".join(["set_config(%s, %s, false)"] * len(settings))
        connection.execute(
            f"SELECT {names}",  # pyright: ignore[reportArgumentType]  # made of constants
            [part for setting in settings.items() for part in setting],
        )

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the client's errors into nearfield's, without what a value or a password was."""
        try:
            yield
        except NearfieldError:
            raise
        except (psycopg.Error, PoolTimeout, PoolClosed) as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> StoreError:
        state = getattr(error, "sqlstate", None) or ""
        said = getattr(getattr(error, "diag", None), "message_primary", None)
        for kinds, states, made, message in _MEANINGS:
            if isinstance(error, kinds) or state in states:
                return made(
                    message.format(
                        server=self.shown, said=said or _last_line(error), timeout_s=self.timeout_s
                    )
                )
        return StoreError(f"{self.shown} refused ({state}): {said or type(error).__name__}")


_MEANINGS: tuple[
    tuple[tuple[type[Exception], ...], tuple[str, ...], type[StoreError], str], ...
] = (
    ((PoolClosed,), (), ClosedError, "the collection was closed; open it again"),
    (
        (PoolTimeout, sql_errors.QueryCanceled, sql_errors.LockNotAvailable),
        (),
        StoreBusyError,
        "{server} gave no answer within timeout_s={timeout_s:g}; try again, or allow more time",
    ),
    (
        (sql_errors.ReadOnlySqlTransaction,),
        (),
        ReadOnlyError,
        "{server} is open, or set up, to be read only",
    ),
    (
        (sql_errors.InsufficientPrivilege,),
        (),
        ReadOnlyError,
        "{server} refused: {said}; ask its owner to grant it",
    ),
    (
        (sql_errors.UndefinedTable,),
        (),
        ClosedError,
        "the collection was dropped, or made anew, since it was opened; open it again",
    ),
    (
        (sql_errors.DiskFull,),
        (),
        StorageFullError,
        "the disk of {server} is full; nothing was written",
    ),
    ((), ("XX001", "XX002"), CorruptionError, "{server} reports damage: {said}"),
    (
        (psycopg.OperationalError, psycopg.InterfaceError),
        (),
        StoreUnavailableError,
        (
            "{server} cannot be reached ({said}); is the server running, and are host, port, user "
            "and PGPASSWORD right?"
        ),
    ),
)
"""What errors mean, the first that fits."""


class Pool:
    """The connections of one open collection; safe in threads, and made anew after a fork."""

    def __init__(self, server: Server, *, lock: int) -> None:
        self.server = server
        self._lock = lock
        self._guard = threading.Lock()
        self._closed = False
        self._process = os.getpid()
        self._pool = self._opened()

    def run(self, operation: Callable[[Connection], _Result], *, repeat: bool = True) -> _Result:
        """Run an operation on a connection.

        It is run again, within the time there is, after a conflict with another writer, and where
        the server went away; so it must have the same effect however often it is run.

        Args:
            operation: What to do; the connection is in autocommit mode.
            repeat: Whether to run it again after the server went away.
        """
        with self.server.errors():
            try:
                with self.lend() as connection:
                    return operation(connection)
            except psycopg.Error as error:
                if not self._passes(error, repeat=repeat):
                    raise
            for attempt in Retrying(
                stop=stop_after_delay(self.server.timeout_s),
                wait=wait_random_exponential(multiplier=0.02, max=2.0),
                retry=retry_if_exception(lambda error: self._passes(error, repeat=repeat)),
                reraise=True,
            ):
                with attempt, self.lend() as connection:
                    return operation(connection)
        raise StoreError("no attempt was made")  # not reached: the last one raises

    @contextmanager
    def lend(self) -> Iterator[Connection]:
        """Lend a connection in autocommit mode."""
        pool = self._current()
        try:
            connection = pool.getconn()
        except PoolTimeout:
            self.server.connect().close()  # tells a server that is away from one that is busy
            raise
        try:
            with connection:
                yield connection
        finally:
            pool.putconn(connection)

    def check_open(self) -> None:
        """Raise ``ClosedError`` after the end."""
        self._current()

    def close(self) -> None:
        """Close every connection."""
        with self._guard:
            self._closed = True
            if self._process == os.getpid():
                self._pool.close()

    def _passes(self, error: BaseException, *, repeat: bool) -> bool:
        if isinstance(error, _CONFLICTS):
            return True
        lost = isinstance(error, psycopg.OperationalError) and error.sqlstate in {None, "57P01"}
        lost = lost or isinstance(error, sql_errors.CannotConnectNow | sql_errors.CrashShutdown)
        if lost and not isinstance(error, PoolTimeout) and repeat:
            with suppress(psycopg.Error):
                self._pool.check()  # the others are lost, too
            return True
        return False

    def _current(self) -> ConnectionPool[Connection]:
        with self._guard:
            if self._closed:
                raise ClosedError("the collection was closed; open it again")
            if self._process != os.getpid():  # the parent's connections are the parent's
                self._process = os.getpid()
                self._pool = self._opened()
            return self._pool

    def _opened(self) -> ConnectionPool[Connection]:
        return ConnectionPool(
            self.server.address,
            connection_class=Connection,
            kwargs={"autocommit": True},
            min_size=1,
            max_size=_POOL_SIZE,
            num_workers=1,
            timeout=self.server.timeout_s,
            reconnect_timeout=self.server.timeout_s,
            configure=self._configure,
            name="nearfield",
            open=True,
        )

    def _configure(self, connection: Connection) -> None:
        self.server.prepare(connection)
        register_vector(connection)
        rows.register(connection)
        # Held as long as the connection lives: who wants to drop the collection sees it.
        connection.execute("SELECT pg_advisory_lock_shared(%s)", (self._lock,))


@contextmanager
def connected(server: Server) -> Iterator[Connection]:
    """Lend a connection for one task, with the client's errors as nearfield's."""
    connection = server.connect()
    try:
        with server.errors():
            yield connection
    finally:
        connection.close()


def _last_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[-1] if text else type(error).__name__
