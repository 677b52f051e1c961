"""A database of collections that are spread over several PostgreSQL servers.

Each server has a part of each collection, a table of its own, and records the keys of all parts. No
transaction spans servers. So a part is finished only once all of them are there, and none is
dropped before all are recorded as unfinished again: what is unfinished has no documents that anyone
wants, and can be cleared away by whoever makes or drops a collection of that name.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import parse_qsl, urlsplit

from nearfield.errors import InvalidURLError, StoreError
from nearfield.stores.names import check_name
from nearfield.stores.postgres import schema
from nearfield.stores.postgres.connections import Connection, Server, connected
from nearfield.stores.postgres.schema import Birth, Part
from nearfield.stores.postgres.sharded_store import ShardedStore
from nearfield.stores.refusals import missing, read_only, taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nearfield.stores.base import CollectionInfo

__all__ = ["SCHEME", "ShardedDatabase", "servers_at"]

_Result = TypeVar("_Result")

SCHEME = "postgresql+sharded://"
_ONE_HOST = {"host", "hostaddr", "port", "service"}
"""Options that would send each of the servers' clients to the same one."""
_SPREADING_LOCK = 0x6E66_7368


def servers_at(
    url: str, *, timeout_s: float, read_only: bool, durable: bool
) -> tuple[list[Server], str]:
    """Read a URL such as ``postgresql+sharded://user@host1:5432,host2:5432/database``.

    Returns:
        The servers, and the URL without a password.
    """
    try:
        parts = urlsplit(f"postgresql://{url.removeprefix(SCHEME)}")
    except ValueError:
        raise _unreadable() from None
    user, at, hosts = parts.netloc.rpartition("@")
    names = hosts.split(",")
    different = {name.lower() for name in names}
    if len(different) == 1 or len(different) < len(names) or "" in different:
        raise _unreadable()
    if _ONE_HOST & {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}:
        raise _unreadable()
    servers = [
        Server.at(
            parts._replace(netloc=f"{user}{at}{name}").geturl(),
            timeout_s=timeout_s,
            read_only=read_only,
            durable=durable,
        )
        for name in names
    ]
    shown_user = servers[0].shown.removeprefix("postgresql://").rpartition("@")[0]
    return servers, f"{SCHEME}{shown_user}{'@' if shown_user else ''}{hosts}{parts.path}"


@dataclass(frozen=True, slots=True)
class _Place:
    """A server, while something is done on all of them together."""

    server: Server
    connection: Connection

    def run(self, operation: Callable[..., _Result], *arguments: Any) -> _Result:
        with self.server.errors():
            return operation(self.connection, self.server, *arguments)


_Found: TypeAlias = "list[tuple[_Place, Birth | None]]"


