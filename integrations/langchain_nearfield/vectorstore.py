"""The vector store: a nearfield collection as LangChain knows one."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.vectorstores import VectorStore

import nearfield
from langchain_nearfield.documents import (
    in_batches,
    made_of,
    plain,
    read_document,
    scored,
    taken_apart,
)
from langchain_nearfield.embeddings import LangChainEmbedder, NearfieldEmbeddings, as_embedder
from langchain_nearfield.filters import read_filter
from langchain_nearfield.search_types import SearchType
from nearfield.closing import Closing
from nearfield.documents import SearchMode
from nearfield.errors import EmbedderRequiredError, InvalidInputError
from nearfield.ranking import relevance
from nearfield.validation import check_ids, check_share

if TYPE_CHECKING:
    from typing import Self

    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings

    from langchain_nearfield.retrievers import NearfieldRetriever
    from nearfield import Collection
    from nearfield.embedders import Embedder

__all__ = ["NearfieldVectorStore"]


class NearfieldVectorStore(VectorStore, Closing):
    """A nearfield collection as a LangChain vector store.

    Every write is on the disk when the call returns, and seen by the next search of any thread or
    process. Scores are similarities, higher is better. Arguments of
    :meth:`nearfield.Collection.search` may be passed to every search: ``ids``, ``min_score``,
    ``mode="keyword"`` or ``mode="hybrid"`` with ``alpha``.

    Args:
        url: A folder, or what else ``nearfield.open`` takes. It is made if need be.
        collection_name: The collection's name in it.
        embedding: What turns text into vectors: LangChain's embeddings, or an embedder or its name
            as ``nearfield.open`` takes them; None for the one the collection was built with, and
            for a new one the default, which works offline.
        metric: ``"cosine"``, ``"dot"`` or ``"euclidean"``, for a new collection.
        **options: Others of ``nearfield.open``: ``create``, ``read_only``, ``durability``,
            ``timeout_s``, and ``dimension`` in place of an embedding.

    Raises:
        EmbedderMismatchError: The collection was built with another embedder or metric.
    """

    _temporary: weakref.finalize[Any, Any] | None = None
    """Deletes the folder of a store that has no other."""

    def __init__(
        self,
        url: str | Path,
        collection_name: str = "default",
        *,
        embedding: Embeddings | Embedder | str | None = None,
        metric: str | None = None,
        **options: Any,
    ) -> None:
        self._collection = nearfield.open(
            url, collection_name, embedder=as_embedder(embedding), metric=metric, **options
        )

    @classmethod
    def from_collection(cls, collection: Collection) -> Self:
        """Wrap a collection that is open already; it is closed with the store."""
        if not isinstance(collection, nearfield.Collection):
            raise InvalidInputError(
                f"collection is {type(collection).__name__}, expected what nearfield.open returns; "
                "a folder is opened by NearfieldVectorStore(url)"
            )
        store = cls.__new__(cls)
        store._collection = collection  # noqa: SLF001  # its own
        return store

    def __repr__(self) -> str:
        return f"NearfieldVectorStore({self._collection!r})"

    @property
    def collection(self) -> Collection:
        """The collection behind the store, for what LangChain has no word for."""
        return self._collection

    @property
    def embeddings(self) -> Embeddings | None:
        """What turns text into vectors; None when vectors are given with every document."""
        try:
            embedder = self._collection.embedder
        except EmbedderRequiredError:
            return None
        if isinstance(embedder, LangChainEmbedder):
            return embedder.embeddings
        return NearfieldEmbeddings(embedder)

    # ── writing ──────────────────────────────────────────────────────────────────────────────

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Write texts; one whose id is there already takes its place, metadata and all.

        Args:
            texts: Any iterable.
            metadatas: One each, of anything JSON can hold.
            ids: One each, any non-empty strings; None, or an entry that is None, makes one.
            batch_size: How many to embed and write in one step; all, when left out, so that either
                all are written or none.
            **kwargs: None are known.

        Returns:
            The ids, in the order of the texts.

        Raises:
            InvalidInputError: The lengths differ, or something cannot be stored; nothing, or only
                whole batches before it, was written.
            EmbeddingError: The embeddings failed.
        """
        _refuse_unknown(kwargs)
        documents = made_of(texts, metadatas, ids)
        written: list[str] = []
        for batch in in_batches(documents, batch_size):
            written += self._collection.upsert(batch)
        return written

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Write texts without blocking the event loop; see :meth:`add_texts`."""
        _refuse_unknown(kwargs)
        documents = await asyncio.to_thread(made_of, texts, metadatas, ids)
        written: list[str] = []
        for batch in in_batches(documents, batch_size):
            written += await self._collection.aupsert(batch)
        return written

    def add_documents(self, documents: Iterable[Document], **kwargs: Any) -> list[str]:
        """Write documents; those without an id get one. See :meth:`add_texts`."""
        return self.add_texts(**taken_apart(documents, kwargs))

    async def aadd_documents(self, documents: Iterable[Document], **kwargs: Any) -> list[str]:
        """Write documents without blocking the event loop; see :meth:`add_texts`."""
        return await self.aadd_texts(**taken_apart(documents, kwargs))

    def add_embeddings(
        self,
        text_embeddings: Iterable[tuple[str, Sequence[float]]],
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
    ) -> list[str]:
        """Write texts whose embeddings are known already; see :meth:`add_texts`."""
        pairs = _pairs(text_embeddings)
        documents = made_of((text for text, _ in pairs), metadatas, ids)
        return self._collection.upsert(documents, vectors=_vectors(pairs)) if pairs else []

    async def aadd_embeddings(
        self,
        text_embeddings: Iterable[tuple[str, Sequence[float]]],
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
    ) -> list[str]:
        """Write texts with embeddings without blocking the event loop."""
        return await asyncio.to_thread(self.add_embeddings, text_embeddings, metadatas, ids=ids)

    def delete(
        self, ids: Sequence[str] | None = None, *, filter: Any = None, **kwargs: Any
    ) -> bool:
        """Delete documents by id, or all that match a filter; both, and it is what has both.

        Args:
            ids: Those that are not there are passed over.
            filter: In any spelling; see :func:`read_filter`.
            **kwargs: None are known.

        Returns:
            True.

        Raises:
            InvalidInputError: Neither was given. Nothing is ever deleted by leaving something out.
        """
        _refuse_unknown(kwargs)
        self._collection.delete(_deleted_ids(ids, filter), where=read_filter(filter))
        return True

    async def adelete(
        self, ids: Sequence[str] | None = None, *, filter: Any = None, **kwargs: Any
    ) -> bool:
        """Delete without blocking the event loop; see :meth:`delete`."""
        _refuse_unknown(kwargs)
        await self._collection.adelete(_deleted_ids(ids, filter), where=read_filter(filter))
        return True

    # ── reading ──────────────────────────────────────────────────────────────────────────────

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Fetch documents in the order of the ids; those that are not there are left out."""
        found = self._collection.get(check_ids(ids))
        return [read_document(document) for document in found if document]

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Fetch documents without blocking the event loop; see :meth:`get_by_ids`."""
        found = await self._collection.aget(check_ids(ids))
        return [read_document(document) for document in found if document]

    def similarity_search(
        self, query: str, k: int = 4, *, filter: Any = None, **kwargs: Any
    ) -> list[Document]:
        """Find the documents most similar to a text.

        Args:
            query: Any text.
            k: The most documents. As many come back if as many match the filter.
            filter: In any spelling; see :func:`read_filter`.
            **kwargs: Others of :meth:`nearfield.Collection.search`. ``fetch_k``, by which other
                stores say how many documents to filter, is taken and not needed.
        """
        options = _without_fetch_k(kwargs)
        return plain(self._collection.search(query, k=k, where=read_filter(filter), **options))

    async def asimilarity_search(
        self, query: str, k: int = 4, *, filter: Any = None, **kwargs: Any
    ) -> list[Document]:
        """Find documents without blocking the event loop; see :meth:`similarity_search`."""
        where = read_filter(filter)
        return plain(
            await self._collection.asearch(query, k=k, where=where, **_without_fetch_k(kwargs))
        )

    def similarity_search_with_score(
        self, query: str, k: int = 4, *, filter: Any = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Find documents, each with its similarity: higher is better, and exact.

        Under cosine it is the cosine, in [-1, 1]; under dot the inner product; under euclidean
        1 / (1 + distance). See :meth:`similarity_search`.
        """
        return scored(
            self._collection.search(
                query, k=k, where=read_filter(filter), **_without_fetch_k(kwargs)
            )
        )

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, *, filter: Any = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Find documents and scores without blocking the event loop."""
        where = read_filter(filter)
        return scored(
            await self._collection.asearch(query, k=k, where=where, **_without_fetch_k(kwargs))
        )

    def similarity_search_by_vector(
        self, embedding: Sequence[float], k: int = 4, *, filter: Any = None, **kwargs: Any
    ) -> list[Document]:
        """Find the documents most similar to a vector; see :meth:`similarity_search`."""
        return plain(
            self._collection.search(
                _vector(embedding), k=k, where=read_filter(filter), **_without_fetch_k(kwargs)
            )
        )

    async def asimilarity_search_by_vector(
        self, embedding: Sequence[float], k: int = 4, *, filter: Any = None, **kwargs: Any
    ) -> list[Document]:
        """Find documents by vector without blocking the event loop."""
        where = read_filter(filter)
        return plain(
            await self._collection.asearch(
                _vector(embedding), k=k, where=where, **_without_fetch_k(kwargs)
            )
        )

    def similarity_search_with_score_by_vector(
        self, embedding: Sequence[float], k: int = 4, *, filter: Any = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Find documents and scores by vector; see :meth:`similarity_search_with_score`."""
        return scored(
            self._collection.search(
                _vector(embedding), k=k, where=read_filter(filter), **_without_fetch_k(kwargs)
            )
        )

    async def asimilarity_search_with_score_by_vector(
        self, embedding: Sequence[float], k: int = 4, *, filter: Any = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Find documents and scores by vector without blocking the event loop."""
        where = read_filter(filter)
        return scored(
            await self._collection.asearch(
                _vector(embedding), k=k, where=where, **_without_fetch_k(kwargs)
            )
        )

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Any = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Find documents that are relevant and differ from each other.

        Args:
            query: Any text.
            k: The most documents.
            fetch_k: How many of the best to pick from.
            lambda_mult: From 0, difference alone, to 1, relevance alone.
            filter: In any spelling; see :func:`read_filter`.
            **kwargs: Others of :meth:`nearfield.Collection.search`.
        """
        return plain(
            self._collection.search(
                query,
                k=k,
                where=read_filter(filter),
                diversity=1 - check_share(lambda_mult, "lambda_mult"),
                candidates=fetch_k,
                **kwargs,
            )
        )

    async def amax_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Any = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Find different documents without blocking the event loop."""
        return plain(
            await self._collection.asearch(
                query,
                k=k,
                where=read_filter(filter),
                diversity=1 - check_share(lambda_mult, "lambda_mult"),
                candidates=fetch_k,
                **kwargs,
            )
        )

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Any = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Find different documents by vector; see :meth:`max_marginal_relevance_search`."""
        return self.max_marginal_relevance_search(
            _vector(embedding),
            k,
            fetch_k,
            lambda_mult,
            filter=filter,
            **kwargs,
        )

    async def amax_marginal_relevance_search_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Any = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Find different documents by vector without blocking the event loop."""
        return await self.amax_marginal_relevance_search(
            _vector(embedding),
            k,
            fetch_k,
            lambda_mult,
            filter=filter,
            **kwargs,
        )

    def search(self, query: str, search_type: str, **kwargs: Any) -> list[Document]:
        """Find documents as a retriever of this type would; see :class:`SearchType`."""
        return plain(SearchType.read(search_type).search(self._collection, query, kwargs))

    async def asearch(self, query: str, search_type: str, **kwargs: Any) -> list[Document]:
        """Find documents by a type of search without blocking the event loop."""
        return plain(await SearchType.read(search_type).asearch(self._collection, query, kwargs))

    def as_retriever(self, **kwargs: Any) -> NearfieldRetriever:
        """Make a retriever; ``kwargs`` are the fields of :class:`NearfieldRetriever`."""
        from langchain_nearfield.retrievers import NearfieldRetriever  # it imports this module

        tags = kwargs.pop("tags", None) or self._get_retriever_tags()
        return NearfieldRetriever(vectorstore=self, tags=tags, **kwargs)

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        metric = self._collection.info.metric
        return lambda score: relevance(score, SearchMode.VECTOR, metric)

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, *, filter: Any = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        hits = self._collection.search(
            query, k=k, where=read_filter(filter), **_without_fetch_k(kwargs)
        )
        return [(read_document(hit.document), hit.relevance) for hit in hits]

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, *, filter: Any = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        where = read_filter(filter)
        hits = await self._collection.asearch(query, k=k, where=where, **_without_fetch_k(kwargs))
        return [(read_document(hit.document), hit.relevance) for hit in hits]

    # ── making one ───────────────────────────────────────────────────────────────────────────

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings | Embedder | str | None = None,
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int | None = None,
        url: str | Path | None = None,
        collection_name: str = "default",
        **kwargs: Any,
    ) -> Self:
        """Open a store, made if need be, and write texts to it.

        Args:
            texts: See :meth:`add_texts`.
            embedding: What turns text into vectors; see the class.
            metadatas: See :meth:`add_texts`.
            ids: See :meth:`add_texts`.
            batch_size: See :meth:`add_texts`.
            url: A folder; without one, the store lives in a temporary folder that is deleted when
                it is closed, forgotten, or the process ends.
            collection_name: The collection's name in it.
            **kwargs: Others of the class.
        """
        store = cls._opened(url, collection_name, embedding, kwargs)
        try:
            store.add_texts(texts, metadatas, ids=ids, batch_size=batch_size)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    async def afrom_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings | Embedder | str | None = None,
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int | None = None,
        url: str | Path | None = None,
        collection_name: str = "default",
        **kwargs: Any,
    ) -> Self:
        """Open a store and write texts without blocking the event loop; see :meth:`from_texts`."""
        store = await asyncio.to_thread(cls._opened, url, collection_name, embedding, kwargs)
        try:
            await store.aadd_texts(texts, metadatas, ids=ids, batch_size=batch_size)
        except BaseException:
            await store.aclose()
            raise
        return store

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        embedding: Embeddings | Embedder | str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Open a store and write documents to it; ``kwargs`` as of :meth:`from_texts`."""
        return cls.from_texts(embedding=embedding, **taken_apart(documents, kwargs))

    @classmethod
    async def afrom_documents(
        cls,
        documents: Iterable[Document],
        embedding: Embeddings | Embedder | str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Open a store and write documents without blocking the event loop."""
        return await cls.afrom_texts(embedding=embedding, **taken_apart(documents, kwargs))

    @classmethod
    def from_existing(
        cls,
        url: str | Path,
        collection_name: str = "default",
        *,
        embedding: Embeddings | Embedder | str | None = None,
        **options: Any,
    ) -> Self:
        """Open a store that is there already.

        Raises:
            CollectionNotFoundError: It is not.
        """
        return cls(url, collection_name, embedding=embedding, create=False, **options)

    @classmethod
    def _opened(
        cls,
        url: str | Path | None,
        collection_name: str,
        embedding: Embeddings | Embedder | str | None,
        options: dict[str, Any],
    ) -> Self:
        if url is not None:
            return cls(url, collection_name, embedding=embedding, **options)
        folder = tempfile.mkdtemp(prefix="nearfield-")
        try:
            # What will be deleted need not survive a power loss.
            temporary = {"durability": "normal", **options}
            store = cls(folder, collection_name, embedding=embedding, **temporary)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        store._temporary = weakref.finalize(store, _discard, store._collection, folder)
        return store

    # ── ending ───────────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Let go of every resource; any later call raises ``ClosedError``. Idempotent."""
        self._collection.close()
        if self._temporary is not None:
            self._temporary()


def _pairs(
    text_embeddings: Iterable[tuple[str, Sequence[float]]],
) -> list[tuple[str, Sequence[float]]]:
    pairs = list(text_embeddings)
    for position, pair in enumerate(pairs):
        if not isinstance(pair, tuple | list) or len(pair) != 2:  # noqa: PLR2004  # text, vector
            raise InvalidInputError(
                f"text_embeddings[{position}] is no pair of a text and its embedding; nothing was "
                "written"
            )
    return pairs


def _vector(embedding: Any) -> Any:
    if isinstance(embedding, str):
        raise InvalidInputError(
            "embedding is a text, expected a vector; for texts there is similarity_search"
        )
    return embedding


def _vectors(pairs: list[tuple[str, Sequence[float]]]) -> list[Sequence[float]]:
    return [vector for _, vector in pairs]


def _deleted_ids(ids: Sequence[str] | None, filter: Any) -> Sequence[str] | None:
    if ids is None and filter is None:
        raise InvalidInputError(
            "delete takes ids, a filter, or both; to delete everything, drop the collection: "
            "nearfield.connect(url).drop(collection_name)"
        )
    return ids


def _without_fetch_k(options: dict[str, Any]) -> dict[str, Any]:
    """Leave out how many documents to filter: here the filter comes before the search."""
    return {name: value for name, value in options.items() if name != "fetch_k"}


def _refuse_unknown(options: dict[str, Any]) -> None:
    if options:
        raise InvalidInputError(
            f"unknown arguments: {', '.join(sorted(options))}; nothing was written"
        )


def _discard(collection: Collection, folder: str) -> None:
    collection.close()
    shutil.rmtree(folder, ignore_errors=True)
