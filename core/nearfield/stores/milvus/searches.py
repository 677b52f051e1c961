"""Searches by vector: Milvus finds candidates, and their true vectors decide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nearfield.documents import SearchMode
from nearfield.errors import UnsupportedOperationError
from nearfield.stores.base import Include, SearchRequest
from nearfield.stores.candidates import Candidates, Found, best_of, compare, hits, leave_no_tie
from nearfield.stores.milvus.address import Index
from nearfield.stores.milvus.expressions import all_of, expression
from nearfield.stores.milvus.plans import LISTS
from nearfield.stores.milvus.records import columns, decode, vectors
from nearfield.stores.milvus.rows import MOST_HITS, Row, Rows
from nearfield.stores.recall import K

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.documents import Hit
    from nearfield.stores.milvus.plans import Plan, Ranking
    from nearfield.stores.milvus.schema import Birth

__all__ = ["Searches"]

_SPARE = 5
"""Candidates beyond k: Milvus's distances are of 32 bits."""
_MANY = 100
"""Candidates for one query; where they are half of what matches, all of it is fetched, once."""
_QUERIES = 64
_ROWS = 20_000
"""In an answer."""
_REQUEST = SearchRequest(SearchMode.VECTOR, K, include=Include(text=False, metadata=False))
"""As recall is measured."""


class Searches:
    """Answers the searches of one collection.

    Args:
        rows: Its rows.
        birth: What was fixed at its birth.
        plan: Says how to search.
    """

    def __init__(self, rows: Rows, birth: Birth, plan: Callable[[], Plan]) -> None:
        self._plan = plan
        self._rows = rows
        self._info = birth.info
        self._has_lists = birth.index is Index.LISTS

    def search(self, request: SearchRequest) -> list[list[Hit]]:
        """Answer each query with its best hits; see :class:`~nearfield.stores.base.Store`."""
        if request.mode is not SearchMode.VECTOR or request.vectors is None:
            raise UnsupportedOperationError(
                f"Milvus has no {request.mode.value} search here; use mode='vector'"
            )
        condition = expression(request.where)
        queries = request.vectors
        asked = columns(request.include, scored=True)
        if request.ids is not None:
            found = self._compared(
                queries, self._rows.of_ids(request.ids, condition, asked), request
            )
        elif condition is None:
            self._rows.count(None)  # is it open?
            found = [[] for _ in queries]
        else:
            found = self._nearest(queries, condition, request)
        return [hits(each, request, self._info.metric) for each in found]

    def ranking(self, query: NDArray[np.float32], probes: int) -> Ranking:
        """Return what a search of so many lists finds nearest to a query."""
        (found,) = self._found(query[np.newaxis], "", _REQUEST, probes)
        return [(name, score) for score, name, _ in found]

    def _nearest(
        self, queries: NDArray[np.float32], condition: str, request: SearchRequest
    ) -> list[list[Found]]:
        """Search the lists that the plan says, or every vector that a filter leaves."""
        plan = self._plan()
        if not self._has_lists or not condition:
            return self._found(queries, condition, request, plan.probes)
        # Of what is not in lists yet, a server may find but some by an index of its own.
        fresh = all_of([condition, f"written > {plan.sealed_us}"])
        if not self._rows.count(fresh):
            return self._found(queries, condition, request, LISTS)
        listed = all_of([condition, f"written <= {plan.sealed_us}"])
        return [
            best_of(one + other, request.k)
            for one, other in zip(
                self._found(queries, listed, request, LISTS),
                self._exactly(queries, fresh, request),
                strict=True,
            )
        ]

    def _found(
        self, queries: NDArray[np.float32], condition: str, request: SearchRequest, probes: int
    ) -> list[list[Found]]:
        """Ask Milvus, for more where candidates that were left out may tie."""
        limit = request.k + _SPARE
        if limit > MOST_HITS:
            return self._exactly(queries, condition, request)
        if limit > _MANY and self._rows.count(condition) <= 2 * limit:
            return self._exactly(queries, condition, request)
        answers: list[list[Found]] = []
        size = max(1, min(_QUERIES, _ROWS // limit))
        for start in range(0, len(queries), size):
            part = queries[start : start + size]
            found = self._asked(part, condition, request, limit, probes)
            for query, best in zip(part, found, strict=True):
                single, more = query[np.newaxis], limit
                while best is None and (more := 4 * more) <= MOST_HITS:
                    (best,) = self._asked(single, condition, request, more, probes)  # noqa: PLW2901
                if best is None:
                    (best,) = self._exactly(single, condition, request)  # noqa: PLW2901
                answers.append(best)
        return answers

    def _asked(
        self,
        queries: NDArray[np.float32],
        condition: str,
        request: SearchRequest,
        limit: int,
        probes: int,
    ) -> list[list[Found] | None]:
        """Return the best of each query, None where there are too few to be sure."""
        asked = columns(request.include, scored=True)
        answers = self._rows.nearest(queries, condition, asked, limit=limit, probes=probes)
        matching: int | None = None
        results: list[list[Found] | None] = []
        for query, rows in zip(queries, answers, strict=True):
            candidates = self._candidates(rows, request)
            ranked = candidates.ranked(query)
            if len(rows) < limit:  # few match, or some are in no list that was searched
                matching = self._rows.count(condition) if matching is None else matching
                sure = len(rows) >= matching
            else:  # or others may tie
                sure = leave_no_tie(ranked, request.k)
            results.append(candidates.best(ranked, request) if sure else None)
        return results

    def _exactly(
        self, queries: NDArray[np.float32], condition: str, request: SearchRequest
    ) -> list[list[Found]]:
        asked = columns(request.include, scored=True)
        return self._compared(queries, self._rows.matching(condition, asked), request)

    def _compared(
        self, queries: NDArray[np.float32], pages: Iterable[list[Row]], request: SearchRequest
    ) -> list[list[Found]]:
        """Compare each query with every row."""
        return compare(queries, (self._candidates(page, request) for page in pages), request)

    def _candidates(self, rows: Sequence[Row], request: SearchRequest) -> Candidates:
        return Candidates(
            [row["id"] for row in rows],
            vectors(rows, self._info.embedding.dimension),
            lambda place: decode(rows[place], request.include),
            self._info.metric,
        )
