"""What is Pinecone's alone: its limits, its namespaces, its delays, a service that fails."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from tests.engines.restarts import Restarts
from tests.engines.sharing import Sharing
from tests.pinecone_emulator import MAX_METADATA, MAX_REQUEST, compiled
from tests.pinecone_server import PineconeServer, pinecone_server

import nearfield
from nearfield import Document, F
from nearfield.errors import (
    ClosedError,
    CollectionExistsError,
    InvalidDocumentError,
    InvalidInputError,
    InvalidURLError,
    ReadOnlyError,
    StorageFullError,
    StoreBusyError,
    StoreError,
    StoreUnavailableError,
    UnsupportedFilterError,
)

pytest.importorskip("pinecone", reason="pinecone is not installed")

from pinecone.errors import ForbiddenError

from nearfield.stores.pinecone.catalog import Catalog

SECRET = "pcsk_s3cr3t-key"


@pytest.fixture
def collection(own_pinecone):
    """Ten documents, on an emulator of their own."""
    with nearfield.open(own_pinecone.url(), dimension=2, timeout_s=5) as made:
        documents = [Document("", id=str(i), metadata={"n": i}) for i in range(10)]
        made.upsert(documents, vectors=[[1, i] for i in range(10)])
        made.search([1, 0])
        own_pinecone.behave()
        yield made


# ── what is written ──────────────────────────────────────────────────────────────────────────


def test_batches_keep_to_pinecones_count_and_bytes(own_pinecone):
    with nearfield.open(own_pinecone.url(), dimension=512) as collection:
        rows = np.random.default_rng(0).standard_normal((2_300, 512)).astype(np.float32)
        own_pinecone.behave()
        collection.upsert([Document("x" * 500, id=str(i)) for i in range(2_300)], vectors=rows)
        asked = [each for each in own_pinecone.behave() if each["path"].endswith("upsert")]
        assert sum(each["vectors"] for each in asked) == 2_300
        assert max(each["bytes"] for each in asked) <= MAX_REQUEST
        assert min(each["bytes"] for each in asked[:-1]) > MAX_REQUEST / 4
    with nearfield.open(own_pinecone.url(), dimension=2) as collection:
        collection.upsert(
            [Document("", id=str(i)) for i in range(2_500)], vectors=np.ones((2500, 2))
        )
        asked = [each for each in own_pinecone.behave() if each["path"].endswith("upsert")]
        assert max(each["vectors"] for each in asked) == 1_000
        assert collection.delete([str(i) for i in range(2_500)]) == 2_500
        asked = [each for each in own_pinecone.behave() if each["path"].endswith("delete")]
        assert sorted(each["ids"] for each in asked) == [500, 1_000, 1_000]


def test_a_document_that_does_not_fit_is_refused_before_anything_is_written(pinecone):
    with nearfield.open(pinecone.url(), dimension=2) as collection:
        good = Document("é" * 17_000, id="good", metadata={"k" * 100: "v" * 1000})
        large = Document("é" * 20_000, id="large")
        with pytest.raises(
            InvalidDocumentError, match=r"'large'.*40,000 of them for its text.*small"
        ):
            collection.upsert([good, large], vectors=np.ones((2, 2)))
        assert len(collection) == 0
        collection.upsert(good, vectors=[1, 0])
        assert collection.get("good") == good


@pytest.mark.parametrize(
    "name", ["~", "~a", "ü", "a" * 513, "ü" * 2048, "a/b?c#d&e=%41", "\x00", "."]
)
def test_any_id_can_be_a_documents(pinecone, name):
    with nearfield.open(pinecone.url(), dimension=2) as collection:
        others = [Document("", id=other) for other in ("~~", "%41", "~%41", "~%C3%BC", "a" * 512)]
        collection.upsert([Document("it", id=name), *others], vectors=np.eye(6)[:, :2] + 1)
        assert collection.get(name).text == "it"
        assert collection.search([2, 1], ids=name)[0].id == name
        assert collection.delete(name) == 1
        assert len(collection) == 5


def test_vectors_of_zeros_are_kept_though_pinecone_takes_none(pinecone):
    with nearfield.open(pinecone.url(), dimension=3, metric="euclidean") as collection:
        collection.upsert(
            [Document("", id="0"), Document("", id="1")], vectors=[[0] * 3, [3, 0, 4]]
        )
        assert collection.get("0", include=["embedding"]).embedding.tolist() == [0, 0, 0]
        hits = collection.search([0, 0, 0])
        assert [(hit.id, hit.score) for hit in hits] == [("0", 1.0), ("1", 1 / 6)]


def test_a_dimension_that_pinecone_has_not_is_refused(pinecone):
    with pytest.raises(InvalidInputError, match="20,000"):
        nearfield.open(pinecone.url(), dimension=20_001)


# ── what is found ────────────────────────────────────────────────────────────────────────────


def test_large_answers_are_fetched_in_parts(own_pinecone):
    with nearfield.open(own_pinecone.url(), dimension=8) as collection:
        count = 400
        rows = np.random.default_rng(1).standard_normal((count, 8)).astype(np.float32)
        documents = [Document("w" * 30_000, id=f"{i:03}") for i in range(count)]
        collection.upsert(documents, vectors=rows)
        hits = collection.search(rows[0], k=300)
        assert len({hit.id for hit in hits}) == 300
        assert hits[0].id == "000"
        assert hits[0].document.text == documents[0].text


@pytest.mark.parametrize("where", [None, F.n < 150])
def test_everything_is_found_though_the_index_loses_some(own_pinecone, where):
    with nearfield.open(own_pinecone.url(), dimension=4) as collection:
        rows = np.random.default_rng(2).standard_normal((300, 4)).astype(np.float32)
        documents = [Document("", id=str(i), metadata={"n": i}) for i in range(300)]
        collection.upsert(documents, vectors=rows)
        own_pinecone.behave(lossy=0.2)
        matching = 300 if where is None else 150
        for k in (matching - 10, matching, matching + 10):
            hits = collection.search(rows[0], k=k, where=where)
            assert len({hit.id for hit in hits}) == min(k, matching)
            scores = [hit.score for hit in hits]
            assert scores == sorted(scores, reverse=True)


def test_what_pinecone_cannot_evaluate_is_refused(collection):
    for where in (
        {"s": {"$text_match": "ex"}},
        {"s": {"$text_match_insensitive": "EX"}},
        {"s": {"$gt": "t" * 25}},
        {"n": {"$in": list(range(10_001))}},
    ):
        for call in (collection.count, lambda where: collection.search([1, 0], where=where)):
            with pytest.raises(UnsupportedFilterError, match=r"Pinecone"):
                call(where)
        with pytest.raises(UnsupportedFilterError):
            collection.delete(where=where)
    assert len(collection) == 10
    assert collection.count(F.n.in_(list(range(5, 9_999)))) == 5


# ── reading one's own writes ─────────────────────────────────────────────────────────────────


def test_writes_are_seen_though_the_index_lags(own_pinecone):
    with (
        nearfield.open(own_pinecone.url(), dimension=2) as first,
        nearfield.open(own_pinecone.url("other"), dimension=2) as stranger,
    ):
        stranger.upsert("a", vectors=[1, 0])
        own_pinecone.behave(lag_s=0.2)
        second = nearfield.open(first.stats()["server"], create=False)
        asks = [
            lambda handle, number: handle.search([1, number], k=1)[0].id == str(number),
            lambda handle, number: handle.get(str(number)) is not None,
            lambda handle, number: handle.count() == number + 1,
            lambda handle, number: handle.count(F.n == number) == 1,
            lambda handle, number: [each.id for each in handle.scan()][-1] == str(number),
        ]
        for number in range(5):
            writer, reader = (first, second)[:: 1 - 2 * (number % 2)]
            writer.upsert(Document("", id=str(number), metadata={"n": number}), vectors=[1, number])
            assert asks[number](reader, number)  # each is the first to ask, once
            assert all(ask(reader, number) for ask in asks)
        assert first.delete(["0", "4"]) == 2
        assert first.delete("1") == 1
        assert [hit.id for hit in first.search([1, 2])] == ["2", "3"]
        assert first.delete(where=F.n >= 0) == 2
        assert second.search([1, 1]) == []
        assert len(first) == 0
        second.close()


def test_an_index_that_does_not_catch_up_is_an_error_and_nothing_is_lost(own_pinecone):
    with nearfield.open(own_pinecone.url(), dimension=2, timeout_s=0.5) as collection:
        collection.upsert(Document("", id="a"), vectors=[1, 0])
        own_pinecone.behave(lag_s=1.5)
        collection.upsert(Document("", id="b"), vectors=[0, 1])
        for call in (lambda: collection.search([1, 0]), lambda: collection.get("b")):
            with pytest.raises(StoreBusyError, match=r"catch up.*timeout_s=0\.5.*nothing is lost"):
                call()
        time.sleep(1)
        assert len(collection.search([1, 0])) == 2


def test_a_server_that_numbers_no_writes_is_said_to_be_eventual(own_pinecone):
    own_pinecone.behave(numbers=False)
    with nearfield.open(own_pinecone.url(), dimension=2) as collection:
        collection.upsert(Document("", id="a"), vectors=[1, 0])
        assert not collection._store.capabilities.read_your_writes
    own_pinecone.behave(numbers=True)
    with nearfield.open(own_pinecone.url(), dimension=2) as collection:
        collection.upsert(Document("", id="a"), vectors=[1, 0])
        assert collection._store.capabilities.read_your_writes


# ── collections ──────────────────────────────────────────────────────────────────────────────


def test_collections_of_one_kind_share_an_index_and_tenants_do_not_meet(own_pinecone):
    for tenant in ("anna", "bert"):
        for name in ("a", "b"):
            with nearfield.open(own_pinecone.url(tenant), name, dimension=2) as collection:
                collection.upsert(Document(tenant, id=name), vectors=[1, 0])
    made = [
        each
        for each in own_pinecone.behave()
        if (each["method"], each["path"]) == ("POST", "/indexes")
    ]
    assert len(made) == 1
    for tenant in ("anna", "bert"):
        assert nearfield.connect(own_pinecone.url(tenant)).names() == ["a", "b"]
        with nearfield.open(own_pinecone.url(tenant), "a") as collection:
            assert [document.text for document in collection.scan()] == [tenant]
    nearfield.connect(own_pinecone.url("anna")).drop("a")
    assert nearfield.connect(own_pinecone.url("bert")).names() == ["a", "b"]
    assert nearfield.connect(own_pinecone.url("anna")).names() == ["b"]


def test_a_name_that_a_renamed_collection_had_is_free(own_pinecone):
    database = nearfield.connect(own_pinecone.url())
    for number in range(3):
        with database.create("a", dimension=2) as collection:
            collection.upsert(Document(str(number), id="x"), vectors=[1, 0])
        database.rename("a", f"b{number}")
    assert database.names() == ["b0", "b1", "b2"]
    database.drop("b1")
    with database.create("a", dimension=2) as collection:
        assert len(collection) == 0
    for number in (0, 2):
        with database.open(f"b{number}") as collection:
            assert collection.get("x").text == str(number)


def test_one_name_is_taken_in_every_index(own_pinecone):
    database = nearfield.connect(own_pinecone.url())
    database.create("a", dimension=2).close()
    with pytest.raises(CollectionExistsError):
        database.create("a", dimension=3)


def test_indexes_of_others_are_left_alone(own_pinecone):
    database = nearfield.connect(own_pinecone.url())
    with nearfield.open(own_pinecone.url().replace("&", "&index=theirs&"), "x", dimension=2):
        assert database.names() == []
    with nearfield.open(own_pinecone.url().replace("&", "&index=nearfield-2&"), "x", dimension=2):
        assert database.names() == []


def test_a_tenant_named_as_the_catalog_has_documents_of_its_own(own_pinecone):
    with nearfield.open(own_pinecone.url("nearfield"), "catalog", dimension=2) as collection:
        collection.upsert(Document("", id="a"), vectors=[1, 0])
        assert len(collection) == 1
    assert nearfield.connect(own_pinecone.url("nearfield")).names() == ["catalog"]


def test_a_place_that_pinecone_has_not_is_named(own_pinecone):
    with pytest.raises(InvalidURLError, match="cloud=moon"):
        nearfield.open(f"{own_pinecone.url()}&cloud=moon", dimension=2)


def test_records_of_others_in_a_collection_are_an_error(own_pinecone, collection):
    import pinecone

    host = f"http://127.0.0.1:{own_pinecone.port}/i/nearfield-2-cosine"
    with pinecone.Index(host=host, api_key="any") as index:
        namespace = collection.stats()["namespace"]
        index.upsert(vectors=[("theirs", [1.0, 0.0])], namespace=namespace)
    time.sleep(0.05)
    with pytest.raises(StoreError, match=r"'theirs'.*not written by nearfield"):
        collection.search([1, 0], k=1)


def test_a_project_without_room_for_an_index_says_so(own_pinecone):
    own_pinecone.behave(plan_indexes=1)
    database = nearfield.connect(own_pinecone.url())
    database.create("a", dimension=2).close()
    database.create("b", dimension=2).close()
    with pytest.raises(StorageFullError, match=r"limit of its plan.*max serverless indexes"):
        database.create("c", dimension=3)


def test_an_index_that_takes_its_time_is_waited_for(own_pinecone):
    own_pinecone.behave(making_s=0.7)
    with nearfield.open(own_pinecone.url(), dimension=2, timeout_s=0.3) as collection:
        own_pinecone.behave(making_s=0.0)
        collection.upsert("a", vectors=[1, 0])
        assert len(collection.search([1, 0])) == 1


# ── indexes ──────────────────────────────────────────────────────────────────────────────────

INDEX = "nearfield-2-cosine"
MAKE = "import sys, nearfield\nnearfield.connect(sys.argv[1]).create('new', dimension=2)\n"


@pytest.fixture
def client(own_pinecone):
    """Pinecone's own client."""
    import pinecone

    with pinecone.Pinecone("any", host=f"http://127.0.0.1:{own_pinecone.port}") as client:
        yield client


