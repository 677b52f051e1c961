"""Many tasks on one event loop, which is never blocked for long."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import numpy as np
import pytest

import nearfield
from nearfield import Document, F

DIMENSION = 64
TASKS = 50
LONGEST_BLOCK_S = 1.0
"""On a quiet machine a few milliseconds; machines that run tests stall by themselves."""


def vectors(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, DIMENSION), dtype=np.float32)


async def longest_block(stop: asyncio.Event) -> float:
    """Return the longest time that the event loop kept a task waiting."""
    longest_s = 0.0
    while not stop.is_set():
        started = time.perf_counter()
        await asyncio.sleep(0.001)
        longest_s = max(longest_s, time.perf_counter() - started)
    return longest_s


async def test_fifty_tasks_read_and_write_without_blocking_the_loop(tmp_path):
    async with nearfield.open(tmp_path, dimension=DIMENSION) as collection:
        await collection.aupsert(
            [Document(f"word{n}", id=f"{n}", metadata={"n": n}) for n in range(20_000)],
            vectors=vectors(20_000),
        )
        stop = asyncio.Event()
        ticker = asyncio.create_task(longest_block(stop))

        async def work(number):
            [query] = vectors(1, number + 1)
            for turn in range(4):
                name = f"task{number}-{turn}"
                await collection.aupsert([Document(name, id=name)], vectors=[query])
                hits = await collection.asearch(query, k=5)
                assert hits[0].score == 1.0
                assert len(hits) == 5
                hits = await collection.asearch(query, k=5, where=F.n < 1000)
                assert all(hit.metadata["n"] < 1000 for hit in hits)
                [hit] = await collection.asearch(f"word{number}", k=1, mode="keyword")
                assert hit.id == f"{number}"
                assert (await collection.aget(name)).text == name
                assert await collection.acount(F.n < 10) == 10
                if turn % 2:
                    assert await collection.adelete(name) == 1
            return [hit.id for hit in (await collection.asearch_many([query], k=2))[0]]

        results = await asyncio.gather(*(work(number) for number in range(TASKS)))
        stop.set()
        for number, found in enumerate(results):
            assert set(found) == {f"task{number}-0", f"task{number}-2"}
        assert await collection.acount() == 20_000 + 2 * TASKS
        assert (await collection.acheck()).ok
        assert await ticker < LONGEST_BLOCK_S


async def test_maintenance_does_not_block_the_loop(tmp_path):
    async with nearfield.open(tmp_path / "database", dimension=DIMENSION) as collection:
        stop = asyncio.Event()
        ticker = asyncio.create_task(longest_block(stop))
        await collection.aupsert([f"word{n}" for n in range(10_000)], vectors=vectors(10_000))
        assert (await collection.acheck()).ok
        await collection.abackup(tmp_path / "copy")
        assert (await collection.arepair()).documents == 10_000
        assert (await collection.astats())["documents"] == 10_000
        seen = 0
        async for read in collection.ascan(include=("text", "embedding")):
            assert read.text == f"word{seen}"
            seen += 1
        assert seen == 10_000
        stop.set()
        assert await ticker < LONGEST_BLOCK_S


OPERATIONS = {
    "asearch": lambda c: c.asearch(vectors(1)[0], k=1),
    "asearch like": lambda c: c.asearch(like="7", k=1),
    "asearch_many": lambda c: c.asearch_many(vectors(2), k=1),
    "acount": lambda c: c.acount(F.n == 1),
    "aupsert": lambda c: c.aupsert(["text"], vectors=vectors(1)),
    "adelete": lambda c: c.adelete(where=F.n == 1),
    "acheck": lambda c: c.acheck(),
    "arepair": lambda c: c.arepair(),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
async def test_waiting_for_another_thread_does_not_block_the_loop(tmp_path, operation):
    async with nearfield.open(tmp_path, dimension=DIMENSION) as collection:
        documents = [Document("text", id=f"{n}", metadata={"n": n}) for n in range(10)]
        await collection.aupsert(documents, vectors=vectors(10))
        store = collection._store
        locks = [store._snapshots._lock, store._pool._write_lock]
        for lock in locks:
            lock.acquire()
        release = threading.Timer(2.0, lambda: [lock.release() for lock in locks])
        release.start()
        task = asyncio.create_task(operation(collection))
        await asyncio.sleep(0.05)
        # The loop goes on while the operation waits.
        assert all(lock.locked() for lock in locks)
        assert not task.done()
        release.cancel()
        for lock in locks:
            lock.release()
        await task


async def test_a_cancelled_task_leaves_whole_writes_and_a_collection_that_works(tmp_path):
    async with nearfield.open(tmp_path, dimension=DIMENSION) as collection:
        for turn in range(20):
            batch = [
                Document("text", id=f"{turn}-{n}", metadata={"turn": turn}) for n in range(200)
            ]
            task = asyncio.create_task(collection.aupsert(batch, vectors=vectors(200, turn)))
            await asyncio.sleep(0.0005 * turn)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await collection.aupsert([Document("last", id="last")], vectors=vectors(1))
        for turn in range(20):
            assert await collection.acount(F.turn == turn) in {0, 200}
        assert (await collection.acheck()).ok


@pytest.fixture
def held(monkeypatch):
    """What scans go through, which a thread may hold for a moment after its work is done."""
    kept = []
    scan = nearfield.Collection.scan

    def keep(collection, **options):
        kept.append(scan(collection, **options))
        return kept[-1]

    monkeypatch.setattr(nearfield.Collection, "scan", keep)
    return kept


async def test_leaving_a_scan_early_lets_go_of_the_collection(tmp_path, held):
    database = nearfield.connect(tmp_path)
    collection = database.create("notes", dimension=DIMENSION)
    await collection.aupsert(["text"] * 1000, vectors=vectors(1000))
    scan = collection.ascan()
    async for _ in scan:
        break
    await scan.aclose()
    await collection.aclose()
    database.drop("notes")
    assert len(held) == 1


async def test_cancelling_a_scan_lets_go_of_the_collection(tmp_path, held):
    database = nearfield.connect(tmp_path)
    collection = database.create("notes", dimension=DIMENSION)
    await collection.aupsert(["text"] * 5000, vectors=vectors(5000))

    async def count():
        return len([document async for document in collection.ascan()])

    for wait_s in (0, 0.001, 0.003, 0.01):
        task = asyncio.create_task(count())
        await asyncio.sleep(wait_s)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            assert await task == 5000
    await collection.aclose()
    database.drop("notes")
    assert held
