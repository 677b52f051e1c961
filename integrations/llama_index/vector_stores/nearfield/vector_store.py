"""A nearfield collection as a vector store of LlamaIndex."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from llama_index.core.bridge.pydantic import ConfigDict, Field, PrivateAttr
from llama_index.core.postprocessor.types import (
    BaseNodePostprocessor,  # noqa: TC002  pydantic reads it
)
from llama_index.core.schema import BaseNode, QueryBundle
from llama_index.core.vector_stores.simple import DEFAULT_VECTOR_STORE, NAMESPACE_SEP
from llama_index.core.vector_stores.types import (
    DEFAULT_PERSIST_DIR,
    DEFAULT_PERSIST_FNAME,
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)

import nearfield
from llama_index.embeddings.nearfield import to_embedder
from llama_index.vector_stores.nearfield.filters import to_filter
from llama_index.vector_stores.nearfield.nodes import SOURCE_KEY, to_document, to_node
from llama_index.vector_stores.nearfield.pointer import Pointer
from llama_index.vector_stores.nearfield.queries import Search, by_meaning, read_query
from llama_index.vector_stores.nearfield.restrictions import ListedNodes
from llama_index.vector_stores.nearfield.results import reranked, result_of, scored_nodes
from nearfield import Collection, F, Metric
from nearfield.closing import Closing
from nearfield.errors import (
    ClosedError,
    CollectionNotFoundError,
    DimensionMismatchError,
    InvalidDocumentError,
    InvalidInputError,
    InvalidVectorError,
    ReadOnlyError,
)
from nearfield.filters import And
from nearfield.validation import check_id, check_ids, check_vectors

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from llama_index.core.base.embeddings.base import BaseEmbedding

    from nearfield.embedders import Embedder

__all__ = ["NearfieldVectorStore"]


class NearfieldVectorStore(BasePydanticVectorStore, Closing):
    """Keep nodes in a nearfield collection: durable, filtered exactly, searched in six ways.

    Safe to use from any number of threads, and in any number of processes at once. Async methods
    never block the event loop.

    A collection that is not there yet is made at once when ``embed_model`` or ``dimension`` tells
    its dimension, and otherwise by the first ``add``; before that, queries find nothing.

    **Restrictions to nodes.** A retriever sends the ids of all nodes that its index lists, which,
    of a store that keeps the text, are its IndexNodes and ImageNodes. So ``query.node_ids``
    restricts a query when it names at least one node of another class, or no node that is there;
    a list of nothing but IndexNodes and ImageNodes restricts nothing. To restrict a query to such
    nodes, pass ``vector_store_kwargs={"node_ids": […]}`` to the retriever: that is always obeyed.

    Args:
        url: The database; a folder, or what else ``nearfield.connect`` takes.
        name: The collection.
        collection: Instead of both, a collection that is open already.
        embed_model: What the vectors are made with: a LlamaIndex embedding model, a nearfield
            embedder or its name. A collection made with another model is refused. Nodes are
            embedded by the index or the pipeline, never here.
        dimension: The length of the embeddings. A collection of another one is refused.
        metric: ``"cosine"``, ``"dot"`` or ``"euclidean"``; a collection of another one is refused.
        reranker: What puts the hits of the mode ``semantic_hybrid`` in order; their exact
            similarity when left out.
        read_only: Refuse every write.
        durability: See ``nearfield.connect``.
        timeout_s: Seconds to wait for other writers.
        kwargs: Fields of the base class, as ``from_dict`` passes them.

    Raises:
        EmbedderMismatchError: The collection was made with another model, dimension or metric.
        InvalidInputError: An argument is out of range, or two say the same.

    Example:
        >>> from llama_index.core import StorageContext, VectorStoreIndex
        >>> from llama_index.embeddings.nearfield import NearfieldEmbedding
        >>> model = NearfieldEmbedding()
        >>> store = NearfieldVectorStore("data", "notes", embed_model=model)
        >>> index = VectorStoreIndex.from_vector_store(store, embed_model=model)
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    stores_text: bool = True
    url: str | None = None
    name: str = "default"
    dimension: int | None = Field(default=None, gt=0)
    metric: Metric | None = None
    read_only: bool = False
    durability: str = "full"
    timeout_s: float = 30.0
    embed_model: Any = Field(default=None, exclude=True, repr=False)
    reranker: BaseNodePostprocessor | None = Field(default=None, exclude=True, repr=False)

    _collection: Collection | None = PrivateAttr(default=None)
    _listed: ListedNodes = PrivateAttr(default_factory=ListedNodes)
    _opening: Any = PrivateAttr(default_factory=threading.Lock)
    _closed: bool = PrivateAttr(default=False)

    def __init__(
        self,
        url: str | Path | None = None,
        name: str = "default",
        *,
        collection: Collection | None = None,
        embed_model: BaseEmbedding | Embedder | str | None = None,
        dimension: int | None = None,
        metric: Metric | str | None = None,
        reranker: BaseNodePostprocessor | None = None,
        read_only: bool = False,
        durability: str = "full",
        timeout_s: float = 30.0,
        **kwargs: Any,
    ) -> None:
        if (url is None) == (collection is None):
            raise InvalidInputError(
                "give a database's url or an open collection, one of them: "
                'NearfieldVectorStore("./data", "notes") or '
                "NearfieldVectorStore.from_collection(collection)"
            )
        if collection is not None:
            if not isinstance(collection, Collection):
                raise InvalidInputError(
                    f"collection is {type(collection).__name__}, expected what nearfield.open "
                    "returns; a folder is opened by NearfieldVectorStore(url, name)"
                )
            url, name = _place(collection), collection.info.name
        fields: dict[str, Any] = {
            **kwargs,
            "url": None if url is None else str(url),
            "name": name,
            "embed_model": embed_model,
            "dimension": dimension,
            "metric": metric,
            "reranker": reranker,
            "read_only": read_only,
            "durability": durability,
            "timeout_s": timeout_s,
        }
        fields.pop("class_name", None)  # to_dict writes it
        super().__init__(**fields)
        if collection is not None:
            self._collection = collection
        else:
            self._open(create=embed_model is not None or dimension is not None)

    @classmethod
    def from_collection(
        cls, collection: Collection, *, reranker: BaseNodePostprocessor | None = None
    ) -> Self:
        """Use a collection that is open already; closing the store closes it."""
        return cls(collection=collection, reranker=reranker)

    @classmethod
    def class_name(cls) -> str:
        """Name the class, for serialization."""
        return "NearfieldVectorStore"

    @property
    def client(self) -> Collection | None:
        """The collection; None while it has not been made."""
        return self._existing()

    # ── writing ──────────────────────────────────────────────────────────────────────────────

    def add(self, nodes: Sequence[BaseNode], **_kwargs: Any) -> list[str]:
        """Write nodes with their embeddings; one whose id is there already takes its place.

        The call is atomic and, when it returns, durable.

        Returns:
            The nodes' ids, in their order.

        Raises:
            InvalidVectorError: A node has no embedding, or one that is not finite.
            DimensionMismatchError: An embedding does not fit the collection.
            InvalidDocumentError: A node cannot be stored; nothing was written.
        """
        nodes = list(nodes)
        if not nodes:
            return []
        embeddings = _embeddings(nodes)
        documents = [to_document(node) for node in nodes]
        ids = self._made(embeddings).upsert(documents, vectors=embeddings)
        self._listed.note(nodes)
        return ids

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Write nodes without blocking the event loop; see :meth:`add`."""
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    def delete(self, ref_doc_id: str, **_kwargs: Any) -> None:
        """Delete the nodes that were made of a document, and the document where it is a node."""
        ref_doc_id = check_id(ref_doc_id)
        if (collection := self._existing()) is None:
            return
        collection.delete(where=F[SOURCE_KEY] == ref_doc_id)
        # A pipeline takes any node without a source for its own document.
        own = collection.get(ref_doc_id, include=("metadata",))
        if own is not None and SOURCE_KEY not in own.metadata:
            collection.delete(ref_doc_id)

    async def adelete(self, ref_doc_id: str, **kwargs: Any) -> None:
        """Delete without blocking the event loop; see :meth:`delete`."""
        await asyncio.to_thread(self.delete, ref_doc_id, **kwargs)

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **_kwargs: Any,
    ) -> None:
        """Delete nodes by id, by filter, or, with both, those of the ids that match.

        Raises:
            InvalidInputError: Neither was given; ``clear`` deletes everything.
        """
        where = to_filter(filters)
        if node_ids is None and where is None:
            raise InvalidInputError(
                "delete_nodes takes node_ids or filters that say something; clear() deletes all"
            )
        if (collection := self._existing()) is not None:
            collection.delete(node_ids, where=where)

    async def adelete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **kwargs: Any,
    ) -> None:
        """Delete nodes without blocking the event loop; see :meth:`delete_nodes`."""
        await asyncio.to_thread(self.delete_nodes, node_ids, filters, **kwargs)

    def clear(self) -> None:
        """Delete all documents in one step; the collection stays, with its settings."""
        if (collection := self._existing()) is not None:
            collection.delete(where=And(()))

    async def aclear(self) -> None:
        """Delete all documents without blocking the event loop; see :meth:`clear`."""
        await asyncio.to_thread(self.clear)

    # ── reading ──────────────────────────────────────────────────────────────────────────────

    def get_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """Fetch nodes, without their embeddings.

        Args:
            node_ids: Only these, in their order; those that are not there are left out.
            filters: Only those that match.

        Returns:
            The nodes; all of them, in the order of writing, when nothing was given.
        """
        where = to_filter(filters)
        if (collection := self._existing()) is None:
            return []
        if node_ids is None:
            return [to_node(document) for document in collection.scan(where=where)]
        return [
            to_node(document)
            for document in collection.get(check_ids(node_ids))
            if document is not None and (where is None or where.matches(document.metadata))
        ]

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """Fetch nodes without blocking the event loop; see :meth:`get_nodes`."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters)

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Search.

        The modes are ``default``, ``mmr``, ``text_search`` and ``sparse`` (both BM25), ``hybrid``
        and ``semantic_hybrid``. Filters never cost results: min(k, matches) nodes come back.

        Args:
            query: The query; its ``doc_ids`` restrict it to nodes made of these documents, its
                ``node_ids`` as the class says.
            kwargs: ``node_ids``: only these nodes, whatever their class. ``where``: a nearfield
                filter, in addition to ``query.filters``. ``mmr_threshold``: from 1, relevance
                alone, to 0, difference alone. ``mmr_prefetch_k`` or ``mmr_prefetch_factor``: how
                many of the best to pick from, or how many for each of the k.

        Returns:
            Nodes, ids and similarities, best first; a similarity is the collection's score.

        Raises:
            UnsupportedOperationError: There is no such mode here.
            FilterError: A filter is malformed.
            InvalidInputError: An option is unknown, or the query lacks what its mode needs.
        """
        collection, search = self._prepared(query, kwargs)
        if collection is None:
            return result_of([])
        hits = collection.search(**search.arguments)
        if not search.reorder:
            return result_of(hits)
        if self.reranker is None:
            return result_of(collection.search(**by_meaning(query, search, hits)))
        scored = self.reranker.postprocess_nodes(
            scored_nodes(hits), QueryBundle(query.query_str or "")
        )
        return reranked(scored, search.k)

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Search without blocking the event loop; see :meth:`query`."""
        collection, search = await asyncio.to_thread(self._prepared, query, kwargs)
        if collection is None:
            return result_of([])
        hits = await collection.asearch(**search.arguments)
        if search.reorder and self.reranker is None:
            hits = await collection.asearch(**by_meaning(query, search, hits))
        if not search.reorder or self.reranker is None:
            return await asyncio.to_thread(result_of, hits)
        scored = await asyncio.to_thread(scored_nodes, hits)
        bundle = QueryBundle(query.query_str or "")
        return reranked(await self.reranker.apostprocess_nodes(scored, bundle), search.k)

    # ── persisting ───────────────────────────────────────────────────────────────────────────

    def persist(self, persist_path: str, fs: AbstractFileSystem | None = None) -> None:
        """Write a small file that points to the collection; its data are durable already.

        Args:
            persist_path: Where to. A database below its folder is named by a relative path, so
                that both can move together.
            fs: The file system, the local one when left out.
        """
        if self.url is None:
            raise InvalidInputError(
                "this store was made from a collection that does not tell where it is; make it "
                "with NearfieldVectorStore(url, name) to persist it"
            )
        collection = self._existing()
        info = None if collection is None else collection.info
        pointer = Pointer(
            url=self.url,
            name=self.name,
            dimension=self.dimension if info is None else info.embedding.dimension,
            metric=self.metric if info is None else info.metric,
            exists=info is not None,
            gone=() if collection is None else self._listed.gone(collection),
        )
        pointer.write(os.fspath(persist_path), fs)

    @classmethod
    def from_persist_path(
        cls, persist_path: str, fs: AbstractFileSystem | None = None, **kwargs: Any
    ) -> Self:
        """Open the collection that a file written by :meth:`persist` points to.

        Args:
            persist_path: The file.
            fs: Its file system, the local one when left out.
            kwargs: What else the class takes, such as ``reranker``.

        Raises:
            InvalidInputError: The file is not there, or another vector store wrote it.
            CollectionNotFoundError: The collection is no longer where it was.
        """
        path = os.fspath(persist_path)
        pointer = Pointer.read(path, fs)
        options = {"dimension": pointer.dimension, "metric": pointer.metric, **kwargs}
        url = pointer.url_from(path)
        if pointer.exists:
            nearfield.open(url, pointer.name, create=False, read_only=True).close()
        store = cls(url, pointer.name, **options)
        store._listed.remember(pointer.gone)
        return store

    @classmethod
    def from_persist_dir(
        cls,
        persist_dir: str = DEFAULT_PERSIST_DIR,
        namespace: str = DEFAULT_VECTOR_STORE,
        fs: AbstractFileSystem | None = None,
        **kwargs: Any,
    ) -> Self:
        """Open the collection that ``StorageContext.persist(persist_dir)`` wrote down.

        See :meth:`from_persist_path`.
        """
        file = f"{namespace}{NAMESPACE_SEP}{DEFAULT_PERSIST_FNAME}"
        return cls.from_persist_path(f"{os.fspath(persist_dir)}/{file}", fs, **kwargs)

    # ── opening and closing ──────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Let go of the collection; any later call raises ``ClosedError``. Idempotent."""
        self._closed = True
        if self._collection is not None:
            self._collection.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the arguments it was made with; the copy opens the collection anew."""
        if self.url is None:
            raise InvalidInputError("a store made from such a collection cannot be pickled")
        settings = {name: getattr(self, name) for name in type(self).model_fields}
        return _reopened, (type(self), settings)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Return a copy with the same open collection, which is safe to share."""
        return self.__copy__()

    def _existing(self) -> Collection | None:
        """Return the collection if it is there, maybe made by another by now."""
        if self._collection is not None:
            return self._collection
        return self._open(create=False)

    def _open(self, *, create: bool, dimension: int | None = None) -> Collection | None:
        with self._opening:
            if self._collection is not None:
                return self._collection
            if self._closed:
                raise ClosedError(f"the vector store {self.name!r} is closed; make a new one")
            model = None
            if self.embed_model is not None:
                model = to_embedder(self.embed_model, dimension=self.dimension)
            try:
                self._collection = nearfield.open(
                    self.url or "",
                    self.name,
                    embedder=model,
                    dimension=None if model is not None else dimension or self.dimension,
                    metric=self.metric,
                    create=create,
                    read_only=self.read_only,
                    durability=self.durability,
                    timeout_s=self.timeout_s,
                )
            except CollectionNotFoundError:
                return None
            return self._collection

    def _made(self, embeddings: list[list[float]]) -> Collection:
        """Return the collection, made for these embeddings if it is not there."""
        if (collection := self._existing()) is not None:
            return collection
        # Checked first: embeddings that are refused must not decide what the collection is for.
        dimension = len(embeddings[0])
        metric = self.metric or Metric.COSINE
        check_vectors(embeddings, dimension=dimension, metric=metric, what="embedding")
        made = self._open(create=True, dimension=dimension)
        if made is None:
            raise ReadOnlyError(
                f"{self.url} holds no collection {self.name!r}, and the vector store is read-only; "
                "make it with a store that may write"
            )
        return made

    def _prepared(
        self, query: VectorStoreQuery, options: Mapping[str, Any]
    ) -> tuple[Collection | None, Search]:
        collection = self._existing()
        ids = options.get("node_ids")
        if ids is None and query.node_ids and collection is not None:
            is_list = self._listed.is_index_list(collection, query.node_ids)
            ids = None if is_list else query.node_ids
        has_reranker = self.reranker is not None
        return collection, read_query(query, options, ids, has_reranker=has_reranker)


def _reopened(kind: type[NearfieldVectorStore], settings: dict[str, Any]) -> NearfieldVectorStore:
    return kind(**settings)


def _place(collection: Collection) -> str | None:
    """Return the database a collection is in, where that is a folder."""
    path = collection.stats().get("path")
    return str(Path(path).parent) if isinstance(path, str) else None


def _embeddings(nodes: Sequence[BaseNode]) -> list[list[float]]:
    embeddings: list[list[float]] = []
    for position, node in enumerate(nodes):
        if not isinstance(node, BaseNode):
            raise InvalidDocumentError(
                f"a {type(node).__name__} (at {position}) is no node; give a list of nodes such as "
                "TextNode"
            )
        if node.embedding is None:
            raise InvalidVectorError(
                f"node {node.id_!r} (at {position}) has no embedding; add nodes through an index, "
                "or end an IngestionPipeline's transformations with an embedding model"
            )
        if embeddings and len(node.embedding) != len(embeddings[0]):
            raise DimensionMismatchError(
                expected=len(embeddings[0]), got=len(node.embedding), what=f"node {node.id_!r}"
            )
        embeddings.append(node.embedding)
    return embeddings
