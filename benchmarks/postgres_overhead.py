"""What PostgreSQL does behind a collection, and what the collection costs over psycopg alone.

Run as ``python -m benchmarks.postgres_overhead --json postgres.json``. It starts a real server of
its own, on loopback, and lets nearfield and the bare client do the same work in turn.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
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
"""So many documents have no index of vectors yet."""
_SITTINGS = 6
"""Each with new connections: no two of the server's processes are equally quick."""
_IN_A_ROW = 20
"""Searches by the one before the other's turn: as each goes on by itself."""
_COLUMNS = "id, text, metadata, fields, created_at, embedding"
_SETTINGS = ("max_connections=200", "shared_buffers=128MB")
"""Commits wait for the disk."""


def main() -> None:
    given = arguments(__doc__, count=COUNT, rounds=1800)
    documents, queries = documents_and_queries(given.count)
    gc.freeze()  # the documents are not to be looked through in someone's turn
    with postgres_server(settings=_SETTINGS) as server:
        figures = _inserts(server, documents[:_UNINDEXED])
        figures |= _postgresql(server, documents, queries, given.rounds)
    report({"PostgreSQL": figures}, given.json)


def _inserts(server: PostgresServer, documents: list[Document]) -> dict[str, float]:
    """Write the same in turn, into tables with the same columns and indexes, none of vectors."""
    ours, theirs = [], []
    for sitting in range(_SITTINGS):
        with (
            nearfield.open(server.url(), f"{sitting}", dimension=DIMENSION) as collection,
            _client(server) as client,
        ):
            table = collection.stats()["table"]
            client.execute(f"CREATE TABLE bare_{sitting} (LIKE {table} INCLUDING ALL)")
            copied = partial(_copy, client, f"bare_{sitting}")
            turns = [(ours, collection.upsert), (theirs, copied)]
            if sitting % 2:
                turns.reverse()
            for start in range(0, len(documents), BATCH):
                for times, write in turns:
                    gc.collect()
                    times.append(seconds(partial(write, documents[start : start + BATCH])))
                turns.reverse()
    figures = {
        "insert, documents/s": BATCH / statistics.median(ours),
        "insert, the bare client, documents/s": BATCH / statistics.median(theirs),
    }
    share = statistics.median(its / mine for mine, its in zip(ours, theirs, strict=True))
    return figures | {"insert, share of the client's rate": share}


def _postgresql(
    server: PostgresServer,
    documents: list[Document],
    queries: np.ndarray[Any, Any],
    rounds: int,
) -> dict[str, float]:
    figures: dict[str, float] = {}
    with nearfield.open(server.url(), dimension=DIMENSION) as collection:
        for start in range(0, len(documents), BATCH):
            collection.upsert(documents[start : start + BATCH])
            if start < _UNINDEXED <= start + BATCH:
                figures["exact search, ms"] = _p50_ms(lambda i: collection.search(queries[i]), 20)
        start_s = time.perf_counter()
        collection.maintain()
        while "graph" not in collection.explain(queries[0]).steps[0].plan:
            time.sleep(0.1)  # another thread of the collection may be at it
        figures["build of the index, s"] = time.perf_counter() - start_s
    figures |= _searches(server, queries, rounds)
    with nearfield.open(server.url(), dimension=DIMENSION) as collection:
        figures |= _recalls(collection, documents, queries)
        figures["keyword search, ms"] = _p50_ms(
            lambda i: collection.search(f"kettle kitchen {i}", mode="keyword"), 20
        )
        figures["keyword search of a rare word, ms"] = _p50_ms(
            lambda i: collection.search(str(1000 + i * 37), mode="keyword"), 50
        )
        figures["get of one document, ms"] = _p50_ms(lambda i: collection.get(f"document-{i}"), 200)
    return figures


@contextmanager
def _client(server: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(server.url(), autocommit=True) as client:
        register_vector(client)
        yield client


def _copy(client: psycopg.Connection[Any], table: str, batch: list[Document]) -> None:
    moment = datetime.now(UTC)
    with (
        client.transaction(),
        client.cursor() as cursor,
        cursor.copy(f"COPY {table} ({_COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy,
    ):
        copy.set_types(["text", "text", "text", "jsonb", "timestamptz", "vector"])
        for document in batch:
            text = msgspec.json.encode(document.metadata).decode()
            fields = Jsonb(document.metadata)
            copy.write_row((document.id, document.text, text, fields, moment, document.embedding))


def _searches(
    server: PostgresServer, queries: np.ndarray[Any, Any], rounds: int
) -> dict[str, float]:
    ours: list[float] = []
    theirs: list[float] = []
    for sitting in range(_SITTINGS):
        with (
            nearfield.open(server.url(), dimension=DIMENSION) as collection,
            _client(server) as client,
        ):
            turns = [(ours, collection.search), (theirs, _bare_search(client, collection))]
            if sitting % 2:
                turns.reverse()
            for _, search in turns:
                for query in queries[:_IN_A_ROW]:  # prepares the statements
                    search(query)
            for start in range(0, rounds // _SITTINGS, _IN_A_ROW):
                asked = np.take(queries, range(start, start + _IN_A_ROW), axis=0, mode="wrap")
                for times, search in turns:
                    times += [seconds(partial(search, query)) for query in asked]
                turns.reverse()  # who asks second finds the server's caches warm
    return medians_ms({"search": ours, "search, the bare client": theirs}) | {
        "search over the client, us": over_us(ours, theirs)
    }


def _bare_search(
    client: psycopg.Connection[Any], collection: nearfield.Collection
) -> Callable[[np.ndarray[Any, Any]], object]:
    """Return the search that the collection makes, to the same depth, as the client makes it."""
    found = collection.stats()
    depth = found["index"]["plan"].rpartition(" ")[2]
    client.execute("SELECT set_config('hnsw.ef_search', %s, false)", (depth,))
    client.execute("SET hnsw.iterative_scan = relaxed_order")
    client.execute("SET hnsw.max_scan_tuples = 2147483647")
    statement = (
        "SELECT * FROM (SELECT id, text, metadata, created_at, embedding <=> %s AS distance "
        f"FROM {found['table']} ORDER BY embedding <=> %s LIMIT 40) AS nearest "
        f"ORDER BY distance + 0, id LIMIT {K}"
    )

    def search(query: np.ndarray[Any, Any]) -> object:
        with client.cursor(binary=True) as cursor:
            return cursor.execute(statement, (query, query)).fetchall()

    return search


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
