"""A collection in PostgreSQL: one table, one statement a search."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from psycopg import sql

from nearfield.documents import Document, Hit, Metric, SearchMode, make_hit
from nearfield.errors import UnsupportedOperationError
from nearfield.ranking import fusion_depth, reciprocal_rank_fusion, relevances
from nearfield.stores.base import Capabilities, Explanation, Include, PlanStep, SearchRequest
from nearfield.stores.postgres.connections import Pool
from nearfield.stores.postgres.fields import escaped, unescaped
from nearfield.stores.postgres.filters import where_clause
from nearfield.stores.postgres.indexing import Indexer, distance
from nearfield.stores.postgres.plans import (
    Plan,
    choose,
    explained,
    read_plan,
    record,
    sample_statement,
    use,
)
from nearfield.stores.postgres.rows import COLUMNS, TYPES, decode, encode, selected
from nearfield.stores.postgres.schema import template
from nearfield.stores.recall import K
from nearfield.words import search_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.filters import Filter
    from nearfield.stores.base import CollectionInfo, TuningReport
    from nearfield.stores.postgres.connections import Connection, Server
    from nearfield.stores.postgres.schema import Birth

__all__ = ["PostgresStore"]

_SCAN_ROWS = 256
_IDS = Include(text=False, metadata=False)
_FEW = 500
"""Up to so many matches are compared one by one though there is an index."""
_LOOK_AGAIN_S = 5.0
_STATEMENTS = 256
"""Texts of statements that are kept ready."""
_SPARE = 4
"""Candidates per hit."""
_EXPECTED_RECALL = 0.99
"""What the plan of a collection that was never tuned is expected to give."""
_CAPABILITIES = Capabilities(
    modes=frozenset(SearchMode), atomic_writes=True, read_your_writes=True, backup=False
)


class PostgresStore:
    """One collection in a database; see :class:`~nearfield.stores.base.Store`."""

    def __init__(self, server: Server, birth: Birth) -> None:
        self._info = birth.info
        self._birth = birth
        self._names = birth.names
        self._pool = Pool(server, lock=birth.names.lock)
        self._indexer = Indexer(server, birth)
        self._statements: dict[str, bytes] = {}
        self._has_index = False
        self._look_again_s = 0.0
        self._plan = self._pool.run(lambda connection: read_plan(connection, birth))

    @property
    def info(self) -> CollectionInfo:
        """What was fixed at the collection's birth."""
        return self._info

    @property
    def capabilities(self) -> Capabilities:
        """What PostgreSQL does natively."""
        return _CAPABILITIES

    def upsert(self, documents: Sequence[Document], *, replace: Filter | None = None) -> None:
        """Write documents in one transaction; see :class:`~nearfield.stores.base.Store`."""
        rows = [encode(document) for document in documents]
        condition, parameters = where_clause(replace)
        # In one order for all writers, so that two of them do not wait for each other.
        taken = sorted(row[0] for row in rows)

        def write(connection: Connection) -> None:
            with connection.transaction(), connection.cursor() as cursor:
                if replace is not None:
                    cursor.execute(
                        self._sql(f"DELETE FROM {{documents}} WHERE {condition}"), parameters
                    )
                if not rows:
                    return
                cursor.execute(
                    self._sql(
                        "DELETE FROM {documents} WHERE id IN (SELECT id FROM {documents} "
                        "WHERE id = ANY(%s) ORDER BY id FOR UPDATE)"
                    ),
                    (taken,),
                )
                target = self._sql(f"COPY {{documents}} ({COLUMNS}) FROM STDIN (FORMAT BINARY)")
                with cursor.copy(target) as copy:
                    copy.set_types(TYPES)
                    for row in rows:
                        copy.write_row(row)

        self._pool.run(write)
        self._indexer.wrote()

    def delete(self, *, ids: Sequence[str] | None = None, where: Filter | None = None) -> int:
        """Delete by ids, by filter, or by both, and count; see ``Store``."""
        condition, parameters = where_clause(where, ids)
        statement = self._sql(f"DELETE FROM {{documents}} WHERE {condition}")
        # Not again after the server went away: what it had deleted by then would not be counted.
        return self._pool.run(
            lambda connection: connection.execute(statement, parameters).rowcount, repeat=False
        )

    def get(self, ids: Sequence[str], *, include: Include) -> list[Document | None]:
        """Fetch documents in the order of the ids; see ``Store``."""
        statement = self._sql(f"SELECT {selected(include)} FROM {{documents}} WHERE id = ANY(%s)")
        rows = self._rows(statement, ([escaped(name) for name in ids],))
        found = {document.id: document for document in map(decode, rows)}
        return [found.get(name) for name in ids]

    def count(self, *, where: Filter | None = None) -> int:
        """Count the documents, or those that match."""
        condition, parameters = where_clause(where)
        rows = self._rows(
            self._sql(f"SELECT count(*) FROM {{documents}} WHERE {condition}"), parameters
        )
        return int(rows[0][0])

    def scan(self, *, where: Filter | None, include: Include) -> Iterator[Document]:
        """Iterate over the documents as of one moment, in the order of writing."""
        condition, parameters = where_clause(where)
        statement = self._sql(
            f"SELECT {selected(include)} FROM {{documents}} WHERE {condition} ORDER BY slot"
        )
        self._pool.run(
            lambda connection: connection.execute("SELECT")
        )  # a live connection is there
        with (
            self._pool.server.errors(),
            self._pool.lend() as connection,
            connection.transaction(),
            connection.cursor("scan", binary=True) as cursor,
        ):
            cursor.itersize = _SCAN_ROWS
            cursor.execute(statement, parameters)
            for row in cursor:
                yield decode(row)

    def search(self, request: SearchRequest) -> list[list[Hit]]:
        """Answer each query with its best hits; see ``Store``."""
        if request.ids is not None and not request.ids:
            return [[] for _ in range(self._queries(request))]
        condition, parameters = where_clause(request.where, request.ids)
        restriction = (condition, parameters)
        vectors = request.vectors if request.vectors is not None else ()
        texts = request.texts or ()
        if request.mode is SearchMode.VECTOR:
            return [self._by_vector(vector, request, restriction) for vector in vectors]
        if request.mode is SearchMode.KEYWORD:
            return [self._by_words(text, request, restriction) for text in texts]
        return [
            self._fused(vector, text, request, restriction)
            for vector, text in zip(vectors, texts, strict=True)
        ]

    def stats(self) -> dict[str, Any]:
        """Return the collection's size and state."""
        (row,) = self._rows(
            self._sql("SELECT count(*), pg_total_relation_size({name}::regclass) FROM {documents}")
        )
        return {
            "name": self._info.name,
            "server": self._pool.server.shown,
            "table": self._names.documents.as_string(None),
            "metric": self._info.metric.value,
            "embedding": self._info.embedding.to_dict(),
            "documents": row[0],
            "size_bytes": row[1],
        }

    def close(self) -> None:
        """Close every connection. Idempotent."""
        self._indexer.close()
        self._pool.close()

    # ── plans ────────────────────────────────────────────────────────────────────────────────

    def maintain(self) -> int:
        """Build the index now if it is due; return how many were built."""
        self._pool.check_open()
        return int(self._indexer.build())

    def tune(
        self,
        *,
        target_recall: float,
        latency_ms: float | None,
        memory_bytes: int | None,
        recheck_share: float,
        queries: NDArray[np.float32] | None,
    ) -> TuningReport:
        """Choose the depth of searches, and record it; see ``Tunable``."""
        if memory_bytes is not None:
            raise UnsupportedOperationError(
                "memory_bytes cannot be set for a collection in PostgreSQL, whose indexes share "
                "the server's own buffers; leave it out"
            )
        del recheck_share  # there is no background that could repeat searches
        self.maintain()
        drawn = (
            [] if queries is not None else self._rows(sample_statement(self._birth).as_bytes(None))
        )
        ids = [unescaped(row[0]) for row in drawn]
        vectors = np.array([row[1] for row in drawn], np.float32)
        everything: tuple[str, dict[str, Any]] = ("true", {})

        def search(query: NDArray[np.float32], depth: int | None) -> list[str]:
            request = SearchRequest(SearchMode.VECTOR, K + 1, include=_IDS)
            return [hit.id for hit in self._by_vector(query, request, everything, Plan(depth))]

        plan, report = choose(
            search, (ids, vectors), queries, target_recall=target_recall, latency_ms=latency_ms
        )
        self._pool.run(lambda connection: record(connection, self._birth, plan))
        self._plan = plan
        return report

    def explain(self, request: SearchRequest) -> Explanation:
        """Answer one query, and tell how; see ``Tunable``."""
        hits = self.search(request)[0]
        documents, matching = self.count(), self.count(where=request.where)
        plan, recall = "every match", 1.0
        if request.mode is not SearchMode.KEYWORD and request.vectors is not None:
            statement, parameters = self._vector_statement(
                request.vectors[0], request, where_clause(request.where, request.ids)
            )
            steps = self._searched(b"EXPLAIN (FORMAT JSON) " + statement, parameters, self._plan)
            if explained(steps, self._birth):
                plan, recall = str(self._plan), self._plan.recall or _EXPECTED_RECALL
        step = PlanStep(plan, documents, matching, matching, len(hits), recall)
        return Explanation(request.mode, (step,), documents, matching, len(hits))

    # ── searches ─────────────────────────────────────────────────────────────────────────────

    def _by_vector(
        self,
        vector: NDArray[np.float32],
        request: SearchRequest,
        restriction: tuple[str, dict[str, Any]],
        plan: Plan | None = None,
    ) -> list[Hit]:
        statement, parameters = self._vector_statement(vector, request, restriction)
        indexed = self._indexed()
        if indexed and plan is None and restriction[0] != "true":
            rows = self._among_few(vector, request, restriction)
            if rows is not None:
                return self._hits(
                    rows, _scores([row[5] for row in rows], self._info.metric), request
                )
        rows = self._searched(statement, parameters, plan or self._plan)
        if indexed and len(rows) < request.k:  # a graph may not lead to all that match
            rows = self._searched(statement, parameters, Plan(None))
        return self._nearest(rows, request)

    def _nearest(self, rows: Sequence[tuple[Any, ...]], request: SearchRequest) -> list[Hit]:
        return self._hits(rows, _scores([row[5] for row in rows], self._info.metric), request)

    def _indexed(self) -> bool:
        """Whether there is an index; looked up from time to time until there is."""
        now_s = time.monotonic()
        if not self._has_index and now_s >= self._look_again_s:
            self._look_again_s = now_s + _LOOK_AGAIN_S
            name = sql.Identifier(self._names.schema, self._names.index_name).as_string(None)
            found = self._rows(b"SELECT 1 WHERE to_regclass(%s) IS NOT NULL", (name,))
            self._has_index = bool(found)
            if not found:
                self._indexer.look()
        return self._has_index

    def _among_few(
        self,
        vector: NDArray[np.float32],
        request: SearchRequest,
        restriction: tuple[str, dict[str, Any]],
    ) -> list[tuple[Any, ...]] | None:
        """Compare every match, if there are few; None if there are more."""
        condition, parameters = restriction
        _, exact = distance(self._birth, "%(query)s")
        rows = self._rows(
            self._sql(
                f"WITH few AS MATERIALIZED (SELECT slot FROM {{documents}} WHERE {condition} "
                f"LIMIT {_FEW + 1}) "
                f"SELECT {selected(request.include)}, {exact} AS distance, "
                "(SELECT count(*) FROM few) AS matching "
                "FROM {documents} JOIN few USING (slot) ORDER BY distance, id LIMIT %(k)s"
            ),
            {**parameters, "query": vector, "k": request.k},
        )
        return None if rows and rows[0][6] > _FEW else rows

    def _vector_statement(
        self,
        vector: NDArray[np.float32],
        request: SearchRequest,
        restriction: tuple[str, dict[str, Any]],
    ) -> tuple[bytes, dict[str, Any]]:
        condition, parameters = restriction
        indexed, exact = distance(self._birth, "%(query)s")
        # More than k, since the graph alone finds fewer of the true ones among matches.
        statement = self._sql(
            "SELECT * FROM ("
            f"SELECT {selected(request.include)}, {exact} AS distance "
            f"FROM {{documents}} WHERE {condition} ORDER BY {indexed}, id LIMIT %(depth)s"
            ") AS nearest ORDER BY distance + 0, id LIMIT %(k)s"
        )
        depth = _SPARE * request.k
        return statement, {**parameters, "query": vector, "k": request.k, "depth": depth}

    def _searched(self, statement: bytes, parameters: Any, plan: Plan) -> list[tuple[Any, ...]]:
        depth = None if plan.depth is None else max(plan.depth, 1)

        def read(connection: Connection) -> list[tuple[Any, ...]]:
            if connection.plan != (depth,):
                use(connection, depth)
                connection.plan = (depth,)
            with connection.cursor(binary=True) as cursor:
                return cursor.execute(statement, parameters).fetchall()

        return self._pool.run(read)

    def _by_words(
        self, text: str, request: SearchRequest, restriction: tuple[str, dict[str, Any]]
    ) -> list[Hit]:
        words = search_words(text)
        if not words:
            return []
        condition, parameters = restriction
        names = {f"w{place}": word for place, word in enumerate(words)}
        query = " || ".join(
            f"plainto_tsquery({{config}}::regconfig, {{plain}}(%({name})s))" for name in names
        )
        statement = self._sql(
            f"SELECT {selected(request.include)}, ts_rank(words, query, 1)::float8 AS score "
            f"FROM {{documents}}, (SELECT {query} AS query) AS asked "
            f"WHERE words @@ query AND {condition} ORDER BY score DESC, id LIMIT %(k)s"
        )
        rows = self._rows(statement, {**parameters, **names, "k": request.k})
        return self._hits(rows, [row[5] for row in rows], request)

    def _fused(
        self,
        vector: NDArray[np.float32],
        text: str,
        request: SearchRequest,
        restriction: tuple[str, dict[str, Any]],
    ) -> list[Hit]:
        depth = dataclasses.replace(request, k=fusion_depth(request.k), min_score=None)
        rankings = (
            self._by_vector(vector, depth, restriction),
            self._by_words(text, depth, restriction),
        )
        documents = {hit.id: hit.document for ranking in rankings for hit in ranking}
        scores = reciprocal_rank_fusion(
            [[hit.id for hit in ranking] for ranking in rankings],
            [2 * request.alpha, 2 * (1 - request.alpha)],
        )
        best = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[: request.k]
        return self._made([(documents[name], score) for name, score in best], request)

    def _hits(
        self, rows: Sequence[tuple[Any, ...]], scores: Sequence[float], request: SearchRequest
    ) -> list[Hit]:
        return self._made(list(zip(map(decode, rows), scores, strict=True)), request)

    def _made(self, found: list[tuple[Document, float]], request: SearchRequest) -> list[Hit]:
        if request.min_score is not None:
            found = [pair for pair in found if pair[1] >= request.min_score]
        scaled = relevances([score for _, score in found], request.mode, self._info.metric)
        return [
            make_hit(document, score, rank, relevance)
            for rank, ((document, score), relevance) in enumerate(
                zip(found, scaled, strict=True), start=1
            )
        ]

    def _queries(self, request: SearchRequest) -> int:
        return len(request.vectors if request.vectors is not None else request.texts or ())

    # ── statements ───────────────────────────────────────────────────────────────────────────

    def _rows(self, statement: bytes, parameters: Any = ()) -> list[tuple[Any, ...]]:
        def read(connection: Connection) -> list[tuple[Any, ...]]:
            with connection.cursor(binary=True) as cursor:
                return cursor.execute(statement, parameters).fetchall()

        return self._pool.run(read)

    def _sql(self, statement: str) -> bytes:
        """Put the collection's names into a statement; values are always parameters."""
        made = self._statements.get(statement)
        if made is None:
            if len(self._statements) >= _STATEMENTS:
                self._statements.clear()
            made = self._statements[statement] = self._composed(statement).as_bytes(None)
        return made

    def _composed(self, statement: str) -> sql.Composed:
        schema = self._names.schema
        return template(statement).format(
            documents=self._names.documents,
            name=sql.Literal(self._names.documents.as_string(None)),
            plain=sql.Identifier(schema, "plain"),
            config=sql.Literal(sql.Identifier(schema, "words").as_string(None)),
        )


def _scores(distances: Sequence[float], metric: Metric) -> list[float]:
    if metric is Metric.COSINE:
        # As the embedded engine's: vectors that differ only in length tie.
        return [float(np.float32(min(1.0, max(-1.0, 1.0 - distance)))) for distance in distances]
    if metric is Metric.DOT:
        return [-distance for distance in distances]
    return [1.0 / (1.0 + distance) for distance in distances]
