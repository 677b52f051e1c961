"""A collection in Pinecone: native filters, exact scores, and never fewer hits than there are."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from pinecone.errors import ApiError

from nearfield.documents import Document, Hit, SearchMode
from nearfield.errors import InvalidInputError, UnsupportedOperationError
from nearfield.stores.base import Capabilities, Include, SearchRequest
from nearfield.stores.candidates import Candidates, compare, hits, leave_no_tie
from nearfield.stores.clock import WriteClock
from nearfield.stores.flat.filters import Clause, Where, all_of
from nearfield.stores.pinecone.connections import PAGE, together
from nearfield.stores.pinecone.errors import is_too_large
from nearfield.stores.pinecone.fields import DIALECT
from nearfield.stores.pinecone.indexes import Indexes
from nearfield.stores.pinecone.records import (
    ID,
    ORDER,
    batches,
    decode,
    document_id,
    encode,
    record_id,
    usable,
    vectors,
)
from nearfield.stores.refusals import read_only

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nearfield.filters import Filter
    from nearfield.stores.base import CollectionInfo
    from nearfield.stores.pinecone.connections import Handle

__all__ = ["PineconeStore"]

_Item = TypeVar("_Item")

_SPARE = 5
"""Candidates beyond k: Pinecone's distances are of 32 bits, and its search is approximate."""
_MOST_CANDIDATES = 10_000
_PAGE_ID_BYTES = 4_000
"""Ids are fetched by a URL."""
_DELETED_TOGETHER = 1_000
_ANSWER_BYTES = 3_000_000
"""Pinecone answers a query with at most 4 MB."""
_HIT_BYTES = 2_000
_COMPONENT_BYTES = 14
"""What a hit mostly takes beside its vector, and each component of that."""
_ALL: Where = {ORDER: {"$gte": 0}}
"""Every record has an order; an empty filter is not taken."""
_CLOCK = WriteClock()


