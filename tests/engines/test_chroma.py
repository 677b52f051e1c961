"""What is Chroma's alone: its index, its batches, a folder's lock, a server that comes and goes."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from tests.engines.restarts import WRITER, Restarts
from tests.engines.sharing import Sharing

import nearfield
from nearfield import Document, F
from nearfield.errors import (
    ClosedError,
    InvalidURLError,
    StoreBusyError,
    StoreError,
    StoreUnavailableError,
    UnsupportedFilterError,
)

pytest.importorskip("chromadb", reason="chromadb is not installed")

import chromadb
import filelock

from nearfield.stores.chroma.store import ChromaStore

DIMENSION = 32
DOCUMENTS = 3000
SECRET = "s3cr3t-token"


@pytest.fixture
def folder_url(tmp_path):
    return f"chroma://{(tmp_path / 'database').as_posix()}"


@pytest.fixture(params=["a folder", "a server"])
def url(request, folder_url):
    return folder_url if request.param == "a folder" else request.getfixturevalue("chroma").url()


@pytest.fixture(scope="module")
def rows():
    numbers = np.random.default_rng(5)
    return numbers.standard_normal((DOCUMENTS, DIMENSION)).astype(np.float32)


@pytest.fixture(scope="module", params=["cosine", "euclidean"])
def indexed(request, rows, tmp_path_factory):
    """A collection that is too large to compare as a whole, written in several batches."""
    url = f"chroma://{tmp_path_factory.mktemp('indexed').as_posix()}"
    with nearfield.open(url, dimension=DIMENSION, metric=request.param) as collection:
        collection.upsert(
            [Document("", id=f"{i:04}", metadata={"n": i}) for i in range(DOCUMENTS)], vectors=rows
        )
        yield collection


def truth(metric, rows, query, k, allowed=DOCUMENTS):
    rows = rows[:allowed]
    apart = -np.linalg.norm(rows - query, axis=1)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    scores = units @ query if metric == "cosine" else apart
    return {f"{i:04}" for i in np.argsort(-scores)[:k]}


@pytest.mark.parametrize("matching", [3, 60, 900, DOCUMENTS])
def test_a_filter_never_costs_results_though_a_graph_is_searched(indexed, rows, matching):
    recalls = []
    for query in np.random.default_rng(7).standard_normal((15, DIMENSION)).astype(np.float32):
        hits = indexed.search(query, where=F.n < matching)
        assert len(hits) == min(10, matching)
        expected = truth(indexed.info.metric, rows, query, 10, matching)
        recalls.append(len(expected & {hit.id for hit in hits}) / min(10, matching))
    assert np.mean(recalls) >= 0.97


def test_everything_is_found_though_the_graph_does_not_lead_to_all(indexed, rows):
    for k in (DOCUMENTS - 1, DOCUMENTS):
        hits = indexed.search(rows[0], k=k)
        assert len({hit.id for hit in hits}) == k
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)


def test_ties_beyond_the_candidates_are_ordered_by_id(folder_url):
    with nearfield.open(folder_url, dimension=DIMENSION) as collection:
        names = [f"{i:04}" for i in np.random.default_rng(1).permutation(2000)]
        collection.upsert([Document("", id=i) for i in names], vectors=np.ones((2000, DIMENSION)))
        hits = collection.search(np.ones(DIMENSION), k=5)
        assert [hit.id for hit in hits] == ["0000", "0001", "0002", "0003", "0004"]


def test_vectors_compared_by_cosine_come_back_bit_by_bit(indexed, rows):
    found = indexed.get([f"{i:04}" for i in range(0, DOCUMENTS, 300)], include=["embedding"])
    assert all((d.embedding == rows[300 * i]).all() for i, d in enumerate(found))


def test_what_chroma_cannot_evaluate_is_refused(url):
    with nearfield.open(url, dimension=2) as collection:
        collection.upsert(Document("", id="a", metadata={"s": "text"}), vectors=[1, 0])
        for where in (
            {"s": {"$text_match": "ex"}},
            {"s": {"$text_match_insensitive": "EX"}},
            {"s": {"$gt": "t" * 29}},
            {"$or": [{"n": {"$gt": i}} for i in range(500)]},
        ):
            for call in (collection.count, lambda where: collection.search([1, 0], where=where)):
                with pytest.raises(UnsupportedFilterError, match=r"Chroma"):
                    call(where)
            with pytest.raises(UnsupportedFilterError):
                collection.delete(where=where)
        assert len(collection) == 1
        assert collection.count(F.s.in_([str(i) for i in range(4999)] + ["text"])) == 1


def test_a_collection_that_others_dropped_is_closed(url):
    with nearfield.open(url, dimension=2) as collection:
        collection.upsert("a", vectors=[1, 0])
        client = collection._store._handle._lease.client
        client.delete_collection("nearfield-default-0")
        for call in (collection.count, lambda: collection.search([1, 0])):
            with pytest.raises(ClosedError, match="dropped"):
                call()


def test_collections_of_others_are_left_alone(url):
    database = nearfield.connect(url)
    with database.create(dimension=2) as collection:
        client = collection._store._handle._lease.client
        client.create_collection("theirs", embedding_function=None)
        client.create_collection("nearfield-taken-0", embedding_function=None)
        assert database.names() == ["default", "taken"]
        with pytest.raises(StoreError, match="not made by nearfield"):
            database.open("taken")


def test_records_of_others_in_a_collection_are_an_error(url):
    with nearfield.open(url, dimension=2) as collection:
        collection.upsert("a", vectors=[1, 0])
        theirs = collection._store._handle._lease.collection
        for metadata in (None, {"n": 1}):
            theirs.upsert(ids=["theirs"], embeddings=[[0.0, 1.0]], metadatas=metadata)
            for call in (lambda: collection.search([0, 1]), lambda: collection.get("theirs")):
                with pytest.raises(StoreError, match=r"'theirs'.*not written by nearfield"):
                    call()


def test_a_folder_stays_locked_though_a_forgotten_collection_is_collected(folder_url, monkeypatch):
    forgotten = [nearfield.open(folder_url, dimension=2)]
    forgotten.append(forgotten)
    made = chromadb.PersistentClient

    def collect_and_make(*arguments):
        gc.collect()
        return made(*arguments)

    monkeypatch.setattr(chromadb, "PersistentClient", collect_and_make)
    del forgotten
    with nearfield.open(folder_url, dimension=2):
        lock = filelock.FileLock(Path(folder_url.removeprefix("chroma://")) / "nearfield.lock")
        with pytest.raises(filelock.Timeout):
            lock.acquire(timeout=0)


def test_a_filter_that_few_match_is_compared_and_not_searched_ever_deeper(indexed, monkeypatch):
    indexed.search(np.ones(DIMENSION))  # after which it is not looked for few for some seconds
    asked = []
    ask = ChromaStore._asked

    def count(store, *arguments):
        asked.append(1)
        return ask(store, *arguments)

    monkeypatch.setattr(ChromaStore, "_asked", count)
    assert len(indexed.search(np.ones(DIMENSION), where=F.n < 3)) == 3
    assert len(asked) == 1


def test_one_process_at_a_time_has_a_folder(folder_url):
    look = "import sys, nearfield; nearfield.connect(sys.argv[1], timeout_s=0.2).names()"
    command = [sys.executable, "-c", look, folder_url]
    with nearfield.open(folder_url, dimension=2):
        other = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "StoreBusyError" in other.stderr
        assert "chroma run" in other.stderr
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_looking_into_a_folder_makes_nothing(folder_url):
    assert nearfield.connect(folder_url).names() == []
    with pytest.raises(LookupError):
        nearfield.open(folder_url, create=False)
    assert not Path(folder_url.removeprefix("chroma://")).exists()


def test_a_token_comes_from_the_environment_and_is_shown_nowhere(chroma, monkeypatch, caplog):
    caplog.set_level("DEBUG")
    monkeypatch.setenv("CHROMA_API_KEY", SECRET)
    with nearfield.open(chroma.url(), dimension=2) as collection:
        client = collection._store._handle._lease.client
        assert client._server._session.headers["x-chroma-token"] == SECRET
        said = [repr(collection), str(collection.stats()), repr(nearfield.connect(chroma.url()))]
    for bad in (
        "chroma://127.0.0.1:1",
        f"chroma://user:{SECRET}@127.0.0.1:1",
        f"chroma://127.0.0.1:1?token={SECRET}",
        f"chroma://127.0.0.1:port?x={SECRET}",
    ):
        with pytest.raises((StoreUnavailableError, InvalidURLError)) as refusal:
            nearfield.connect(bad, timeout_s=0.5).names()
        said.append(str(refusal.value))
    assert SECRET not in "".join(said) + caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "chroma://",
        "chroma:///",
        "chroma:///a%00b",
        "chroma://host:99999",
        "chroma://host/path",
        "chroma://host?ssl=maybe",
        "chroma://host?nonsense=1",
        "chroma:///folder?database=x",
        "chroma://[::1",
    ],
)
def test_a_url_that_says_nothing_clear_is_refused(url):
    with pytest.raises(InvalidURLError):
        nearfield.connect(url)


def test_a_url_names_a_server_by_its_defaults():
    shown = {
        "chroma://host": "chroma://host:8000",
        "chroma://host?ssl=true": "chroma://host:443?ssl=true",
        "chroma://[::1]:9?tenant=t&database=d": "chroma://[::1]:9?tenant=t&database=d",
        "chroma://h?tenant=default_tenant": "chroma://h:8000",
    }
    for url, expected in shown.items():
        assert repr(nearfield.connect(url)) == f"Database({expected!r})"


# ── faults ───────────────────────────────────────────────────────────────────────────────────


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:1 cannot.*running"):
        nearfield.open("chroma://127.0.0.1:1", dimension=2, timeout_s=0.5)


def test_a_server_that_never_answers_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        database = nearfield.connect(f"chroma://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.3)
        with pytest.raises(StoreBusyError, match=r"timeout_s=0\.3"):
            database.names()


@pytest.fixture
def own_server():
    """A server to be killed."""
    from tests.chroma_server import ChromaServer

    with tempfile.TemporaryDirectory(prefix="nearfield-chroma-") as folder:
        server = ChromaServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()


class TestRestarts(Restarts):
    atomic_writes: ClassVar = False
    rounds: ClassVar = 1


def test_acknowledged_writes_in_a_folder_survive_kill_9(folder_url):
    command = [sys.executable, "-c", WRITER, folder_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        acknowledged = [int(writer.stdout.readline()) for _ in range(20)]
        writer.kill()
    with nearfield.open(folder_url, create=False) as collection:
        whole = {f"{number}/{i}" for number in acknowledged for i in range(3)}
        assert whole <= {document.id for document in collection.scan()}
        collection.upsert(Document("", id="more"), vectors=[0, 1])
        assert collection.search([0, 1], k=1)[0].id == "more"


class TestSharing(Sharing):
    """Both ways."""
