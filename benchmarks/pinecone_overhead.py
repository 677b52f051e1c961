"""What a collection costs on top of Pinecone's own client.

Run as ``python -m benchmarks.pinecone_overhead --json pinecone.json``. The service is the emulator
of the tests, on loopback: its speed says nothing of Pinecone's, the difference something of ours.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pinecone
from benchmarks.engines import BARS, DIMENSION, K, documents_and_queries
from tests.pinecone_server import PineconeServer, pinecone_server

import nearfield
from nearfield import Document

if TYPE_CHECKING:
    import numpy as np

COUNT = 3_000
BATCH = 1_000
BARE_BATCH = 200
"""So many vectors of 384 components stay below 2 MB, as Pinecone wants it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--rounds", type=int, default=300)
    arguments = parser.parse_args()
    documents, queries = documents_and_queries(arguments.count)
    with pinecone_server(lag_s=0.0) as server:
        figures = _figures(server, documents, queries, arguments.rounds)
    for name, value in figures.items():
        bar = BARS.get(name)
        print(f"{name:58} {value:12,.3f}  {'' if bar is None else f'(bar {bar:g})'}".rstrip())
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))


def _figures(
    server: PineconeServer, documents: list[Document], queries: np.ndarray[Any, Any], rounds: int
) -> dict[str, float]:
    with nearfield.open(server.url("ours"), dimension=DIMENSION) as collection:
        host = f"http://127.0.0.1:{server.port}/i/nearfield-{DIMENSION}-cosine"
        with pinecone.Index(host=host, api_key="any") as index:
            ours, theirs = [], []
            for start in range(0, len(documents), BATCH):
                batch = documents[start : start + BATCH]
                ours.append(_seconds(lambda batch=batch: collection.upsert(batch)))
                theirs.append(_seconds(lambda batch=batch: _upsert(index, batch)))
            figures = {
                "insert, documents/s": BATCH / statistics.median(ours),
                "insert, the bare client, documents/s": BATCH / statistics.median(theirs),
                "insert, share of the client's rate": statistics.median(theirs)
                / statistics.median(ours),
            }
            namespace = collection.stats()["namespace"]
            asked: tuple[tuple[str, Callable[[list[float]], object]], ...] = (
                (
                    "the same request by the bare client",
                    lambda query: index.query(
                        vector=query,
                        top_k=K + 5,
                        namespace=namespace,
                        include_values=True,
                        include_metadata=True,
                    ),
                ),
                (
                    "the bare client without vectors",
                    lambda query: index.query(
                        vector=query, top_k=K, namespace="theirs", include_metadata=True
                    ),
                ),
            )
            lists = queries.tolist()
            calls: dict[str, Callable[[int], object]] = {
                name: lambda i, ask=ask: ask(lists[i]) for name, ask in asked
            } | {"search": lambda i: collection.search(queries[i])}
            times: dict[str, list[float]] = {name: [] for name in calls}
            for round_ in range(rounds + 10):
                for name, call in calls.items():
                    times[name].append(_seconds(partial(call, round_ % len(lists))))
            for name, measured in times.items():
                figures[f"{name}, ms"] = statistics.median(measured[10:]) * 1e3
            pairs = zip(times["search"][10:], times[asked[0][0]][10:], strict=True)
            figures["search over the client, us"] = 1e6 * statistics.median(
                mine - its for mine, its in pairs
            )
    return figures


def _upsert(index: pinecone.Index, batch: list[Document]) -> None:
    for start in range(0, len(batch), BARE_BATCH):
        vectors = [
            (each.id, each.embedding.tolist(), {"text": each.text, **each.metadata})
            for each in batch[start : start + BARE_BATCH]
        ]
        index.upsert(vectors=vectors, namespace="theirs")


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
