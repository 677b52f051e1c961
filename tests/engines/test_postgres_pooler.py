"""PostgreSQL behind a pooler: one that keeps sessions serves, any other is refused."""

from __future__ import annotations

import contextlib
import threading
import uuid

import numpy as np
import pytest
from tests.engines.pooler import pooler
from tests.postgres_server import psycopg

import nearfield
from nearfield import Document
from nearfield.errors import CollectionInUseError, StoreError

LENDING = [
    {"pool_mode": "transaction"},
    {"pool_mode": "transaction", "server_round_robin": 1},
    {"pool_mode": "transaction", "default_pool_size": 1},
    {"pool_mode": "statement"},
]
CALLS = {
    "names": lambda database: database.names(),
    "open": lambda database: database.open("a"),
    "create": lambda database: database.create("b", dimension=2),
    "rename": lambda database: database.rename("a", "b"),
    "drop": lambda database: database.drop("a"),
}


@pytest.fixture
def schema(postgres):
    """A schema of its own, with a collection."""
    name = uuid.uuid4().hex
    nearfield.open(f"{postgres.url()}?schema={name}", "a", dimension=2).close()
    return name


def assert_refused(url, name):
    with pytest.raises(StoreError, match=r"lends out sessions.*pool_mode = session"):
        CALLS[name](nearfield.connect(url))


def test_a_pooler_that_keeps_sessions_serves(postgres, schema):
    with pooler(postgres, pool_mode="session") as pooled:
        database = nearfield.connect(f"{pooled}?schema={schema}", durability="normal")
        with database.open("a") as collection:
            documents = [Document("", id=str(i)) for i in range(600)]
            collection.upsert(documents, vectors=np.ones((600, 2)))
            assert sum(1 for _ in collection.scan()) == 600
            assert [len(hits) for hits in collection.search_many(np.ones((9, 2)))] == [10] * 9
            with pytest.raises(CollectionInUseError):
                database.drop("a")
        database.rename("a", "b")
        database.drop("b")
        assert database.names() == []


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("settings", LENDING, ids=str)
def test_a_pooler_that_lends_out_sessions_is_refused(postgres, schema, settings, name):
    with pooler(postgres, **settings) as pooled:
        assert_refused(f"{pooled}?schema={schema}", name)
    assert nearfield.connect(f"{postgres.url()}?schema={schema}").names() == ["a"]


def test_a_pooler_that_lends_out_sessions_is_refused_though_all_are_busy(postgres, schema):
    end = threading.Event()

    def ask(url):
        with psycopg.connect(url, autocommit=True, prepare_threshold=None) as other:
            while not end.is_set():
                other.execute("SELECT pg_sleep(0.001)")

    with pooler(postgres, pool_mode="transaction", default_pool_size=5) as pooled:
        others = [threading.Thread(target=ask, args=(pooled,)) for _ in range(8)]
        for other in others:
            other.start()
        try:
            for _ in range(10):
                assert_refused(f"{pooled}?schema={schema}", "names")
        finally:
            end.set()
            for other in others:
                other.join()


def test_a_pooler_that_is_refused_keeps_no_settings_for_others(postgres, schema):
    with pooler(postgres, pool_mode="transaction", default_pool_size=1) as pooled:
        with contextlib.suppress(StoreError):
            nearfield.connect(f"{pooled}?schema={schema}", read_only=True, timeout_s=3).names()
        with psycopg.connect(pooled) as other:
            settings = "default_transaction_read_only", "statement_timeout", "lock_timeout"
            found = [other.execute(f"SHOW {name}").fetchone()[0] for name in settings]
    assert found == ["off", "0", "0"]


def test_each_of_several_servers_is_looked_at(postgres_trio):
    first, second, _ = postgres_trio.servers
    with pooler(second, pool_mode="transaction") as pooled:
        hosts = f"127.0.0.1:{first.port},{pooled.rpartition('@')[2].partition('/')[0]}"
        for name in ("names", "create", "drop"):
            assert_refused(f"postgresql+sharded://nearfield@{hosts}/postgres", name)