def indexes(client):
    """Name the indexes that are not being deleted."""
    return [each.name for each in client.indexes.list() if each.status.state != "Terminating"]


def delete_index(client):
    """Delete an index as its owner would."""
    client.indexes.configure(INDEX, deletion_protection="disabled")
    client.indexes.delete(INDEX, timeout=-1)


def filled(url, name="a"):
    """Make a collection of one document."""
    with nearfield.open(url, name, dimension=2) as collection:
        collection.upsert(Document("", id="x"), vectors=[1, 0])
    return nearfield.connect(url)


def test_an_index_goes_with_the_last_collection_of_all_tenants(own_pinecone, client):
    anna, bert = filled(own_pinecone.url("anna")), filled(own_pinecone.url("bert"))
    filled(own_pinecone.url("anna"), "b")
    for database, name in ((anna, "a"), (anna, "b"), (bert, "a")):
        assert indexes(client) == [INDEX]
        database.drop(name)
    assert indexes(client) == []
    assert anna.names() == bert.names() == []
    filled(own_pinecone.url("anna"))  # where another one still goes, too
    with anna.open("a") as collection:
        assert [hit.id for hit in collection.search([1, 0])] == ["x"]


def test_dropping_collections_makes_room_for_other_indexes(own_pinecone, client):
    own_pinecone.behave(plan_indexes=1, deleting_s=0.0)
    database = nearfield.connect(own_pinecone.url())
    for dimension in (2, 3):
        database.create("a", dimension=dimension).close()
        assert indexes(client) == [f"nearfield-{dimension}-cosine"]
        database.drop("a")
        assert indexes(client) == []


