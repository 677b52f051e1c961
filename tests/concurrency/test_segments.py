"""Segments are built while processes fork, close, end or are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest
from tests import segments
from tests.concurrency.processes import environment, run_code, start_code

from nearfield.errors import StoreBusyError

NAME = "notes"
ROWS = 300

# In a process of its own: the test runner's threads are no part of it.
BEGIN = """
import atexit, faulthandler, os, signal, sys, threading, time
import numpy, nearfield
from nearfield import Document, F
from nearfield.errors import StoreBusyError
from tests import segments

faulthandler.dump_traceback_later(100, exit=True)
folder = sys.argv[1]
given = numpy.random.default_rng(0).standard_normal((300, 16), dtype="float32")

def write(collection, numbers):
    collection.upsert([Document(f"word{n}", id=f"{n}") for n in numbers], vectors=given[numbers])

def create(policy, **options):
    "Make a collection that has rows to be sealed."
    return segments.connect(folder, policy=policy, **options).create("notes", dimension=16)

def stop_in_builds(collection):
    "Let every build stop when it has copied its rows, until it is let go."
    entered, leave = threading.Event(), threading.Event()
    compaction = collection._store._maintenance._compaction
    copy_rows = compaction._copy_rows
    def stopping(writer, task, checkpoint):
        copy_rows(writer, task, checkpoint)
        entered.set()
        while not leave.wait(0.01):
            checkpoint()
    compaction._copy_rows = stopping
    return entered, leave

def use(collection, name):
    "Read and write, and verify the answers."
    assert collection.search(given[3], k=1)[0].id == "3"
    assert [len(hits) for hits in collection.search_many(given[:40], k=2)] == [2] * 40
    collection.upsert([Document(name, id=name)], vectors=-given[:1])
    assert collection.get(name).text == name
    assert collection.search(-given[0], k=1)[0].score > 0.999

def child(work):
    "Fork; return the child's id."
    pid = os.fork()
    if pid == 0:
        signal.alarm(80)  # ends a child that hangs
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

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def code(body):
    return BEGIN + textwrap.dedent(body)


def assert_sound(folder, rows):
    """Verify that nothing is missing, and that maintenance works and leaves nothing behind."""
    with segments.reopen(folder, NAME) as collection:
        assert len(collection.search([1.0] * 16, k=1000)) == rows
        segments.maintain(collection)
        assert segments.maintain(collection) == 0
        known = sorted(record.folder for record in segments.records(collection))
        assert segments.folders(collection) == known
        assert segments.searched_rows(collection, [1.0] * 16)["segments"]
        assert collection.check().ok


@needs_fork
def test_both_sides_work_after_a_fork_during_a_build(tmp_path):
    run_code(
        code(
            """
            collection = create(segments.TINY_AUTOMATIC)
            entered, leave = stop_in_builds(collection)
            write(collection, range(300))  # wakes the thread that builds
            assert entered.wait(60)
            def work():
                use(collection, "child")
                collection.close()  # does not wait for a thread that it has not
            ended(child(work))
            use(collection, "parent")
            leave.set()
            until = time.monotonic() + 60
            while not segments.records(collection) and time.monotonic() < until:
                time.sleep(0.01)
            assert segments.records(collection)
            ended(child(lambda: use(collection, "later child")))
            collection.close()
            """
        ),
        tmp_path,
        timeout_s=110,
    )
    assert_sound(tmp_path, ROWS + 3)


@needs_fork
def test_a_child_can_build_when_the_parent_does_not(tmp_path):
    run_code(
        code(
            """
            collection = create(segments.TINY)
            write(collection, range(200))
            assert segments.maintain(collection) == 1
            use(collection, "parent")
            def work():
                write(collection, range(200, 300))
                assert segments.maintain(collection) == 1
                use(collection, "child")
            ended(child(work))
            use(collection, "parent")
            collection.close()
            """
        ),
        tmp_path,
        timeout_s=110,
    )
    assert_sound(tmp_path, ROWS + 2)


@needs_fork
def test_a_child_of_a_process_that_searched_with_several_threads_searches(tmp_path):
    """The index's teams of threads are not there after a fork, and must not be waited for."""
    run_code(
        code(
            """
            rows = numpy.random.default_rng(1).standard_normal((4000, 64), dtype="float32")
            collection = segments.connect(folder).create("notes", dimension=64)
            collection.upsert([Document("", id=f"{n}") for n in range(4000)], vectors=rows)
            assert segments.maintain(collection) == 1
            collection.search(rows[0])
            [part] = collection._store._snapshots._snapshot.parts
            [index] = part.segment._indexes.values()
            import faiss
            faiss.omp_set_num_threads(4)
            def search():
                found = index.candidates(rows[:64], 5, 1, None)
                assert found.shape == (64, 5)
            search()
            ended(child(search))
            collection.close()
            """
        ),
        tmp_path,
        timeout_s=110,
    )


