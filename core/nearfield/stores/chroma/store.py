"""A collection in Chroma: native filters, exact scores, and never fewer hits than there are."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.documents import Document, Hit, SearchMode
from nearfield.errors import UnsupportedOperationError
from nearfield.stores.base import Capabilities, Include, SearchRequest
from nearfield.stores.candidates import Candidates, Found, compare, hits, leave_no_tie
from nearfield.stores.chroma.fields import DIALECT
from nearfield.stores.chroma.records import Records, decode, encode, parts, vectors
from nearfield.stores.refusals import read_only

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.filters import Filter
    from nearfield.stores.base import CollectionInfo
    from nearfield.stores.chroma.connections import Handle
    from nearfield.stores.flat.filters import Clause

__all__ = ["ChromaStore"]

_SCAN_ROWS = 256
_PAGE = 1000
"""Ids in a call: each is a value of one of SQLite's statements."""
_FEW_COMPONENTS = 32_768
"""A collection of so few numbers is compared as a whole; Chroma's graph may lose some rows."""
_LOOK_AGAIN_S = 5.0
_SPARE = 5
"""Candidates beyond k: Chroma's distances are of 32 bits."""
_MOST_CANDIDATES = 4096
_QUERIES = 64
"""Queries in a call."""
_CAPABILITIES = Capabilities(
    modes=frozenset({SearchMode.VECTOR}),
    atomic_writes=False,
    read_your_writes=True,
    backup=False,
)
_IDS: list[Any] = []
_EVERYTHING: Clause = True