class ShardedDatabase:
    """The collections that are spread over servers; see ``StoreFactory``.

    Args:
        servers: Where they are.
        shown: The URL of all of them, without a password.
    """

    def __init__(self, servers: Sequence[Server], shown: str) -> None:
        self._servers = servers
        self._shown = shown

    def list(self) -> list[str]:
        """Name the collections, sorted: those, too, of which not all parts are there."""
        found: set[str] = set()
        for server in self._servers:
            with connected(server) as connection:
                found.update(schema.names(connection, server, parts=True))
        return sorted(found)

    def open(self, name: str) -> ShardedStore:
        """Open a collection; see :class:`~nearfield.stores.base.StoreFactory`.

        Raises:
            StoreError: These are not the servers that it is spread over.
        """
        check_name(name)
        found = []
        for server in self._servers:
            with connected(server) as connection:
                found.append((server, schema.find(connection, server, name)))
        births = self._whole(name, found)
        if not all(birth.part is not None and birth.part.finished for birth in births):
            births = self._finished(name, births)
        return ShardedStore(list(zip(self._servers, births, strict=True)), self._shown)

    def create(self, info: CollectionInfo) -> ShardedStore:
        """Make a collection; see :class:`~nearfield.stores.base.StoreFactory`.

        Where a server fails meanwhile, call it again: what was begun is cleared away.
        """
        check_name(info.name)
        self._refuse_read_only()
        with self._together() as places:
            begun = [(place, birth) for place, birth in self._found(places, info.name) if birth]
            for place, birth in begun:
                if birth.part is None or birth.part.finished:
                    raise taken(place.server.shown, info.name)
            for place, birth in begun:
                place.run(schema.drop, birth)
            keys = sorted(schema.new_key() for _ in places)
            for place, key in zip(places, keys, strict=True):
                place.run(schema.create, info, (key, Part(tuple(keys))))
            for place in places:
                place.run(schema.finish, info.name)
        return self.open(info.name)

    def drop(self, name: str) -> None:
        """Delete a collection; see :class:`~nearfield.stores.base.StoreFactory`.

        Where a server fails meanwhile, call it again.
        """
        check_name(name)
        self._refuse_read_only()
        with self._together() as places:
            found = self._found(places, name)
            births = [birth for _, birth in found if birth is not None]
            if not births or any(birth.part is None or birth.part.finished for birth in births):
                self._whole(name, [(place.server, birth) for place, birth in found])
            there = [(place, birth) for place, birth in found if birth is not None]
            for place, birth in there:
                place.run(schema.hold, birth)
            for place, _ in there:
                place.run(schema.unfinish, name)
            for place, birth in there:
                place.run(schema.drop, birth)

    def rename(self, name: str, new_name: str) -> None:
        """Give a collection another name; see :class:`~nearfield.stores.base.StoreFactory`.

        Where a server fails meanwhile, call it again.
        """
        check_name(name)
        check_name(new_name)
        self._refuse_read_only()
        with self._together() as places:
            old, new = self._found(places, name), self._found(places, new_name)
            births = [birth for _, birth in old if birth is not None]
            if not births:
                raise missing(places[0].server.shown, name, self.list())
            for place, other in new:
                if other is not None and (name == new_name or not _are_one(births[0], other)):
                    raise taken(place.server.shown, new_name)
            # Of a collection that was half renamed, some parts have the new name.
            both = zip(old, new, strict=True)
            self._whole(
                name, [(place.server, birth or other) for (place, birth), (_, other) in both]
            )
            to_rename = [(place, birth) for place, birth in old if birth is not None]
            for place, birth in to_rename:
                place.run(schema.hold, birth)
            for place, birth in to_rename:
                place.run(schema.rename, birth, new_name)

    @contextmanager
    def _together(self) -> Iterator[Sequence[_Place]]:
        """Connect to all servers, alone among those who make, drop or rename collections there."""
        with ExitStack() as connections:
            started = []
            for server in self._servers:
                connection = connections.enter_context(_open(server))
                place = _Place(server, connection)
                started.append((place.run(_identity), place))
            if len({identity for identity, _ in started}) < len(started):
                raise InvalidURLError(
                    f"{self._shown} names a server twice, under different names; name each once"
                )
            # All lock the same one, in whatever order they name the servers.
            started.sort(key=lambda pair: pair[0])
            started[0][1].run(_lock)
            yield [place for _, place in started]

    @staticmethod
    def _found(places: Sequence[_Place], name: str) -> _Found:
        return [(place, place.run(schema.find, name)) for place in places]

    def _finished(self, name: str, births: Sequence[Birth]) -> Sequence[Birth]:
        """Record that all parts are there, as who made them could not."""
        if self._servers[0].read_only:
            return births  # nothing will be written
        with self._together() as places:
            found = self._found(places, name)
            again = self._whole(name, [(place.server, birth) for place, birth in found])
            for place in places:
                place.run(schema.finish, name)
        by_server = {place.server: birth for (place, _), birth in zip(found, again, strict=True)}
        return [by_server[server] for server in self._servers]

    def _whole(self, name: str, found: Sequence[tuple[Server, Birth | None]]) -> Sequence[Birth]:
        """Return the parts of a collection if they are all there, and no others."""
        births = [birth for _, birth in found if birth is not None]
        if not births:
            raise missing(self._servers[0].shown, name, self.list())
        for server, birth in found:
            if birth is not None and birth.part is None:
                raise StoreError(
                    f"{server.shown} has a collection {name!r} of its own, which is not spread "
                    "over servers; open it there, or choose another name"
                )
        keys = sorted(birth.names.key for birth in births)
        are_all = all(birth.part is not None and list(birth.part.of) == keys for birth in births)
        if are_all and len(births) == len(found):
            return births
        without = [server.shown for server, birth in found if birth is None]
        spread = len(births[0].part.of) if births[0].part is not None else 0
        raise StoreError(
            f"the collection {name!r} is spread over {spread} servers, which are not those of "
            f"{self._shown}"
            + (f": there is no part of it on {', '.join(without)}" if without else "")
            + ". Open it with the servers that it was made on, and copy it from there to spread it "
            "otherwise (nearfield copy). If making, dropping or renaming it was broken off, do "
            "that again"
        )

    def _refuse_read_only(self) -> None:
        if self._servers[0].read_only:
            raise read_only(self._shown)


@contextmanager
def _open(server: Server) -> Iterator[Connection]:
    """Lend a connection; errors of what is done meanwhile may be another server's."""
    with server.errors():
        connection = server.connection()
    try:
        yield connection
    finally:
        connection.close()


def _are_one(birth: Birth, other: Birth) -> bool:
    """Whether these are parts of one collection."""
    return birth.part is not None and other.part is not None and birth.part.of == other.part.of


def _identity(connection: Connection, server: Server) -> tuple[str, str]:
    """Return what tells a database from any other, by whatever name it was reached."""
    row = connection.execute(
        "SELECT pg_postmaster_start_time()::text, current_database()::text"
    ).fetchone()
    if row is None:
        raise StoreError(f"{server.shown} did not say when it was started")
    return row[0], row[1]


def _lock(connection: Connection, server: Server) -> None:
    del server
    connection.execute("SELECT pg_advisory_lock(%s)", (_SPREADING_LOCK,))


def _unreadable() -> InvalidURLError:
    return InvalidURLError(
        "the URL of several servers cannot be read; expected "
        "postgresql+sharded://user@host1:5432,host2:5432/database: two servers or more, each once, "
        "and no other host among the options"
    )
