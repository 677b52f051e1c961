"""What is Milvus's alone: its index, its limits, Lite's folder, a server that comes and goes."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from tests.engines.proxy import Proxy
from tests.engines.restarts import WRITER, Restarts
from tests.engines.sharing import Sharing
from tests.milvus_server import where_asked_for

import nearfield
from nearfield import Document, F
from nearfield.errors import (
    ClosedError,
    InvalidDocumentError,
    InvalidURLError,
    StoreBusyError,
    StoreError,
    StoreUnavailableError,
    UnsupportedFilterError,
    UnsupportedOperationError,
)

pymilvus = pytest.importorskip("pymilvus", reason="pymilvus is not installed")

from pymilvus.client.prepare import Prepare  # noqa: E402
from pymilvus.grpc_gen.milvus_pb2 import UpsertRequest  # noqa: E402

from nearfield.stores.milvus.messages import DYNAMIC, fill  # noqa: E402
from nearfield.stores.milvus.plans import Plan  # noqa: E402
from nearfield.stores.milvus.records import encode_all, now_us, stamped  # noqa: E402

DIMENSION = 32
DOCUMENTS = 3000
SECRET = "root:s3cr3t"


@pytest.fixture
def file_url(tmp_path):
    pytest.importorskip("milvus_lite", reason="milvus-lite is not installed")
    return f"milvus://{(tmp_path / 'database.db').as_posix()}"


@pytest.fixture(params=["a file", pytest.param("a server", marks=where_asked_for)])
def url(request, file_url):
    return file_url if request.param == "a file" else request.getfixturevalue("milvus").url()


def bare(collection):
    """The client of a collection, and Milvus's name for it."""
    handle = collection._store._handle
    return handle._lease.client, handle.name


@pytest.fixture(scope="module")
def rows():
    numbers = np.random.default_rng(5)
    return numbers.standard_normal((DOCUMENTS, DIMENSION)).astype(np.float32)


@pytest.fixture(scope="module", params=["cosine", "euclidean"])
def indexed(request, rows, tmp_path_factory):
    """A collection written in several batches."""
    pytest.importorskip("milvus_lite", reason="milvus-lite is not installed")
    url = f"milvus://{tmp_path_factory.mktemp('indexed').as_posix()}/database.db"
    with nearfield.open(url, dimension=DIMENSION, metric=request.param) as collection:
        documents = [Document("", id=f"{i:04}", metadata={"n": i}) for i in range(DOCUMENTS)]
        for start in range(0, DOCUMENTS, 1000):
            part = slice(start, start + 1000)
            collection.upsert(documents[part], vectors=rows[part])
        yield collection


def test_rows_become_the_message_that_the_client_makes_of_them(file_url, rows):
    documents = [
        Document("", id="a", embedding=rows[0]),
        Document(
            "Käse " * 8000,
            id="b",
            metadata={"n": -7.25, "x": [1.5, "ja"], "y": {"é": None}},
            embedding=rows[1],
        ),
    ]
    sent = stamped(encode_all(documents, has_words=True))
    plain = []
    for row in sent:
        own = {name: value for name, value in row.items() if name != DYNAMIC}
        plain.append({**json.loads(row[DYNAMIC]), **own})
    with nearfield.open(file_url, dimension=DIMENSION) as collection:
        client, name = bare(collection)
        fields = client.describe_collection(name)["fields"]
    theirs = Prepare.row_upsert_param(name, plain, "", fields, enable_dynamic=True)
    ours = UpsertRequest(collection_name=name, num_rows=2)
    fill(ours, sent)
    for request in (theirs, ours):
        request.fields_data.sort(key=lambda column: column.field_name)
    assert ours == theirs


def truth(metric, rows, query, k, allowed=DOCUMENTS):
    rows = rows[:allowed]
    apart = -np.linalg.norm(rows - query, axis=1)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    scores = units @ query if metric == "cosine" else apart
    return {f"{i:04}" for i in np.argsort(-scores)[:k]}


@pytest.mark.parametrize("matching", [3, 900, DOCUMENTS])
def test_a_filter_never_costs_results(indexed, rows, matching):
    assert_exact(indexed, rows, matching)


