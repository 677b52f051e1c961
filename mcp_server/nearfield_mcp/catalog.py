"""The databases a server was told of, and the collections in them, opened when first needed."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from nearfield_mcp.failures import UnknownCollectionError, log_failure
from nearfield_mcp.once import Once
from nearfield_mcp.scope import CURRENT, Right

if TYPE_CHECKING:
    from nearfield import Collection, Database
    from nearfield.embedders import Embedder
    from nearfield.rerankers import Reranker

__all__ = ["Catalog", "UnknownCollectionError"]


class Catalog:
    """Finds collections by name: ``notes``, or ``work/notes`` where there are several databases.

    Safe to use from several threads. Only what the scope of the request allows is ever named,
    opened or made.

    Args:
        databases: URLs by name. ``{tenant}`` in one stands for the tenant of the caller.
        embedder_of: Names the model for a collection, one that is new or does not say how to load
            its own; None is nearfield's choice.
        reranker_of: Names the model that puts a collection's hits in order; None is no such model.
        read_only: Refuse every write.
        most_open: Keep as many collections open, those that were used last: each takes files of
            the system, and tenants may be many.
    """

    def __init__(
        self,
        databases: Mapping[str, str],
        *,
        embedder_of: Callable[[str], str | None] = lambda _: None,
        reranker_of: Callable[[str], str | None] = lambda _: None,
        read_only: bool = False,
        most_open: int = 128,
    ) -> None:
        self._urls = dict(databases)
        self._embedder_of = embedder_of
        self._reranker_of = reranker_of
        self.read_only = read_only
        self._most_open = most_open
        self._databases: dict[str, Database] = {}
        self._models: dict[str, Embedder] = {}
        self._rerankers: dict[str, Reranker] = {}
        self._collections: dict[tuple[str, str], Collection] = {}
        self._lock = threading.Lock()  # of the collections; never held while anything is opened
        self._once = Once()

    def names(self) -> list[str]:
        """Name the collections that the caller may use, sorted."""
        return self.look()[0]

    def look(self) -> tuple[list[str], list[str]]:
        """Name the collections that the caller may use, and what of them cannot be told.

        Of several databases, one that cannot be read does not hide the others: ``work/`` stands for
        what would be named so.
        """
        scope = CURRENT.get()
        found: list[str] = []
        unreadable = []
        for database in self._urls:
            try:
                names = self._own_names(database)
            except Exception as error:
                from nearfield.errors import NearfieldError

                if len(self._urls) == 1 or not isinstance(error, NearfieldError):
                    raise
                log_failure(f"the database {database!r}", error)
                if scope.collections is None or any(
                    name.startswith(f"{database}/") for name in scope.collections
                ):
                    unreadable.append(f"{database}/")
                continue
            found += [self._full_name(database, name) for name in names]
        return sorted(name for name in found if scope.may_use(name)), unreadable

    def open(self, name: str | None = None) -> tuple[str, Collection]:
        """Return a collection and its full name; None for the only one there is.

        Raises:
            UnknownCollectionError: There is none of this name, or more than one to choose from.
        """
        names, unreadable = self.look()
        if name is None:
            if len(names) == 1:
                name = names[0]
            else:
                raise UnknownCollectionError(f"say which collection to use; {_listed(names)}")
        if name not in names:
            database = name.rpartition("/")[0]
            if f"{database}/" in unreadable:
                raise UnknownCollectionError(
                    f"the database {database!r} cannot be read now; try again later; "
                    f"{_listed(names)}"
                )
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

    def reranker(self, name: str) -> Reranker | None:
        """Return the model that puts the hits of a collection in order, if it has one.

        Args:
            name: Its full name.
        """
        spec = self._reranker_of(name)
        if spec is None:
            return None

        def make() -> Reranker:
            from nearfield.rerankers import load

            self._rerankers[spec] = load(spec)
            return self._rerankers[spec]

        return self._rerankers.get(spec) or self._once.make(("reranker", spec), make)

    def versions(self) -> dict[str, int]:
        """Tell how far the caller's collections have come, of those that are open and say so."""
        from nearfield.errors import NearfieldError
        from nearfield.stores.base import Versioned

        versions = {}
        for database in self._urls:
            url = self._url(database)
            with self._lock:
                opened = [
                    (self._full_name(database, name), collection)
                    for (place, name), collection in self._collections.items()
                    if place == url
                ]
            for name, collection in opened:
                if isinstance(collection._store, Versioned):  # noqa: SLF001  # others are passed by
                    with suppress(NearfieldError):  # what is wrong, the next call will tell
                        versions[name] = collection.version()
        return versions

    def close(self) -> None:
        """Close every collection and database."""
        with self._lock:
            collections = list(self._collections.values())
            self._collections.clear()
        for collection in collections:
            collection.close()
        while self._databases:
            self._databases.popitem()[1].close()

    def _opened(self, name: str, *, create: bool) -> Collection:
        database, _, own_name = name.rpartition("/")
        url = self._url(database or next(iter(self._urls)))
        key = url, own_name

        def make() -> Collection:
            kept = self._kept(key)
            if kept is not None:
                return kept
            spec = self._embedder_of(name)
            embedder = None if spec is None else self._model(spec)
            opened = _open(self._connect(url), own_name, embedder, create=create)
            self._keep(key, opened)
            return opened

        return self._kept(key) or self._once.make(key, make)

    def _kept(self, key: tuple[str, str]) -> Collection | None:
        """Return a collection that is open, unless another has taken its name meanwhile."""
        with self._lock:
            collection = self._collections.pop(key, None)
            if collection is not None:
                self._collections[key] = collection  # behind those that were used before
        if collection is None or _is_still_there(collection):
            return collection
        self._let_go(key, collection)
        return None

    def _keep(self, key: tuple[str, str], collection: Collection) -> None:
        dropped: list[Collection] = []  # held until the lock is not: closing takes a while
        with self._lock:
            self._collections[key] = collection
            while len(self._collections) > self._most_open:
                dropped.append(self._collections.pop(next(iter(self._collections))))

    def _let_go(self, key: tuple[str, str], collection: Collection) -> None:
        with self._lock:
            if self._collections.get(key) is collection:
                del self._collections[key]
        collection.close()

    def _own_names(self, database: str) -> list[str]:
        """Name what a database holds; what is gone from it is no longer kept open."""
        url = self._url(database)
        connected = self._connect(url)
        with self._lock:
            opened = [each for each in self._collections.items() if each[0][0] == url]
        names = connected.names()
        for key, collection in opened:
            if key[1] not in names:
                self._let_go(key, collection)
        return names

    def _connect(self, url: str) -> Database:
        def make() -> Database:
            import nearfield  # heavy; the handshake does not wait for it
            from nearfield.errors import InvalidURLError

            try:
                self._databases[url] = nearfield.connect(url, read_only=self.read_only)
            except InvalidURLError:  # it quotes the URL, which may hold a password
                raise UnknownCollectionError(
                    "nearfield opens no database of the URL that this server was started with; "
                    "whoever runs it has to correct that"
                ) from None
            return self._databases[url]

        return self._databases.get(url) or self._once.make(url, make)

    def _model(self, spec: str) -> Embedder:
        """Return the model of a name: one, however many collections it is for."""

        def make() -> Embedder:
            from nearfield.embedders import load

            self._models[spec] = load(spec)
            return self._models[spec]

        return self._models.get(spec) or self._once.make(("model", spec), make)

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


