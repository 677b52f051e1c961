"""What Milvus does behind a collection, and what the collection costs over pymilvus alone.

Run as ``python -m benchmarks.milvus_overhead --json milvus.json``. It starts a real server on
loopback, and Milvus Lite in this process; nearfield and the bare client do the same work in turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.engines import BATCH, DIMENSION, K, documents_and_queries
from tests.milvus_server import milvus_server

import nearfield
from nearfield import Document, F

_DEPTH = 160


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    documents, queries = documents_and_queries(arguments.count)
    figures: dict[str, dict[str, float]] = {}
    with milvus_server() as server:
        figures["server"] = _measured(server.url(), documents, queries, arguments.rounds)
    with tempfile.TemporaryDirectory() as folder:
        url = f"milvus://{Path(folder).as_posix()}/database.db"
        few = documents[: arguments.count // 5]
        figures["Lite, a fifth of them"] = _measured(url, few, queries, arguments.rounds // 5)
    for engine, values in figures.items():
        for name, value in values.items():
            print(f"{engine:24} {name:44} {value:12,.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))


def _measured(
    url: str, documents: list[Document], queries: np.ndarray[Any, Any], rounds: int
) -> dict[str, float]:
    with nearfield.open(url, dimension=DIMENSION) as collection:
        handle: Any = collection._store._handle  # noqa: SLF001
        client = handle._lease.client  # noqa: SLF001
        client.create_collection("bare", dimension=DIMENSION, id_type="string", max_length=4096)
        write = client.insert if handle.is_lite else client.upsert
        ours, theirs = [], []
        for start in range(0, len(documents), BATCH):
            batch = documents[start : start + BATCH]
            theirs.append(_seconds(lambda batch=batch: write("bare", [_row(d) for d in batch])))
            ours.append(_seconds(lambda batch=batch: collection.upsert(batch)))
        figures = {
            "insert, documents/s": BATCH / statistics.median(ours),
            "insert, the bare client, documents/s": BATCH / statistics.median(theirs),
        }
        start_s = time.perf_counter()
        collection.maintain()
        figures["build of the index, s"] = time.perf_counter() - start_s
        if not handle.is_lite:
            client.flush("bare")
            time.sleep(30)  # until the server has loaded its index
        figures["recall@10"] = _recall(collection, documents, queries)
        for name, where, theirs_where in (
            ("search", None, ""),
            ("search among a tenth", F.group == "g3", 'group == "g3"'),
        ):
            asked = [queries[number % len(queries)] for number in range(rounds + 10)]
            figures |= _in_turn(
                name,
                asked,
                lambda query, where=where: collection.search(query, where=where),
                lambda query, where=theirs_where: client.search(
                    "bare",
                    data=[query],
                    limit=K,
                    filter=where,
                    output_fields=["text", "n", "group", "source"],
                    search_params={"params": {"ef": _DEPTH}},
                ),
            )
        return figures


def _row(document: Document) -> dict[str, Any]:
    return {
        "id": document.id,
        "vector": document.embedding,
        "text": document.text,
        **document.metadata,
    }


def _in_turn(name: str, queries: list[Any], ours: Any, theirs: Any) -> dict[str, float]:
    times = [
        (_seconds(lambda query=query: ours(query)), _seconds(lambda query=query: theirs(query)))
        for query in queries
    ][10:]
    return {
        f"{name}, ms": statistics.median(mine for mine, _ in times) * 1e3,
        f"{name}, the bare client, ms": statistics.median(its for _, its in times) * 1e3,
    }


def _recall(
    collection: nearfield.Collection, documents: list[Document], queries: np.ndarray[Any, Any]
) -> float:
    vectors = np.stack([document.embedding for document in documents])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    recalls = []
    for query in queries:
        best = np.argsort(-(vectors @ query))[:K]
        hits = collection.search(query)
        recalls.append(len({f"document-{i}" for i in best} & {hit.id for hit in hits}) / K)
    return float(np.mean(recalls))


def _seconds(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
