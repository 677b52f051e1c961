"""What a user holds: a collection takes text in and gives hits out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np

from nearfield.batches import Batch
from nearfield.closing import Closing
from nearfield.documents import Document, Hit, SearchMode
from nearfield.embedders import contract, items
from nearfield.errors import (
    DocumentNotFoundError,
    EmbedderMismatchError,
    EmbedderRequiredError,
    EmbeddingError,
    InvalidInputError,
    InvalidVectorError,
    UnsupportedOperationError,
)
from nearfield.filters import parse
from nearfield.queries import (
    DEFAULT_PARTS,
    Queries,
    SearchOptions,
    list_queries,
    read_include,
    read_queries,
)
from nearfield.selection import select
from nearfield.stores.base import Checkable, Include, Recordable, Tunable, Versioned
from nearfield.threads import finish_on_thread
from nearfield.validation import (
    check_id,
    check_ids,
    check_milliseconds,
    check_positive,
    check_share,
    check_vectors,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from nearfield.embedders import Embedder
    from nearfield.embedders.base import ImageLike
    from nearfield.filters import Filter
    from nearfield.rerankers import Reranker
    from nearfield.stores.base import (
        CheckReport,
        CollectionInfo,
        Explanation,
        Ledger,
        RepairReport,
        Store,
        TuningReport,
    )

    Where: TypeAlias = Filter | Mapping[str, Any] | None
    """A filter, in either spelling."""
    Query: TypeAlias = str | ImageLike | ArrayLike
    """A text, an image (its bytes, a path object or a Pillow image), or a vector of shape
    (dimension,). A ``str`` is a text, also where it is the path of an image."""

__all__ = ["Collection"]

_SCAN_ROWS = 256


class Collection(Closing):
    """Documents with embeddings, searched by meaning, by words, or both. Made by ``open``.

    Safe to use from any number of threads, and to open in any number of processes at once. Every
    method that does I/O has an ``a…`` twin that never blocks the event loop.
    """

    def __init__(self, store: Store, embedder: Embedder | None) -> None:
        self._store = store
        self._embedder = embedder

    def __repr__(self) -> str:
        info = self.info
        return (
            f"Collection({info.name!r}, model={info.embedding.model!r}, "
            f"dimension={info.embedding.dimension}, metric={info.metric.value!r})"
        )

    def __len__(self) -> int:
        return self.count()

    @property
    def info(self) -> CollectionInfo:
        """The name, the embedding space and the metric, fixed at birth."""
        return self._store.info

    @property
    def modes(self) -> frozenset[SearchMode]:
        """The modes of search that the collection's store answers."""
        return self._store.capabilities.modes

    @property
    def embedder(self) -> Embedder:
        """What turns text into vectors.

        Raises:
            EmbedderRequiredError: The collection holds given vectors, or was built with an
                embedder that has to be passed to ``open``.
        """
        if self._embedder is None:
            self._embedder = self._reload_embedder()
        return self._embedder

    # ── writing ──────────────────────────────────────────────────────────────────────────────

    def upsert(
        self,
        documents: Document | str | Iterable[Document | str],
        *,
        vectors: ArrayLike | None = None,
        images: Iterable[ImageLike | None] | None = None,
        replace: Where = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[str]:
        """Write documents; one whose id is there already takes its place. ``add`` is the same.

        The call is atomic and, when it returns, durable and visible to the next search.

        Args:
            documents: Documents or texts. Of several with one id, the last counts.
            vectors: Their embeddings, shape (n, dimension); otherwise each document's own is
                taken, or its text is embedded.
            images: One for each document, None where it has none: the bytes of an image file, the
                path of one, or a Pillow image. It is embedded instead of the text, and by a
                ``MultimodalEmbedder`` together with it. Images are not stored.
            replace: In the same step, delete the documents that match this filter and are not
                among those written; None or an empty dict deletes none.
            progress: Called with how many texts or images are embedded, and of how many. An
                exception from it ends the call and is passed on; nothing was written.

        Returns:
            The ids, in the order of the documents.

        Raises:
            InvalidDocumentError: An id, a text or metadata cannot be stored, or an image cannot be
                read; nothing was written.
            InvalidVectorError: A vector is not finite, has no direction under cosine, or does not
                fit; nothing was written.
            EmbeddingError: The embedder returned something else than an embedding for each text;
                nothing was written.
            UnsupportedOperationError: The embedder reads no images; nothing was written.
        """
        where = parse(replace)
        batch = Batch.checked(documents, vectors, self.info, images)
        embedded: ArrayLike = ()
        with contract.placed(batch.places):
            if batch.images:
                embedded = items.embed(self.embedder, batch.items, progress=progress)
            elif batch.texts:
                embedded = contract.embed_documents(self.embedder, batch.texts, progress=progress)
        self._write(batch, embedded, where)
        return batch.ids

    async def aupsert(
        self,
        documents: Document | str | Iterable[Document | str],
        *,
        vectors: ArrayLike | None = None,
        images: Iterable[ImageLike | None] | None = None,
        replace: Where = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[str]:
        """Write documents without blocking the event loop; see :meth:`upsert`.

        A task that is cancelled while texts are embedded has written nothing.
        """
        where = parse(replace)
        batch = await asyncio.to_thread(Batch.checked, documents, vectors, self.info, images)
        embedded: ArrayLike = ()
        with contract.placed(batch.places):
            if batch.images:
                embedder = await self._aembedder()
                embedded = await items.aembed(embedder, batch.items, progress=progress)
            elif batch.texts:
                embedder = await self._aembedder()
                embedded = await contract.aembed_documents(embedder, batch.texts, progress=progress)
        await asyncio.to_thread(self._write, batch, embedded, where)
        return batch.ids

    add = upsert
    aadd = aupsert

    def delete(self, ids: str | Sequence[str] | None = None, *, where: Where = None) -> int:
        """Delete documents by id, or all that match a filter, in one atomic step.

        Args:
            ids: One id or several; those that are not there are passed over.
            where: A filter. Together with ids, only those of them that match.

        Returns:
            How many documents were deleted.
        """
        condition = parse(where)
        if ids is None and condition is None:
            raise InvalidInputError(
                "delete takes ids or a filter that says something; to delete everything, drop the "
                "collection"
            )
        wanted = None if ids is None else check_ids(ids)
        return self._store.delete(ids=wanted, where=condition)

    async def adelete(self, ids: str | Sequence[str] | None = None, *, where: Where = None) -> int:
        """Delete documents without blocking the event loop; see :meth:`delete`."""
        return await asyncio.to_thread(self.delete, ids, where=where)

    # ── reading ──────────────────────────────────────────────────────────────────────────────

    @overload
    def get(  # type: ignore[overload-overlap]  # a str is a sequence of str; it is taken as an id
        self, ids: str, *, include: Iterable[str] = ...
    ) -> Document | None: ...
    @overload
    def get(self, ids: Sequence[str], *, include: Iterable[str] = ...) -> list[Document | None]: ...
    def get(
        self, ids: str | Sequence[str], *, include: Iterable[str] = DEFAULT_PARTS
    ) -> Document | list[Document | None] | None:
        """Fetch documents by id.

        Args:
            ids: One id, or several.
            include: Any of ``"text"``, ``"metadata"``, ``"embedding"``.

        Returns:
            For one id, the document or None; for several, a list in their order.
        """
        found = self._store.get(check_ids(ids), include=read_include(include))
        return found[0] if isinstance(ids, str) else found

    @overload
    async def aget(  # type: ignore[overload-overlap]
        self, ids: str, *, include: Iterable[str] = ...
    ) -> Document | None: ...
    @overload
    async def aget(
        self, ids: Sequence[str], *, include: Iterable[str] = ...
    ) -> list[Document | None]: ...
    async def aget(
        self, ids: str | Sequence[str], *, include: Iterable[str] = DEFAULT_PARTS
    ) -> Document | list[Document | None] | None:
        """Fetch documents without blocking the event loop; see :meth:`get`."""
        return await asyncio.to_thread(self.get, ids, include=include)

    def search(
        self,
        query: Query | None = None,
        *,
        k: int = 10,
        where: Where = None,
        ids: str | Sequence[str] | None = None,
        mode: SearchMode | str = SearchMode.VECTOR,
        alpha: float = 0.5,
        vector: ArrayLike | None = None,
        like: str | None = None,
        min_score: float | None = None,
        rerank: Reranker | None = None,
        diversity: float | None = None,
        candidates: int | None = None,
        include: Iterable[str] = DEFAULT_PARTS,
    ) -> list[Hit]:
        """Find the documents that match a query best.

        Args:
            query: A text, an image (its bytes, a path object or a Pillow image), or a vector of
                shape (dimension,). A ``str`` is a text, also where it is the path of an image.
            k: The most hits, at least 1.
            where: Only documents that match this filter; min(k, matches) hits still come back.
            ids: Only documents with one of these ids.
            mode: ``"vector"`` compares embeddings, ``"keyword"`` words (BM25), ``"hybrid"`` fuses
                both by reciprocal rank.
            alpha: In a hybrid search, the weight of the vectors: 0 for words alone, 1 for vectors
                alone.
            vector: The embedding of a text query, where it is known already.
            like: Instead of a query, the id of a document to find the neighbours of; it is not
                among the hits itself.
            min_score: Only hits that score at least this.
            rerank: A model that reads the best candidates together with the query, which has to
                have a text; with ``like``, the example's. Its relevances are the scores of the
                hits, and what ``min_score`` is for.
            diversity: From 0 to 1: trade relevance for hits that differ from each other (maximal
                marginal relevance), after reranking.
            candidates: With ``rerank`` or ``diversity``, how many of the best hits to choose
                from; four for each of the k, and at least 50, when left out.
            include: Any of ``"text"``, ``"metadata"``, ``"embedding"``.

        Returns:
            Hits, best first; equal scores are ordered by id.

        Raises:
            InvalidInputError: An argument is out of range, or too many were given.
            DocumentNotFoundError: There is no document with the id ``like``.
            EmbedderRequiredError: A text or an image has to be embedded, and no embedder is at
                hand.
            UnsupportedOperationError: The embedder reads no images, or no texts.
            InvalidDocumentError: An image cannot be read.
            RerankingError: The reranker failed.
        """
        options = SearchOptions.checked(
            k=k,
            where=where,
            ids=ids,
            mode=mode,
            alpha=alpha,
            min_score=min_score,
            rerank=rerank,
            diversity=diversity,
            candidates=candidates,
            include=include,
        )
        if like is not None:
            return self._neighbours(like, query, vector, options)
        given = None if vector is None else [vector]
        queries = read_queries([query], given, options.mode, self.info)
        if queries.vectors is None and options.needs_vectors:
            queries = self._embed(queries)
        return self._run(options, queries)[0]

    async def asearch(
        self,
        query: Query | None = None,
        *,
        k: int = 10,
        where: Where = None,
        ids: str | Sequence[str] | None = None,
        mode: SearchMode | str = SearchMode.VECTOR,
        alpha: float = 0.5,
        vector: ArrayLike | None = None,
        like: str | None = None,
        min_score: float | None = None,
        rerank: Reranker | None = None,
        diversity: float | None = None,
        candidates: int | None = None,
        include: Iterable[str] = DEFAULT_PARTS,
    ) -> list[Hit]:
        """Find documents without blocking the event loop; see :meth:`search`."""
        options = SearchOptions.checked(
            k=k,
            where=where,
            ids=ids,
            mode=mode,
            alpha=alpha,
            min_score=min_score,
            rerank=rerank,
            diversity=diversity,
            candidates=candidates,
            include=include,
        )
        if like is not None:
            return await asyncio.to_thread(self._neighbours, like, query, vector, options)
        given = None if vector is None else [vector]
        queries = read_queries([query], given, options.mode, self.info)
        if queries.vectors is None and options.needs_vectors:
            queries = await self._aembed(queries)
        return (await asyncio.to_thread(self._run, options, queries))[0]

    def search_many(
        self,
        queries: Sequence[Query] | NDArray[Any],
        *,
        k: int = 10,
        where: Where = None,
        ids: str | Sequence[str] | None = None,
        mode: SearchMode | str = SearchMode.VECTOR,
        alpha: float = 0.5,
        vectors: ArrayLike | None = None,
        min_score: float | None = None,
        rerank: Reranker | None = None,
        diversity: float | None = None,
        candidates: int | None = None,
        include: Iterable[str] = DEFAULT_PARTS,
    ) -> list[list[Hit]]:
        """Answer many queries at once, faster than one by one.

        Args:
            queries: Texts, or images, or vectors of shape (n, dimension).
            k: See :meth:`search`, as for the options that follow.
            where: The same for all.
            ids: The same for all.
            mode: The same for all.
            alpha: The same for all.
            vectors: The embeddings of text queries, shape (n, dimension), where they are known.
            min_score: The same for all.
            rerank: The same for all; it is asked query by query.
            diversity: The same for all.
            candidates: The same for all.
            include: The same for all.

        Returns:
            A list of hits for each query, in their order.
        """
        options = SearchOptions.checked(
            k=k,
            where=where,
            ids=ids,
            mode=mode,
            alpha=alpha,
            min_score=min_score,
            rerank=rerank,
            diversity=diversity,
            candidates=candidates,
            include=include,
        )
        listed = list_queries(queries)
        if not len(listed):
            return []
        read = read_queries(listed, vectors, options.mode, self.info)
        if read.vectors is None and options.needs_vectors:
            read = self._embed(read)
        return self._run(options, read)

    async def asearch_many(
        self,
        queries: Sequence[Query] | NDArray[Any],
        *,
        k: int = 10,
        where: Where = None,
        ids: str | Sequence[str] | None = None,
        mode: SearchMode | str = SearchMode.VECTOR,
        alpha: float = 0.5,
        vectors: ArrayLike | None = None,
        min_score: float | None = None,
        rerank: Reranker | None = None,
        diversity: float | None = None,
        candidates: int | None = None,
        include: Iterable[str] = DEFAULT_PARTS,
    ) -> list[list[Hit]]:
        """Answer many queries without blocking the event loop; see :meth:`search_many`."""
        options = SearchOptions.checked(
            k=k,
            where=where,
            ids=ids,
            mode=mode,
            alpha=alpha,
            min_score=min_score,
            rerank=rerank,
            diversity=diversity,
            candidates=candidates,
            include=include,
        )
        listed = list_queries(queries)
        if not len(listed):
            return []
        read = read_queries(listed, vectors, options.mode, self.info)
        if read.vectors is None and options.needs_vectors:
            read = await self._aembed(read)
        return await asyncio.to_thread(self._run, options, read)

    def explain(
        self,
        query: Query | None = None,
        *,
        k: int = 10,
        where: Where = None,
        mode: SearchMode | str = SearchMode.VECTOR,
        vector: ArrayLike | None = None,
    ) -> Explanation:
        """Search, and tell how: the plan of each part, what it compared, and the recall expected.

        Args:
            query: See :meth:`search`, as for the options that follow.
            k: The most hits.
            where: A filter.
            mode: How to match.
            vector: The embedding of a text query, where it is known already.

        Raises:
            UnsupportedOperationError: The store does not tell.
        """
        options = SearchOptions.checked(k=k, where=where, mode=mode)
        given = None if vector is None else [vector]
        queries = read_queries([query], given, options.mode, self.info)
        if queries.vectors is None and options.needs_vectors:
            queries = self._embed(queries)
        return self._tunable().explain(options.request(queries))

    async def aexplain(
        self,
        query: Query | None = None,
        *,
        k: int = 10,
        where: Where = None,
        mode: SearchMode | str = SearchMode.VECTOR,
        vector: ArrayLike | None = None,
    ) -> Explanation:
        """Explain without blocking the event loop; see :meth:`explain`."""
        return await asyncio.to_thread(
            self.explain, query, k=k, where=where, mode=mode, vector=vector
        )

    def scan(
        self, *, where: Where = None, include: Iterable[str] = DEFAULT_PARTS
    ) -> Generator[Document, None, None]:
        """Iterate over all documents, or those that match, as of one moment.

        Args:
            where: A filter.
            include: Any of ``"text"``, ``"metadata"``, ``"embedding"``.

        Returns:
            Documents in the order of writing, in bounded memory. The moment is that of the first
            one taken; until the last one, or ``close()``, the collection is in use.
        """
        return self._store.scan(where=parse(where), include=read_include(include))

    async def ascan(
        self, *, where: Where = None, include: Iterable[str] = DEFAULT_PARTS
    ) -> AsyncGenerator[Document, None]:
        """Iterate without blocking the event loop; see :meth:`scan`."""
        documents = self.scan(where=where, include=include)
        try:
            while batch := await finish_on_thread(lambda: list(islice(documents, _SCAN_ROWS))):
                for document in batch:
                    yield document
        finally:  # a thread may hold on to them for a moment longer
            await finish_on_thread(documents.close)

    def count(self, where: Where = None) -> int:
        """Count all documents, or those that match a filter."""
        return self._store.count(where=parse(where))

    async def acount(self, where: Where = None) -> int:
        """Count without blocking the event loop; see :meth:`count`."""
        return await asyncio.to_thread(self.count, where)

    # ── keeping it well ──────────────────────────────────────────────────────────────────────

    def stats(self) -> dict[str, Any]:
        """Return JSON-ready figures: what the collection is, how large, in what state."""
        info = self.info
        return {
            "name": info.name,
            "metric": info.metric.value,
            "embedding": info.embedding.to_dict(),
            **self._store.stats(),
        }

    async def astats(self) -> dict[str, Any]:
        """Return figures without blocking the event loop; see :meth:`stats`."""
        return await asyncio.to_thread(self.stats)

    def version(self) -> int:
        """Return a number that each write makes larger, through whatever handle or process.

        It costs next to nothing, and tells whether something derived from the documents, such as a
        cache of answers, is still up to date.

        Raises:
            UnsupportedOperationError: The store does not count its writes.
        """
        if not isinstance(self._store, Versioned):
            raise UnsupportedOperationError(
                f"the store of collection {self.info.name!r} does not count its writes; compare "
                "what it holds"
            )
        return self._store.version()

    async def aversion(self) -> int:
        """Return the number without blocking the event loop; see :meth:`version`."""
        return await asyncio.to_thread(self.version)

    def maintain(self) -> int:
        """Do now what is otherwise done in the background: index new documents, merge, clear away.

        Worth calling after a bulk load, or at the end of a process that only writes. A store that
        does this by itself returns 0.

        Returns:
            How many index segments were built.

        Raises:
            StoreBusyError: Another process was at it for longer than the timeout.
        """
        return self._store.maintain() if isinstance(self._store, Tunable) else 0

    async def amaintain(self) -> int:
        """Do maintenance without blocking the event loop; see :meth:`maintain`."""
        return await asyncio.to_thread(self.maintain)

    def tune(
        self,
        *,
        target_recall: float = 0.99,
        latency_ms: float | None = None,
        memory_bytes: int | None = None,
        queries: Sequence[Query] | NDArray[Any] | None = None,
        recheck_share: float = 0.0005,
    ) -> TuningReport:
        """Name the recall to hold; the cheapest plans that hold it are built, measured and used.

        Recall is never given up for latency or memory: what cannot be met is said in the report.

        Args:
            target_recall: The mean recall@10, from 0 to 1. With 1 every vector is compared.
            latency_ms: The most CPU milliseconds that a query may take.
            memory_bytes: The most memory that indexes may take.
            queries: Texts, or vectors of shape (n, dimension), as the collection will be asked;
                when left out, queries are made from the documents.
            recheck_share: From now on, repeat this share of the searches exactly in the
                background; ``stats()["index"]["live_recall"]`` is the outcome.

        Returns:
            What was measured, and what there was to choose from.

        Raises:
            InvalidInputError: An argument is out of range.
            StoreBusyError: Another process was building segments for longer than the timeout.
            UnsupportedOperationError: The store tunes itself, or not at all.
        """
        return self._tunable().tune(
            target_recall=check_share(target_recall, "target_recall"),
            latency_ms=None if latency_ms is None else check_milliseconds(latency_ms, "latency_ms"),
            memory_bytes=None
            if memory_bytes is None
            else check_positive(memory_bytes, "memory_bytes"),
            recheck_share=check_share(recheck_share, "recheck_share"),
            queries=None if queries is None else self._query_vectors(queries),
        )

    async def atune(
        self,
        *,
        target_recall: float = 0.99,
        latency_ms: float | None = None,
        memory_bytes: int | None = None,
        queries: Sequence[Query] | NDArray[Any] | None = None,
        recheck_share: float = 0.0005,
    ) -> TuningReport:
        """Tune without blocking the event loop; see :meth:`tune`."""
        return await asyncio.to_thread(
            self.tune,
            target_recall=target_recall,
            latency_ms=latency_ms,
            memory_bytes=memory_bytes,
            queries=queries,
            recheck_share=recheck_share,
        )

    def check(self) -> CheckReport:
        """Verify every stored byte and report what is damaged, changing nothing."""
        return self._checkable().check()

    async def acheck(self) -> CheckReport:
        """Verify without blocking the event loop; see :meth:`check`."""
        return await asyncio.to_thread(self.check)

    def repair(self) -> RepairReport:
        """Rebuild what can be rebuilt and set damaged documents aside; nothing is thrown away.

        Raises:
            CollectionInUseError: The file has to be rebuilt, and the collection is open elsewhere.
        """
        return self._checkable().repair()

    async def arepair(self) -> RepairReport:
        """Repair without blocking the event loop; see :meth:`repair`."""
        return await asyncio.to_thread(self.repair)

    def backup(self, destination: str | Path) -> None:
        """Copy the collection, as of one moment and while others write, to a database folder.

        Args:
            destination: A folder, made if need be; ``open`` opens the copy there by the same name.

        Raises:
            CollectionExistsError: The folder holds a collection of this name already.
        """
        self._checkable().backup(Path(destination).expanduser())

    async def abackup(self, destination: str | Path) -> None:
        """Copy without blocking the event loop; see :meth:`backup`."""
        await asyncio.to_thread(self.backup, destination)

    def ledger(self, namespace: str = "default") -> Ledger:
        """Return a record of which documents were written, when, and from which source.

        It is kept in the collection's own database, so that it can't contradict the documents: one
        that was deleted or replaced since, through whichever door, no longer counts as recorded.

        Args:
            namespace: Tells the records of one program from those of another.

        Raises:
            UnsupportedOperationError: The store keeps none.
        """
        if not isinstance(self._store, Recordable):
            raise UnsupportedOperationError(
                f"the store of collection {self.info.name!r} keeps no ledger; keep the records in "
                "a place of their own"
            )
        return self._store.ledger(namespace)

    def close(self) -> None:
        """Let go of every resource; any later call raises ``ClosedError``. Idempotent."""
        self._store.close()

    # ── within ───────────────────────────────────────────────────────────────────────────────

    def _reload_embedder(self) -> Embedder:
        """Load the embedder the collection was built with by its recorded name."""
        from nearfield.embedders import load  # models are heavy

        built = self.info.embedding
        try:
            embedder = load(built.model)
        except InvalidInputError:
            raise EmbedderRequiredError(
                f"collection {self.info.name!r} was built with {built.model!r}, which cannot be "
                "loaded by name: pass vectors instead of text, or open the collection with "
                "embedder=…"
            ) from None
        if embedder.info.fingerprint != built.fingerprint:
            raise EmbedderMismatchError(
                f"collection {self.info.name!r} was built with another version of "
                f"{built.model!r} (fingerprint {built.fingerprint}, now "
                f"{embedder.info.fingerprint}), and their vectors do not compare: open it with "
                "the embedder it was built with, or ingest its documents into a new collection"
            )
        return embedder

    def _write(self, batch: Batch, embedded: ArrayLike, replace: Filter | None) -> None:
        vectors = self._fitting(embedded) if batch.texts else ()
        self._store.upsert(batch.embedded(vectors), replace=replace)

    def _fitting(self, embedded: ArrayLike) -> NDArray[np.float32]:
        """Check that what an embedder returned fits the collection, too."""
        info = self.info
        try:
            return check_vectors(
                embedded,
                dimension=info.embedding.dimension,
                metric=info.metric,
                what="embedding",
            )
        except InvalidVectorError as error:
            model = info.embedding.model
            raise EmbeddingError(f"{model!r} returned what is no embedding: {error}") from error

    def _embed(self, queries: Queries) -> Queries:
        with contract.named_as_queries(len(queries.images or queries.words)):
            if queries.images is not None:
                embedded = contract.embed_images(self.embedder, queries.images)
            else:
                embedded = contract.embed_queries(self.embedder, queries.words)
        return Queries(queries.texts, self._fitting(embedded))

    async def _aembed(self, queries: Queries) -> Queries:
        embedder = await self._aembedder()
        with contract.named_as_queries(len(queries.images or queries.words)):
            if queries.images is not None:
                embedded = await contract.aembed_images(embedder, queries.images)
            else:
                embedded = await contract.aembed_queries(embedder, queries.words)
        return Queries(queries.texts, self._fitting(embedded))

    async def _aembedder(self) -> Embedder:
        if self._embedder is None:
            await asyncio.to_thread(lambda: self.embedder)  # may import a model's library
        return self.embedder

    def _neighbours(
        self, like: str, query: Query | None, vector: ArrayLike | None, options: SearchOptions
    ) -> list[Hit]:
        if query is not None or vector is not None:
            raise InvalidInputError("like= takes the place of a query; pass one of them")
        like = check_id(like)
        example = self._store.get([like], include=Include(embedding=True))[0]
        if example is None or example.embedding is None:
            raise DocumentNotFoundError(
                f"collection {self.info.name!r} has no document {like!r} to find the neighbours of",
                id=like,
            )
        if options.reranker is not None and not example.text.strip():
            raise InvalidInputError(f"document {like!r} has no text that rerank= could go by")
        queries = Queries((example.text,), example.embedding[np.newaxis])
        return self._run(options, queries, exclude=like)[0]

    def _run(
        self, options: SearchOptions, queries: Queries, *, exclude: str | None = None
    ) -> list[list[Hit]]:
        if options.mode not in self._store.capabilities.modes:
            raise UnsupportedOperationError(
                f"the store of collection {self.info.name!r} has no {options.mode} search; it has: "
                f"{', '.join(sorted(self._store.capabilities.modes))}; nearfield copy takes the "
                "documents to one that has it"
            )
        if options.reranker is not None and queries.texts is None:
            raise InvalidInputError(
                "rerank= reads texts, and the query has none; pass a text, with its embedding as "
                "vector= if you have it"
            )
        found = self._store.search(options.request(queries, spare=exclude is not None))
        texts = queries.texts or (None,) * len(found)
        return [
            select(hits, options, query=text, exclude=exclude)
            for hits, text in zip(found, texts, strict=True)
        ]

    def _query_vectors(self, queries: Sequence[Query] | NDArray[Any]) -> NDArray[np.float32]:
        listed = list_queries(queries)
        if not len(listed):
            raise InvalidInputError("queries is empty; leave it out to take documents instead")
        read = read_queries(listed, None, SearchMode.VECTOR, self.info)
        if read.vectors is None:
            read = self._embed(read)
        return read.vectors  # type: ignore[return-value]  # given, or embedded just now

    def _tunable(self) -> Tunable:
        if not isinstance(self._store, Tunable):
            raise UnsupportedOperationError(
                f"the store of collection {self.info.name!r} chooses its plans itself; use its own "
                "tools to tune or explain them"
            )
        return self._store

    def _checkable(self) -> Checkable:
        if not isinstance(self._store, Checkable):
            raise UnsupportedOperationError(
                f"the store of collection {self.info.name!r} keeps its files elsewhere; use its "
                "own tools to check, repair or back it up"
            )
        return self._store
