"""Searches by words, and by words and vectors together."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from nearfield.documents import SearchMode
from nearfield.stores.candidates import Found, best_of, hits
from nearfield.stores.fusion import fused, widened
from nearfield.stores.pinecone.connections import PAGE, together
from nearfield.stores.pinecone.fields import DIALECT
from nearfield.stores.pinecone.reader import MOST_CANDIDATES, SPARE, Reader, pages
from nearfield.stores.pinecone.records import decode, document_id, usable, weights, words_vector
from nearfield.stores.sparse_words import Words, asked_words

if TYPE_CHECKING:
    from nearfield.documents import Hit
    from nearfield.stores.base import CollectionInfo, SearchRequest
    from nearfield.stores.flat.filters import Clause
    from nearfield.stores.pinecone.searches import Searches

__all__ = ["Keywords"]


class Keywords:
    """Answers the keyword and hybrid searches of one collection whose index has sparse vectors.

    Args:
        reader: Its records.
        info: What was fixed at its birth.
        searches: Answers those by vector.
    """

    def __init__(self, reader: Reader, info: CollectionInfo, searches: Searches) -> None:
        self._reader = reader
        self._info = info
        self._searches = searches

    def search(self, request: SearchRequest) -> list[list[Hit]]:
        """Answer each query with its best hits; see :class:`~nearfield.stores.base.Store`."""
        if request.mode is SearchMode.KEYWORD:
            return self._worded(request)
        wide = widened(request)
        near = self._searches.search(dataclasses.replace(wide, mode=SearchMode.VECTOR))
        return fused(near, self._worded(wide), request, self._info.metric)

    def _worded(self, request: SearchRequest) -> list[list[Hit]]:
        clause = DIALECT.clause(request.where)
        self._reader.check_open()

        def answer(text: str) -> list[Hit]:
            found = self._best(asked_words(text), clause, request)
            return hits(found, request, self._info.metric)

        return together(answer, list(request.texts or ()))

    def _best(self, asked: Words, clause: Clause, request: SearchRequest) -> list[Found]:
        """Ask the index, for more where others may tie with the k-th, and compare all at last."""
        if clause is False or not asked:
            return []
        if request.ids is not None:
            return self._compared(asked, self._reader.fetched(request.ids, clause), request)
        # Pinecone takes no query without a vector, and adds up both products: of this one and any
        # other nothing is left beside a word's weight.
        nowhere = usable([0.0] * self._info.embedding.dimension)
        query = {"vector": nowhere, "sparse_vector": words_vector(asked)}
        depth = request.k + SPARE
        while depth <= MOST_CANDIDATES:
            records = self._reader.nearest(query, clause, depth)
            if len(records) < depth:  # few match, or the index does not lead to all that do
                break
            scores = sorted((_score(asked, record) for record in records), reverse=True)
            kth = scores[request.k - 1]
            if scores[-1] < kth or not kth:
                return self._chosen(asked, records, request)
            depth *= 4
        return self._compared(asked, self._reader.matching(clause), request)

    def _compared(
        self, asked: Words, records: Iterable[Any], request: SearchRequest
    ) -> list[Found]:
        """Choose among all of some records."""
        best: list[Found] = []
        for page in pages(records, PAGE):
            best = best_of(best + self._chosen(asked, page, request), request.k)
        return best

    def _chosen(self, asked: Words, records: Iterable[Any], request: SearchRequest) -> list[Found]:
        """Make documents of the k best that have a word and score enough, ties by id."""
        least = request.min_score
        scored = [(-_score(asked, each), document_id(each), each) for each in records]
        ranked = sorted(
            [each for each in scored if each[0] and (least is None or -each[0] >= least)],
            key=lambda each: each[:2],
        )
        dimension = self._info.embedding.dimension
        return [
            (-negated, name, decode(record, request.include, dimension))
            for negated, name, record in ranked[: request.k]
        ]


def _score(asked: Words, record: Any) -> float:
    words = weights(record)
    return sum(words.get(word, 0.0) for word in asked)
