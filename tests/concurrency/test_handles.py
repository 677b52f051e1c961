"""Handles: shared by threads, opened by many at once, closed while in use, waiting for a writer."""

from __future__ import annotations

import random
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from tests.concurrency.processes import finish, run_code, start_code

import nearfield
from nearfield import Document, F
from nearfield.errors import (
    ClosedError,
    CollectionExistsError,
    CollectionInUseError,
    CollectionNotFoundError,
    StoreBusyError,
)

DIMENSION = 8


def vectors(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, DIMENSION), dtype=np.float32)


@pytest.fixture
def collection(tmp_path):
    with nearfield.open(tmp_path / "database", "notes", dimension=DIMENSION) as collection:
        collection.upsert(
            [Document(f"word{n}", id=f"{n}", metadata={"n": n}) for n in range(300)],
            vectors=vectors(300),
        )
        yield collection


@contextmanager
def other_process(folder):
    """Hold the collection open in another process, which obeys lines on its stdin."""
    process = start_code(
        """
        import sys, numpy, nearfield
        from nearfield import Document
        collection = nearfield.open(sys.argv[1], "notes", create=False)
        print(len(collection), flush=True)
        for line in sys.stdin:
            print(eval(line), flush=True)
        """,
        folder,
    )
    assert process.stdout.readline()

    def tell(expression):
        process.stdin.write(expression + "\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    try:
        yield tell
    finally:
        finish(process)


def test_another_process_sees_a_committed_write_at_its_next_call(collection, tmp_path):
    given = np.eye(DIMENSION, dtype=np.float32)
    with other_process(tmp_path / "database") as tell:
        for turn in range(40):
            axis = turn % DIMENSION
            collection.upsert(
                [Document(f"turn{turn}", id="new", metadata={"turn": turn})],
                vectors=given[axis : axis + 1],
            )
            query = f"numpy.eye({DIMENSION})[{axis}]"
            assert tell(f"collection.search({query}, k=1)[0].metadata['turn']") == str(turn)
            assert tell("collection.get('new').text") == f"turn{turn}"
            found = tell(f"[h.id for h in collection.search('turn{turn}', mode='keyword')]")
            assert found == "['new']"
            assert tell(f"collection.count({{'turn': {turn}}})") == "1"
            # And the other way round.
            tell(f"collection.upsert([Document('x', id='other-{turn}')], vectors=[{query}])")
            assert collection.get(f"other-{turn}") is not None
            tell(f"collection.delete('other-{turn}')")
            assert collection.get(f"other-{turn}") is None
        assert len(collection) == 301


def test_many_threads_share_a_handle(collection):
    def work(seed):
        rng = random.Random(seed)
        for turn in range(60):
            kind = rng.randrange(5)
            if kind == 0:
                document = Document(f"word{seed}", id=f"{seed}-{turn}", metadata={"n": -1})
                collection.upsert([document], vectors=vectors(1, seed + 1000))
                assert collection.get(document.id) == document
            elif kind == 1:
                assert len(collection.search(vectors(1, turn)[0], k=10, where=F.n >= 0)) == 10
            elif kind == 2:
                assert (
                    collection.search(f"word{turn}", mode="keyword", k=1)[0].text == f"word{turn}"
                )
            elif kind == 3:
                assert collection.count(F.n >= 0) == 300
            else:
                assert sum(1 for _ in collection.scan(where=F.n >= 0)) == 300

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, seed) for seed in range(8)]:
            done.result()
    assert collection.check().ok


def test_concurrent_upserts_of_one_id_leave_one_document(collection):
    def work(seed):
        for turn in range(25):
            collection.upsert(
                [Document(f"{seed} {turn}", id="same", metadata={"by": seed, "turn": turn})],
                vectors=vectors(1, seed * 100 + turn + 1),
            )

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(work, seed) for seed in range(6)]:
            done.result()
    assert len(collection) == 301
    found = collection.get("same", include=("text", "metadata", "embedding"))
    by, turn = found.metadata["by"], found.metadata["turn"]
    assert turn == 24  # every thread's last is later than its others
    assert found.text == f"{by} {turn}"
    assert (found.embedding == vectors(1, by * 100 + turn + 1)[0]).all()
    assert collection.check().ok


def until_closed(started, work):
    """Repeat some work until the collection is closed under it; return how often it was done."""
    started.wait()
    turn = 0
    while True:
        try:
            work(turn)
        except ClosedError:
            return turn
        turn += 1


