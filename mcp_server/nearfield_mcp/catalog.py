"""The databases a server was told of, and the collections in them, opened when first needed."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from nearfield_mcp.scope import CURRENT, Right

if TYPE_CHECKING:
    from nearfield import Collection, Database

__all__ = ["Catalog", "UnknownCollectionError"]


class UnknownCollectionError(LookupError):
    """There is no such collection for this caller; the message names those there are."""


class Catalog:
    """Finds collections by name: ``notes``, or ``work/notes`` where there are several databases.

    Safe to use from several threads. Only what the scope of the request allows is ever named,
    opened or made.

    Args:
        databases: URLs by name. ``{tenant}`` in one stands for the tenant of the caller.
        embedder_of: Names the model for a collection, one that is new or does not say how to load
            its own; None is nearfield's choice.
        read_only: Refuse every write.
        most_open: Keep as many collections open, those that were used last: each takes files of
            the system, and tenants may be many.
    """

    def __init__(
        self,
        databases: Mapping[str, str],
        *,
        embedder_of: Callable[[str], str | None] = lambda _: None,
        read_only: bool = False,
        most_open: int = 128,
    ) -> None:
        self._urls = dict(databases)
        self._embedder_of = embedder_of
        self.read_only = read_only
        self._most_open = most_open
        self._databases: dict[str, Database] = {}
        self._collections: dict[tuple[str, str], Collection] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Name the collections that the caller may use, sorted."""
        scope = CURRENT.get()
        found = [
            self._full_name(database, name)
            for database in self._urls
            for name in self._own_names(database)
        ]
        return sorted(name for name in found if scope.may_use(name))

    def open(self, name: str | None = None) -> tuple[str, Collection]:
        """Return a collection and its full name; None for the only one there is.

        Raises:
            UnknownCollectionError: There is none of this name, or more than one to choose from.
        """
        names = self.names()
        if name is None:
            if len(names) == 1:
                name = names[0]
            else:
                raise UnknownCollectionError(f"say which collection to use; {_listed(names)}")
        if name not in names:
            raise UnknownCollectionError(f"there is no collection {name!r}; {_listed(names)}")
        return name, self._opened(name, create=False)

    def open_or_create(self, name: str) -> tuple[str, Collection]:
        """Return a collection, made if the caller may make one.

        Raises:
            UnknownCollectionError: There is none, and the caller may not make it.
        """
        if name in self.names():
            return name, self._opened(name, create=False)
        scope = CURRENT.get()
        database, _, _ = name.rpartition("/")
        known = not database if len(self._urls) == 1 else database in self._urls
        if not known or Right.ADMIN not in scope.rights or not scope.may_use(name):
            return self.open(name)  # it says what there is
        return name, self._opened(name, create=True)

    def close(self) -> None:
        """Close every collection."""
        with self._lock:
            collections = list(self._collections.values())
            self._collections.clear()
        for collection in collections:
            collection.close()

    def _opened(self, name: str, *, create: bool) -> Collection:
        database, _, own_name = name.rpartition("/")
        database = database or next(iter(self._urls))
        url = self._url(database)
        dropped: list[Collection] = []  # held until the lock is not: closing takes a while
        with self._lock:
            collection = self._collections.pop((url, own_name), None)
            if collection is None:
                embedder = self._embedder_of(name)
                collection = _open(self._connect(url), own_name, embedder, create=create)
            self._collections[url, own_name] = collection  # behind those that were used before
            while len(self._collections) > self._most_open:
                dropped.append(self._collections.pop(next(iter(self._collections))))
        return collection

    def _own_names(self, database: str) -> list[str]:
        """Name what a database holds; what is gone from it is no longer kept open."""
        url = self._url(database)
        with self._lock:
            connected = self._connect(url)
            opened = [key for key in self._collections if key[0] == url]
        names = connected.names()
        for key in opened:
            if key[1] not in names:
                with self._lock:
                    gone = self._collections.pop(key, None)
                if gone is not None:
                    gone.close()
        return names

    def _connect(self, url: str) -> Database:
        import nearfield  # heavy; the handshake does not wait for it
        from nearfield.errors import InvalidURLError

        if url not in self._databases:
            try:
                self._databases[url] = nearfield.connect(url, read_only=self.read_only)
            except InvalidURLError:  # it quotes the URL, which may hold a password
                raise UnknownCollectionError(
                    "nearfield opens no database of the URL that this server was started with; "
                    "whoever runs it has to correct that"
                ) from None
        return self._databases[url]

    def _url(self, database: str) -> str:
        tenant = CURRENT.get().tenant
        url = self._urls[database]
        if "{tenant}" not in url:
            return url
        if tenant is None:
            raise UnknownCollectionError(
                "this server holds data by tenant, and the caller has none"
            )
        return url.replace("{tenant}", tenant)

    def _full_name(self, database: str, name: str) -> str:
        return name if len(self._urls) == 1 else f"{database}/{name}"


def _open(database: Database, name: str, embedder: str | None, *, create: bool) -> Collection:
    from nearfield.errors import EmbedderMismatchError

    if create:
        opened = database.create(name, embedder=embedder)
    else:
        try:
            opened = database.open(name, embedder=embedder)
        except EmbedderMismatchError:
            opened = database.open(name)  # it loads its own
    # One that the catalog let go of is closed once its last user, a long ingest say, is done.
    ending = weakref.finalize(opened, opened._store.close)  # noqa: SLF001  # no reference to itself
    ending.atexit = False
    return opened


def _listed(names: list[str]) -> str:
    return f"there are: {', '.join(names)}" if names else "there is none yet"
