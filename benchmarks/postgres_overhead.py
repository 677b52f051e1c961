"""What PostgreSQL does behind a collection, and what the collection costs over psycopg alone.

Run as ``python -m benchmarks.postgres_overhead --json postgres.json``. It starts a real server of
its own, on loopback, and lets nearfield and the bare client do the same work in turn.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import psycopg
from benchmarks.engines import BATCH, COUNT, DIMENSION, K, documents_and_queries
from benchmarks.overhead import arguments, medians_ms, over_us, report, seconds
from pgvector.psycopg import register_vector
from psycopg.types.json import Jsonb
from tests.postgres_server import PostgresServer, postgres_server

import nearfield
from nearfield import Document, F

_UNINDEXED = 9_000
_IN_A_ROW = 20
"""Searches by the one before the other's turn: as each goes on by itself."""
_COLUMNS = "id, text, metadata, fields, created_at, embedding"


def main() -> None:
    given = arguments(__doc__, count=COUNT, rounds=500)
    documents, queries = documents_and_queries(given.count)
    with postgres_server() as server:
        figures = _postgresql(server, documents, queries, given.rounds)
    report({"PostgreSQL": figures}, given.json)


def _postgresql(
    server: PostgresServer,
    documents: list[Document],
    queries: np.ndarray[Any, Any],
    rounds: int,
) -> dict[str, float]:
    figures: dict[str, float] = {}
    with (
        nearfield.open(server.url(), dimension=DIMENSION) as collection,
        psycopg.connect(server.url(), autocommit=True) as client,
    ):
        register_vector(client)
        _make_bare_table(client)
        ours, theirs = _inserts(collection, client, documents)
        figures["insert, documents/s"] = BATCH / statistics.median(ours)
        figures["insert, the bare client, documents/s"] = BATCH / statistics.median(theirs)
        figures["insert, share of the client's rate"] = statistics.median(theirs) / (
            statistics.median(ours)
        )
        figures["exact search, ms"] = _p50_ms(lambda i: collection.search(queries[i]), 20)
        start = time.perf_counter()
        collection.maintain()
        while "graph" not in collection.explain(queries[0]).steps[0].plan:
            time.sleep(0.1)  # another thread of the collection may be at it
        figures["build of the index, s"] = time.perf_counter() - start
        figures |= _searches(collection, client, queries, rounds)
        figures |= _recalls(collection, documents, queries)
        figures["keyword search, ms"] = _p50_ms(
            lambda i: collection.search(f"kettle kitchen {i}", mode="keyword"), 20
        )
        figures["keyword search of a rare word, ms"] = _p50_ms(
            lambda i: collection.search(str(1000 + i * 37), mode="keyword"), 50
        )
        figures["get of one document, ms"] = _p50_ms(lambda i: collection.get(f"document-{i}"), 200)
    return figures


def _make_bare_table(client: psycopg.Connection[Any]) -> None:
    """Make a table with the same columns and indexes as a collection's."""
    client.execute(
        f"""CREATE TABLE bare (
            slot bigint GENERATED ALWAYS AS IDENTITY UNIQUE, id text COLLATE "C" PRIMARY KEY,
            text text, metadata text, fields jsonb, created_at timestamptz,
            embedding vector({DIMENSION}),
            words tsvector GENERATED ALWAYS AS
                (to_tsvector('nearfield.words'::regconfig, nearfield.plain(text))) STORED
        )"""
    )
    client.execute("CREATE INDEX ON bare USING gin (fields jsonb_path_ops)")
    client.execute("CREATE INDEX ON bare USING gin (words)")


def _inserts(
    collection: nearfield.Collection, client: psycopg.Connection[Any], documents: list[Document]
) -> tuple[list[float], list[float]]:
    """Write in turn as long as neither has an index of vectors; then the rest."""
    ours, theirs = [], []
    for start in range(0, _UNINDEXED, BATCH):
        batch = documents[start : start + BATCH]
        ours.append(seconds(lambda batch=batch: collection.upsert(batch)))
        theirs.append(seconds(lambda batch=batch: _copy(client, batch)))
    collection.upsert(documents[_UNINDEXED:])
    return ours, theirs


def _copy(client: psycopg.Connection[Any], batch: list[Document]) -> None:
    moment = datetime.now(UTC)
    with (
        client.transaction(),
        client.cursor() as cursor,
        cursor.copy(f"COPY bare ({_COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy,
    ):
        copy.set_types(["text", "text", "text", "jsonb", "timestamptz", "vector"])
        for document in batch:
            text = msgspec.json.encode(document.metadata).decode()
            fields = Jsonb(document.metadata)
            copy.write_row((document.id, document.text, text, fields, moment, document.embedding))


def _searches(
    collection: nearfield.Collection,
    client: psycopg.Connection[Any],
    queries: np.ndarray[Any, Any],
    rounds: int,
) -> dict[str, float]:
    table = collection.stats()["table"]
    client.execute("SET hnsw.ef_search = 160")
    client.execute("SET hnsw.iterative_scan = relaxed_order")
    client.execute("SET hnsw.max_scan_tuples = 2147483647")
    statement = (
        "SELECT * FROM (SELECT id, text, metadata, created_at, embedding <=> %s AS distance "
        f"FROM {table} ORDER BY embedding <=> %s LIMIT 40) AS nearest "
        f"ORDER BY distance + 0, id LIMIT {K}"
    )

    def bare(query: np.ndarray[Any, Any]) -> None:
        with client.cursor(binary=True) as cursor:
            cursor.execute(statement, (query, query)).fetchall()

    ours, theirs = [], []
    turns = [(theirs, bare), (ours, collection.search)]
    for number in range(0, rounds + _IN_A_ROW, _IN_A_ROW):
        for times, search in turns:
            for query in np.take(queries, range(number, number + _IN_A_ROW), axis=0, mode="wrap"):
                times.append(seconds(lambda search=search, query=query: search(query)))
        turns.reverse()  # who asks second finds the server's caches warm
    ours, theirs = ours[_IN_A_ROW:], theirs[_IN_A_ROW:]
    return medians_ms({"search": ours, "search, the bare client": theirs}) | {
        "search over the client, us": over_us(ours, theirs)
    }


def _recalls(
    collection: nearfield.Collection, documents: list[Document], queries: np.ndarray[Any, Any]
) -> dict[str, float]:
    vectors = np.stack([document.embedding for document in documents])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    group = np.array([document.metadata["group"] == "g3" for document in documents])
    few = np.arange(len(documents)) < len(documents) // 100
    figures = {}
    for name, where, allowed in (
        ("all", None, np.ones(len(documents), bool)),
        ("a tenth", F.group == "g3", group),
        ("a hundredth", F.n < len(documents) // 100, few),
    ):
        among = np.flatnonzero(allowed)
        recalls = []
        for query in queries:
            best = among[np.argsort(-(vectors[among] @ query))[:K]]
            hits = collection.search(query, where=where)
            recalls.append(len({f"document-{i}" for i in best} & {hit.id for hit in hits}) / K)
        figures[f"recall@10 among {name}"] = float(np.mean(recalls))
        figures[f"search among {name}, ms"] = _p50_ms(
            lambda i, where=where: collection.search(queries[i], where=where), 100
        )
    return figures


def _p50_ms(work: Callable[[int], object], rounds: int) -> float:
    work(0)
    return statistics.median(seconds(lambda i=i: work(i)) for i in range(rounds)) * 1e3


if __name__ == "__main__":
    main()