def test_closing_while_others_work_gives_results_or_a_closed_error(tmp_path):
    finished = 0
    for turn in range(10):
        collection = nearfield.open(tmp_path / str(turn), dimension=DIMENSION)
        collection.upsert([f"word{n}" for n in range(200)], vectors=vectors(200))
        started = threading.Barrier(5)

        def search(turn, collection=collection):
            assert len(collection.search(vectors(1, turn)[0], k=7)) == 7

        def search_words(turn, collection=collection):
            assert len(collection.search("word7", k=3, mode="keyword")) == 1

        def scan(turn, collection=collection):
            assert sum(read.text.startswith("word") for read in collection.scan()) == 200

        def write(turn, collection=collection):
            collection.upsert([Document("new", id=f"{turn}")], vectors=vectors(1))
            assert collection.get(f"{turn}") is not None

        with ThreadPoolExecutor(4) as pool:
            working = [
                pool.submit(until_closed, started, work)
                for work in (search, search_words, scan, write)
            ]
            started.wait()
            time.sleep(0.03)
            collection.close()
            written = working[-1].result()
            finished += sum(work.result() for work in working)
        with pytest.raises(ClosedError):
            search(0)
        collection.close()
        with nearfield.open(tmp_path / str(turn)) as again:
            # The last write may have been committed, and its reading refused.
            assert len(again) in {200 + written, 201 + written}
            assert again.check().ok
    assert finished > 0


def test_a_scan_goes_on_after_closing_and_lets_go_at_its_end(collection, tmp_path):
    scan = collection.scan()
    first = next(scan)
    collection.close()
    assert len([first, *scan]) == 300
    nearfield.connect(tmp_path / "database").drop("notes")


def test_a_scan_is_of_the_moment_it_began(collection):
    scan = collection.scan()
    first = next(scan)
    collection.delete(where=F.n >= 100)
    collection.upsert([Document("later", id="later")], vectors=vectors(1))
    assert [read.metadata["n"] for read in (first, *scan)] == list(range(300))
    assert len(collection) == 101


@contextmanager
def held_write_lock(folder):
    """Hold the write lock, as a process in the midst of a long write would."""
    file = folder / "database" / "notes" / "collection.sqlite3"
    process = start_code(
        """
        import sqlite3, sys
        connection = sqlite3.connect(sys.argv[1], isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        print("held", flush=True)
        sys.stdin.readline()
        connection.execute("ROLLBACK")
        """,
        file,
    )
    assert process.stdout.readline() == "held\n"
    try:
        yield
    finally:
        finish(process)


def test_a_writer_waits_no_longer_than_its_timeout(collection, tmp_path):
    with (
        held_write_lock(tmp_path),
        nearfield.open(tmp_path / "database", "notes", timeout_s=0.2) as impatient,
    ):
        for write in (
            lambda: impatient.upsert(["text"], vectors=vectors(1)),
            lambda: impatient.delete("1"),
            lambda: impatient.delete(where=F.n == 1),
        ):
            with pytest.raises(StoreBusyError, match="timeout_s"):
                write()
        # Readers never wait.
        assert len(impatient.search(vectors(1)[0], k=5)) == 5
        assert len(impatient) == 300
    assert collection.delete("1") == 1


def test_a_writer_waits_for_another_thread_no_longer_than_its_timeout(tmp_path):
    with nearfield.open(tmp_path, "notes", dimension=DIMENSION, timeout_s=0.2) as collection:
        entered, leave = threading.Event(), threading.Event()

        def hold():
            with collection._store._pool.writing():
                entered.set()
                leave.wait(30)

        with ThreadPoolExecutor(1) as pool:
            holding = pool.submit(hold)
            assert entered.wait(30)
            try:
                with pytest.raises(StoreBusyError, match="thread"):
                    collection.upsert(["text"], vectors=vectors(1))
            finally:
                leave.set()
            holding.result()
        collection.upsert(["text"], vectors=vectors(1))


def test_a_writer_goes_on_as_soon_as_the_lock_is_free(collection, tmp_path):
    with ThreadPoolExecutor(1) as pool:
        with held_write_lock(tmp_path):
            writing = pool.submit(collection.upsert, ["text"], vectors=vectors(1))
            time.sleep(0.2)
            assert not writing.done()
        assert len(writing.result(timeout=30)) == 1


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_collection_in_use_is_neither_dropped_nor_renamed(tmp_path, where):
    folder = tmp_path / "database"
    database = nearfield.connect(folder)
    database.create("notes", dimension=DIMENSION).close()
    if where == "here":
        held = database.open("notes")
    else:
        held = start_code(
            """
            import sys, nearfield
            collection = nearfield.open(sys.argv[1], "notes", create=False)
            print("open", flush=True)
            sys.stdin.readline()
            collection.close()
            """,
            folder,
        )
        assert held.stdout.readline() == "open\n"
    try:
        with pytest.raises(CollectionInUseError, match="close"):
            database.drop("notes")
        with pytest.raises(CollectionInUseError, match="close"):
            database.rename("notes", "papers")
        assert database.names() == ["notes"]
    finally:
        held.close() if where == "here" else finish(held)
    database.rename("notes", "papers")
    assert database.names() == ["papers"]
    database.drop("papers")
    assert database.names() == []


