"""What is PostgreSQL's alone: its index, its plans, and a server that comes and goes."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from tests.engines.restarts import Restarts
from tests.engines.sharing import Sharing
from tests.postgres_server import PostgresServer, psycopg

import nearfield
from nearfield import Document, F
from nearfield.errors import (
    ClosedError,
    InvalidURLError,
    StoreBusyError,
    StoreUnavailableError,
)
from nearfield.stores.postgres import indexing, searches
from nearfield.stores.postgres.filters import where_clause
from nearfield.stores.postgres.indexing import INDEXED_FROM
from nearfield.stores.postgres.plans import Plan

DIMENSION = 32
DOCUMENTS = 12_000
SECRET = "s3cr3t-pass"


@pytest.fixture
def url(postgres):
    return f"{postgres.url()}?schema={uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def rows():
    numbers = np.random.default_rng(5)
    centres = numbers.standard_normal((200, DIMENSION))
    near = centres[numbers.integers(0, 200, DOCUMENTS)]
    return (near + 0.7 * numbers.standard_normal((DOCUMENTS, DIMENSION))).astype(np.float32)


@pytest.fixture(scope="module")
def indexed(postgres, rows):
    """A collection that is large enough for an index, which is there."""
    where = f"{postgres.url()}?schema={uuid.uuid4().hex}"
    with nearfield.open(where, dimension=DIMENSION, durability="normal") as collection:
        collection.upsert(
            [Document("", id=str(i), metadata={"n": i}) for i in range(DOCUMENTS)], vectors=rows
        )
        until = time.monotonic() + 120
        while "graph" not in collection.explain(rows[0]).steps[0].plan:
            assert time.monotonic() < until
            time.sleep(0.1)
        yield collection


def truth(rows, query, k, allowed=None):
    among = np.arange(len(rows)) if allowed is None else np.flatnonzero(allowed)
    units = rows[among] / np.linalg.norm(rows[among], axis=1, keepdims=True)
    return {str(i) for i in among[np.argsort(-(units @ query))[:k]]}


def url_of(collection):
    return f"{collection._store._pool.server.shown}?schema={collection._store._names.schema}"


def await_plan(collection, query, plan):
    """Search until it is done by a plan."""
    until = time.monotonic() + 60
    while plan not in collection.explain(query).steps[0].plan:
        assert time.monotonic() < until
        time.sleep(0.1)


def test_an_index_is_built_in_the_background_and_keeps_the_recall(indexed, rows):
    queries = np.random.default_rng(6).standard_normal((50, DIMENSION)).astype(np.float32)
    recalls = [
        len(truth(rows, query, 10) & {hit.id for hit in indexed.search(query)}) / 10
        for query in queries
    ]
    assert np.mean(recalls) >= 0.97


@pytest.mark.parametrize("matching", [3, 60, 600, 6000])
def test_a_filter_never_costs_results_though_a_graph_is_searched(indexed, rows, matching):
    recalls = []
    for query in np.random.default_rng(7).standard_normal((20, DIMENSION)).astype(np.float32):
        hits = indexed.search(query, where=F.n < matching)
        assert len(hits) == min(10, matching)
        expected = truth(rows, query, 10, np.arange(DOCUMENTS) < matching)
        recalls.append(len(expected & {hit.id for hit in hits}) / min(10, matching))
    assert np.mean(recalls) >= 0.97


def test_tuning_measures_recall_and_everyone_searches_as_it_chose(indexed, postgres):
    report = indexed.tune(target_recall=0.95)
    assert report.met
    assert report.recall.low >= 0.95
    assert sum(trade.chosen for trade in report.front) == 1
    schema = indexed._store._names.schema
    with nearfield.open(f"{postgres.url()}?schema={schema}", create=False) as other:
        assert other._store._searches.state.settings == indexed._store._searches.state.settings
    exact = indexed.tune(target_recall=1.0)
    assert exact.recall.mean == 1.0
    indexed._store.adopt(Plan(160, 0.99), 0.99, 0.0)


def test_an_index_is_measured_once_it_is_built(indexed):
    figures = indexed.stats()["index"]
    assert figures["target_recall"] == 0.99
    assert figures["predicted_recall"] >= 0.99


def test_who_has_the_collection_open_learns_of_anothers_tuning(indexed, rows, monkeypatch):
    monkeypatch.setattr(searches, "_LOOK_AGAIN_S", 0.1)
    with nearfield.open(url_of(indexed), create=False) as other:
        other.search(rows[0])
        indexed.tune(target_recall=1.0)
        await_plan(other, rows[0], "every match")
        indexed._store.adopt(Plan(320, 0.99), 0.99, 0.0)
        await_plan(other, rows[0], "ef_search 320")


def test_a_plan_is_measured_anew_when_the_collection_has_grown(url, monkeypatch):
    monkeypatch.setattr(indexing, "INDEXED_FROM", 300)
    vectors = np.random.default_rng(9).standard_normal((2500, 64))
    with nearfield.open(url, dimension=64, durability="normal") as collection:
        collection.upsert([Document("", id=str(i)) for i in range(400)], vectors=vectors[:400])
        collection.maintain()
        measured = collection._store._searches.refresh().settings
        collection.upsert([Document("", id=f"+{i}") for i in range(2100)], vectors=vectors[400:])
        with psycopg.connect(url.partition("?")[0], autocommit=True) as owner:
            owner.execute(f"ANALYZE {collection._store._names.documents.as_string(None)}")
        assert collection.maintain() == 0
        again = collection._store._searches.refresh().settings
        assert again.index == measured.index
        assert (measured.documents, again.documents) == (400, 2500)
        assert again.plan.recall >= 0.99


def test_some_searches_are_repeated_exactly_in_the_background(indexed, rows):
    before = indexed.stats()["index"]["live_recall"] or {"queries": 0}  # one now and then
    indexed._store.adopt(Plan(160, 0.99), 0.99, 1.0)
    for query in rows[:30] + np.float32(0.1):
        indexed.search(query, where=F.n < 9000)
        until = time.monotonic() + 60
        while indexed._store._monitor._thread is not None:
            assert time.monotonic() < until
            time.sleep(0.001)
    indexed._store.adopt(Plan(160, 0.99), 0.99, 0.0)
    live = indexed.stats()["index"]["live_recall"]
    assert live["queries"] == before["queries"] + 30
    assert 0.95 <= live["mean"] <= 1.0


def test_each_write_makes_the_version_larger(url):
    with nearfield.open(url, dimension=2) as collection, nearfield.open(url) as other:
        versions = [other.version()]
        for write in (
            lambda: collection.upsert(Document("", id="a"), vectors=[1, 0]),
            lambda: collection.upsert(Document("", id="a"), vectors=[1, 0]),
            lambda: other.upsert([], replace=F.n == 1),
            lambda: collection.delete("a"),
        ):
            write()
            assert collection.version() == other.version()
            versions.append(other.version())
        assert versions == sorted(set(versions))


def test_many_searches_at_once_find_what_each_finds_alone(indexed, rows):
    queries = rows[:70] + np.float32(0.1)
    for where in (None, F.n < 60, F.n < 6000):
        together = indexed.search_many(queries, where=where)
        for query, hits in zip(queries[::7], together[::7], strict=True):
            assert [hit.id for hit in hits] == [
                hit.id for hit in indexed.search(query, where=where)
            ]


def test_a_search_that_is_asked_again_is_not_planned_again(indexed, rows):
    for query in rows[:12]:
        indexed.search(query, k=7)
    with indexed._store._pool.lend() as connection:
        planned = connection.execute(
            "SELECT generic_plans FROM pg_prepared_statements WHERE statement LIKE '%LIMIT 7'"
        )
        assert planned.fetchone()[0] > 0


def test_few_matches_are_compared_and_said_to_be(indexed, rows):
    for matching, used in ((500, "every match"), (11_000, "graph")):
        explanation = indexed.explain(rows[0], where=F.n < matching)
        assert explanation.matching == matching
        assert used in explanation.steps[0].plan


@pytest.mark.parametrize("mode", ["vector", "keyword", "hybrid"])
def test_more_hits_may_be_asked_for_than_a_number_counts(url, mode):
    with nearfield.open(url, dimension=2, durability="normal") as collection:
        collection.upsert(["bee hive", "bee keeper"], vectors=[[1, 0], [0, 1]])
        assert len(collection.search("bee", vector=[1, 0], mode=mode, k=10**20)) == 2


def test_an_index_that_was_left_half_built_is_built_anew(indexed, postgres, rows):
    names = indexed._store._names
    with psycopg.connect(postgres.url(), autocommit=True) as owner:
        owner.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass(%s)",
            (names.index.as_string(None),),
        )
    url = f"{postgres.url()}?schema={names.schema}"
    with nearfield.open(url, create=False, read_only=True) as other:  # which builds nothing
        for query in rows[:5]:
            assert {hit.id for hit in other.search(query)} == truth(rows, query, 10)
    with nearfield.open(url, create=False) as other:
        assert other.maintain() == 1
        assert "graph" in other.explain(rows[0]).steps[0].plan


@pytest.mark.parametrize("where", [F.n == 3, F.n.in_([3, 4]), (F.n == 3) & (F.n < 9)])
def test_equality_is_answered_from_an_index(indexed, postgres, where):
    condition, parameters = where_clause(where)
    table = indexed._store._names.documents.as_string(None)
    with psycopg.connect(postgres.url()) as owner:
        owner.execute("SET enable_seqscan = off")  # which is cheap here
        steps = psycopg.ClientCursor(owner).execute(
            f"EXPLAIN SELECT id FROM {table} WHERE {condition}", parameters
        )
        assert "fields_idx" in str(steps.fetchall())


def test_closing_ends_a_build_that_waits(url, postgres):
    collection = nearfield.open(url, dimension=2, durability="normal")
    documents = [Document("", id=str(i)) for i in range(INDEXED_FROM)]
    with psycopg.connect(postgres.url()) as writer:
        collection.upsert(documents, vectors=np.ones((INDEXED_FROM, 2)))
        writer.execute(
            f"LOCK {collection._store._names.documents.as_string(None)} IN ROW EXCLUSIVE MODE"
        )
        with psycopg.connect(postgres.url(), autocommit=True) as owner:
            watched = "SELECT 1 FROM pg_stat_progress_create_index"
            while not owner.execute(watched).fetchall():
                time.sleep(0.02)
        collection.close()
        assert not collection._store._indexer._thread.is_alive()


def test_a_small_collection_needs_no_index(url):
    with nearfield.open(url, dimension=4, durability="normal") as collection:
        collection.upsert("a", vectors=[1, 0, 0, 0])
        assert collection.maintain() == 0
        assert collection.explain([1, 0, 0, 0]).predicted_recall == 1.0
        assert collection.tune().recall.mean == 1.0


@pytest.mark.parametrize("dimension", [2500, 5000])
def test_long_vectors_are_stored_and_found(url, dimension):
    vectors = np.random.default_rng(8).standard_normal((30, dimension)).astype(np.float32)
    with nearfield.open(url, dimension=dimension, durability="normal") as collection:
        collection.upsert([Document("", id=str(i)) for i in range(30)], vectors=vectors)
        for i in (0, 17):
            assert collection.search(vectors[i], k=1)[0].id == str(i)


def test_a_password_is_shown_nowhere(postgres, caplog):
    caplog.set_level("DEBUG")
    port = postgres.port
    url = f"postgresql://nearfield:{SECRET}@127.0.0.1:{port}/postgres?schema={uuid.uuid4().hex}"
    with nearfield.open(url, dimension=2, durability="normal") as collection:
        said = [repr(collection), str(collection.stats()), repr(nearfield.connect(url))]
    for bad in (
        f"postgresql://nearfield:{SECRET}@127.0.0.1:1/none",
        f"postgresql://nearfield:{SECRET}@127.0.0.1:{port}/none",
        f"postgresql://nearfield:{SECRET}@127.0.0.1:{port}/postgres?nonsense=1",
        f"postgresql://nearfield:{SECRET}@127.0.0.1:port/postgres",
        f"mystery://nearfield:{SECRET}@127.0.0.1/x",
    ):
        with pytest.raises((StoreUnavailableError, InvalidURLError)) as refusal:
            nearfield.connect(bad, timeout_s=2).names()
        said.append(str(refusal.value))
    assert SECRET not in "".join(said) + caplog.text


def test_a_server_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:1/x.*running"):
        nearfield.open("postgresql://someone@127.0.0.1:1/x", dimension=2, timeout_s=1)


def test_a_call_ends_within_its_time(url, postgres):
    with nearfield.open(url, dimension=2, durability="normal", timeout_s=1) as collection:
        collection.upsert(Document("", id="a"), vectors=[1, 0])
        table = collection._store._names.documents.as_string(None)
        with psycopg.connect(postgres.url()) as other:
            other.execute(f"LOCK TABLE {table}")
            with pytest.raises(StoreBusyError, match="timeout_s=1"):
                collection.count()
        assert collection.count() == 1


def test_two_writers_of_the_same_ids_both_succeed(url):
    with nearfield.open(url, dimension=2, durability="normal") as collection:
        failures = []

        def write(writer):
            try:
                for round_ in range(20):
                    batch = [Document(f"{writer}/{round_}", id=str(i)) for i in range(30)]
                    collection.upsert(batch[:: 1 - 2 * (writer % 2)], vectors=np.ones((30, 2)))
            except BaseException as error:  # noqa: BLE001  reported by the test itself
                failures.append(error)

        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(collection) == 30
        assert len({document.text for document in collection.scan()}) == 1


@pytest.fixture
def own_server():
    """A server to be killed; it flushes as it would in earnest."""
    with tempfile.TemporaryDirectory(prefix="nearfield-postgres-") as folder:
        server = PostgresServer(Path(folder), settings=())
        server.start()
        try:
            yield server
        finally:
            server.kill()


class TestRestarts(Restarts):
    """A server whose settings are those of earnest use."""


def test_a_collection_that_others_dropped_is_closed(url):
    with nearfield.open(url, dimension=2, durability="normal") as collection:
        store = collection._store
        with psycopg.connect(url.partition("?")[0], autocommit=True) as owner:
            owner.execute(f"DROP TABLE {store._names.documents.as_string(None)}")
        with pytest.raises(ClosedError, match="dropped"):
            collection.search([1, 0])


def test_a_forked_child_waits_for_no_index_of_its_parent(url):
    with nearfield.open(url, dimension=2) as collection:
        collection.upsert(Document("", id="a"), vectors=[1, 0])
        held, done = threading.Event(), threading.Event()

        def look():
            with collection._store._indexer._changed:
                held.set()
                done.wait()

        looker = threading.Thread(target=look)
        looker.start()
        held.wait()
        child = os.fork()
        if child == 0:
            signal.alarm(30)  # ends it where it hangs
            code = 1
            try:
                collection.upsert(Document("", id="b"), vectors=[0, 1])
                collection.close()
                code = 0
            finally:
                os._exit(code)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        done.set()
        looker.join()
        assert status == 0
        assert len(collection) == 2


class TestSharing(Sharing):
    """One server."""
