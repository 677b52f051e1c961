"""Collections spread over PostgreSQL servers: which ones, and what if one of them fails."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from tests.engines.restarts import Restarts
from tests.postgres_server import PostgresServer, PostgresTrio, psycopg

import nearfield
from nearfield import Document, F
from nearfield.copying import copy
from nearfield.errors import (
    CollectionExistsError,
    CollectionNotFoundError,
    InvalidURLError,
    NearfieldError,
    PartialWriteError,
    StoreBusyError,
    StoreError,
    StoreUnavailableError,
)
from nearfield.stores.postgres import indexing
from nearfield.stores.postgres.plans import Plan

IDS = [f"{i:02}" for i in range(60)]
VECTORS = np.random.default_rng(1).standard_normal((60, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def mortal():
    """A server that tests may kill."""
    with tempfile.TemporaryDirectory(prefix="nearfield-postgres-") as folder:
        server = PostgresServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture
def trio(postgres_trio, mortal):
    """Three servers, of which the last can be killed; it is there again afterwards."""
    yield PostgresTrio(*postgres_trio.servers[:2], mortal)
    if not mortal.is_up:
        mortal.start()


@pytest.fixture
def schema():
    return uuid.uuid4().hex


@pytest.fixture
def url(trio, schema):
    return f"{trio.url()}?schema={schema}"


@pytest.fixture
def collection(url):
    with nearfield.open(url, dimension=4, timeout_s=2) as opened:
        opened.upsert(
            [Document(f"word{i}", id=i, metadata={"n": int(i)}) for i in IDS], vectors=VECTORS
        )
        yield opened


def on(collection, server):
    """Return which ids are on a server."""
    store = collection._store
    place = next(i for i, shown in enumerate(store._servers) if f":{server.port}/" in shown)
    return {i for i in IDS if store._placement.of(i) == place}


def upsert(collection, ids, text):
    collection.upsert([Document(text, id=i) for i in ids], vectors=VECTORS[: len(ids)])


# ── one of them fails ────────────────────────────────────────────────────────────────────────────


def test_documents_are_on_every_server_and_on_one_each(collection, trio):
    shares = [on(collection, server) for server in trio.servers]
    assert sorted(i for share in shares for i in share) == IDS
    assert all(len(share) > 5 for share in shares)
    counts = {part["server"]: part["documents"] for part in collection.stats()["parts"]}
    assert [counts[server.url()] for server in trio.servers] == [len(share) for share in shares]


def test_a_search_names_the_server_that_died_in_its_middle_and_succeeds_when_it_is_back(
    collection, mortal
):
    before = collection.search(VECTORS[0], k=60)
    store = next(
        each for each in collection._store._stores if mortal.url() == each.stats()["server"]
    )
    failures = []

    def search():
        try:
            collection.search(VECTORS[0])
        except NearfieldError as error:
            failures.append(error)

    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(mortal.url()) as other:
        other.execute(f"LOCK TABLE {store._names.documents.as_string(None)}")
        thread = threading.Thread(target=search)
        thread.start()
        while not other.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall():
            time.sleep(0.01)
        mortal.kill()
    thread.join()
    assert type(failures[0]) is StoreUnavailableError
    assert f"127.0.0.1:{mortal.port}" in str(failures[0])
    mortal.start()
    assert collection.search(VECTORS[0], k=60) == before


@pytest.mark.parametrize(
    "call",
    [
        lambda collection: collection.search(VECTORS[0]),
        lambda collection: collection.search("word1", vector=VECTORS[0], mode="hybrid"),
        lambda collection: collection.count(),
        lambda collection: collection.get(IDS),
        lambda collection: list(collection.scan()),
        lambda collection: collection.stats(),
    ],
)
def test_nothing_is_answered_in_part(collection, mortal, call):
    mortal.kill()
    with pytest.raises(StoreUnavailableError, match=f":{mortal.port}/"):
        call(collection)


def test_a_write_that_was_done_in_part_says_which_part_and_can_be_made_again(collection, mortal):
    lost = on(collection, mortal)
    mortal.kill()
    with pytest.raises(PartialWriteError, match=f"2 of 3 servers.*:{mortal.port}/") as caught:
        upsert(collection, IDS, "new")
    error = caught.value
    assert (set(error.undone), set(error.done)) == (lost, set(IDS) - lost)
    assert error.failed == (mortal.url(),)
    assert isinstance(error.__cause__, StoreUnavailableError)
    assert {each.text for each in collection.get(list(error.done))} == {"new"}
    mortal.start()
    assert "new" not in {each.text for each in collection.get(list(error.undone))}
    upsert(collection, IDS, "new")
    assert [(each.id, each.text) for each in collection.scan()] == [(i, "new") for i in IDS]


def test_a_deletion_that_was_done_in_part_can_be_made_again(collection, mortal):
    lost = on(collection, mortal)
    mortal.kill()
    with pytest.raises(PartialWriteError) as caught:
        collection.delete(IDS[:50])
    assert set(caught.value.undone) == lost & set(IDS[:50])
    with pytest.raises(PartialWriteError):
        collection.delete(where=F.n < 50)
    mortal.start()
    assert collection.delete(where=F.n < 50) == len(lost & set(IDS[:50]))
    assert len(collection) == 10


def test_what_one_server_has_needs_no_other(collection, mortal):
    lost = on(collection, mortal)
    kept = sorted(set(IDS) - lost)
    mortal.kill()
    upsert(collection, kept, "new")
    assert collection.get(kept[0]).text == "new"
    assert collection.search(VECTORS[0], ids=kept, k=60)
    assert collection.delete(kept[0]) == 1
    for call in (collection.get, collection.delete, lambda i: upsert(collection, [i], "")):
        with pytest.raises(StoreUnavailableError):
            call(min(lost))


def test_a_server_that_is_away_is_named_where_collections_are_opened_and_made(url, mortal):
    nearfield.open(url, "a", dimension=4).close()
    mortal.kill()
    database = nearfield.connect(url, timeout_s=1)
    for call in (
        database.names,
        lambda: database.open("a"),
        lambda: database.create("b", dimension=4),
        lambda: database.rename("a", "b"),
        lambda: database.drop("a"),
    ):
        with pytest.raises(StoreUnavailableError, match=f":{mortal.port}/"):
            call()
    mortal.start()
    assert database.names() == ["a"]
    database.create("b", dimension=4).close()


class TestRestarts(Restarts):
    """One of the servers dies and comes back, again and again."""

    atomic_writes = False
    rounds = 1

    @pytest.fixture
    def own_server(self, url, mortal):
        class OneOfThree:
            kill, start = mortal.kill, mortal.start

            @staticmethod
            def url():
                return url

        return OneOfThree()

    test_a_server_that_stays_away_is_an_error_and_one_that_returns_is_not = None
    """It is, for the calls that need it: see above."""


# ── which servers ────────────────────────────────────────────────────────────────────────────────


def test_the_order_in_which_servers_are_named_does_not_matter(collection, trio, schema):
    one, two, three = trio.servers
    with nearfield.open(f"{trio.url(three, one, two)}?schema={schema}", create=False) as other:
        assert other.get(IDS) == collection.get(IDS)
        assert other.search(VECTORS[3]) == collection.search(VECTORS[3])
        assert list(other.scan()) == list(collection.scan())


def test_other_servers_than_those_it_was_made_on_are_refused(
    collection, trio, postgres_trio, schema
):
    one, two, three = trio.servers
    fourth = postgres_trio.servers[2]
    collection.close()
    for servers in ([one, two], [one, fourth, three], [one, two, three, fourth]):
        database = nearfield.connect(f"{trio.url(*servers)}?schema={schema}")
        assert database.names() == ["default"]
        for call in (
            lambda database=database: database.open(),
            lambda database=database: database.drop("default"),
            lambda database=database: database.rename("default", "b"),
        ):
            with pytest.raises(StoreError, match=r"spread over 3 servers.*nearfield copy"):
                call()
        with pytest.raises(CollectionExistsError):
            database.create(dimension=4)
    with nearfield.open(f"{trio.url()}?schema={schema}", create=False) as again:
        assert len(again) == 60


def test_a_server_that_is_named_twice_is_refused(trio, url, schema):
    one, two, _ = trio.servers
    twice = f"127.0.0.1:{one.port},localhost:{one.port},127.0.0.1:{two.port}"
    with pytest.raises(InvalidURLError, match="twice"):
        nearfield.open(
            f"postgresql+sharded://nearfield@{twice}/postgres?schema={schema}", dimension=4
        )
    nearfield.open(url, dimension=4).close()
    with pytest.raises(StoreError, match="which are not those"):
        nearfield.open(
            f"postgresql+sharded://nearfield@{twice}/postgres?schema={schema}", dimension=4
        )


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+sharded://user:s3cret@host/db",
        "postgresql+sharded://user:s3cret@host,/db",
        "postgresql+sharded://user:s3cret@host,HOST/db",
        "postgresql+sharded://user:s3cret@one,two/db?host=three",
        "postgresql+sharded://user:s3cret@[::1,two/db",
        "postgresql+sharded://user:s3/cret@one,two/db",
        "postgresql+sharded://user:s3#cret@one,two/db",
        "postgresql+sharded://user:s3cret@one:x,two/db",
        "postgresql+sharded://",
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_without_its_password(url):
    with pytest.raises(InvalidURLError) as refusal:
        nearfield.connect(url)
    assert "s3" not in str(refusal.value)
    assert "cret" not in str(refusal.value)


def test_a_database_is_shown_without_its_password():
    database = nearfield.connect("postgresql+sharded://me:s3cret@one:5,[::1]:6/db?password=s3cret")
    assert repr(database) == "Database('postgresql+sharded://me@one:5,[::1]:6/db')"


def test_a_collection_of_one_server_and_a_part_of_one_are_told_apart(trio, url, schema):
    alone = f"{trio.servers[0].url()}?schema={schema}"
    nearfield.open(alone, "alone", dimension=4).close()
    nearfield.open(url, "spread", dimension=4).close()
    assert nearfield.connect(alone).names() == ["alone"]
    assert nearfield.connect(url).names() == ["spread"]
    with pytest.raises(StoreError, match=r"only a part.*spread over 3 servers.*sharded"):
        nearfield.open(alone, "spread", dimension=4)
    with pytest.raises(StoreError, match="of its own, which is not spread"):
        nearfield.open(url, "alone", dimension=4)
    for other, name in ((alone, "spread"), (url, "alone")):
        with pytest.raises(CollectionExistsError):
            nearfield.connect(other).create(name, dimension=4)
        with pytest.raises(StoreError):
            nearfield.connect(other).drop(name)


def test_many_who_open_a_new_collection_at_once_get_the_same(trio, schema):
    one, two, three = trio.servers
    orders = [(one, two, three), (three, two, one), (two, three, one)] * 2
    outcomes = []

    def open_it(servers):
        try:
            with nearfield.open(f"{trio.url(*servers)}?schema={schema}", dimension=4) as opened:
                upsert(opened, [str(servers[0].port)], "")
                outcomes.append(opened._store._stores[0]._names.key)
        except NearfieldError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=open_it, args=(servers,)) for servers in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 6
    assert len(set(outcomes)) == 1
    with nearfield.open(f"{trio.url()}?schema={schema}", create=False) as opened:
        assert len(opened) == 3


# ── making, dropping and renaming, broken off ────────────────────────────────────────────────────


@contextlib.contextmanager
def refusing(server, tag):
    """Have a server refuse a kind of statement."""
    with psycopg.connect(server.url(), autocommit=True) as owner:
        owner.execute(
            "CREATE OR REPLACE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS "
            "'BEGIN RAISE ''not now''; END'"
        )
        owner.execute(
            f"CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('{tag}') "
            "EXECUTE FUNCTION refuse()"
        )
        try:
            yield
        finally:
            owner.execute("DROP EVENT TRIGGER refuse")


@pytest.mark.parametrize("number", range(3))
def test_a_creation_that_was_broken_off_can_be_done_again(trio, url, number):
    database = nearfield.connect(url)
    with refusing(trio.servers[number], "CREATE INDEX"), pytest.raises(StoreError, match="not now"):
        database.create("a", dimension=4)
    if database.names():
        with pytest.raises(StoreError, match="do that again"):
            database.open("a")
    with database.create("a", dimension=4) as made:
        upsert(made, IDS, "")
    with database.open("a") as made:
        assert len(made) == 60
    with pytest.raises(CollectionExistsError):
        database.create("a", dimension=4)


@pytest.mark.parametrize("number", range(3))
def test_a_deletion_of_a_collection_that_was_broken_off_can_be_done_again(trio, url, number):
    database = nearfield.connect(url)
    with database.create("a", dimension=4) as made:
        upsert(made, IDS, "")
    with refusing(trio.servers[number], "DROP TABLE"), pytest.raises(StoreError, match="not now"):
        database.drop("a")
    assert database.names() == ["a"]
    database.drop("a")
    assert database.names() == []
    with pytest.raises(CollectionNotFoundError):
        database.drop("a")
    with database.create("a", dimension=4) as made:
        assert len(made) == 0


@pytest.mark.parametrize("number", range(3))
def test_a_renaming_that_was_broken_off_can_be_done_again(trio, url, schema, number):
    database = nearfield.connect(url)
    for name in ("a", "c"):
        with database.create(name, dimension=4) as made:
            upsert(made, IDS, name)
    table = f'"{schema}".collections'
    with psycopg.connect(trio.servers[number].url(), autocommit=True) as owner:
        owner.execute(f"ALTER TABLE {table} ADD CONSTRAINT not_now CHECK (name <> 'b')")
        with pytest.raises(StoreError, match="not_now"):
            database.rename("a", "b")
        owner.execute(f"ALTER TABLE {table} DROP CONSTRAINT not_now")
    assert "a" in database.names()
    with pytest.raises(CollectionExistsError):
        database.rename("a", "c")
    database.rename("a", "b")
    assert database.names() == ["b", "c"]
    with database.open("b") as renamed:
        assert renamed.get("00").text == "a"


# ── indexes, copies, and callers ─────────────────────────────────────────────────────────────────


def test_indexes_are_built_measured_and_tuned_on_all_servers(url, trio, monkeypatch):
    monkeypatch.setattr(indexing, "INDEXED_FROM", 500)
    numbers = np.random.default_rng(2)
    centres = numbers.standard_normal((40, 16))
    vectors = centres[numbers.integers(0, 40, 3000)] + 0.6 * numbers.standard_normal((3000, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    with nearfield.open(url, dimension=16, durability="normal") as collection:
        collection.upsert(
            [Document("", id=str(i), metadata={"n": i}) for i in range(3000)], vectors=vectors
        )
        collection.maintain()
        for part in collection.stats()["parts"]:
            assert "graph" in part["index"]["plan"]
            assert part["index"]["predicted_recall"] >= 0.99
        recalls = []
        for query in vectors[:50] + np.float32(0.05):
            for limit in (3000, 1500):
                best = {str(i) for i in np.argsort(-(vectors[:limit] @ query))[:10]}
                hits = collection.search(query, where=F.n < limit)
                recalls.append(len(best & {hit.id for hit in hits}) / 10)
        assert np.mean(recalls) >= 0.98
        report = collection.tune(target_recall=0.95)
        assert report.met
        assert report.recall.low >= 0.95
        for store in collection._store._stores:
            store.adopt(Plan(40, 0.99), 0.95, 1.0)
        explanation = collection.explain(vectors[0])
        assert (explanation.documents, explanation.hits) == (3000, 10)
        for server, step in zip(
            sorted(server.url() for server in trio.servers),
            sorted(explanation.steps, key=lambda step: step.plan),
            strict=True,
        ):
            assert step.plan.startswith(f"{server}: ")
        for query in vectors[:20]:
            collection.search(query)
        for store in collection._store._stores:
            store._monitor.close()
        live = [part["index"]["live_recall"] for part in collection.stats()["parts"]]
        assert all(each["mean"] > 0.9 for each in live)


def test_a_copy_there_and_back_is_the_collection(url, tmp_path):
    here, back = str(tmp_path / "here"), str(tmp_path / "back")
    documents = [
        Document(f"text {i} \x00", id=f"{i}\x01", metadata={"n": i, "x": [None, {"y": "é"}]})
        for i in range(700)
    ]
    with nearfield.open(here, dimension=4, metric="dot") as original:
        original.upsert(documents, vectors=np.arange(2800).reshape(700, 4))
        copy(nearfield.connect(here), nearfield.connect(url))
        copy(nearfield.connect(url), nearfield.connect(back))
        with nearfield.open(back, create=False) as copied:
            every = ["text", "metadata", "embedding"]
            assert list(copied.scan(include=every)) == list(original.scan(include=every))
    assert copy(nearfield.connect(here), nearfield.connect(url)).written == 0


def test_many_threads_write_and_search_at_once(collection):
    failures = []

    def work(number):
        try:
            for round_ in range(5):
                upsert(collection, IDS[:: 1 - 2 * (number % 2)], f"{number}/{round_}")
                assert len(collection.search(VECTORS[number], k=60)) == 60
        except BaseException as error:  # noqa: BLE001  reported by the test itself
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(collection) == 60


def test_a_forked_child_makes_threads_and_connections_of_its_own(collection):
    collection.search(VECTORS[0])
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if len(collection.search(VECTORS[0], k=60)) == 60 else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert len(collection.search(VECTORS[0], k=60)) == 60


def test_a_call_that_waits_for_one_server_ends_within_its_time(collection, mortal):
    store = next(
        each for each in collection._store._stores if mortal.url() == each.stats()["server"]
    )
    with psycopg.connect(mortal.url()) as other:
        other.execute(f"LOCK TABLE {store._names.documents.as_string(None)}")
        with pytest.raises(StoreBusyError, match=f":{mortal.port}/.*timeout_s=2"):
            collection.count()
    assert len(collection) == 60