def assert_exact(collection, rows, matching):
    """What a filter leaves is all compared."""
    for query in np.random.default_rng(7).standard_normal((10, DIMENSION)).astype(np.float32):
        hits = collection.search(query, where=F.n < matching)
        expected = truth(collection.info.metric, rows, query, 10, matching)
        assert {hit.id for hit in hits} == expected


@where_asked_for
def test_filters_lose_nothing_where_lists_are_searched(milvus, rows):
    half = DOCUMENTS // 2
    documents = [Document("", id=f"{i:04}", metadata={"n": i}) for i in range(DOCUMENTS)]
    url = f"{milvus.url()}&index=ivf_flat"
    with nearfield.open(url, dimension=DIMENSION) as collection, nearfield.open(url) as other:
        collection.upsert(documents[half:], vectors=rows[half:])
        report = collection.tune(target_recall=0.5)
        assert report.recall.low >= 0.5
        assert len(report.front) > 1
        collection._store._tuning._record(Plan(4, 0.5, now_us()))  # whatever was the quickest
        other._store._tuning._look_again_s = 0.0
        for each in (collection, other):
            assert each.explain(rows[0]).steps[0].plan == "4 of 1024 lists"
        collection.upsert(documents[:half], vectors=rows[:half])  # is in no list yet
        for matching in (3, half // 2, DOCUMENTS):
            assert_exact(collection, rows, matching)
            assert_exact(other, rows, matching)
        assert collection.maintain()
        assert_exact(collection, rows, half // 2)


@where_asked_for
def test_an_index_is_chosen_at_birth(milvus):
    url = milvus.url()
    with nearfield.open(url, dimension=2) as collection:
        assert len(collection.tune(queries=np.ones((3, 2)), target_recall=0.9).front) == 1
    with pytest.raises(StoreError, match=r"index=flat.*copy"):
        nearfield.open(f"{url}&index=ivf_flat", create=False)
    with pytest.raises(InvalidURLError, match="expected flat or ivf_flat"):
        nearfield.open(f"{url}&index=hnsw", create=False)


def test_everything_is_found_of_more_than_milvus_returns_at_once(indexed, rows):
    for k in (DOCUMENTS // 3, DOCUMENTS - 1, DOCUMENTS + 20_000):
        hits = indexed.search(rows[0], k=k)
        assert len({hit.id for hit in hits}) == min(k, DOCUMENTS)
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)


def test_vectors_come_back_bit_by_bit(indexed, rows):
    found = indexed.get([f"{i:04}" for i in range(0, DOCUMENTS, 300)], include=["embedding"])
    assert all((d.embedding == rows[300 * i]).all() for i, d in enumerate(found))


def test_tuning_measures_recall_and_everyone_searches_as_it_chose(indexed):
    if indexed.info.metric != "cosine":
        pytest.skip("one metric is enough: each takes seconds")
    report = indexed.tune(target_recall=0.9)
    assert report.recall.low >= 0.9
    assert sum(trade.chosen for trade in report.front) == 1
    chosen = next(trade.plan for trade in report.front if trade.chosen)
    assert indexed.explain(np.ones(DIMENSION)).steps[0].plan == chosen
    with nearfield.open(url_of(indexed), create=False) as other:
        assert other.explain(np.ones(DIMENSION)).steps[0].plan == chosen
    exact = indexed.tune(target_recall=1.0)
    assert exact.recall.mean == 1.0
    assert indexed.explain(np.ones(DIMENSION)).steps[0].plan == "every vector"
    with pytest.raises(UnsupportedOperationError, match="memory_bytes"):
        indexed.tune(memory_bytes=1)
    indexed.tune(target_recall=0.99)


def url_of(collection):
    return f"milvus://{collection._store._handle.address.folder.as_posix()}"


def test_ties_beyond_the_candidates_are_ordered_by_id(file_url):
    with nearfield.open(file_url, dimension=DIMENSION) as collection:
        names = [f"{i:04}" for i in np.random.default_rng(1).permutation(1500)]
        collection.upsert([Document("", id=i) for i in names], vectors=np.ones((1500, DIMENSION)))
        hits = collection.search(np.ones(DIMENSION), k=5)
        assert [hit.id for hit in hits] == ["0000", "0001", "0002", "0003", "0004"]


def test_many_rows_are_counted_scanned_and_deleted_whole(url):
    count = 16_384 + 500  # more than Milvus returns at once
    with nearfield.open(url, dimension=2) as collection:
        names = [f"{i * 7919 % count:05}" for i in range(count)]
        documents = [Document("", id=name, metadata={"n": int(name)}) for name in names]
        collection.upsert(documents, vectors=np.ones((count, 2)))
        assert len(collection) == count
        assert [document.id for document in collection.scan(include=())] == names
        assert collection.delete(where=F.n >= 100) == count - 100
        assert len(collection) == 100


def test_a_text_is_longer_than_one_of_milvuss_strings(url):
    text = "😀é\n\"'\\" * 30_000
    with nearfield.open(url, dimension=2) as collection:
        collection.upsert(Document(text, id="a"), vectors=[1, 0])
        assert collection.get("a").text == text
        assert collection.search([1, 0])[0].text == text


def test_a_document_too_large_is_refused_before_anything_is_written(url):
    small = Document("", id="small")
    with nearfield.open(url, dimension=2) as collection:
        for large in (
            Document("", id="large", metadata={"list": [f"element {i}" for i in range(6000)]}),
            Document("", id="large", metadata={"text": "x" * 66_000}),
            Document("x" * 17_000_000, id="large"),
        ):
            with pytest.raises(InvalidDocumentError, match="Milvus holds") as refusal:
                collection.upsert([small, large], vectors=[[1, 0]] * 2)
            assert refusal.value.position == 1
        assert len(collection) == 0


def test_ids_and_values_are_never_read_as_expressions(url):
    hard = [
        "' or id != '",
        '" or id != "',
        "\\",
        '\\"',
        "a\nb",
        "\r",
        "\t",
        "\x00",
        "%",
        "é😀",
        "]",
    ]
    with nearfield.open(url, dimension=2) as collection:
        documents = [Document("", id=text, metadata={"v": text, text: 1}) for text in hard]
        collection.upsert(documents, vectors=np.ones((len(hard), 2)))
        for text in hard:
            assert collection.get(text).metadata["v"] == text
            assert [hit.id for hit in collection.search([1, 1], where=F.v == text)] == [text]
            assert collection.count(F[text] == 1) == 1
        assert [collection.delete(text) for text in hard] == [1] * len(hard)


def test_what_milvus_cannot_evaluate_is_refused(url):
    with nearfield.open(url, dimension=2) as collection:
        collection.upsert(Document("", id="a", metadata={"s": "text"}), vectors=[1, 0])
        for where in (
            {"s": {"$text_match": "ex"}},
            {"s": {"$text_match_insensitive": "EX"}},
            {"s": {"$gt": "t" * 29}},
            {"$or": [{"n": {"$gt": i}} for i in range(600)]},
        ):
            for call in (collection.count, lambda where: collection.search([1, 0], where=where)):
                with pytest.raises(UnsupportedFilterError, match=r"Milvus"):
                    call(where)
            with pytest.raises(UnsupportedFilterError):
                collection.delete(where=where)
        assert len(collection) == 1
        assert collection.count(F.s.in_([str(i) for i in range(9999)] + ["text"])) == 1


def test_deletions_are_seen_at_once_by_all_who_have_the_collection(url):
    with (
        nearfield.open(url, dimension=2) as writer,
        nearfield.open(url, dimension=2) as reader,
    ):
        for round_ in range(5):
            writer.upsert([Document("", id=str(round_)), Document("", id="b")], vectors=np.eye(2))
            assert len(reader.search([1, 1])) == 2
            writer.delete([str(round_)])
            assert len(reader) == 1
            assert [hit.id for hit in reader.search([1, 1])] == ["b"]


def test_a_process_that_comes_new_sees_what_was_acknowledged_before(milvus):
    url = milvus.url()
    look = "import sys, nearfield; print(len(nearfield.open(sys.argv[1], create=False)))"
    with nearfield.open(url, dimension=2) as collection:
        collection.upsert([Document("", id=str(i)) for i in range(9)], vectors=np.ones((9, 2)))
        collection.delete(["3", "4"])
        done = subprocess.run(
            [sys.executable, "-c", look, url], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "7"


def test_a_collection_that_others_dropped_is_closed(url):
    with nearfield.open(url, dimension=2) as collection:
        collection.upsert("a", vectors=[1, 0])
        client, name = bare(collection)
        client.drop_collection(name)
        for call in (collection.count, lambda: collection.search([1, 0])):
            with pytest.raises(ClosedError, match="dropped"):
                call()


def test_a_collection_that_others_released_is_loaded_again(url):
    with nearfield.open(url, dimension=2) as collection:
        collection.upsert("a", vectors=[1, 0])
        assert len(collection) == 1
        client, name = bare(collection)
        client.release_collection(name)
        assert len(collection.search([1, 0])) == 1


def test_a_collection_whose_making_was_broken_off_is_finished(url):
    with nearfield.open(url, dimension=2) as collection:
        collection.upsert("a", vectors=[1, 0])
        client, name = bare(collection)
        client.release_collection(name)
        client.drop_index(name, "vector")
        with nearfield.open(url, create=False) as again:
            assert len(again.search([1, 0])) == 1


def test_collections_of_others_are_left_alone(url):
    database = nearfield.connect(url)
    with database.create(dimension=2) as collection:
        client, _ = bare(collection)
        client.create_collection("theirs", dimension=2)
        client.create_collection("nearfield_taken", dimension=2)
        assert database.names() == ["default", "taken"]
        with pytest.raises(StoreError, match="not made by nearfield"):
            database.open("taken")


def test_one_process_at_a_time_has_a_file(file_url):
    look = "import sys, nearfield; nearfield.connect(sys.argv[1], timeout_s=0.2).names()"
    command = [sys.executable, "-c", look, file_url]
    with nearfield.open(file_url, dimension=2):
        other = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "StoreBusyError" in other.stderr
        assert "one process at a time" in other.stderr
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_looking_for_a_file_makes_nothing(file_url):
    assert nearfield.connect(file_url).names() == []
    with pytest.raises(LookupError):
        nearfield.open(file_url, create=False)
    assert not Path(file_url.removeprefix("milvus://")).exists()


def test_a_file_of_an_older_milvus_lite_is_told_from_a_database(file_url):
    Path(file_url.removeprefix("milvus://")).write_bytes(b"SQLite format 3\0")
    with pytest.raises(StoreError, match="name another path"):
        nearfield.open(file_url, dimension=2)


@where_asked_for
def test_databases_are_tenants_and_hold_their_own(milvus):
    first, second = milvus.url(), milvus.url()
    for url in (first, second):
        with nearfield.open(url, "notes", dimension=2) as notes:
            notes.upsert(Document(url, id="a"), vectors=[1, 0])
    with nearfield.open(first, "notes", create=False) as notes:
        assert [document.text for document in notes.scan()] == [first]
    assert nearfield.connect(milvus.url()).names() == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_token_comes_from_the_environment_or_the_url_and_is_shown_nowhere(
    milvus, monkeypatch, caplog
):
    caplog.set_level("DEBUG")
    monkeypatch.setenv("MILVUS_TOKEN", SECRET)
    with nearfield.open(milvus.url(), dimension=2) as collection:
        client, _ = bare(collection)
        assert client._config.token == SECRET
        said = [repr(collection), str(collection.stats()), repr(nearfield.connect(milvus.url()))]
    monkeypatch.delenv("MILVUS_TOKEN")
    with_user = milvus.url().replace("//", f"//{SECRET}@")
    with nearfield.open(with_user, dimension=2) as collection:
        assert bare(collection)[0]._config.token == SECRET
        said += [repr(collection), repr(collection._store._handle.address)]
    for bad in (
        f"milvus://{SECRET}@127.0.0.1:1",
        f"milvus://127.0.0.1:1?token={SECRET}",
        f"milvus://127.0.0.1:port?x={SECRET}",
        f"milvus://root:s3cr3t/@{SECRET}@127.0.0.1:1",
    ):
        with pytest.raises((StoreUnavailableError, InvalidURLError)) as refusal:
            nearfield.connect(bad, timeout_s=0.5).names()
        said.append(str(refusal.value))
    assert "s3cr3t" not in "".join(said) + caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "milvus://",
        "milvus:///",
        "milvus:///a%00b",
        "milvus://host:99999",
        "milvus://host/path",
        "milvus://host?ssl=maybe",
        "milvus://host?nonsense=1",
        "milvus://host?database=1a",
        "milvus://host?database=a-b",
        "milvus://host?consistency=eventual",
        "milvus:///file.db?ssl=true",
        "milvus://[::1",
    ],
)
def test_a_url_that_says_nothing_clear_is_refused(url):
    with pytest.raises(InvalidURLError):
        nearfield.connect(url)


def test_a_url_names_a_server_by_its_defaults():
    shown = {
        "milvus://host": "milvus://host:19530",
        "milvus://host?ssl=true": "milvus://host:443?ssl=true",
        "milvus://[::1]:9?database=d": "milvus://[::1]:9?database=d",
        "milvus://user:secret@h?database=default": "milvus://h:19530",
    }
    for url, expected in shown.items():
        assert repr(nearfield.connect(url)) == f"Database({expected!r})"


# ── faults ───────────────────────────────────────────────────────────────────────────────────


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:1 cannot.*running"):
        nearfield.open("milvus://127.0.0.1:1", dimension=2, timeout_s=0.5)


def test_a_server_that_never_answers_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        database = nearfield.connect(f"milvus://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.3)
        with pytest.raises((StoreBusyError, StoreUnavailableError)):
            database.names()


ONE = Document("", id="1", metadata={"n": 1})
CALLS = {
    "get": lambda collection: collection.get("1").id == "1",
    "count": lambda collection: collection.count(F.n < 3) == 3,
    "search": lambda collection: len(collection.search([1, 0])) == 10,
    "upsert": lambda collection: collection.upsert(ONE, vectors=[1, 1]) == ["1"],
    "scan": lambda collection: len(list(collection.scan())) == 600,
    "stats": lambda collection: collection.stats()["documents"] == 600,
    "delete": lambda collection: collection.delete("no") == 0,
}


@pytest.fixture
def proxied(milvus):
    """A collection behind a network that fails, and that network."""
    relay = Proxy(milvus.port)
    url = milvus.url().replace(str(milvus.port), str(relay.port))
    with nearfield.open(url, dimension=2) as collection:
        documents = [Document("", id=str(i), metadata={"n": i}) for i in range(600)]
        collection.upsert(documents, vectors=np.ones((600, 2)))
        assert len(collection) == 600
        yield collection, relay
    relay.close()


def test_a_call_is_repeated_where_the_connection_was_cut(proxied):
    collection, relay = proxied
    for name, call in CALLS.items():
        relay.cut()
        assert call(collection), name


def test_a_call_ends_in_time_where_the_server_falls_silent_and_works_again_after(proxied):
    collection, relay = proxied
    handle = collection._store._handle
    patient = handle.address
    handle.address = type(patient)(
        **{
            **{name: getattr(patient, name) for name in type(patient).__slots__},
            "timeout_s": 0.5,
        }
    )
    relay.withhold_answers()
    for name, call in CALLS.items():
        with pytest.raises((StoreBusyError, StoreUnavailableError)):
            pytest.fail(f"{name}: {call(collection)}")
    relay.relay_answers()
    handle.address = patient
    for name, call in CALLS.items():
        assert call(collection), name


@pytest.fixture
def own_server():
    """A server to be killed."""
    from tests.milvus_server import MilvusServer

    with tempfile.TemporaryDirectory(prefix="nearfield-milvus-") as folder:
        server = MilvusServer(Path(folder))
        server.start()
        database = server.url()
        server.url = lambda: database
        try:
            yield server
        finally:
            server.kill()


@where_asked_for
class TestRestarts(Restarts):
    atomic_writes: ClassVar = False
    rounds: ClassVar = 1


def test_acknowledged_writes_in_a_file_survive_kill_9(file_url):
    command = [sys.executable, "-c", WRITER, file_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        acknowledged = [int(writer.stdout.readline()) for _ in range(20)]
        writer.kill()
    with nearfield.open(file_url, create=False) as collection:
        whole = {f"{number}/{i}" for number in acknowledged for i in range(3)}
        assert whole <= {document.id for document in collection.scan()}
        collection.upsert(Document("", id="more"), vectors=[0, 1])
        assert collection.search([0, 1], k=1)[0].id == "more"


class TestSharing(Sharing):
    """A file, and a server."""