def _open(database: Database, name: str, embedder: Embedder | None, *, create: bool) -> Collection:
    from nearfield.errors import CollectionExistsError, EmbedderMismatchError

    opened = None
    if create:
        with suppress(CollectionExistsError):  # another process was faster
            opened = database.create(name, embedder=embedder)
    if opened is None:
        try:
            opened = database.open(name, embedder=embedder)
        except EmbedderMismatchError:
            opened = database.open(name)  # it loads its own
    # One that the catalog let go of is closed once its last user, a long ingest say, is done.
    ending = weakref.finalize(opened, opened._store.close)  # noqa: SLF001  # no reference to itself
    ending.atexit = False
    return opened


def _is_still_there(collection: Collection) -> bool:
    """Whether nobody has removed a collection, and perhaps made another of its name.

    A store whose files are at hand notices by itself, and says so at the first look.
    """
    from nearfield.errors import ClosedError, NearfieldError
    from nearfield.stores.base import Checkable

    if not isinstance(collection._store, Checkable):  # noqa: SLF001  # a look may be a long way
        return True
    try:
        collection.get("-", include=())
    except ClosedError:
        return False
    except NearfieldError:
        return True  # what is wrong with it, the call itself will tell
    return True


def _listed(names: list[str]) -> str:
    return f"there are: {', '.join(names)}" if names else "there is none yet"
