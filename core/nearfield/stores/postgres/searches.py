"""Searches of a collection: by vector, by words, or both."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from nearfield.documents import Hit, SearchMode
from nearfield.stores.base import Include, SearchRequest
from nearfield.stores.fusion import fused, ranked, widened
from nearfield.stores.postgres.filters import where_clause
from nearfield.stores.postgres.indexing import compared
from nearfield.stores.postgres.plans import Plan, explained, read_state, use
from nearfield.stores.postgres.rows import decode, selected
from nearfield.stores.postgres.table import read_many
from nearfield.stores.recall import recall
from nearfield.words import search_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nearfield.stores.monitor import RecallMonitor
    from nearfield.stores.postgres.connections import Connection
    from nearfield.stores.postgres.indexing import Indexer
    from nearfield.stores.postgres.plans import Ranking, State
    from nearfield.stores.postgres.schema import Birth
    from nearfield.stores.postgres.table import Table

__all__ = ["Searches"]

_Rows: TypeAlias = list[tuple[Any, ...]]
_Vectors: TypeAlias = "Sequence[NDArray[np.float32]] | NDArray[np.float32]"
_Restriction: TypeAlias = tuple[str, dict[str, Any]]
"""A condition in SQL, and its parameters."""

_FEW = 500
"""Up to so many matches are compared one by one though there is an index."""
_LARGEST_K = 2**40
"""More documents than a table holds."""
_LOOK_AGAIN_S = 5.0
_SPARE = 4
"""Candidates per hit."""
_AT_ONCE = 64
"""Queries that are sent together."""
_EVERYTHING: _Restriction = ("true", {})
_EXACT = Plan(None, 1.0)
_IDS = Include(text=False, metadata=False)


class Searches:
    """Answers the searches of one collection.

    Args:
        table: Its table.
        birth: What is recorded of it.
        indexer: Is told when there is something to build or to measure.
        monitor: Repeats some of the searches.
    """

    def __init__(
        self, table: Table, birth: Birth, indexer: Indexer, monitor: RecallMonitor
    ) -> None:
        self.state = read_state(table, birth.info.name)
        self._table = table
        self._birth = birth
        self._metric = birth.info.metric
        self._distance, self._score = compared(birth, "%(query)s")
        self._indexer = indexer
        self._monitor = monitor
        self._look_again_s = time.monotonic() + _LOOK_AGAIN_S

    def search(self, request: SearchRequest) -> list[list[Hit]]:
        """Answer each query with its best hits; see :class:`~nearfield.stores.base.Store`."""
        if request.k > _LARGEST_K:
            request = replace(request, k=_LARGEST_K)
        vectors = request.vectors if request.vectors is not None else ()
        texts = request.texts or ()
        if request.ids is not None and not request.ids:
            return [[] for _ in range(len(vectors) or len(texts))]
        restriction = where_clause(request.where, request.ids)
        if request.mode is SearchMode.VECTOR:
            return self._by_vector(vectors, request, restriction)
        if request.mode is SearchMode.KEYWORD:
            return [self._by_words(text, request, restriction) for text in texts]
        wide = widened(request)
        near = self._by_vector(vectors, wide, restriction)
        worded = [self._by_words(text, wide, restriction) for text in texts]
        return fused(near, worded, request, self._metric)

    def nearest(self, query: NDArray[np.float32], k: int, plan: Plan) -> Ranking:
        """Return what a plan finds nearest to a query among all documents."""
        request = SearchRequest(SearchMode.VECTOR, k, include=_IDS)
        return _ranking(self._found([query], request, _EVERYTHING, plan)[0])

    def uses_index(self, request: SearchRequest, matching: int) -> bool:
        """Whether PostgreSQL says that it would answer the first query from the index.

        Args:
            request: What is asked.
            matching: How many documents the filter takes.
        """
        plan = self.state.plan
        are_few = request.where is not None and matching <= _FEW
        if request.vectors is None or plan.depth is None or are_few:
            return False
        restriction = where_clause(request.where, request.ids)
        statement = self._table.sql(self._statement(request, restriction, plan))
        asked = {**restriction[1], "query": request.vectors[0]}
        (rows,) = self._read(b"EXPLAIN (FORMAT JSON) " + statement, [asked], plan)
        return explained(rows, self._birth)

    def refresh(self) -> State:
        """Look how the collection stands now, and see to what is due."""
        self._look_again_s = time.monotonic() + _LOOK_AGAIN_S
        self.state = read_state(self._table, self._birth.info.name)
        if not self.state.is_measured:
            self._indexer.look()
        return self.state

    def _by_vector(
        self,
        vectors: _Vectors,
        request: SearchRequest,
        restriction: _Restriction,
    ) -> list[list[Hit]]:
        return [
            self._hits(rows, request)
            for start in range(0, len(vectors), _AT_ONCE)
            for rows in self._nearest(vectors[start : start + _AT_ONCE], request, restriction)
        ]

    def _nearest(
        self, vectors: _Vectors, request: SearchRequest, within: _Restriction
    ) -> list[_Rows]:
        # Others may have built an index, or tuned.
        state = self.refresh() if time.monotonic() >= self._look_again_s else self.state
        if state.index is None:
            return self._found(vectors, request, within, state.plan)
        if within[0] != "true":
            few = self._among_few(vectors, request, within)
            if few is not None:
                return few
        found = self._found(vectors, request, within, state.plan)
        if state.plan.depth is None:
            return found
        # A graph may not lead to all that match.
        short = [place for place, rows in enumerate(found) if len(rows) < request.k]
        if short:
            exact = self._found([vectors[place] for place in short], request, within, _EXACT)
            for place, rows in zip(short, exact, strict=True):
                found[place] = rows
        self._monitor.offer(
            state.settings.recheck_share,
            partial(self._repeated, vectors[0].copy(), request, within, found[0]),
        )
        return found

    def _repeated(
        self,
        vector: NDArray[np.float32],
        request: SearchRequest,
        within: _Restriction,
        found: _Rows,
    ) -> float:
        truth = self._found([vector], replace(request, include=_IDS), within, _EXACT)[0]
        return recall(_ranking(found), _ranking(truth))

    def _among_few(
        self, vectors: _Vectors, request: SearchRequest, within: _Restriction
    ) -> list[_Rows] | None:
        """Compare every match, if there are few; None if there are more."""
        statement = self._table.sql(
            "WITH few AS MATERIALIZED "
            f"(SELECT id FROM {{documents}} WHERE {within[0]} LIMIT {_FEW + 1}), "
            "counted AS MATERIALIZED (SELECT count(*) AS matching FROM few) SELECT * FROM ("
            f"SELECT {selected(request.include)}, {self._score} AS score, matching "
            f"FROM counted, few JOIN {{documents}} USING (id) WHERE matching <= {_FEW} "
            "UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, matching "
            f"FROM counted WHERE matching > {_FEW}) AS found "
            f"ORDER BY score DESC, id LIMIT {request.k}"
        )
        found: list[_Rows] = []
        # The first alone: if it finds many, so would the others.
        for part in (vectors[:1], vectors[1:]):
            if not len(part):
                continue
            asked = [{**within[1], "query": vector} for vector in part]
            found += self._read(statement, asked, None)
            if any(rows and rows[0][0] is None for rows in found):
                return None
        return found

    def _found(
        self,
        vectors: _Vectors,
        request: SearchRequest,
        within: _Restriction,
        plan: Plan,
    ) -> list[_Rows]:
        statement = self._table.sql(self._statement(request, within, plan))
        asked = [{**within[1], "query": vector} for vector in vectors]
        return self._read(statement, asked, plan)

    def _statement(self, request: SearchRequest, within: _Restriction, plan: Plan) -> str:
        reach = "OFFSET 0"  # so that each score is computed once, past the index
        if plan.depth is not None:
            # More than k, since the graph alone finds fewer of the true ones among matches. As
            # numbers, since PostgreSQL plans each search anew while it does not know how many.
            reach = f"ORDER BY {self._distance}, id LIMIT {_SPARE * request.k}"
        return (
            f"SELECT * FROM (SELECT {selected(request.include)}, {self._score} AS score "
            f"FROM {{documents}} WHERE {within[0]} {reach}) AS nearest "
            f"ORDER BY score DESC, id LIMIT {request.k}"
        )

    def _read(
        self, statement: bytes, asked: Sequence[dict[str, Any]], plan: Plan | None
    ) -> list[_Rows]:
        depth = None if plan is None else plan.depth

        def read(connection: Connection) -> list[_Rows]:
            if depth is not None and connection.depth != depth:
                use(connection, depth)
                connection.depth = depth
            return read_many(connection, statement, asked)

        return self._table.pool.run(read)

    def _by_words(self, text: str, request: SearchRequest, restriction: _Restriction) -> list[Hit]:
        words = search_words(text)
        if not words:
            return []
        condition, parameters = restriction
        names = {f"w{place}": word for place, word in enumerate(words)}
        query = " || ".join(
            f"plainto_tsquery({{config}}::regconfig, {{plain}}(%({name})s))" for name in names
        )
        rows = self._table.rows(
            f"SELECT {selected(request.include)}, ts_rank(words, query, 1)::float8 AS score "
            f"FROM {{documents}}, (SELECT {query} AS query) AS asked "
            f"WHERE words @@ query AND {condition} ORDER BY score DESC, id LIMIT {request.k}",
            {**parameters, **names},
        )
        return self._hits(rows, request)

    def _hits(self, rows: _Rows, request: SearchRequest) -> list[Hit]:
        return ranked([(decode(row), row[5]) for row in rows], request, self._metric)


def _ranking(rows: _Rows) -> Ranking:
    return [(row[0], row[5]) for row in rows]
