"""Processes that fork, or are forked, while a collection is open."""

from __future__ import annotations

import os
import textwrap

import pytest
from tests.concurrency.processes import finish, run_code, start

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

# Each test runs in a process of its own: the test runner's threads are no part of it.
BEGIN = """
import faulthandler, os, signal, sys, threading, time
import numpy, nearfield
from nearfield import Document, F
from nearfield.errors import ForkedProcessError

faulthandler.dump_traceback_later(50, exit=True)
folder = sys.argv[1]
given = numpy.random.default_rng(0).standard_normal((500, 32), dtype="float32")
collection = nearfield.open(folder, "notes", dimension=32)
collection.upsert(
    [Document(f"word{n}", id=f"{n}", metadata={"n": n}) for n in range(500)], vectors=given
)

def use(collection, name):
    "Read and write in every way, and verify the answers."
    assert collection.search(given[3], k=1)[0].id == "3"
    assert collection.search(given[3], k=1, where=F.n > 3)[0].id != "3"
    assert [len(hits) for hits in collection.search_many(given[:40], k=2)] == [2] * 40
    assert collection.search("word7", mode="keyword", k=1)[0].id == "7"
    collection.upsert([Document(name, id=name)], vectors=given[:1])
    assert collection.get(name).text == name
    assert sum(read.id == name for read in collection.scan()) == 1

def child(work):
    "Fork; return the child's exit status once it has ended."
    pid = os.fork()
    if pid == 0:
        signal.alarm(40)  # ends a child that hangs
        try:
            work()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid

def ended(pid):
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, status
"""
END = """
assert collection.check().ok
collection.close()
with nearfield.open(folder, "notes") as collection:
    assert collection.check().ok
print("done")
"""


def run(body, folder):
    code = BEGIN + textwrap.dedent(body) + END
    assert run_code(code, folder).endswith("done\n")


def test_both_sides_work_after_an_idle_fork(tmp_path):
    run(
        """
        use(collection, "before")
        pids = [child(lambda: use(collection, f"child{n}")) for n in range(3)]
        use(collection, "parent")
        for pid in pids:
            ended(pid)
        names = ["before", "parent", "child0", "child1", "child2"]
        assert None not in collection.get(names)
        assert len(collection) == 505
        """,
        tmp_path,
    )


def test_a_child_of_a_child_works_too(tmp_path):
    run(
        """
        def generation(depth):
            use(collection, f"depth{depth}")
            if depth < 3:
                ended(child(lambda: generation(depth + 1)))
            use(collection, f"after{depth}")
        generation(0)
        assert len(collection) == 508
        """,
        tmp_path,
    )


def test_a_collection_opened_before_and_closed_in_the_child_stays_open_in_the_parent(tmp_path):
    run(
        """
        ended(child(collection.close))
        use(collection, "parent")
        other = nearfield.open(folder, "notes")
        ended(child(lambda: (other.close(), use(collection, "child"))))
        assert len(other) == 502
        other.close()
        """,
        tmp_path,
    )


def test_forking_while_threads_work_works_in_the_child_and_harms_nothing(tmp_path):
    run(
        """
        stop = threading.Event()
        errors = []
        def work(name):
            try:
                turn = 0
                while not stop.is_set():
                    use(collection, f"{name}-{turn}")
                    turn += 1
            except BaseException as error:
                errors.append(error)
        threads = [threading.Thread(target=work, args=(f"thread{n}",)) for n in range(3)]
        for thread in threads:
            thread.start()
        pids = []
        for turn in range(12):
            time.sleep(0.02)
            pids.append(child(lambda: use(collection, f"child{turn}")))
        for pid in pids:
            ended(pid)
        stop.set()
        for thread in threads:
            thread.join()
        assert not errors, errors
        assert None not in collection.get([f"child{turn}" for turn in range(12)])
        """,
        tmp_path,
    )


def test_several_threads_may_fork_at_once(tmp_path):
    run(
        """
        def work(name):
            for turn in range(5):
                ended(child(lambda: use(collection, f"{name}-{turn}")))
        threads = [threading.Thread(target=work, args=(f"thread{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(collection) == 520
        """,
        tmp_path,
    )


def test_a_fork_in_the_midst_of_a_call_is_an_error_in_the_child_and_nothing_in_the_parent(tmp_path):
    run(
        """
        from nearfield.stores.local import forks
        forks._WAIT_S = 0.2
        entered, leave = threading.Event(), threading.Event()
        def scan():
            for read in collection.scan():
                entered.set()
                leave.wait(30)
        thread = threading.Thread(target=scan)
        thread.start()
        entered.wait(30)

        def refused():
            for attempt in (
                lambda: len(collection),
                lambda: collection.upsert(["x"], vectors=given[:1]),
                lambda: nearfield.open(folder, "notes"),
                lambda: nearfield.connect(folder).drop("notes"),
            ):
                try:
                    attempt()
                except ForkedProcessError as error:
                    assert "fork" in str(error)
                else:
                    raise SystemExit("no error")
            # Other collections are none the worse.
            with nearfield.open(folder, "other", dimension=32) as other:
                other.upsert(["x"], vectors=given[:1])
        ended(child(refused))
        use(collection, "parent")
        leave.set()
        thread.join()
        ended(child(lambda: use(collection, "child")))
        """,
        tmp_path,
    )


def test_a_fork_inside_a_loop_over_documents_is_an_error_in_the_child(tmp_path):
    run(
        """
        from nearfield.stores.local import forks
        forks._WAIT_S = 0.2
        for read in collection.scan():
            def refused():
                try:
                    collection.get("1")
                except ForkedProcessError:
                    return
                raise SystemExit("no error")
            ended(child(refused))
            break
        use(collection, "parent")
        """,
        tmp_path,
    )


def test_a_fork_waits_for_a_write_that_is_under_way(tmp_path):
    run(
        """
        big = numpy.random.default_rng(1).standard_normal((3000, 32), dtype="float32")
        documents = [Document("text " * 50, id=f"big{n}") for n in range(3000)]
        thread = threading.Thread(target=lambda: collection.upsert(documents, vectors=big))
        thread.start()
        time.sleep(0.01)
        ended(child(lambda: use(collection, "child")))
        thread.join()
        assert len(collection) == 3501
        """,
        tmp_path,
    )


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing_works_with_each_start_method(tmp_path, method):
    program = tmp_path / "program.py"
    program.write_text(f"""
import multiprocessing, sys
import numpy, nearfield
from nearfield import Document

def work(number):
    vectors = numpy.random.default_rng(number).standard_normal((10, 8))
    documents = [Document("t", id=f"{{number}}-{{n}}") for n in range(10)]
    with nearfield.open(sys.argv[1]) as collection:
        collection.upsert(documents, vectors=vectors)
        return [collection.search(v, k=1)[0].score for v in vectors]

if __name__ == "__main__":
    collection = nearfield.open(sys.argv[1], dimension=8)
    collection.upsert(["first"], vectors=numpy.ones((1, 8)))
    collection.search(numpy.ones(8))
    context = multiprocessing.get_context("{method}")
    with context.Pool(3) as pool:
        scores = pool.map(work, range(6))
    assert all(score > 0.999999 for part in scores for score in part)
    assert len(collection) == 61
    assert collection.check().ok
    collection.close()
    print("done")
""")
    assert finish(start(program, tmp_path / "database")) == "done\n"
