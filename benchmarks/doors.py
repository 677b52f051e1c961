"""What a framework's door costs: run as ``python -m benchmarks.doors --json doors.json``.

A search through LangChain's and LlamaIndex's vector store against ``Collection.search`` of the same
query vector, in one process and in turn, round by round. Beside it, how long the event loop is kept
waiting while fifty tasks write and search through the doors' asynchronous methods.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery

import nearfield  # noqa: TC001
from langchain_nearfield import NearfieldVectorStore as LangChainStore
from llama_index.vector_stores.nearfield import NearfieldVectorStore as LlamaIndexStore

DIMENSION = 384
DOCUMENTS = 10_000
K = 10
BARS_US = {"LangChain": 60.0, "LlamaIndex": 150.0}
LONGEST_BLOCK_MS = 50.0
PACKAGES = ("langchain-core", "llama-index-core")
TASKS = 50
NODES = 200
"""Written, and deleted again, by each task."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="keep every round in this file")
    parser.add_argument("--rounds", type=int, default=2_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, _filled(folder) as collection:
        rounds = _overheads(collection, arguments.rounds)
        blocks_ms = {
            name: asyncio.run(_longest_block_ms(work, kind.from_collection(collection)))
            for name, (kind, work) in TWINS.items()
        }
    print(_table(rounds, blocks_ms))
    if arguments.json:
        arguments.json.write_text(json.dumps({"rounds_us": rounds, "blocks_ms": blocks_ms}))


def _filled(folder: str) -> nearfield.Collection:
    """Open a collection of LlamaIndex's nodes, which LangChain reads as well."""
    vectors = np.random.default_rng(1).standard_normal((DOCUMENTS, DIMENSION), dtype=np.float32)
    store = LlamaIndexStore(folder, dimension=DIMENSION)
    store.add([_node(n, vector) for n, vector in enumerate(vectors)])
    collection: nearfield.Collection = store.client
    return collection


def _node(n: int, vector: Any) -> TextNode:
    source = RelatedNodeInfo(node_id=f"file-{n // 20}")
    return TextNode(
        id_=f"node-{n}",
        text=f"sentence {n} of a text that goes on for a while " * 6,
        metadata={"file_name": f"file-{n // 20}.md", "page": n % 20, "language": "en"},
        relationships={NodeRelationship.SOURCE: source},
        embedding=vector.tolist(),
    )


def _overheads(collection: nearfield.Collection, count: int) -> dict[str, list[float]]:
    langchain = LangChainStore.from_collection(collection)
    llama_index = LlamaIndexStore.from_collection(collection)
    queries = np.random.default_rng(2).standard_normal((count, DIMENSION), dtype=np.float32)
    rounds: dict[str, list[float]] = {"Collection.search": [], "LangChain": [], "LlamaIndex": []}
    for query in queries.tolist():
        ask = VectorStoreQuery(query_embedding=query, similarity_top_k=K)
        calls: dict[str, Callable[[], Any]] = {
            "Collection.search": lambda query=query: collection.search(query, k=K),
            "LangChain": lambda query=query: langchain.similarity_search_with_score_by_vector(
                query, k=K
            ),
            "LlamaIndex": lambda ask=ask: llama_index.query(ask),
        }
        for name, call in calls.items():
            call()  # the vectors of this query's hits are in the caches for all three
            start = time.perf_counter_ns()
            call()
            rounds[name].append((time.perf_counter_ns() - start) / 1e3)
    return rounds


async def _through_langchain(store: LangChainStore, nodes: list[TextNode]) -> None:
    ids = [node.node_id for node in nodes]
    await store.aadd_embeddings([(node.text, node.embedding) for node in nodes], ids=ids)
    await store.asimilarity_search_by_vector(nodes[0].embedding, k=K)
    await store.adelete(ids)


async def _through_llama_index(store: LlamaIndexStore, nodes: list[TextNode]) -> None:
    await store.async_add(nodes)
    await store.aquery(VectorStoreQuery(query_embedding=nodes[0].embedding, similarity_top_k=K))
    await store.adelete_nodes([node.node_id for node in nodes])


TWINS = {
    "LangChain": (LangChainStore, _through_langchain),
    "LlamaIndex": (LlamaIndexStore, _through_llama_index),
}


async def _longest_block_ms(work: Any, store: LangChainStore | LlamaIndexStore) -> float:
    """Return the longest time that a task which only sleeps was kept waiting."""
    vectors = np.random.default_rng(3).standard_normal((TASKS, NODES, DIMENSION))
    batches = [
        [_node(DOCUMENTS + number * NODES + n, vector) for n, vector in enumerate(vectors[number])]
        for number in range(TASKS)
    ]
    gc.collect()  # what else is in memory is not the doors' to walk through
    gc.freeze()
    gathered = asyncio.gather(*(work(store, nodes) for nodes in batches))
    longest_s = 0.0
    while not gathered.done():
        start = time.perf_counter()
        await asyncio.sleep(0.001)
        longest_s = max(longest_s, time.perf_counter() - start - 0.001)
    await gathered
    return longest_s * 1e3


def _table(rounds: dict[str, list[float]], blocks_ms: dict[str, float]) -> str:
    base = rounds["Collection.search"]
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    lines = [
        f"{versions}; {DOCUMENTS:,} documents of {DIMENSION}, k = {K}; {len(base):,} rounds, µs",
        "",
        "| | median | minimum | more than the first, median | bar | |",
        "|---|---|---|---|---|---|",
    ]
    for name, times in rounds.items():
        more = statistics.median(t - b for t, b in zip(times, base, strict=True))
        bar = BARS_US.get(name)
        verdict = "" if bar is None else "PASS" if more <= bar else "MISS"
        lines.append(
            f"| {name} | {statistics.median(times):.0f} | {min(times):.0f} | "
            f"{'' if bar is None else f'{more:.0f}'} | {'' if bar is None else f'≤ {bar:.0f}'} | "
            f"{verdict} |"
        )
    lines += ["", "Longest time that the event loop was kept waiting, 50 tasks:", ""]
    for name, block_ms in blocks_ms.items():
        verdict = "PASS" if block_ms <= LONGEST_BLOCK_MS else "MISS"
        lines.append(f"- {name}: {block_ms:.1f} ms, bar {LONGEST_BLOCK_MS:.0f} ms: {verdict}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
