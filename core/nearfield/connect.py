"""The one factory: from a URL to a database, and from a database to its collections."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote, urlsplit

from nearfield.collection import Collection
from nearfield.documents import EmbeddingInfo, Metric
from nearfield.errors import (
    CollectionNotFoundError,
    EmbedderMismatchError,
    InvalidInputError,
    InvalidURLError,
    MissingDependencyError,
)
from nearfield.stores.base import CollectionInfo
from nearfield.stores.durability import Durability
from nearfield.validation import check_positive, check_seconds

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from nearfield.embedders import Embedder, ImageEmbedder
    from nearfield.stores.base import Store, StoreFactory

__all__ = ["Database", "connect", "open"]

GIVEN_VECTORS = "given vectors"
"""The model's name in a collection that has no embedder."""


class Database:
    """The collections behind one URL. Made by :func:`connect`."""

    def __init__(self, factory: StoreFactory, url: str) -> None:
        self._factory = factory
        self._url = url

    def __repr__(self) -> str:
        return f"Database({self._url!r})"

    def names(self) -> list[str]:
        """Name the collections, sorted."""
        return self._factory.list()

    def create(
        self,
        name: str = "default",
        *,
        embedder: Embedder | ImageEmbedder | str | None = None,
        dimension: int | None = None,
        metric: Metric | str | None = None,
    ) -> Collection:
        """Make a new collection and open it.

        Args:
            name: 1 to 100 letters, digits, ``.``, ``_`` or ``-``.
            embedder: What turns text into vectors: an embedder, a spec such as
                ``"sentence-transformers:all-MiniLM-L6-v2"``, or None for the environment variable
                ``NEARFIELD_EMBEDDER`` or else the default, which works offline.
            dimension: Instead of an embedder: vectors of this dimension are given with every
                document and query.
            metric: How to compare vectors; the embedder's own, or cosine, when left out.

        Raises:
            CollectionExistsError: There is one of this name.
            InvalidInputError: Both an embedder and a dimension were given, or a bad metric.
        """
        if dimension is not None:
            if embedder is not None:
                raise InvalidInputError(
                    "give an embedder or a dimension, not both: an embedder knows its dimension"
                )
            model = None
            embedding = EmbeddingInfo(
                GIVEN_VECTORS, check_positive(dimension, "dimension"), fingerprint=GIVEN_VECTORS
            )
        else:
            model = _load(embedder)
            embedding = model.info
        info = CollectionInfo(name, embedding, _metric(metric) or embedding.metric)
        return Collection(self._factory.create(info), model)

    def create_like(self, other: Collection, name: str | None = None) -> Collection:
        """Make a new, empty collection of the same embedding space and metric as another one.

        Args:
            other: A collection, of any database.
            name: What to call it; the other's name when left out.

        Raises:
            CollectionExistsError: There is one of this name.
        """
        info = replace(other.info, name=name or other.info.name)
        return Collection(self._factory.create(info), None)

    def open(
        self,
        name: str = "default",
        *,
        embedder: Embedder | ImageEmbedder | str | None = None,
        dimension: int | None = None,
        metric: Metric | str | None = None,
    ) -> Collection:
        """Open an existing collection.

        Args:
            name: The collection's name.
            embedder: As in :meth:`create`; None for the one the collection was built with.
            dimension: Refuse a collection of another dimension.
            metric: Refuse a collection of another metric.

        Raises:
            CollectionNotFoundError: There is none of this name.
            EmbedderMismatchError: It was built with another embedder, dimension or metric.
        """
        store = self._factory.open(name)
        try:
            model = None if embedder is None else _load(embedder)
            _refuse_mismatch(store, model, dimension, _metric(metric))
        except BaseException:
            store.close()
            raise
        return Collection(store, model)

    def drop(self, name: str) -> None:
        """Delete a collection and all its documents.

        Raises:
            CollectionNotFoundError: There is none of this name.
            CollectionInUseError: It is open, here or elsewhere.
        """
        self._factory.drop(name)

    def rename(self, name: str, new_name: str) -> None:
        """Give a collection another name.

        Raises:
            CollectionNotFoundError: There is none of this name.
            CollectionExistsError: The new name is taken.
            CollectionInUseError: It is open, here or elsewhere.
        """
        self._factory.rename(name, new_name)

    def close(self) -> None:
        """Let go of the connection to the database; collections that are open stay open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def connect(
    url: str | Path,
    *,
    read_only: bool = False,
    durability: str = "full",
    timeout_s: float = 30.0,
) -> Database:
    """Connect to a database of collections.

    ============================================== ============================ ================
    URL                                            The collections are in       A secret is in
    ============================================== ============================ ================
    ``./data``, ``file:///data``                   a folder
    ``postgresql://user@host:5432/database``       PostgreSQL with pgvector     PGPASSWORD
    ``postgresql+sharded://user@one,two/database`` several such servers         PGPASSWORD
    ``chroma:///folder``                           Chroma, in this process
    ``chroma://host:8000``                         a server of Chroma           CHROMA_API_KEY
    ``milvus:///folder/file.db``                   Milvus Lite, in this process
    ``milvus://host:19530``                        a server of Milvus           MILVUS_TOKEN
    ``pinecone://``                                Pinecone                     PINECONE_API_KEY
    ============================================== ============================ ================

    Args:
        url: One of these; a folder is made with the first collection. What else may stand in the
            URL of an engine is in docs/engines.md.
        read_only: Refuse every write.
        durability: ``"full"``: an acknowledged write survives kill -9 and power loss.
            ``"normal"``: it survives kill -9; a power loss can take the last writes with it.
        timeout_s: Seconds to wait for other writers before ``StoreBusyError``.

    Raises:
        InvalidURLError: No store answers to the URL.
        MissingDependencyError: The engine's client is not installed.
    """
    try:
        level = Durability(durability)
    except ValueError:
        raise InvalidInputError(
            f"durability is {durability!r}, expected one of: {', '.join(Durability)}"
        ) from None
    wait_s = check_seconds(timeout_s, "timeout_s")
    options = _Options(read_only, level, wait_s)
    scheme, separator, _ = str(url).partition("://")
    if isinstance(url, Path) or not separator:
        return _folder(url, options)
    engine = _ENGINES.get(scheme, _folder)
    return engine(url, options)


def open(  # noqa: A001 - reads as nearfield.open
    url: str | Path,
    name: str = "default",
    *,
    embedder: Embedder | ImageEmbedder | str | None = None,
    dimension: int | None = None,
    metric: Metric | str | None = None,
    create: bool = True,
    read_only: bool = False,
    durability: str = "full",
    timeout_s: float = 30.0,
) -> Collection:
    """Open a collection, making it if it is not there.

    Args:
        url: The database; see :func:`connect`.
        name: The collection's name.
        embedder: See :meth:`Database.create`.
        dimension: See :meth:`Database.create`.
        metric: See :meth:`Database.create`.
        create: Whether to make a collection that is not there.
        read_only: See :func:`connect`; nothing is made then.
        durability: See :func:`connect`.
        timeout_s: See :func:`connect`.

    Raises:
        CollectionNotFoundError: It is not there, and ``create`` is False.
        EmbedderMismatchError: It was built with another embedder, dimension or metric.
    """
    database = connect(url, read_only=read_only, durability=durability, timeout_s=timeout_s)
    try:
        return database.open(name, embedder=embedder, dimension=dimension, metric=metric)
    except CollectionNotFoundError:
        if not create or read_only:
            raise
    try:
        return database.create(name, embedder=embedder, dimension=dimension, metric=metric)
    except FileExistsError:  # another process was faster
        return database.open(name, embedder=embedder, dimension=dimension, metric=metric)


@dataclass(frozen=True, slots=True)
class _Options:
    """How a database is used, checked."""

    read_only: bool
    durability: Durability
    timeout_s: float


def _folder(url: str | Path, options: _Options) -> Database:
    from nearfield.stores.local.database import LocalDatabase  # opens SQLite

    root = _local_path(url)
    local = LocalDatabase(
        root,
        durability=options.durability,
        timeout_s=options.timeout_s,
        read_only=options.read_only,
    )
    return Database(local, str(url))


def _postgres(url: str, options: _Options) -> Database:
    _require("psycopg", "tenacity", extra="postgresql")
    from nearfield.stores.postgres.connections import Server
    from nearfield.stores.postgres.database import PostgresDatabase

    server = Server.at(
        url,
        timeout_s=options.timeout_s,
        read_only=options.read_only,
        durable=options.durability is Durability.FULL,
    )
    return Database(PostgresDatabase(server), server.shown)


def _sharded_postgres(url: str, options: _Options) -> Database:
    _require("psycopg", "tenacity", extra="postgresql")
    from nearfield.stores.postgres.sharded_database import ShardedDatabase, servers_at

    servers, shown = servers_at(
        url,
        timeout_s=options.timeout_s,
        read_only=options.read_only,
        durable=options.durability is Durability.FULL,
    )
    return Database(ShardedDatabase(servers, shown), shown)


def _chroma(url: str, options: _Options) -> Database:
    _require("chromadb", "tenacity", extra="chroma")
    from nearfield.stores.chroma.address import Address
    from nearfield.stores.chroma.database import ChromaDatabase

    address = Address.at(url, timeout_s=options.timeout_s, read_only=options.read_only)
    return Database(ChromaDatabase(address), address.shown)


def _milvus(url: str, options: _Options) -> Database:
    _require("pymilvus", "tenacity", extra="milvus")
    from nearfield.stores.milvus.address import Address
    from nearfield.stores.milvus.database import MilvusDatabase

    address = Address.at(url, timeout_s=options.timeout_s, read_only=options.read_only)
    return Database(MilvusDatabase(address), address.shown)


def _pinecone(url: str, options: _Options) -> Database:
    _require("pinecone", "tenacity", extra="pinecone")
    from nearfield.stores.pinecone.address import Address
    from nearfield.stores.pinecone.database import PineconeDatabase

    address = Address.at(url, timeout_s=options.timeout_s, read_only=options.read_only)
    return Database(PineconeDatabase(address), address.shown)


_ENGINES: dict[str, Callable[[str, _Options], Database]] = {
    "postgresql": _postgres,
    "postgres": _postgres,
    "postgresql+sharded": _sharded_postgres,
    "chroma": _chroma,
    "milvus": _milvus,
    "pinecone": _pinecone,
}


def _require(*packages: str, extra: str) -> None:
    for package in packages:
        if find_spec(package) is None:
            raise MissingDependencyError(package, extra=extra, purpose=f"{extra}://")


def _local_path(url: str | Path) -> Path:
    refusal = InvalidURLError(f"{url!a} is no database URL; expected a folder such as './data'")
    if not isinstance(url, str | Path) or not url:
        raise refusal
    is_path = isinstance(url, Path) or "://" not in url
    folder = str(url) if is_path else _path_of_url(str(url))
    try:
        name = os.fsencode(folder)
    except UnicodeEncodeError:  # a lone surrogate, which no file's name has
        raise refusal from None
    if b"\0" in name:
        raise refusal
    return Path(folder).expanduser()


def _path_of_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"}:
        path = unquote(parts.path)
        return path.removeprefix("/") if os.name == "nt" else path  # file:///C:/data
    # Without the rest, which may hold a password.
    raise InvalidURLError(
        f"no store answers to {parts.scheme}://; known: a folder's path, file:///path, "
        "postgresql://user@host/database, postgresql+sharded://user@host1,host2/database, "
        "chroma:///path, chroma://host:8000, milvus:///path, milvus://host:19530 and pinecone://"
    )


def _load(embedder: Embedder | ImageEmbedder | str | None) -> Embedder:
    from nearfield.embedders import Embedder, ImageEmbedder, load  # numpy users need no model

    if isinstance(embedder, ImageEmbedder) and not isinstance(embedder, type | Embedder):
        return cast("Embedder", embedder)  # where it is asked for a text, the contract refuses
    model = load(embedder)  # type: ignore[arg-type]
    if isinstance(model, type) or not isinstance(model, Embedder):
        what = model.__name__ if isinstance(model, type) else type(model).__name__
        raise InvalidInputError(
            f"embedder is {what}, expected a name or an object with info, embed_documents and "
            "embed_queries"
        )
    return model


def _metric(value: Metric | str | None) -> Metric | None:
    if value is None:
        return None
    try:
        return Metric(value)
    except ValueError:
        raise InvalidInputError(
            f"metric is {value!r}, expected one of: {', '.join(Metric)}"
        ) from None


def _refuse_mismatch(
    store: Store, embedder: Embedder | None, dimension: int | None, metric: Metric | None
) -> None:
    built = store.info.embedding
    name = store.info.name
    remedy = "open it without that argument, or make a new collection"
    # Given vectors came from somewhere, and their owner says from where.
    known = built.fingerprint != GIVEN_VECTORS
    if embedder is not None and known and embedder.info.fingerprint != built.fingerprint:
        raise EmbedderMismatchError(
            f"collection {name!r} was built with {built.model!r} (dimension {built.dimension}, "
            f"fingerprint {_brief(built.fingerprint)}), but {embedder.info.model!r} (dimension "
            f"{embedder.info.dimension}, fingerprint {_brief(embedder.info.fingerprint)}) was "
            f"given; {remedy}"
        )
    if embedder is not None and not known:
        dimension = embedder.info.dimension
    if dimension is not None and dimension != built.dimension:
        raise EmbedderMismatchError(
            f"collection {name!r} holds vectors of dimension {built.dimension}, not {dimension}; "
            f"{remedy}"
        )
    if metric is not None and metric is not store.info.metric:
        raise EmbedderMismatchError(
            f"collection {name!r} compares vectors by {store.info.metric}, not {metric}; {remedy}"
        )


def _brief(fingerprint: str) -> str:
    """Return the family and enough of the digest to tell two apart."""
    family, slash, digest = fingerprint.partition("/")
    return f"{family}{slash}{digest[:12]}"
