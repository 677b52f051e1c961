"""Many threads and tasks at once, on an event loop that is never blocked."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("llama_index.core", reason="needs llama-index-core")

from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import IndexNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from llama_index.vector_stores.nearfield import NearfieldVectorStore
from nearfield.errors import ClosedError

DIMENSION = 64
TASKS = 50
THREADS = 8
LONGEST_BLOCK_S = 1.0
"""On a quiet machine a few milliseconds; machines that run tests stall by themselves."""


def vectors(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, DIMENSION)).tolist()


def nodes(names, seed=0, source="doc"):
    relationships = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=source)}
    return [
        TextNode(
            id_=name,
            text=f"word{name}",
            metadata={"n": position},
            relationships=relationships,
            embedding=vector,
        )
        for position, (name, vector) in enumerate(
            zip(names, vectors(len(names), seed), strict=True)
        )
    ]


def below(limit):
    return MetadataFilters(filters=[MetadataFilter(key="n", operator="<", value=limit)])


def query(vector, k=5, mode="default", **fields):
    return VectorStoreQuery(
        query_embedding=vector, similarity_top_k=k, mode=VectorStoreQueryMode(mode), **fields
    )


async def longest_block(stop):
    """Return the longest time that the event loop kept a task waiting."""
    longest_s = 0.0
    while not stop.is_set():
        started = time.perf_counter()
        await asyncio.sleep(0.001)
        longest_s = max(longest_s, time.perf_counter() - started)
    return longest_s


async def test_every_async_method_does_what_its_twin_does(tmp_path):
    async with NearfieldVectorStore(tmp_path) as store:
        assert (await store.aquery(query(vectors(1)[0]))).ids == []
        made = nodes("abcdef")
        assert await store.async_add(made) == list("abcdef")
        for mode in ("default", "mmr", "text_search", "sparse", "hybrid", "semantic_hybrid"):
            for fields in (
                {},
                {"filters": below(3)},
                {"doc_ids": ["doc"]},
                {"node_ids": ["a", "c"]},
            ):
                asked = query(made[2].embedding, mode=mode, query_str="wordc wordd", **fields)
                found = await store.aquery(asked)
                assert found == store.query(asked)
                assert found.ids
        assert await store.aget_nodes(["b", "a"]) == store.get_nodes(["b", "a"])
        assert await store.aget_nodes(filters=below(2)) == store.get_nodes(filters=below(2))
        await store.adelete_nodes(["a", "b"], filters=below(1))
        assert [node.node_id for node in await store.aget_nodes()] == list("bcdef")
        await store.adelete_nodes(["c"])
        await store.async_add(nodes("g", source="other"))
        await store.adelete("doc")
        assert [node.node_id for node in await store.aget_nodes()] == ["g"]
        await store.aclear()
        assert await store.aget_nodes() == []
    await store.aclose()
    with pytest.raises(ClosedError):
        await store.aget_nodes()


async def test_a_text_is_embedded_by_an_async_embedder_that_is_awaited(tmp_path, embedder):
    class Remote:
        """An embedder that would wait for ever if it was not awaited on the loop."""

        info = embedder.info

        def embed_documents(self, texts):
            raise NotImplementedError

        embed_queries = embed_documents

        async def aembed_documents(self, texts):
            return await self.aembed_queries(texts)

        async def aembed_queries(self, texts):
            assert asyncio.get_running_loop()
            await asyncio.sleep(0)
            return embedder.embed_queries(texts)

    async with NearfieldVectorStore(tmp_path, embed_model=Remote()) as store:
        [vector] = embedder.embed_queries(["fox"]).tolist()
        await store.async_add([TextNode(text="fox", id_="fox", embedding=vector)])
        for mode in ("default", "semantic_hybrid"):
            asked = query(None, k=1, mode=mode, query_str="fox")
            assert (await store.aquery(asked)).ids == ["fox"]


async def test_fifty_tasks_read_and_write_without_blocking_the_loop(tmp_path):
    async with NearfieldVectorStore(tmp_path, dimension=DIMENSION) as store:
        await store.async_add(await asyncio.to_thread(nodes, [f"{n}" for n in range(10_000)]))
        stop = asyncio.Event()
        ticker = asyncio.create_task(longest_block(stop))

        async def work(number):
            for turn in range(3):
                name = f"task{number}-{turn}"
                [made] = nodes([name], seed=number + 1, source=name)
                await store.async_add([made])
                found = await store.aquery(query(made.embedding))
                assert found.similarities[0] == pytest.approx(1.0)
                assert len(found.nodes) == 5
                found = await store.aquery(query(made.embedding, filters=below(1000)))
                assert all(node.metadata["n"] < 1000 for node in found.nodes)
                asked = query(None, k=1, mode="text_search", query_str=f"word{number}")
                assert (await store.aquery(asked)).ids == [f"{number}"]
                assert [node.node_id for node in await store.aget_nodes([name])] == [name]
                if turn % 2:
                    await store.adelete(name)

        await asyncio.gather(*(work(number) for number in range(TASKS)))
        stop.set()
        assert len(await store.aget_nodes()) == 10_000 + 2 * TASKS
        assert await ticker < LONGEST_BLOCK_S


async def test_an_index_is_used_by_many_tasks_at_once(store, embed_model):
    index = VectorStoreIndex(
        [],
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=embed_model,
    )

    async def work(number):
        await index.ainsert_nodes(
            [
                TextNode(text=f"animal {number}", id_=f"{number}"),
                IndexNode(text=f"list {number}", index_id="x", id_=f"i{number}"),
            ]
        )
        retriever = index.as_retriever(
            similarity_top_k=1, vector_store_query_mode="hybrid", alpha=0.1
        )
        [found] = await retriever.aretrieve(f"animal {number}")
        assert found.node.node_id == f"{number}"

    await asyncio.gather(*(work(number) for number in range(TASKS)))
    assert len(store.client) == 2 * TASKS


def test_eight_threads_add_query_and_delete_at_once(tmp_path):
    start = threading.Barrier(THREADS)

    def work(number):
        start.wait()
        for turn in range(10):
            names = [f"{number}-{turn}-{n}" for n in range(5)]
            made = nodes(names, seed=100 * number + turn, source=f"{number}-{turn}")
            assert store.add(made) == names
            found = store.query(query(made[0].embedding, k=1))
            assert found.ids == names[:1]
            assert found.nodes[0].text == made[0].text
            if turn % 2:
                store.delete(f"{number}-{turn}")
                assert store.get_nodes(names) == []
        return number

    # The first add, which makes the collection, is a race as well.
    with NearfieldVectorStore(tmp_path) as store, ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(work, range(THREADS))) == list(range(THREADS))
        assert len(store.get_nodes()) == THREADS * 5 * 5


OPERATIONS = {
    "async_add": lambda store: store.async_add(nodes(["new"])),
    "aquery": lambda store: store.aquery(query(vectors(1)[0])),
    "aquery by words": lambda store: store.aquery(
        query(None, mode="text_search", query_str="word", node_ids=["a"])
    ),
    "aget_nodes": lambda store: store.aget_nodes(filters=below(1)),
    "adelete": lambda store: store.adelete("doc"),
    "adelete_nodes": lambda store: store.adelete_nodes(filters=below(1)),
    "aclear": lambda store: store.aclear(),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
async def test_waiting_for_another_thread_does_not_block_the_loop(tmp_path, operation):
    async with NearfieldVectorStore(tmp_path) as store:
        await store.async_add(nodes("abc"))
        engine = store.client._store
        locks = [engine._snapshots._lock, engine._pool._write_lock]
        for lock in locks:
            lock.acquire()
        release = threading.Timer(2.0, lambda: [lock.release() for lock in locks])
        release.start()
        task = asyncio.create_task(operation(store))
        await asyncio.sleep(0.05)
        # The loop goes on while the operation waits.
        assert all(lock.locked() for lock in locks)
        release.cancel()
        for lock in locks:
            lock.release()
        await task