def test_an_index_that_others_made_stays(own_pinecone, client):
    field = {"type": "dense_vector", "dimension": 2, "metric": "cosine"}
    place = {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"}
    client.indexes.create(
        name=INDEX, schema={"fields": {"_values": field}}, deployment=place, timeout=-1
    )
    filled(own_pinecone.url()).drop("a")
    assert indexes(client) == [INDEX]


def test_an_index_that_others_use_stays_and_is_protected(own_pinecone, client, monkeypatch):
    monkeypatch.setattr("nearfield.stores.pinecone.catalog._SETTLING_S", 0.2)
    database = filled(own_pinecone.url())
    with client.index(INDEX) as index:
        index.upsert(vectors=[("theirs", [1.0, 0.0])], namespace="theirs")
    database.drop("a")
    assert indexes(client) == [INDEX]
    with pytest.raises(ForbiddenError, match="protection"):
        client.indexes.delete(INDEX)
    with client.index(INDEX) as index:
        index.delete(ids=["theirs"], namespace="theirs")
    filled(own_pinecone.url("other")).drop("a")
    assert indexes(client) == []


@pytest.mark.parametrize("first", ["the look", "the collection"])
def test_a_collection_that_is_made_while_the_index_is_deleted_is_not_lost(
    own_pinecone, monkeypatch, first
):
    database = filled(own_pinecone.url())
    own_pinecone.behave(lag_s=0.3)
    look, looked = Catalog.is_unused, []

    def look_when_another_makes_one(catalog):
        before = look(catalog) if first == "the look" else None
        subprocess.run([sys.executable, "-c", MAKE, own_pinecone.url("other")], check=True)
        looked.append(look(catalog) if before is None else before)
        return looked[-1]

    monkeypatch.setattr(Catalog, "is_unused", look_when_another_makes_one)
    database.drop("a")
    assert looked == [first == "the look"]
    time.sleep(0.3)  # until this process sees what another wrote
    with nearfield.open(own_pinecone.url("other"), "new") as collection:
        collection.upsert("a", vectors=[1, 0])
        assert len(collection.search([1, 0])) == 1
    assert database.names() == []


def test_a_collection_whose_index_is_deleted_as_it_is_made_is_made_again(
    own_pinecone, client, monkeypatch
):
    filled(own_pinecone.url("other"))
    add, times = Catalog.add, []

    def add_and_delete(catalog, info):
        entry = add(catalog, info)
        if not times:
            delete_index(client)
        times.append(1)
        return entry

    monkeypatch.setattr(Catalog, "add", add_and_delete)
    with filled(own_pinecone.url()).open("a") as collection:
        assert len(collection) == 1
    assert len(times) == 2


def test_threads_that_make_and_drop_lose_nothing(own_pinecone):
    own_pinecone.behave(making_s=0.0, deleting_s=0.0)
    failures = []

    def work(tenant):
        try:
            for _ in range(8):
                database = filled(own_pinecone.url(tenant))
                with database.open("a") as collection:
                    assert len(collection.search([1, 0])) == 1
                database.drop("a")
        except BaseException as error:  # noqa: BLE001  reported by the test itself
            failures.append(error)

    threads = [threading.Thread(target=work, args=(tenant,)) for tenant in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_an_index_that_cannot_be_deleted_stays_and_the_collection_is_dropped(
    own_pinecone, client, caplog
):
    url = own_pinecone.url()
    filled(url)
    own_pinecone.behave(faults=[{"path": f"/indexes/{INDEX}", "status": 500, "times": 1000}])
    database = nearfield.connect(url)
    database.drop("a")
    assert "was not deleted" in caplog.text
    own_pinecone.behave(faults=[])
    assert database.names() == []
    assert indexes(client) == [INDEX]
    filled(url)
    database.drop("a")
    assert indexes(client) == []


def test_an_index_is_described(own_pinecone):
    with nearfield.open(own_pinecone.url() + "&region=eu-west-1", dimension=2) as collection:
        index = collection.stats()["index"]
    assert index["name"] == INDEX
    assert (index["state"], index["deletion_protection"]) == ("Ready", "enabled")
    assert index["deployment"]["cloud"] == "aws"
    assert index["deployment"]["region"] == "eu-west-1"


# ── the key and the URL ──────────────────────────────────────────────────────────────────────


def test_the_key_comes_from_the_environment_and_is_shown_nowhere(monkeypatch, caplog):
    caplog.set_level("DEBUG")
    with pinecone_server(key=SECRET) as server:
        monkeypatch.setenv("PINECONE_API_KEY", SECRET)
        with nearfield.open(server.url(), dimension=2) as collection:
            handle = collection._store._handle
            said = [repr(collection), str(collection.stats()), repr(handle), repr(handle._client)]
        monkeypatch.setenv("PINECONE_API_KEY", f"{SECRET}-of-another")
        with pytest.raises(ReadOnlyError, match="PINECONE_API_KEY") as refused:
            nearfield.connect(server.url()).names()
        said.append(str(refused.value))
        for url in (
            f"pinecone://{SECRET}@host",
            f"pinecone://h?api_key={SECRET}",
            f"pinecone://h/{SECRET}",
        ):
            with pytest.raises(InvalidURLError) as refusal:
                nearfield.connect(url)
            said.append(str(refusal.value))
        monkeypatch.setenv("PINECONE_API_KEY", f"{SECRET}\n")
        with pytest.raises(InvalidInputError) as refusal:
            nearfield.connect(server.url()).names()
        said.append(str(refusal.value))
    assert SECRET not in "".join(said) + caplog.text


def test_without_a_key_the_service_is_not_asked(monkeypatch):
    monkeypatch.delenv("PINECONE_API_KEY", raising=False)
    with pytest.raises(InvalidInputError, match="PINECONE_API_KEY"):
        nearfield.connect("pinecone://").names()


@pytest.mark.parametrize(
    "url",
    [
        "pinecone://host:99999",
        "pinecone://host/path",
        "pinecone://host#fragment",
        "pinecone://[::1",
        "pinecone://?ssl=maybe",
        "pinecone://?nonsense=1",
        "pinecone://?index=Capital",
        "pinecone://?index=-a",
        "pinecone://?index=" + "a" * 30,
        "pinecone://?region=us%20east",
        "pinecone://?tenant=a%00b",
        "pinecone://?tenant=%C3%BC",
    ],
)
def test_a_url_that_says_nothing_clear_is_refused(url):
    with pytest.raises(InvalidURLError):
        nearfield.connect(url)


def test_a_url_names_a_database_without_what_is_usual():
    shown = {
        "pinecone://": "pinecone://",
        "pinecone://?index=nearfield&ssl=true": "pinecone://",
        "pinecone://h:5080?ssl=false&tenant=t": "pinecone://h:5080?ssl=false&tenant=t",
        "pinecone://[::1]:9?region=eu-west-1": "pinecone://[::1]:9?region=eu-west-1",
    }
    for url, expected in shown.items():
        assert repr(nearfield.connect(url)) == f"Database({expected!r})"


# ── faults ───────────────────────────────────────────────────────────────────────────────────

CALLS = {
    "get": lambda collection: collection.get("3").id == "3",
    "count": lambda collection: collection.count() == 10,
    "count where": lambda collection: collection.count(F.n < 3) == 3,
    "search": lambda collection: len(collection.search([1, 0], k=3)) == 3,
    "search_many": lambda collection: list(map(len, collection.search_many(np.eye(2)))) == [10] * 2,
    "upsert": lambda collection: collection.upsert(Document("", id="3"), vectors=[1, 1]) == ["3"],
    "delete": lambda collection: collection.delete("3") == 1,
    "scan": lambda collection: len(list(collection.scan())) == 10,
}
FAULTS = {
    "429": {"status": 429},
    "429 and when to return": {"status": 429, "headers": {"retry-after": "0.1"}},
    "503": {"status": 503},
    "reset": {"kind": "reset"},
    "reset when it was done": {"kind": "reset after"},
    "slow": {"seconds": 0.05},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_is_not_noticed(own_pinecone, collection, fault):
    for name, call in CALLS.items():
        own_pinecone.behave(faults=[{**FAULTS[fault], "times": 2, "path": ""}])
        assert call(collection), name
        if name == "delete":
            collection.upsert(Document("", id="3", metadata={"n": 3}), vectors=[1, 1])
        assert len(collection) == 10


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ({"status": 429}, StoreBusyError, "limits the rate"),
        ({"status": 429, "headers": {"retry-after": "60"}}, StoreBusyError, "limits the rate"),
        ({"status": 500}, StoreUnavailableError, "HTTP 500"),
        ({"kind": "reset"}, StoreUnavailableError, "cannot be reached"),
        ({"seconds": 2}, StoreBusyError, r"no answer within timeout_s=0\.3"),
        ({"status": 403}, ReadOnlyError, "does not allow"),
        ({"status": 402}, ReadOnlyError, "does not allow"),
        ({"status": 418}, StoreError, "refused: injected"),
    ],
)
def test_a_fault_that_stays_is_an_error_within_the_time(own_pinecone, fault, error, words):
    with nearfield.open(own_pinecone.url(), dimension=2, timeout_s=0.3) as collection:
        collection.upsert(Document("", id="3", metadata={"n": 3}), vectors=[1, 0])
        collection.search([1, 0])
        for name in ("search", "upsert"):
            own_pinecone.behave(faults=[{**fault, "times": 1000, "path": ""}])
            with pytest.raises(error, match=rf"127\.0\.0\.1:{own_pinecone.port}.*{words}"):
                CALLS[name](collection)
        own_pinecone.behave(faults=[])
        assert collection.get("3") is not None


def test_writes_that_are_limited_all_arrive(own_pinecone):
    with nearfield.open(own_pinecone.url(), dimension=2, timeout_s=20) as collection:
        own_pinecone.behave(faults=[{"path": "upsert", "status": 429, "times": 5}])
        collection.upsert(
            [Document("", id=str(i)) for i in range(6_000)], vectors=np.ones((6000, 2))
        )
        assert len(collection) == 6_000


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:1.*cannot be reached"):
        nearfield.open("pinecone://127.0.0.1:1?ssl=false", dimension=2, timeout_s=0.5)


def test_a_server_that_never_answers_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        database = nearfield.connect(f"pinecone://127.0.0.1:{port}?ssl=false", timeout_s=0.3)
        with pytest.raises(StoreBusyError, match=r"timeout_s=0\.3"):
            database.names()


def test_a_collection_whose_index_others_deleted_is_closed(own_pinecone, client):
    with nearfield.open(own_pinecone.url(), dimension=2) as collection:
        collection.upsert("a", vectors=[1, 0])
        delete_index(client)
        for call in (collection.count, lambda: collection.search([1, 0])):
            with pytest.raises(ClosedError, match="any more"):
                call()


@pytest.fixture
def own_server():
    """A server to be killed."""
    with tempfile.TemporaryDirectory(prefix="nearfield-pinecone-") as folder:
        server = _Named(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()


class _Named(PineconeServer):
    """A server with one database, as that of others."""

    def url(self, tenant="one"):
        return super().url(tenant)


class TestRestarts(Restarts):
    atomic_writes: ClassVar = False
    rounds: ClassVar = 1


# ── the emulator itself ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("vector", "words"),
    [
        ({"id": "", "values": [1, 0]}, "empty"),
        ({"id": "ü", "values": [1, 0]}, "ASCII"),
        ({"id": "x" * 513, "values": [1, 0]}, "512"),
        ({"id": "a", "values": [1, 0, 0]}, "dimension"),
        ({"id": "a", "values": [0, 0]}, "non-zero"),
        ({"id": "a", "values": [None, 1]}, "numbers"),
        ({"id": "a", "values": [1, 1e39]}, "32-bit"),
        ({"id": "a", "values": [1, 0], "metadata": {"a": None}}, "got None"),
        ({"id": "a", "values": [1, 0], "metadata": {"a": {"b": 1}}}, "string, number"),
        ({"id": "a", "values": [1, 0], "metadata": {"a": [1]}}, "strings only"),
        ({"id": "a", "values": [1, 0], "metadata": {"$a": 1}}, "start with"),
        ({"id": "a", "values": [1, 0], "metadata": {"a": "x" * MAX_METADATA}}, "40960"),
    ],
)
def test_the_emulator_refuses_what_the_service_refuses(own_pinecone, vector, words):
    import pinecone

    nearfield.open(own_pinecone.url(), dimension=2).close()
    host = f"http://127.0.0.1:{own_pinecone.port}/i/nearfield-2-cosine"
    with pinecone.Index(host=host, api_key="any") as index:
        with pytest.raises(pinecone.errors.ApiError, match=words):
            index._http.post("/vectors/upsert", json={"vectors": [vector], "namespace": "x"})
        index.upsert(vectors=[{"id": "a", "values": [1.0, 0.0], "metadata": {"n": 1}}])


def test_the_emulator_evaluates_filters_as_pinecone_documents_them():
    film = {"genre": ["comedy", "documentary"], "year": 2020.0, "color": True}
    for where, expected in (
        ({"genre": "comedy"}, True),
        ({"genre": {"$in": ["documentary", "action"]}}, True),
        ({"$and": [{"genre": "comedy"}, {"genre": "documentary"}]}, True),
        ({"$and": [{"genre": "comedy"}, {"genre": "drama"}]}, False),
        ({"genre": {"$ne": "comedy"}}, False),
        ({"genre": {"$nin": ["drama", "documentary"]}}, False),
        ({"genre": {"$nin": ["drama"]}}, True),
        ({"year": {"$gt": 2019, "$lte": 2020}}, True),
        ({"color": {"$eq": 1}}, False),
        ({"color": True, "year": 2020}, True),
        ({"director": {"$exists": False}}, True),
        ({"director": {"$ne": "x"}}, False),
        ({"genre": {"$gt": 1}}, False),
    ):
        assert compiled(where)(film) is expected, where


class TestSharing(Sharing):
    takes_turns: ClassVar = False

    @pytest.fixture
    def url(self, pinecone):
        return pinecone.url()