class ChromaStore:
    """One collection in a database; see :class:`~nearfield.stores.base.Store`."""

    def __init__(self, handle: Handle, info: CollectionInfo) -> None:
        self._handle = handle
        self._info = info
        self._dimension = info.embedding.dimension
        self._look_again_s = 0.0

    @property
    def info(self) -> CollectionInfo:
        """What was fixed at the collection's birth."""
        return self._info

    @property
    def capabilities(self) -> Capabilities:
        """What Chroma does natively."""
        return _CAPABILITIES

    def upsert(self, documents: Sequence[Document], *, replace: Filter | None = None) -> None:
        """Write documents, a batch at a time; see :class:`~nearfield.stores.base.Store`.

        Each document is written whole or not at all. What ``replace`` takes is deleted after that.
        """
        clause = DIALECT.clause(replace)
        self._refuse_read_only()
        records = [encode(document, self._info.metric) for document in documents]
        with self._handle.writing():
            gone = [] if replace is None else self._matching(clause)
            size = min(_PAGE, self._handle.max_batch)
            for start in range(0, len(records), size):
                self._write(documents[start : start + size], records[start : start + size])
            written = {document.id for document in documents}
            self._remove([name for name in gone if name not in written])

    def delete(self, *, ids: Sequence[str] | None = None, where: Filter | None = None) -> int:
        """Delete by ids, by filter, or by both, and count; see ``Store``."""
        clause = DIALECT.clause(where)
        self._refuse_read_only()
        with self._handle.writing():
            gone = self._matching(clause, ids)
            self._remove(gone)
        return len(gone)

    def get(self, ids: Sequence[str], *, include: Include) -> list[Document | None]:
        """Fetch documents in the order of the ids; see ``Store``."""
        found = {
            document.id: document
            for page in self._fetched(ids, _EVERYTHING, parts(include, self._info.metric))
            for document in self._decoded(page, include)
        }
        return [found.get(name) for name in ids]

    def count(self, *, where: Filter | None = None) -> int:
        """Count the documents, or those that match."""
        clause = DIALECT.clause(where)
        if clause is True:
            return int(self._handle.run(lambda collection: collection.count()))
        return len(self._matching(clause))

    def scan(self, *, where: Filter | None, include: Include) -> Generator[Document, None, None]:
        """Iterate over the documents that were there at the start, in the order of writing.

        One that took another's place stays in that one's. One that is deleted meanwhile, or does
        not match any more, is left out.
        """
        clause = DIALECT.clause(where)
        names = self._matching(clause)
        asked = parts(include, self._info.metric)
        for start in range(0, len(names), _SCAN_ROWS):
            ids = names[start : start + _SCAN_ROWS]
            order = {name: place for place, name in enumerate(ids)}
            for page in self._fetched(ids, clause, asked):
                yield from sorted(self._decoded(page, include), key=lambda each: order[each.id])

    def search(self, request: SearchRequest) -> list[list[Hit]]:
        """Answer each query with its best hits; see ``Store``."""
        if request.mode is not SearchMode.VECTOR or request.vectors is None:
            raise UnsupportedOperationError(
                f"Chroma has no {request.mode.value} search here; use mode='vector'"
            )
        clause = DIALECT.clause(request.where)
        queries = request.vectors
        asked = parts(request.include, self._info.metric, scored=True)
        if request.ids is not None:
            return self._compared(queries, self._fetched(request.ids, clause, asked), request)
        now_s = time.monotonic()
        if clause is False or now_s >= self._look_again_s:
            few = self._few(clause, asked)
            if few is not None:
                return self._compared(queries, [few], request)
            self._look_again_s = now_s + _LOOK_AGAIN_S
        answers = []
        for start in range(0, len(queries), _QUERIES):
            answers += self._nearest(queries[start : start + _QUERIES], clause, request)
        return answers

    def stats(self) -> dict[str, Any]:
        """Return the collection's size and state."""
        return {
            "name": self._info.name,
            "server": self._handle.address.shown,
            "metric": self._info.metric.value,
            "embedding": self._info.embedding.to_dict(),
            "documents": self.count(),
        }

    def close(self) -> None:
        """Let go of the collection. Idempotent."""
        self._handle.close()

    # ── records ──────────────────────────────────────────────────────────────────────────────

    def _write(self, documents: Sequence[Document], records: list[dict[str, Any]]) -> None:
        """Write documents, each in the place of the one that has its id.

        Chroma merges the fields of a record into those that are there: what is to go is named. To
        delete first would leave nothing where the program ends in between.
        """
        ids = [document.id for document in documents]
        for page in self._fetched(ids, _EVERYTHING, ["metadatas"]):
            old = dict(zip(page.ids, page.metadatas or (), strict=True))
            records = [
                {**dict.fromkeys(old[name] or ()), **record} if name in old else record
                for name, record in zip(ids, records, strict=True)
            ]
        self._handle.run(
            lambda collection: collection.upsert(
                ids=ids,
                embeddings=[document.embedding for document in documents],
                documents=[document.text for document in documents],
                metadatas=records,
            )
        )

    def _remove(self, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), _PAGE):
            page = list(ids[start : start + _PAGE])
            self._handle.run(partial(_delete, page))

    def _matching(self, clause: Clause, ids: Sequence[str] | None = None) -> list[str]:
        """Return the ids of what matches, in the order of writing."""
        if ids is not None:
            return [name for page in self._fetched(ids, clause, _IDS) for name in page.ids]
        found = self._read(None, clause, _IDS)
        return list(found.ids)

    def _fetched(self, ids: Sequence[str], clause: Clause, asked: list[Any]) -> Iterator[Records]:
        """Fetch those of the ids that match, page by page."""
        different = iter(dict.fromkeys(ids))
        if not ids:
            self._handle.check_open()
        while page := list(islice(different, _PAGE)):
            yield self._read(page, clause, asked)

    def _read(
        self,
        ids: list[str] | None,
        clause: Clause,
        asked: list[Any],
        limit: int | None = None,
    ) -> Records:
        if clause is False:
            self._handle.check_open()
            return Records((), None, None, None)
        where = None if clause is True else clause
        return self._handle.run(
            lambda collection: Records.of(
                collection.get(ids=ids, where=where, include=asked, limit=limit)
            )
        )

    def _decoded(self, records: Records, include: Include) -> list[Document]:
        return [
            decode(records, place, include, self._dimension) for place in range(len(records.ids))
        ]

    def _refuse_read_only(self) -> None:
        self._handle.check_open()
        if self._handle.address.read_only:
            raise read_only(self._handle.address.shown)

    # ── searches ─────────────────────────────────────────────────────────────────────────────

    def _few(self, clause: Clause, asked: list[Any]) -> Records | None:
        """Return all that matches, if that is quickly compared."""
        most = max(1, _FEW_COMPONENTS // self._dimension)
        records = self._read(None, clause, asked, limit=most + 1)
        return records if len(records.ids) <= most else None

    def _compared(
        self, queries: NDArray[np.float32], pages: Iterable[Records], request: SearchRequest
    ) -> list[list[Hit]]:
        """Compare each query with every record."""
        candidates = (self._candidates(page, request) for page in pages)
        found = compare(queries, candidates, request)
        return [hits(each, request, self._info.metric) for each in found]

    def _candidates(self, records: Records, request: SearchRequest) -> Candidates:
        return Candidates(
            records.ids,
            vectors(records, self._dimension),
            lambda place: decode(records, place, request.include, self._dimension),
            self._info.metric,
        )

    def _everything(self, clause: Clause, request: SearchRequest) -> Iterator[Records]:
        asked = parts(request.include, self._info.metric, scored=True)
        return self._fetched(self._matching(clause), clause, asked)

    def _nearest(
        self, queries: NDArray[np.float32], clause: Clause, request: SearchRequest
    ) -> list[list[Hit]]:
        """Ask Chroma's index, for more where candidates that were left out may tie."""
        depth = request.k + _SPARE
        if depth > _MOST_CANDIDATES:
            return self._compared(queries, self._everything(clause, request), request)
        found = self._asked(queries, clause, request, depth)
        few = None
        if any(best is None for best in found):
            few = self._few(clause, parts(request.include, self._info.metric, scored=True))
        answers = []
        for query, best in zip(queries, found, strict=True):
            single, deeper = query[np.newaxis], depth
            while best is None and few is None and (deeper := 4 * deeper) <= _MOST_CANDIDATES:
                (best,) = self._asked(single, clause, request, deeper)  # noqa: PLW2901
            if best is None:
                pages = self._everything(clause, request) if few is None else [few]
                answers += self._compared(single, pages, request)
            else:
                answers.append(hits(best, request, self._info.metric))
        return answers

    def _asked(
        self, queries: NDArray[np.float32], clause: Clause, request: SearchRequest, depth: int
    ) -> list[list[Found] | None]:
        """Return the best of each query, None where there are too few to be sure."""
        asked = parts(request.include, self._info.metric, scored=True)
        answer: Any = self._handle.run(
            lambda collection: collection.query(
                query_embeddings=list(queries),
                n_results=depth,
                where=None if clause is True else clause,
                include=asked,
            )
        )
        results: list[list[Found] | None] = []
        for place, query in enumerate(queries):
            candidates = self._candidates(Records.of(answer, place), request)
            ranked = candidates.ranked(query)
            # Few match, or the graph does not lead to all that do, or others may tie.
            is_sure = len(ranked) == depth and leave_no_tie(ranked, request.k)
            results.append(candidates.best(ranked, request) if is_sure else None)
        return results


def _delete(ids: list[str], collection: Any) -> None:
    collection.delete(ids=ids)
