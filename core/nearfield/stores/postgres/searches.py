"""Searches of a collection: by vector, by words, or both."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nearfield.documents import Document, Hit, Metric, SearchMode, make_hit
from nearfield.ranking import fusion_depth, reciprocal_rank_fusion, relevances
from nearfield.stores.postgres.filters import where_clause
from nearfield.stores.postgres.indexing import distance
from nearfield.stores.postgres.plans import Plan, explained, use
from nearfield.stores.postgres.rows import decode, selected
from nearfield.stores.postgres.table import read_many
from nearfield.words import search_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.stores.base import SearchRequest
    from nearfield.stores.postgres.connections import Connection
    from nearfield.stores.postgres.indexing import Indexer
    from nearfield.stores.postgres.schema import Birth
    from nearfield.stores.postgres.table import Table

__all__ = ["Searches"]

_Rows: TypeAlias = list[tuple[Any, ...]]
_Vectors: TypeAlias = "Sequence[NDArray[np.float32]] | NDArray[np.float32]"
_Restriction: TypeAlias = tuple[str, dict[str, Any]]
"""A condition in SQL, and its parameters."""

_FEW = 500
"""Up to so many matches are compared one by one though there is an index."""
_LOOK_AGAIN_S = 5.0
_SPARE = 4
"""Candidates per hit."""
_AT_ONCE = 64
"""Queries that are sent together."""
_EVERYTHING: _Restriction = ("true", {})


class Searches:
    """Answers the searches of one collection.

    Args:
        table: Its table.
        birth: What is recorded of it.
        indexer: Is told when there is no index.
        plan: How to search.
    """

    def __init__(self, table: Table, birth: Birth, indexer: Indexer, plan: Plan) -> None:
        self.plan = plan
        self._table = table
        self._birth = birth
        self._metric = birth.info.metric
        self._indexer = indexer
        self._has_index = False
        self._look_again_s = 0.0

    def search(self, request: SearchRequest) -> list[list[Hit]]:
        """Answer each query with its best hits; see :class:`~nearfield.stores.base.Store`."""
        vectors = request.vectors if request.vectors is not None else ()
        texts = request.texts or ()
        if request.ids is not None and not request.ids:
            return [[] for _ in range(len(vectors) or len(texts))]
        restriction = where_clause(request.where, request.ids)
        if request.mode is SearchMode.VECTOR:
            return self._by_vector(vectors, request, restriction)
        if request.mode is SearchMode.KEYWORD:
            return [self._by_words(text, request, restriction) for text in texts]
        wide = dataclasses.replace(request, k=fusion_depth(request.k), min_score=None)
        return [
            self._fused((near, self._by_words(text, wide, restriction)), request)
            for near, text in zip(self._by_vector(vectors, wide, restriction), texts, strict=True)
        ]

    def with_plan(self, query: NDArray[np.float32], request: SearchRequest, plan: Plan) -> _Rows:
        """Return what one plan finds nearest to a query: rows that begin with the id."""
        return self._found([query], request, _EVERYTHING, plan)[0]

    def uses_index(self, request: SearchRequest) -> bool:
        """Whether PostgreSQL says that it would answer the first query from the index."""
        if request.vectors is None or self.plan.depth is None:
            return False
        restriction = where_clause(request.where, request.ids)
        statement = self._table.sql(self._statement(request, restriction, self.plan))
        asked = self._parameters(request.vectors[0], request, restriction)
        (rows,) = self._read(b"EXPLAIN (FORMAT JSON) " + statement, [asked], self.plan)
        return explained(rows, self._birth)

    def _by_vector(
        self,
        vectors: _Vectors,
        request: SearchRequest,
        restriction: _Restriction,
    ) -> list[list[Hit]]:
        return [
            self._hits(rows, _scores([row[5] for row in rows], self._metric), request)
            for start in range(0, len(vectors), _AT_ONCE)
            for rows in self._nearest(vectors[start : start + _AT_ONCE], request, restriction)
        ]

    def _nearest(
        self, vectors: _Vectors, request: SearchRequest, within: _Restriction
    ) -> list[_Rows]:
        if not self._indexed():
            return self._found(vectors, request, within, self.plan)
        if within is not _EVERYTHING and within[0] != "true":
            few = self._among_few(vectors, request, within)
            if few is not None:
                return few
        found = self._found(vectors, request, within, self.plan)
        # A graph may not lead to all that match.
        short = [place for place, rows in enumerate(found) if len(rows) < request.k]
        if short and self.plan.depth is not None:
            exact = self._found([vectors[place] for place in short], request, within, Plan(None))
            for place, rows in zip(short, exact, strict=True):
                found[place] = rows
        return found

    def _indexed(self) -> bool:
        """Whether there is an index; looked up from time to time."""
        now_s = time.monotonic()
        if now_s >= self._look_again_s:
            self._look_again_s = now_s + _LOOK_AGAIN_S
            self._has_index = bool(
                self._table.rows(
                    "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass({index}) AND indisvalid"
                )
            )
            if not self._has_index:
                self._indexer.look()
        return self._has_index

    def _among_few(
        self, vectors: _Vectors, request: SearchRequest, within: _Restriction
    ) -> list[_Rows] | None:
        """Compare every match, if there are few; None if there are more."""
        _, exact = distance(self._birth, "%(query)s")
        statement = self._table.sql(
            "WITH few AS MATERIALIZED "
            f"(SELECT slot FROM {{documents}} WHERE {within[0]} LIMIT {_FEW + 1}), "
            "counted AS MATERIALIZED (SELECT count(*) AS matching FROM few) "
            f"SELECT {selected(request.include)}, {exact} AS distance, matching "
            f"FROM counted, few JOIN {{documents}} USING (slot) WHERE matching <= {_FEW} "
            "UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, matching "
            f"FROM counted WHERE matching > {_FEW} "
            "ORDER BY distance, id LIMIT %(k)s"
        )
        found: list[_Rows] = []
        # The first alone: if it finds many, so would the others.
        for part in (vectors[:1], vectors[1:]):
            if not len(part):
                continue
            asked = [self._parameters(vector, request, within) for vector in part]
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
        asked = [self._parameters(vector, request, within) for vector in vectors]
        return self._read(statement, asked, plan)

    def _statement(self, request: SearchRequest, within: _Restriction, plan: Plan) -> str:
        indexed, exact = distance(self._birth, "%(query)s")
        columns = selected(request.include)
        if plan.depth is None:  # no index is ordered by a sum
            return (
                f"SELECT {columns}, ({exact}) + 0 AS distance FROM {{documents}} "
                f"WHERE {within[0]} ORDER BY ({exact}) + 0, id LIMIT %(k)s"
            )
        # More than k, since the graph alone finds fewer of the true ones among matches.
        return (
            f"SELECT * FROM (SELECT {columns}, {exact} AS distance FROM {{documents}} "
            f"WHERE {within[0]} ORDER BY {indexed}, id LIMIT %(depth)s"
            ") AS nearest ORDER BY distance + 0, id LIMIT %(k)s"
        )

    def _parameters(
        self, vector: NDArray[np.float32], request: SearchRequest, within: _Restriction
    ) -> dict[str, Any]:
        return {**within[1], "query": vector, "k": request.k, "depth": _SPARE * request.k}

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
            f"WHERE words @@ query AND {condition} ORDER BY score DESC, id LIMIT %(k)s",
            {**parameters, **names, "k": request.k},
        )
        return self._hits(rows, [row[5] for row in rows], request)

    def _fused(self, rankings: Sequence[list[Hit]], request: SearchRequest) -> list[Hit]:
        documents = {hit.id: hit.document for ranking in rankings for hit in ranking}
        scores = reciprocal_rank_fusion(
            [[hit.id for hit in ranking] for ranking in rankings],
            [2 * request.alpha, 2 * (1 - request.alpha)],
        )
        best = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[: request.k]
        return self._made([(documents[name], score) for name, score in best], request)

    def _hits(self, rows: _Rows, scores: Sequence[float], request: SearchRequest) -> list[Hit]:
        return self._made(list(zip(map(decode, rows), scores, strict=True)), request)

    def _made(self, found: list[tuple[Document, float]], request: SearchRequest) -> list[Hit]:
        if request.min_score is not None:
            found = [pair for pair in found if pair[1] >= request.min_score]
        scaled = relevances([score for _, score in found], request.mode, self._metric)
        return [
            make_hit(document, score, rank, relevance)
            for rank, ((document, score), relevance) in enumerate(
                zip(found, scaled, strict=True), start=1
            )
        ]


def _scores(distances: Sequence[float], metric: Metric) -> list[float]:
    if metric is Metric.COSINE:
        # As the embedded engine's: vectors that differ only in length tie.
        return [float(np.float32(min(1.0, max(-1.0, 1.0 - distance)))) for distance in distances]
    if metric is Metric.DOT:
        return [-distance for distance in distances]
    return [1.0 / (1.0 + distance) for distance in distances]