class PineconeStore:
    """One collection in an index; see :class:`~nearfield.stores.base.Store`."""

    def __init__(self, handle: Handle, info: CollectionInfo) -> None:
        self._handle = handle
        self._info = info
        self._dimension = info.embedding.dimension

    @property
    def info(self) -> CollectionInfo:
        """What was fixed at the collection's birth."""
        return self._info

    @property
    def capabilities(self) -> Capabilities:
        """What Pinecone does natively; some servers like it do not number writes."""
        return Capabilities(
            modes=frozenset({SearchMode.VECTOR}),
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
        records = [
            encode(document, order, place)
            for place, (order, document) in enumerate(
                zip(_CLOCK.take(len(documents)), documents, strict=True)
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
            for record in self._fetched(ids, clause=True)
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
        for page in _pages(names, PAGE):
            found = {document_id(record): record for record in self._fetched(page, clause)}
            for name in page:
                if name in found:
                    yield decode(found[name], include, self._dimension)

    def search(self, request: SearchRequest) -> list[list[Hit]]:
        """Answer each query with its best hits; see ``Store``."""
        if request.mode is not SearchMode.VECTOR or request.vectors is None:
            raise UnsupportedOperationError(
                f"Pinecone has no {request.mode.value} search here; use mode='vector'"
            )
        clause = DIALECT.clause(request.where)
        queries = request.vectors
        self._handle.check_open()
        if clause is False:
            return [[] for _ in queries]
        if request.ids is not None:
            return self._compared(queries, self._fetched(request.ids, clause), request)
        answers = together(lambda query: self._nearest(query, clause, request), list(queries))
        unsure = [place for place, answer in enumerate(answers) if answer is None]
        if unsure:
            compared = self._compared(queries[unsure], self._filtered(clause), request)
            for place, answer in zip(unsure, compared, strict=True):
                answers[place] = answer
        return [answer or [] for answer in answers]

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
        pages = _pages(list(map(record_id, names)), _DELETED_TOGETHER)
        together(lambda page: self._handle.delete(ids=page), list(pages))

    def _matching(self, clause: Clause, ids: Sequence[str] | None = None) -> list[str]:
        """Return the ids of what matches, in the order of writing."""
        records = self._filtered(clause) if ids is None else self._fetched(ids, clause)
        found = sorted((record.metadata[ORDER], document_id(record)) for record in records)
        return [name for _, name in found]

    def _fetched(self, ids: Sequence[str], clause: Clause) -> Iterator[Any]:
        """Fetch the records of those ids that match."""
        different = list(dict.fromkeys(ids))
        self._handle.check_open()
        if clause is True:
            pages = _url_pages(list(map(record_id, different)))
            for records in together(self._handle.fetch, list(pages)):
                yield from records
        else:
            for page in _pages(different, PAGE):
                yield from self._filtered(all_of([{ID: {"$in": page}}, clause]))

    def _filtered(self, clause: Clause) -> Iterator[Any]:
        """Fetch the records that match."""
        self._handle.check_open()
        if clause is False:
            return iter(())
        return self._handle.matching(_ALL if clause is True else clause)

    def _refuse_read_only(self) -> None:
        self._handle.check_open()
        if self._handle.address.read_only:
            raise read_only(self._handle.address.shown)

    # ── searches ─────────────────────────────────────────────────────────────────────────────

    def _nearest(
        self, query: NDArray[np.float32], clause: Clause, request: SearchRequest
    ) -> list[Hit] | None:
        """Ask the index, for more where candidates that were left out may tie.

        Returns:
            The best hits; None where every document that matches has to be compared.
        """
        depth = request.k + _SPARE
        while depth <= _MOST_CANDIDATES:
            found = self._asked(query, clause, depth)
            if len(found) < depth:
                return None  # few match, or the index does not lead to all that do
            candidates = self._candidates(found, request)
            ranked = candidates.ranked(query)
            if leave_no_tie(ranked, request.k):
                return hits(candidates.best(ranked, request), request, self._info.metric)
            depth *= 4
        return None

    def _asked(self, query: NDArray[np.float32], clause: Clause, depth: int) -> list[Any]:
        """Return the records that Pinecone finds nearest."""
        arguments: dict[str, Any] = {"vector": usable(query.tolist()), "top_k": depth}
        if clause is not True:
            arguments["filter"] = clause
        if depth * (_HIT_BYTES + _COMPONENT_BYTES * self._dimension) <= _ANSWER_BYTES:
            try:
                return self._handle.query(
                    **arguments, include_values=True, include_metadata=True
                ).matches
            except InvalidInputError as error:
                # These records are larger than most; what is wrong otherwise fails again below.
                if not isinstance(error.__cause__, ApiError) or not is_too_large(error.__cause__):
                    raise
        names = [match.id for match in self._handle.query(**arguments).matches]
        pages = together(self._handle.fetch, list(_url_pages(names)))
        return [record for page in pages for record in page]

    def _compared(
        self, queries: NDArray[np.float32], records: Iterable[Any], request: SearchRequest
    ) -> list[list[Hit]]:
        """Compare each query with every record."""
        pages = (self._candidates(page, request) for page in _pages(records, PAGE))
        found = compare(queries, pages, request)
        return [hits(each, request, self._info.metric) for each in found]

    def _candidates(self, records: list[Any], request: SearchRequest) -> Candidates:
        ids = [document_id(record) for record in records]
        return Candidates(
            ids,
            vectors(records, self._dimension),
            lambda place: decode(records[place], request.include, self._dimension),
            self._info.metric,
        )


def _pages(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    left = iter(items)
    while page := list(islice(left, size)):
        yield page


def _url_pages(names: list[str]) -> Iterator[list[str]]:
    """Split ids so that the URL that asks for them stays short."""
    page: list[str] = []
    size = 0
    for name in names:
        cost = 3 * len(name) + len("ids=&")  # each character may be escaped
        if page and (len(page) == PAGE or size + cost > _PAGE_ID_BYTES):
            yield page
            page, size = [], 0
        page.append(name)
        size += cost
    if page:
        yield page
