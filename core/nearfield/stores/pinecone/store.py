"""A collection in Pinecone: native filters, exact scores, and never fewer hits than there are."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any

from nearfield.documents import Document, Hit, Metric, SearchMode
from nearfield.errors import UnsupportedOperationError
from nearfield.stores.base import Capabilities, Include, SearchRequest
from nearfield.stores.clock import WriteClock
from nearfield.stores.pinecone.connections import PAGE, together
from nearfield.stores.pinecone.fields import DIALECT
from nearfield.stores.pinecone.indexes import Indexes
from nearfield.stores.pinecone.keywords import Keywords
from nearfield.stores.pinecone.reader import Reader, pages
from nearfield.stores.pinecone.records import (
    ORDER,
    batches,
    decode,
    document_id,
    encode,
    record_id,
)
from nearfield.stores.pinecone.searches import Searches
from nearfield.stores.refusals import read_only
from nearfield.stores.sparse_words import Words, text_words

if TYPE_CHECKING:
    from nearfield.filters import Filter
    from nearfield.stores.base import CollectionInfo
    from nearfield.stores.flat.filters import Clause
    from nearfield.stores.pinecone.connections import Handle

__all__ = ["PineconeStore"]

_DELETED_TOGETHER = 1_000
_CLOCK = WriteClock()


class PineconeStore:
    """One collection in an index; see :class:`~nearfield.stores.base.Store`."""

    def __init__(self, handle: Handle, info: CollectionInfo) -> None:
        self._handle = handle
        self._info = info
        self._dimension = info.embedding.dimension
        self._reader = Reader(handle)
        has_words = handle.index.has_words and info.metric is Metric.DOT
        self._searches = Searches(self._reader, info)
        self._keywords = Keywords(self._reader, info, self._searches) if has_words else None

    @property
    def info(self) -> CollectionInfo:
        """What was fixed at the collection's birth."""
        return self._info

    @property
    def capabilities(self) -> Capabilities:
        """What Pinecone does natively; some servers like it do not number writes."""
        return Capabilities(
            modes=frozenset(SearchMode if self._keywords else {SearchMode.VECTOR}),
            atomic_writes=False,
            read_your_writes=self._handle.freshness.signals,
            backup=False,
        )

    def upsert(self, documents: Sequence[Document], *, replace: Filter | None = None) -> None:
        """Write documents, a batch at a time; see :class:`~nearfield.stores.base.Store`.

        Each document is written whole or not at all. What ``replace`` takes is deleted after that.
        """
        clause = DIALECT.clause(replace)
        self._refuse_read_only()
        orders = _CLOCK.take(len(documents))
        words: Iterable[Words | None] = repeat(None, len(documents))
        if self._keywords:
            words = text_words([document.text for document in documents])
        records = [
            encode(document, order, place, each)
            for place, (document, order, each) in enumerate(
                zip(documents, orders, words, strict=True)
            )
        ]
        gone = [] if replace is None else self._matching(clause)
        together(self._handle.upsert, list(batches(records)))
        written = {document.id for document in documents}
        self._remove([name for name in gone if name not in written])

    def delete(self, *, ids: Sequence[str] | None = None, where: Filter | None = None) -> int:
        """Delete by ids, by filter, or by both, and count; see ``Store``."""
        clause = DIALECT.clause(where)
        self._refuse_read_only()
        gone = self._matching(clause, ids)
        self._remove(gone)
        return len(gone)

    def get(self, ids: Sequence[str], *, include: Include) -> list[Document | None]:
        """Fetch documents in the order of the ids; see ``Store``."""
        found = {
            document_id(record): decode(record, include, self._dimension)
            for record in self._reader.fetched(ids, clause=True)
        }
        return [found.get(name) for name in ids]

    def count(self, *, where: Filter | None = None) -> int:
        """Count the documents, or those that match."""
        clause = DIALECT.clause(where)
        if clause is not True:
            return len(self._matching(clause))
        return self._handle.count()

    def scan(self, *, where: Filter | None, include: Include) -> Generator[Document, None, None]:
        """Iterate over the documents that were there at the start, in the order of writing.

        One that is deleted meanwhile, or does not match any more, is left out.
        """
        clause = DIALECT.clause(where)
        names = self._matching(clause)
        for page in pages(names, PAGE):
            found = {document_id(record): record for record in self._reader.fetched(page, clause)}
            for name in page:
                if name in found:
                    yield decode(found[name], include, self._dimension)

    def search(self, request: SearchRequest) -> list[list[Hit]]:
        """Answer each query with its best hits; see ``Store``."""
        if request.mode is SearchMode.VECTOR:
            return self._searches.search(request)
        if self._keywords is None:
            raise UnsupportedOperationError(
                f"Pinecone has no {request.mode.value} search here: words need an index that "
                "compares by dot product, and has sparse vectors; use mode='vector'"
            )
        return self._keywords.search(request)

    def stats(self) -> dict[str, Any]:
        """Return the collection's size and state."""
        return {
            "name": self._info.name,
            "server": self._handle.address.shown,
            "namespace": self._handle.namespace,
            "metric": self._info.metric.value,
            "embedding": self._info.embedding.to_dict(),
            "documents": self.count(),
            "index": Indexes(self._handle.address).describe(self._handle.index.name),
        }

    def close(self) -> None:
        """Let go of the collection. Idempotent."""
        self._handle.close()

    # ── records ──────────────────────────────────────────────────────────────────────────────

    def _remove(self, names: Sequence[str]) -> None:
        some = pages(list(map(record_id, names)), _DELETED_TOGETHER)
        together(lambda page: self._handle.delete(ids=page), list(some))

    def _matching(self, clause: Clause, ids: Sequence[str] | None = None) -> list[str]:
        """Return the ids of what matches, in the order of writing."""
        reader = self._reader
        records = reader.matching(clause) if ids is None else reader.fetched(ids, clause)
        found = sorted((record.metadata[ORDER], document_id(record)) for record in records)
        return [name for _, name in found]

    def _refuse_read_only(self) -> None:
        self._handle.check_open()
        if self._handle.address.read_only:
            raise read_only(self._handle.address.shown)
