"""What a collection costs on top of Chroma's own client, in a folder and on a server.

Run as ``python -m benchmarks.chroma_overhead --json chroma.json``. It starts a real server on
loopback; nearfield and the bare client do the same work in turn, with the same index settings.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.engines import BARS, BATCH, DIMENSION, K, documents_and_queries
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    documents, queries = documents_and_queries(arguments.count)
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        url = f"chroma://{Path(folder).as_posix()}/data"
        figures["folder"] = _figures(url, documents, queries, arguments.rounds)
    with chroma_server() as server:
        figures["server"] = _figures(server.url(), documents, queries, arguments.rounds)
    for way, values in figures.items():
        for name, value in values.items():
            bar = BARS.get(name)
            said = "" if bar is None else f"(bar {bar:g})"
            print(f"{way:8} {name:48} {value:12,.3f}  {said}".rstrip())
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))


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
            calls: dict[str, Callable[[Any], object]] = {
                name: lambda query, ours=ours: collection.search(query, where=ours),
                f"{name}, the bare client": lambda query, theirs=theirs: bare.query(
                    query_embeddings=[query],
                    n_results=K,
                    where=theirs,
                    include=["metadatas", "documents"],
                ),
                f"{name}, the same request by the bare client": lambda query, theirs=theirs: (
                    same.query(
                        query_embeddings=[query],
                        n_results=K + SPARE,
                        where={"s:group": GROUP} if theirs else None,
                        include=["metadatas", "documents"],
                    )
                ),
            }
            figures |= _in_turn(calls, queries, rounds)
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
    for start in range(0, len(documents), BATCH):
        batch = documents[start : start + BATCH]
        for name, work in works.items():
            times[name].append(_seconds(partial(work, batch)))
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


def _in_turn(
    calls: dict[str, Callable[[Any], object]], queries: np.ndarray[Any, Any], rounds: int
) -> dict[str, float]:
    """Return the medians of some calls, and what the first takes more than the last."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 10):
        for name, call in calls.items():
            times[name].append(_seconds(partial(call, queries[number % len(queries)])))
    measured = {name: each[10:] for name, each in times.items()}
    ours, *_, theirs = measured.values()
    over_s = statistics.median(mine - its for mine, its in zip(ours, theirs, strict=True))
    return {f"{name}, ms": statistics.median(each) * 1e3 for name, each in measured.items()} | {
        f"{next(iter(calls))} over the client, us": 1e6 * over_s
    }


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
