"""An ingest by workers writes what an ingest without them writes, whoever dies meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import psutil
import pytest
import threadpoolctl
from tests.dask_cluster import dask_cluster
from tests.embedders import HashingEmbedder
from tests.ingest.files import make_docx, make_pdf

import nearfield
from nearfield import Document
from nearfield.embedders import CachedEmbedder, MiniLMEmbedder
from nearfield.errors import (
    EmbedderMismatchError,
    InvalidInputError,
    InvalidURLError,
    WorkerError,
    WorkerLostError,
)
from nearfield.ingest import (
    TextChunker,
    async_sync,
    dask_workers,
    sync,
    sync_documents,
    worker,
)
from nearfield.ingest.distribution import Distribution
from nearfield.ingest.entries import Markup
from nearfield.ingest.local_workers import LocalWorkers
from nearfield.ingest.worker import Equipment
from nearfield.ingest.workers import hired

PROSE = " ".join(f"Sentence number {n} speaks of topic {n % 7}." for n in range(60))
CHUNKER = TextChunker(120)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with dask_cluster(tmp_path_factory.mktemp("dask"), workers=2) as cluster:
        yield cluster


@pytest.fixture(params=["two processes", "a Dask cluster"])
def workers(request):
    return 2 if request.param == "two processes" else request.getfixturevalue("cluster").url


@pytest.fixture
def folder(tmp_path):
    """Every kind of file, and some that cannot be read or stored."""
    root = tmp_path / "docs"
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_text(PROSE)
    (root / "b.md").write_text(f"# Top\n\nShort.\n\n## Detail\n\n{PROSE}\n")
    (root / "sub" / "c.html").write_text("<title>Page</title><h1>Head</h1><p>Words.</p>")
    (root / "sub" / "d.csv").write_text("name,year\nada,1815\ngrace,1906\nalan,1912\n")
    (root / "e.pdf").write_bytes(make_pdf(["First page.", "Second page."]))
    (root / "f.docx").write_bytes(make_docx())
    records = [{"id": f"r{n}", "text": f"Record {n}. {PROSE[:300]}"} for n in range(4)]
    records.insert(2, {"id": "deep", "text": "two", "deep": json.loads("[" * 40 + "]" * 40)})
    (root / "g.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (root / "blank.txt").write_text(" \n")
    (root / "bad.txt").write_bytes(b"caf\xe9")
    (root / "bad.pdf").write_bytes(b"%PDF-1.7 nothing")
    return root


@pytest.fixture
def database(tmp_path):
    """Open a database by name; the model is the one that comes along, which has a name."""
    with contextlib.ExitStack() as stack:
        yield lambda name="db": stack.enter_context(nearfield.open(tmp_path / name))


def contents(collection):
    """Everything the collection holds, by id, the embeddings to the bit."""
    found = {}
    for d in collection.scan(include=("text", "metadata", "embedding")):
        assert d.id not in found
        found[d.id] = (d.text, json.dumps(dict(d.metadata)), d.embedding.tobytes())
    return found


def told(report):
    """What a report says, but for the time it took and the order of failures."""
    counts = (report.added, report.updated, report.unchanged, report.removed, report.empty)
    return counts, report.chunks_written, report.skipped, {*report.failures}


def edit(folder):
    (folder / "a.txt").write_text(PROSE[:700])
    (folder / "sub" / "c.html").unlink()
    (folder / "sub" / "d.csv").write_text("name,year\nada,1815\ngrace,1907\n")
    (folder / "new.md").write_text(f"# New\n\n{PROSE}")


# ── what is written ──────────────────────────────────────────────────────────────────────────


def test_the_same_documents_byte_for_byte_and_the_same_report(database, folder, workers):
    alone, shared = database("alone"), database("shared")
    options = {"batch_size": 8, "prune": True}
    expected = sync(alone, folder, **options)
    assert expected.added == 12
    assert len(expected.failures) == 3
    report = sync(shared, folder, workers=workers, **options)
    assert told(report) == told(expected)
    assert contents(shared) == contents(alone)
    assert told(sync(shared, folder, workers=workers, **options)) == told(
        sync(alone, folder, **options)
    )
    edit(folder)
    expected = sync(alone, folder, **options)
    assert (expected.updated, expected.removed) == (2, 2)
    assert told(sync(shared, folder, workers=workers, **options)) == told(expected)
    assert contents(shared) == contents(alone)


class Paragraphs:
    """A chunker that no worker can make."""

    fingerprint = "paragraphs"

    def split(self, text, *, markup=Markup.PLAIN):  # noqa: ARG002  # the protocol's
        return [part for part in text.split("\n\n") if part.strip()]


@pytest.mark.parametrize(
    "chunker",
    [TextChunker(150, overlap=60), TextChunker(40, size=len), Paragraphs()],
    ids=["sizes", "a function", "a class"],
)
def test_the_chunks_are_those_of_the_chunker_that_was_given(database, folder, chunker):
    for name in ("bad.pdf", "bad.txt", "e.pdf", "f.docx"):
        (folder / name).unlink()
    (folder / "a.txt").write_text(PROSE[:400])
    alone, shared = database("alone"), database("shared")
    expected = sync(alone, folder, chunker=chunker)
    assert told(sync(shared, folder, chunker=chunker, workers=1)) == told(expected)
    assert contents(shared) == contents(alone)


def test_documents_that_are_no_files_too_and_of_two_with_one_id_the_last(database, workers):
    given = [Document(f"{n}. {PROSE[:200]}", id=f"d{n}", metadata={"n": n}) for n in range(40)]
    given += [Document(" ", id="blank"), Document("x", id="bad", metadata={"value": object()})]
    given += [Document(f"Later, {n}.", id=f"d{n}") for n in range(3)]
    alone, shared = database("alone"), database("shared")
    expected = sync_documents(alone, given, chunker=CHUNKER)
    report = sync_documents(shared, iter(given), chunker=CHUNKER, workers=workers)
    assert told(report) == told(expected)
    assert contents(shared) == contents(alone)
    options = {"prune": {"n": {"$gte": 5}}, "chunker": CHUNKER}
    assert sync_documents(shared, given[:10], workers=workers, **options).removed == 30
    sync_documents(alone, given[:10], **options)
    assert contents(shared) == contents(alone)


def test_a_document_of_many_chunks_is_written_in_one_transaction(database, folder, tmp_path):
    path = tmp_path / "large.txt"
    path.write_text(PROSE)
    collection = database()
    seen, ahead = set(), set()

    def tell(progress):
        seen.add((progress.chunks_written, collection.count()))
        ahead.add(progress.bytes_done)

    report = sync(collection, path, chunker=CHUNKER, batch_size=2, on_progress=tell, workers=2)
    assert report.chunks_written == 20
    assert seen == {(0, 0), (report.chunks_written, report.chunks_written)}
    assert len(ahead) > 5


def test_progress_never_goes_back_and_ends_at_the_totals(database, folder):
    told_of = []
    report = sync(database(), folder, batch_size=3, on_progress=told_of.append, workers=2)
    for before, after in itertools.pairwise(told_of):
        assert before.files_done <= after.files_done
        assert before.bytes_done <= after.bytes_done
        assert before.chunks_written <= after.chunks_written
    last = told_of[-1]
    assert (last.files_done, last.bytes_done) == (last.files_total, last.bytes_total)
    assert last.chunks_written == report.chunks_written
    assert report.chunks_per_s == pytest.approx(report.chunks_written / report.seconds)


def test_the_coordinator_reads_a_little_ahead_and_no_more(database):
    collection = database()
    most = 0

    def give():
        nonlocal most
        for number in range(500):
            most = max(most, number - len(collection))
            yield Document(f"Note {number}.", id=str(number))

    sync_documents(collection, give(), batch_size=2, workers=1)
    assert len(collection) == 500
    assert most < 250


async def test_the_async_twin_too_and_a_cancelled_one_has_ended(database, folder):
    collection = database()
    assert (await async_sync(collection, folder, workers=1)).added == 12
    reached = threading.Event()
    task = asyncio.create_task(
        async_sync(
            collection, folder, chunker=CHUNKER, workers=1, on_progress=lambda _: reached.set()
        )
    )
    await asyncio.to_thread(reached.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not children()


def test_workers_keep_embeddings_in_the_cache(tmp_path, folder):
    cache = tmp_path / "cache.sqlite3"
    with (
        CachedEmbedder(MiniLMEmbedder(), cache) as embedder,
        nearfield.open(tmp_path / "one", embedder=embedder) as collection,
    ):
        sync(collection, folder, workers=2)
        assert (embedder.hits, embedder.misses) == (0, 0)
    with (
        CachedEmbedder(MiniLMEmbedder(), cache) as embedder,
        nearfield.open(tmp_path / "two", embedder=embedder) as collection,
    ):
        report = sync(collection, folder)
        assert (embedder.hits, embedder.misses) == (report.chunks_written, 0)


# ── who dies ─────────────────────────────────────────────────────────────────────────────────


def children():
    """The workers of this process that are alive."""
    found = []
    for each in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # what is dead and not waited for, too
            if "local_workers" in " ".join(each.cmdline()):
                found.append(each)
    return found


def make_notes(folder, count):
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.txt").write_text(f"Note {number} tells of the number {number * 7}.")
    return folder


def test_a_killed_process_is_replaced_and_everything_arrives_once(database, tmp_path):
    notes = make_notes(tmp_path / "notes", 120)
    alone, shared = database("alone"), database("shared")
    killed = []

    def kill(progress):
        if progress.chunks_written > 8 * len(killed) and len(killed) < 4:
            for victim in children()[:1]:
                killed.append(victim.pid)
                victim.kill()

    sync(alone, notes)
    report = sync(shared, notes, batch_size=4, workers=2, on_progress=kill)
    assert len(set(killed)) > 1
    assert (report.added, report.failures) == (120, ())
    assert contents(shared) == contents(alone)
    assert not children()


def test_a_killed_worker_of_a_cluster_is_replaced_and_everything_arrives_once(
    database, tmp_path, cluster
):
    notes = make_notes(tmp_path / "notes", 300)
    alone, shared = database("alone"), database("shared")
    killed = []

    def kill(progress):
        if progress.chunks_written and not killed:
            killed.append(cluster.pids()[0])
            os.kill(killed[0], signal.SIGKILL)

    sync(alone, notes)
    report = sync(shared, notes, batch_size=4, workers=cluster.url, on_progress=kill)
    assert killed
    assert (report.added, report.failures) == (300, ())
    assert contents(shared) == contents(alone)


def test_a_task_at_which_a_cluster_loses_its_workers_is_given_up(cluster):
    with hired(cluster.url) as crew:
        lost = crew.executor.submit(os._exit, 1)
        with pytest.raises(WorkerLostError, match="died, one after another"):
            Distribution(crew, None).result(lost)
        assert Distribution(crew, None).result(crew.executor.submit(abs, -3)) == 3


DEADLY = """
import os, sys