def test_a_collection_that_is_open_read_only_is_not_dropped(tmp_path):
    database = nearfield.connect(tmp_path)
    with database.create("notes", dimension=DIMENSION) as collection:
        collection.upsert(["text"], vectors=vectors(1))
    with nearfield.open(tmp_path, "notes", read_only=True) as reader:
        assert len(reader) == 1
        with pytest.raises(CollectionInUseError):
            database.drop("notes")
        assert len(reader) == 1
    database.drop("notes")


def test_opening_one_new_collection_from_eight_processes_makes_one(tmp_path):
    code = f"""
        import sys, numpy, nearfield, nearfield.stores.local.database, filelock
        from nearfield import Document
        print("ready", flush=True)
        sys.stdin.readline()
        for turn in range(5):
            with nearfield.open(sys.argv[1], f"c{{turn}}", dimension={DIMENSION}) as collection:
                collection.upsert([Document("x", id=sys.argv[2])], vectors=numpy.ones((1, 8)))
    """
    processes = [start_code(code, tmp_path, number) for number in range(8)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        finish(process)
    database = nearfield.connect(tmp_path)
    assert database.names() == [f"c{turn}" for turn in range(5)]
    for name in database.names():
        with database.open(name) as collection:
            assert sorted(read.id for read in collection.scan()) == [str(n) for n in range(8)]
            assert collection.check().ok
    assert sorted(path.name for path in tmp_path.iterdir()) == [*database.names(), "nearfield.lock"]


def test_creating_dropping_and_renaming_from_many_threads_never_tears(tmp_path):
    outcomes = (CollectionExistsError, CollectionNotFoundError, CollectionInUseError)
    database = nearfield.connect(tmp_path)

    def create(name, _):
        database.create(name, dimension=DIMENSION).close()

    def drop(name, _):
        database.drop(name)

    def use(name, _):
        with database.open(name) as collection:
            collection.upsert(["text"], vectors=vectors(1))
            assert len(collection) >= 1

    def work(seed):
        rng = random.Random(seed)
        for _ in range(25):
            change = rng.choice([create, drop, use, database.rename])
            with suppress(*outcomes):
                change(*rng.sample(["one", "two", "three"], 2))

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, seed) for seed in range(4)]:
            done.result()
    for name in database.names():
        with database.open(name) as collection:
            assert collection.check().ok
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(("then", "said"), [("create", "replaced"), ("leave", "dropped")])
def test_a_handle_whose_collection_was_dropped_says_so(tmp_path, then, said):
    # A fork closes connections, and only then can others drop what this process has open.
    output = run_code(
        f"""
        import os, sys, nearfield
        from nearfield.errors import ClosedError
        collection = nearfield.open(sys.argv[1], "notes", dimension={DIMENSION})
        child = os.fork()
        if child == 0:
            database = nearfield.connect(sys.argv[1])
            database.drop("notes")
            if sys.argv[2] == "create":
                database.create("notes", dimension={DIMENSION}).close()
            os._exit(0)
        os.waitpid(child, 0)
        try:
            len(collection)
        except ClosedError as error:
            print(error)
        """,
        tmp_path,
        then,
    )
    assert said in output


@pytest.mark.parametrize(("then", "said"), [("create", "replaced"), ("leave", "dropped")])
def test_a_handle_whose_files_were_removed_does_not_go_on_with_them(tmp_path, then, said):
    # By hand, say, or to put a backup in their place: SQLite would read on in what has no name.
    with nearfield.open(tmp_path, "notes", dimension=DIMENSION) as collection:
        collection.upsert("word", vectors=vectors(1))
        shutil.rmtree(tmp_path / "notes")
        if then == "create":
            nearfield.connect(tmp_path).create("notes", dimension=DIMENSION).close()
        for use in (collection.count, lambda: collection.upsert("word", vectors=vectors(1))):
            with pytest.raises(ClosedError, match=said):
                use()


def test_the_log_does_not_grow_without_end_while_someone_reads(tmp_path):
    folder = tmp_path / "database"
    log = folder / "notes" / "collection.sqlite3-wal"
    longest = 0
    with nearfield.open(folder, "notes", dimension=768) as reader:
        for turn in range(60):  # each a process's only write, as from a command line
            with nearfield.open(folder, "notes") as writer:
                writer.upsert(
                    [Document("text", id=f"{n}") for n in range(200)],
                    vectors=np.random.default_rng(turn).standard_normal((200, 768)),
                )
            assert len(reader) == 200
            longest = max(longest, log.stat().st_size)
        assert reader.check().ok
    assert 8_000_000 <= longest < 20_000_000


def test_sqlite_never_moves_the_log_by_itself(tmp_path):
    """Up to version 3.51.2 that could lose writes: https://sqlite.org/wal.html#walresetbug."""
    with (
        nearfield.open(tmp_path, "notes", dimension=DIMENSION) as collection,
        collection._store._pool.borrow() as connection,
    ):
        assert connection.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
