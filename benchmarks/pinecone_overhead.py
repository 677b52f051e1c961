"""What a collection costs on top of Pinecone's own client.

Run as ``python -m benchmarks.pinecone_overhead --json pinecone.json``. The service is the emulator
of the tests, on loopback: its speed says nothing of Pinecone's, the difference something of ours.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pinecone
from benchmarks.engines import DIMENSION, K, documents_and_queries
from benchmarks.overhead import (
    Calls,
    arguments,
    in_turn,
    medians_ms,
    over_us,
    report,
    seconds,
    turn,
)
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
    given = arguments(__doc__, count=COUNT, rounds=300)
    documents, queries = documents_and_queries(given.count)
    with pinecone_server(lag_s=0.0) as server:
        figures = _figures(server, documents, queries, given.rounds)
    report({"emulator": figures}, given.json)


def _figures(
    server: PineconeServer, documents: list[Document], queries: np.ndarray[Any, Any], rounds: int
) -> dict[str, float]:
    with nearfield.open(server.url("ours"), dimension=DIMENSION) as collection:
        host = f"http://127.0.0.1:{server.port}/i/nearfield-{DIMENSION}-cosine"
        with pinecone.Index(host=host, api_key="any") as index:
            taken: dict[str, list[float]] = {"ours": [], "theirs": []}
            works = {"ours": collection.upsert, "theirs": partial(_upsert, index)}
            for number, start in enumerate(range(0, len(documents), BATCH)):
                batch = documents[start : start + BATCH]
                for name, work in turn(works, number):
                    taken[name].append(seconds(partial(work, batch)))
            ours, theirs = taken.values()
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
            calls: Calls = {
                **{name: lambda i, ask=ask: ask(lists[i]) for name, ask in asked},
                "search": lambda i: collection.search(queries[i]),
            }
            times = in_turn(calls, len(lists), rounds)
            figures |= medians_ms(times)
            figures["search over the client, us"] = over_us(times["search"], times[asked[0][0]])
    return figures


def _upsert(index: pinecone.Index, batch: list[Document]) -> None:
    for start in range(0, len(batch), BARE_BATCH):
        vectors = [
            (each.id, each.embedding.tolist(), {"text": each.text, **each.metadata})
            for each in batch[start : start + BARE_BATCH]
        ]
        index.upsert(vectors=vectors, namespace="theirs")


if __name__ == "__main__":
    main()
