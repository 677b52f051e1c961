"""Connections to a PostgreSQL server: bounded in time, with errors that say what to do."""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import psycopg
from psycopg import errors as sql_errors
from psycopg.conninfo import conninfo_to_dict

from nearfield.errors import (
    ClosedError,
    CorruptionError,
    InvalidInputError,
    InvalidURLError,
    NearfieldError,
    ReadOnlyError,
    StorageFullError,
    StoreBusyError,
    StoreError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

__all__ = ["GRACE_S", "Connection", "Server", "connected"]


_Result = TypeVar("_Result")

_SCHEMA = "nearfield"
_MAX_SCHEMA_BYTES = 63
"""PostgreSQL cuts longer names off without an error: two schemas would be one."""
_LOOKS = 3
GRACE_S = 1.0
"""After the time in which the server itself would have given up."""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that remembers how deep its searches go, and does not wait for ever.

    Attributes:
        depth: How deep its searches of an index go; None before it was set.
        patience_s: Seconds to wait for anything from the server, which can be cut off without a
            word; None to wait for ever.
    """

    depth: int | None = None
    patience_s: float | None = None

    def wait(self, gen: Generator[Any, Any, _Result], *args: Any, **options: Any) -> _Result:
        """Run an operation on the network; see psycopg."""
        if self.patience_s is not None:
            gen = self._within(gen, self.patience_s)
        return super().wait(gen, *args, **options)

    def _within(
        self, operation: Generator[Any, Any, _Result], patience_s: float
    ) -> Generator[Any, Any, _Result]:
        until_s = time.monotonic() + patience_s
        try:
            state = next(operation)
            while True:
                ready = yield state
                if ready:
                    until_s = time.monotonic() + patience_s
                elif time.monotonic() > until_s:
                    self.pgconn.finish()  # what comes later would answer another question
                    raise psycopg.OperationalError(f"no answer for {patience_s:.1f} s")
                state = operation.send(ready)
        except StopIteration as end:
            result: _Result = end.value
            return result


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

    address: str = field(repr=False)
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
            raise _unreadable() from None
        # PostgreSQL's client takes a plus for a plus.
        options = dict(parse_qsl(parts.query.replace("+", "%2B"), keep_blank_values=True))
        if parts.fragment or any("@" in text for text in (parts.path, *options)):
            raise _unreadable()  # by anyone: it may well be a password that was cut in two
        schema = _schema(options.pop("schema", _SCHEMA))
        options.setdefault("application_name", "nearfield")
        options.setdefault("tcp_user_timeout", str(max(1000, int(timeout_s * 1000))))
        options.setdefault("keepalives_idle", "30")
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

    def connection(self, within_s: float | None = None, *, known: bool = False) -> Connection:
        """Open a connection; the caller closes it.

        Args:
            within_s: Seconds there are; those of a call when left out.
            known: Whether another one was opened, so that what lies between is no surprise.

        Raises:
            psycopg.Error: It cannot be opened, or set up.
            StoreError: There is a pooler between that does not keep sessions.
        """
        connection = self._opened(self.timeout_s if within_s is None else within_s)
        try:
            if not known:  # and before anything is set that another program would find
                self._refuse_lent_sessions(connection)
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _refuse_lent_sessions(self, connection: Connection) -> None:
        """Raise ``StoreError`` where a pooler lends out sessions for less than a connection's life.

        Settings and locks would be lost there, or be found by whoever gets the session next, and no
        statement would fail: searches would just go less deep. A pooler gives itself away by the
        key for cancellations, which is of its own making.
        """
        if _session(connection) == connection.info.backend_pid:
            return
        # Idle sessions are lent to whoever asks next, or in turn: two connections get the same one,
        # or one gets different ones. Where sessions are busy, both happens.
        with closing(self._opened(self.timeout_s)) as other:
            pairs = {(_session(connection), _session(other)) for _ in range(_LOOKS)}
        if len(pairs) > 1 or len(set(*pairs)) == 1:
            raise StoreError(
                f"{self.shown} is a pooler that lends out sessions by transaction or statement; a "
                "collection keeps settings and locks in its sessions. Have it pool by session "
                "(PgBouncer: pool_mode = session), or connect to the server itself"
            )

    def _opened(self, patience_s: float) -> Connection:
        connection = Connection.connect(
            self.address, autocommit=True, connect_timeout=max(2, int(patience_s))
        )
        connection.patience_s = patience_s + GRACE_S
        return connection

    def _prepare(self, connection: Connection) -> None:
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
        except psycopg.Error as error:
            raise self.translated(error) from error

    def translated(self, error: psycopg.Error) -> NearfieldError:
        """Return nearfield's error for the client's, without what a value or a password was."""
        state = getattr(error, "sqlstate", None) or ""
        said = getattr(getattr(error, "diag", None), "message_primary", None)
        for kinds, states, made, message in _MEANINGS:
            if isinstance(error, kinds) or state in states:
                return made(
                    message.format(
                        server=self.shown, said=said or _first_line(error), timeout_s=self.timeout_s
                    )
                )
        return StoreError(f"{self.shown} refused ({state}): {said or type(error).__name__}")


_MEANINGS: tuple[
    tuple[tuple[type[Exception], ...], tuple[str, ...], type[NearfieldError], str], ...
] = (
    (
        (sql_errors.QueryCanceled, sql_errors.LockNotAvailable),
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
    (
        (sql_errors.ProgramLimitExceeded, sql_errors.StatementTooComplex),
        (),
        InvalidInputError,
        "{server} refused: {said}; use shorter ids or texts, or a smaller filter",
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


@contextmanager
def connected(server: Server) -> Iterator[Connection]:
    """Lend a connection for one task, with the client's errors as nearfield's."""
    with server.errors(), closing(server.connection()) as connection:
        yield connection


def _session(connection: Connection) -> int:
    """Return the process that serves a connection now."""
    ((pid,),) = connection.execute("SELECT pg_backend_pid()").fetchall()
    return int(pid)


def _unreadable() -> InvalidURLError:
    return InvalidURLError(
        "the database URL cannot be read; expected postgresql://user@host:5432/database, with "
        "%40 for @, %2F for /, %3F for ? and %23 for # in a name or password"
    )


def _schema(name: str) -> str:
    fits = 0 < len(name.encode(errors="replace")) <= _MAX_SCHEMA_BYTES
    if not fits or "\0" in name or "%" in name:
        raise InvalidURLError(
            f"?schema={name!a} cannot name a schema; expected 1 to {_MAX_SCHEMA_BYTES} bytes "
            "without '%'"
        )
    return name


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