def test_closing_gives_up_a_build_and_leaves_nothing(tmp_path):
    run_code(
        code(
            """
            collection = create(segments.TINY_AUTOMATIC)
            entered, leave = stop_in_builds(collection)
            write(collection, range(300))
            assert entered.wait(60)
            collection.close()  # waits until the build has been given up
            assert not [t for t in threading.enumerate() if "nearfield" in t.name]
            assert list((collection._store._maintenance._files.segments).iterdir()) == []
            """
        ),
        tmp_path,
        timeout_s=110,
    )
    assert_sound(tmp_path, ROWS)


@pytest.mark.parametrize("how", ["sys.exit()", "pass", "raise SystemExit(0)"])
def test_a_process_that_never_closes_ends_during_a_build(tmp_path, how):
    body = f"""
        collection = create(segments.TINY_AUTOMATIC)
        entered, leave = stop_in_builds(collection)
        atexit.register(lambda: use(collection, "at exit"))
        write(collection, range(300))
        assert entered.wait(60)
        {how}
        """
    process = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code(body), str(tmp_path)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
    assert_sound(tmp_path, ROWS + 1)


def test_after_a_kill_during_a_build_another_process_takes_over(tmp_path):
    process = start_code(
        code(
            """
            collection = create(segments.TINY)
            entered, leave = stop_in_builds(collection)
            write(collection, range(300))
            threading.Thread(target=lambda: segments.maintain(collection)).start()
            assert entered.wait(60)
            print("building", flush=True)
            sys.stdin.readline()
            """
        ),
        tmp_path,
    )
    try:
        assert process.stdout.readline() == "building\n"
        with segments.reopen(tmp_path, NAME, timeout_s=0.2) as collection:
            with pytest.raises(StoreBusyError, match="building segments"):
                segments.maintain(collection)
            assert len(collection.search([1.0] * 16, k=1000)) == ROWS
    finally:
        process.kill()
        process.communicate()
    assert_sound(tmp_path, ROWS)


@needs_fork
def test_a_child_does_not_keep_the_lease_of_a_parent_that_was_killed(tmp_path):
    process = start_code(
        code(
            """
            collection = create(segments.TINY)
            entered, leave = stop_in_builds(collection)
            write(collection, range(300))
            threading.Thread(target=lambda: segments.maintain(collection)).start()
            assert entered.wait(60)
            pid = child(lambda: time.sleep(70))
            print(pid, flush=True)
            sys.stdin.readline()
            """
        ),
        tmp_path,
    )
    pid = int(process.stdout.readline())
    try:
        process.kill()
        process.wait()
        assert_sound(tmp_path, ROWS)
        os.kill(pid, 0)  # the child was there throughout
    finally:
        os.kill(pid, signal.SIGKILL)
        process.communicate()


def test_threads_that_maintain_at_once_wait_for_each_other(tmp_path):
    run_code(
        code(
            """
            collection = create(segments.TINY)
            entered, leave = stop_in_builds(collection)
            write(collection, range(300))
            built, errors = [], []
            def maintain():
                try:
                    built.append(segments.maintain(collection))
                except BaseException as error:
                    errors.append(error)
            threads = [threading.Thread(target=maintain) for _ in range(3)]
            threads[0].start()
            assert entered.wait(60)
            for thread in threads[1:]:
                thread.start()
            time.sleep(0.2)  # by now they would have stopped the first
            leave.set()
            for thread in threads:
                thread.join()
            assert not errors, errors
            assert sorted(built) == [0, 0, 1]
            collection.close()
            """
        ),
        tmp_path,
        timeout_s=110,
    )


def test_maintain_takes_over_from_the_background(tmp_path):
    run_code(
        code(
            """
            collection = create(segments.TINY_AUTOMATIC)
            entered, leave = stop_in_builds(collection)
            write(collection, range(300))  # wakes the thread that builds
            assert entered.wait(60)
            compaction = collection._store._maintenance._compaction
            del compaction._copy_rows  # what is built now goes through
            assert segments.maintain(collection) >= 1  # or the background would never end
            assert collection.stats()["index"]["maintenance"] == "idle"
            use(collection, "parent")
            collection.close()
            """
        ),
        tmp_path,
        timeout_s=110,
    )
    assert_sound(tmp_path, ROWS + 1)


def test_dead_rows_leave_a_segment_without_a_call_for_it(tmp_path):
    run_code(
        code(
            """
            collection = create(segments.TINY_AUTOMATIC)
            write(collection, range(300))
            segments.maintain(collection)
            collection.delete([f"{n}" for n in range(100, 300)])
            until = time.monotonic() + 60
            while collection.stats()["index"]["rows"] != 100 and time.monotonic() < until:
                collection.search(given[0])
                time.sleep(0.01)
            assert collection.stats()["index"]["rows"] == 100
            collection.close()
            """
        ),
        tmp_path,
        timeout_s=110,
    )
    assert_sound(tmp_path, 100)