def look(frame, event, argument):
    if event == "call" and frame.f_code.co_name == "embed_documents":
        if any("deadly" in text for text in frame.f_locals.get("texts", ())):
            os._exit(7)

sys.setprofile(look)
"""


@pytest.fixture
def deadly_texts(tmp_path, monkeypatch):
    """Let workers, which read this as they start, die at texts as if the model had crashed."""
    folder = tmp_path / "startup"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(DEADLY)
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.mark.usefixtures("deadly_texts")
def test_a_document_at_which_workers_die_is_named_and_the_others_are_written(database):
    given = [Document(f"Note {n}.", id=f"d{n}") for n in range(20)]
    given[7] = Document("It is deadly.", id="d7")
    collection = database()
    report = sync_documents(collection, given, chunker=Paragraphs(), workers=2)
    assert report.added == 19
    (failure,) = report.failures
    assert failure.source == "d7"
    assert "a worker died 3 times" in failure.reason
    assert "exit status 7" in failure.reason


@pytest.mark.usefixtures("deadly_texts")
def test_where_workers_die_at_everything_the_ingest_ends(database):
    given = [Document(f"deadly {n}", id=f"d{n}") for n in range(500)]
    with pytest.raises(WorkerError, match="hardly the files"):
        sync_documents(database(), given, chunker=Paragraphs(), batch_size=8, workers=1)
    assert not children()


def test_a_call_is_tried_three_times_and_the_next_has_a_worker_again():
    with LocalWorkers(1, threads=1) as workers:
        with pytest.raises(WorkerLostError, match="signal 9"):
            workers.submit(os.kill, 0, signal.SIGKILL).result()
        first = workers.submit(os.getpid).result()
        assert workers.submit(os.getpid).result() == first != os.getpid()
        with pytest.raises(WorkerError, match="a worker failed: ValueError: invalid literal"):
            workers.submit(int, "x").result()
        workers.submit(print, "not an answer", flush=True).result()
        assert workers.submit(abs, -3).result() == 3
    assert not psutil.pid_exists(first)


def test_workers_share_the_processors_among_them():
    with LocalWorkers(2, threads=1) as workers:
        pools = workers.submit(threadpoolctl.threadpool_info).result()
        assert pools
        assert {pool["num_threads"] for pool in pools} == {1}


COMMAND = [sys.executable, "-m", "nearfield", "ingest", "--workers", "2", "--no-cache"]


def ingesting(notes, db):
    """Start the command and wait until it has written something."""
    process = subprocess.Popen(
        [*COMMAND, notes, "--db", db], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while True:
        assert process.poll() is None, process.communicate()
        try:
            with nearfield.open(db, create=False, read_only=True) as collection:
                if len(collection):
                    return process
        except nearfield.errors.CollectionNotFoundError:
            time.sleep(0.02)


def test_a_killed_coordinator_takes_its_workers_along_and_the_command_goes_on(database, tmp_path):
    notes = make_notes(tmp_path / "notes", 600)
    process = ingesting(notes, tmp_path / "db")
    workers = psutil.Process(process.pid).children()
    assert len(workers) == 2
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(workers, 30)
    assert not alive
    with nearfield.open(tmp_path / "db") as collection:
        kept = len(collection)
    assert 0 < kept < 600
    done = subprocess.run(
        [*COMMAND, notes, "--db", tmp_path / "db", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert (report["unchanged"], report["added"]) == (kept, 600 - kept)
    assert report["chunks_per_s"] > 0
    alone = database("alone")
    sync(alone, notes)
    with nearfield.open(tmp_path / "db") as collection:
        assert contents(collection) == contents(alone)


def test_an_interrupted_command_leaves_no_process_behind(tmp_path):
    notes = make_notes(tmp_path / "notes", 600)
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from nearfield.cli import main; main()"
    )
    command = [sys.executable, "-c", program, *COMMAND[3:], notes, "--db", tmp_path / "db"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 60
        while len(psutil.Process(process.pid).children()) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        workers = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.startswith(b"interrupted: ")
    assert err.count(b"\n") == 1
    _, alive = psutil.wait_procs(workers, 30)
    assert not alive


# ── what is refused ──────────────────────────────────────────────────────────────────────────


def test_an_embedder_without_a_name_is_refused_at_once(tmp_path, folder):
    with (
        nearfield.open(tmp_path / "db", embedder=HashingEmbedder()) as collection,
        pytest.raises(InvalidInputError, match="'hashing-64' is none that"),
    ):
        sync(collection, folder, workers=2)


def test_a_worker_that_would_do_otherwise_than_the_coordinator_refuses():
    embedder, chunker = MiniLMEmbedder(), TextChunker.for_embedder(MiniLMEmbedder())
    same = Equipment(
        embedder="minilm",
        fingerprint=embedder.info.fingerprint,
        cache=None,
        threads=1,
        chunker=chunker.settings,
        chunking=chunker.fingerprint,
    )
    assert worker.split(same, []) == []
    with pytest.raises(EmbedderMismatchError, match="same version of nearfield"):
        worker.embed(replace(same, fingerprint="minilm/older"), ["text"])
    for other in (replace(same, readers=0), replace(same, chunking="text/0")):
        with pytest.raises(WorkerError, match="same version of nearfield"):
            worker.split(other, [])


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "many", "0", "", 5000])
def test_workers_are_a_number_or_a_scheduler(database, folder, workers):
    with pytest.raises(InvalidInputError, match="expected a number of processes"):
        sync(database(), folder, workers=workers)


@pytest.mark.parametrize("url", ["dask://", "dask://a:b", "dask://u@h:1", "dask://h:1/path"])
def test_a_url_that_names_no_scheduler_is_refused(database, folder, url):
    with pytest.raises(InvalidURLError, match="expected dask://host:8786"):
        sync(database(), folder, workers=url)


def test_a_scheduler_that_does_not_answer_is_named(database, folder, monkeypatch):
    pytest.importorskip("distributed", reason="Dask is not installed")
    monkeypatch.setattr(dask_workers, "_CONNECT_S", 0.5)
    with pytest.raises(WorkerError, match=r"answers at dask://127\.0\.0\.1:9 "):
        sync(database(), folder, workers="dask://127.0.0.1:9")


def test_a_cluster_without_workers_is_not_waited_for_without_end(
    database, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(dask_workers, "_NO_WORKERS_S", 0.5)
    (tmp_path / "dask").mkdir()
    with (
        dask_cluster(tmp_path / "dask", workers=0) as idle,
        pytest.raises(WorkerError, match=r"has had no workers for 0\.5 s"),
    ):
        sync(database(), folder, workers=idle.url)


def test_a_scheduler_that_dies_ends_the_ingest_and_what_was_written_stays(database, tmp_path):
    notes = make_notes(tmp_path / "notes", 200)
    (tmp_path / "dask").mkdir()
    collection = database()
    with dask_cluster(tmp_path / "dask", workers=1) as cluster:

        def kill(progress):
            if progress.chunks_written:
                cluster.kill_scheduler()

        with pytest.raises(WorkerError, match="run again"):
            sync(collection, notes, batch_size=4, workers=cluster.url, on_progress=kill)
    kept = len(collection)
    assert 0 < kept < 200
    assert sync(collection, notes).unchanged == kept
