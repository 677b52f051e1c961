"""Searches by vector: Pinecone finds candidates, and their true vectors decide."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from nearfield.stores.candidates import Candidates, compare, hits, leave_no_tie
from nearfield.stores.pinecone.connections import PAGE, together
from nearfield.stores.pinecone.fields import DIALECT
from nearfield.stores.pinecone.reader import MOST_CANDIDATES, SPARE, Reader, pages
from nearfield.stores.pinecone.records import decode, document_id, usable, vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nearfield.documents import Hit
    from nearfield.stores.base import CollectionInfo, SearchRequest
    from nearfield.stores.flat.filters import Clause

__all__ = ["Searches"]


class Searches:
    """Answers the searches by vector of one collection.

    Args:
        reader: Its records.
        info: What was fixed at its birth.
    """

    def __init__(self, reader: Reader, info: CollectionInfo) -> None:
        self._reader = reader
        self._info = info

    def search(self, request: SearchRequest) -> list[list[Hit]]:
        """Answer each query with its best hits; see :class:`~nearfield.stores.base.Store`."""
        clause = DIALECT.clause(request.where)
        queries: Any = request.vectors
        self._reader.check_open()
        if clause is False:
            return [[] for _ in queries]
        if request.ids is not None:
            return self._compared(queries, self._reader.fetched(request.ids, clause), request)
        answers = together(lambda query: self._asked(query, clause, request), list(queries))
        unsure = [place for place, answer in enumerate(answers) if answer is None]
        if unsure:
            compared = self._compared(queries[unsure], self._reader.matching(clause), request)
            for place, answer in zip(unsure, compared, strict=True):
                answers[place] = answer
        return [answer or [] for answer in answers]

    def _asked(
        self, query: NDArray[np.float32], clause: Clause, request: SearchRequest
    ) -> list[Hit] | None:
        """Ask the index, for more where candidates that were left out may tie.

        Returns:
            The best hits; None where every document that matches has to be compared.
        """
        asked = {"vector": usable(query.tolist())}
        depth = request.k + SPARE
        while depth <= MOST_CANDIDATES:
            found = self._reader.nearest(asked, clause, depth)
            if len(found) < depth:
                return None  # few match, or the index does not lead to all that do
            candidates = self._candidates(found, request)
            ranked = candidates.ranked(query)
            if leave_no_tie(ranked, request.k):
                return hits(candidates.best(ranked, request), request, self._info.metric)
            depth *= 4
        return None

    def _compared(
        self, queries: NDArray[np.float32], records: Iterable[Any], request: SearchRequest
    ) -> list[list[Hit]]:
        """Compare each query with every record."""
        some = (self._candidates(page, request) for page in pages(records, PAGE))
        return [
            hits(found, request, self._info.metric) for found in compare(queries, some, request)
        ]

    def _candidates(self, records: list[Any], request: SearchRequest) -> Candidates:
        ids = [document_id(record) for record in records]
        return Candidates(
            ids,
            vectors(records, self._info.embedding.dimension),
            lambda place: decode(records[place], request.include, self._info.embedding.dimension),
            self._info.metric,
        )
