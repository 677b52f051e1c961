"""What a collection does on each engine: the same documents and questions, only the URL differs.

Run as ``python -m benchmarks.engines --json engines.json``. It starts the servers it needs, on
loopback, one after the other, and skips loudly what is not installed. An engine's own client is not
beside it; for that there are ``benchmarks.postgres_overhead``, ``benchmarks.chroma_overhead``,
``benchmarks.milvus_overhead`` and ``benchmarks.pinecone_overhead``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest

import nearfield
from nearfield import Document, F
from nearfield.errors import NearfieldError

COUNT = 50_000
DIMENSION = 384
BATCH = 1_000
K = 10
"""What a collection may cost over an engine's own client."""
_CENTRES = 500
_QUERIES = 200
_GROUP = "g3"
"""A tenth of the documents."""


@dataclass(frozen=True, slots=True)
class Speeds:
    """What one engine did.

    Attributes:
        engine: Its name.
        inserted_per_s: Documents a second, in batches of a thousand.
        build_s: What ``maintain`` took afterwards.
        search_ms: The median of a search.
        recall: Of these searches, among the first ten.
        filtered_ms: The same among a tenth of the documents.
        filtered_recall: Of these.
    """

    engine: str
    inserted_per_s: float
    build_s: float
    search_ms: float
    recall: float
    filtered_ms: float
    filtered_recall: float


def main() -> None:
    """Measure the engines that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", action="append", choices=ENGINES, help="repeatable")
    parser.add_argument("--count", type=int, default=COUNT, help="documents")
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    arguments = parser.parse_args()
    documents, queries = documents_and_queries(arguments.count)
    truths = [_nearest(documents, queries, among) for among in (None, _GROUP)]
    print(f"{len(documents):,} documents of {DIMENSION} dimensions, k = {K}")
    print("| engine | insert/s | index s | search ms / recall | a tenth, ms / recall |")
    print("|---|---|---|---|---|")
    found = []
    for engine in arguments.only or ENGINES:
        try:
            with ENGINES[engine]() as url:
                found.append(_measure(engine, url, documents, queries, truths))
        except (pytest.skip.Exception, NearfieldError) as error:
            print(f"SKIPPED: {engine}: {error}", file=sys.stderr)
            continue
        print(_row(found[-1]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(each) for each in found], indent=2))


def documents_and_queries(count: int) -> tuple[list[Document], np.ndarray]:
    """Draw documents around centres, and queries around the same."""
    numbers = np.random.default_rng(1)
    centres = numbers.standard_normal((_CENTRES, DIMENSION), np.float32)

    def draw(some: int) -> np.ndarray:
        noise = numbers.standard_normal((some, DIMENSION), np.float32)
        return centres[numbers.integers(0, _CENTRES, some)] + np.float32(0.6) * noise

    vectors = draw(count)
    return [
        Document(
            f"The kettle number {i} stands in kitchen {i % 997} beside the stove of house {i % 7}.",
            id=f"document-{i}",
            metadata={"n": i, "group": f"g{i % 10}", "source": f"file-{i % 500}.md"},
            embedding=vectors[i],
        )
        for i in range(count)
    ], draw(_QUERIES)


def _measure(
    engine: str,
    url: str,
    documents: list[Document],
    queries: np.ndarray,
    truths: list[list[set[str]]],
) -> Speeds:
    with nearfield.open(url, dimension=DIMENSION) as collection:
        start = time.perf_counter()
        for first in range(0, len(documents), BATCH):
            collection.upsert(documents[first : first + BATCH])
        inserted = time.perf_counter()
        collection.maintain()
        built = time.perf_counter()
        wheres = (None, F.group == _GROUP)
        (all_ms, recall), (some_ms, some_recall) = (
            _searches(
                lambda query, where=where: collection.search(query, where=where), queries, truth
            )
            for where, truth in zip(wheres, truths, strict=True)
        )
    rate = len(documents) / (inserted - start)
    return Speeds(engine, rate, built - inserted, all_ms, recall, some_ms, some_recall)


def _searches(
    search: Callable[[np.ndarray], list[nearfield.Hit]], queries: np.ndarray, truth: list[set[str]]
) -> tuple[float, float]:
    for query in queries[:5]:
        search(query)
    seconds, recalls = [], []
    for query, right in zip(queries, truth, strict=True):
        start = time.perf_counter()
        hits = search(query)
        seconds.append(time.perf_counter() - start)
        recalls.append(len(right & {hit.id for hit in hits}) / K)
    return statistics.median(seconds) * 1e3, statistics.mean(recalls)


def _nearest(documents: list[Document], queries: np.ndarray, group: str | None) -> list[set[str]]:
    """Compare every vector, of all documents or of a group."""
    among = [each for each in documents if group in (None, each.metadata["group"])]
    vectors = np.stack([document.embedding for document in among])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    best = np.argsort(-(queries @ vectors.T), axis=1)[:, :K]
    return [{among[place].id for place in places} for places in best]


def _row(speeds: Speeds) -> str:
    return (
        f"| {speeds.engine} | {speeds.inserted_per_s:,.0f} | {speeds.build_s:.1f} "
        f"| {speeds.search_ms:.2f} / {speeds.recall:.3f} "
        f"| {speeds.filtered_ms:.2f} / {speeds.filtered_recall:.3f} |"
    )


@contextmanager
def _folder(scheme: str = "", name: str = "") -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield f"{scheme}{folder}/{name}"


@contextmanager
def _postgresql(servers: int = 1) -> Iterator[str]:
    from tests.postgres_server import PostgresTrio, postgres_server

    if servers == 1:
        with postgres_server() as server:
            yield server.url()
        return
    with postgres_server() as one, postgres_server() as two, postgres_server() as three:
        yield PostgresTrio(one, two, three).url()


def _chroma_server() -> AbstractContextManager[str]:
    from tests.chroma_server import chroma_server

    return _at(chroma_server())


def _milvus_server() -> AbstractContextManager[str]:
    from tests.milvus_server import milvus_server

    return _at(milvus_server())


@contextmanager
def _at(started: AbstractContextManager) -> Iterator[str]:
    with started as server:
        yield server.url()


ENGINES: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "a folder": _folder,
    "PostgreSQL": _postgresql,
    "PostgreSQL, three servers": lambda: _postgresql(3),
    "Chroma, embedded": lambda: _folder("chroma://"),
    "Chroma, a server": _chroma_server,
    "Milvus Lite": lambda: _folder("milvus://", "milvus.db"),
    "Milvus, a server": _milvus_server,
}


if __name__ == "__main__":
    main()
