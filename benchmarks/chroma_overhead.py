"""What a collection costs on top of Chroma's own client, in a folder and on a server.

Run as ``python -m benchmarks.chroma_overhead --json chroma.json``. It starts a real server on
loopback; nearfield and the bare client do the same work in turn, with the same index settings.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.engines import BATCH, DIMENSION, K, documents_and_queries
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
from tests.chroma_server import chroma_server

import nearfield
from nearfield import Document, F, Metric
from nearfield.stores.chroma.database import INDEX
from nearfield.stores.chroma.records import encode

if TYPE_CHECKING:
    import numpy as np

COUNT = 6_000
GROUP = "g3"
"""A tenth of the documents."""
SPARE = 5
"""Candidates that a collection asks for beyond k."""


def main() -> None:
    given = arguments(__doc__, count=COUNT, rounds=200)
    documents, queries = documents_and_queries(given.count)
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        url = f"chroma://{Path(folder).as_posix()}/data"
        figures["folder"] = _figures(url, documents, queries, given.rounds)
    with chroma_server() as server:
        figures["server"] = _figures(server.url(), documents, queries, given.rounds)
    report(figures, given.json)


def _figures(
    url: str, documents: list[Document], queries: np.ndarray[Any, Any], rounds: int
) -> dict[str, float]:
    with nearfield.open(url, dimension=DIMENSION) as collection:
        handle: Any = collection._store._handle  # noqa: SLF001
        settings: Any = {"hnsw": {"space": "cosine", **INDEX}}
        bare, same = (
            handle._lease.client.create_collection(  # noqa: SLF001
                name, configuration=settings, embedding_function=None
            )
            for name in ("bare", "same")
        )
        figures = _inserts(collection, bare, same, documents)
        for name, ours, theirs in (
            ("search", None, None),
            ("search among a tenth", F.group == GROUP, {"group": GROUP}),
        ):
            calls: Calls = {
                name: lambda i, ours=ours: collection.search(queries[i], where=ours),
                f"{name}, the bare client": lambda i, theirs=theirs: bare.query(
                    query_embeddings=[queries[i]],
                    n_results=K,
                    where=theirs,
                    include=["metadatas", "documents"],
                ),
                f"{name}, the same request by the bare client": lambda i, theirs=theirs: same.query(
                    query_embeddings=[queries[i]],
                    n_results=K + SPARE,
                    where={"s:group": GROUP} if theirs else None,
                    include=["metadatas", "documents"],
                ),
            }
            times = in_turn(calls, len(queries), rounds)
            ours_s, _, theirs_s = times.values()
            figures |= medians_ms(times) | {
                f"{name} over the client, us": over_us(ours_s, theirs_s)
            }
        return figures


def _inserts(
    collection: nearfield.Collection, bare: Any, same: Any, documents: list[Document]
) -> dict[str, float]:
    """Write the documents; ``bare`` gets their metadata as they are, ``same`` as nearfield's."""
    works: dict[str, Callable[[list[Document]], object]] = {
        "insert": collection.upsert,
        "insert, the bare client": lambda batch: _upsert(bare, batch, [d.metadata for d in batch]),
        "insert, the same fields by the bare client": lambda batch: _upsert(
            same, batch, [encode(each, Metric.COSINE) for each in batch]
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for number, start in enumerate(range(0, len(documents), BATCH)):
        batch = documents[start : start + BATCH]
        for name, work in turn(works, number):
            times[name].append(seconds(partial(work, batch)))
    rates = {name: BATCH / statistics.median(measured) for name, measured in times.items()}
    return {f"{name}, documents/s": rate for name, rate in rates.items()} | {
        "insert, share of the client's rate": rates["insert"] / rates["insert, the bare client"]
    }


def _upsert(collection: Any, batch: list[Document], metadatas: list[Any]) -> None:
    collection.upsert(
        ids=[each.id for each in batch],
        embeddings=[each.embedding for each in batch],
        documents=[each.text for each in batch],
        metadatas=metadatas,
    )


if __name__ == "__main__":
    main()
