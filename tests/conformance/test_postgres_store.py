"""PostgreSQL with pgvector, held to the suite that every store is held to."""

from __future__ import annotations

import itertools
from typing import ClassVar

import pytest
from tests.conformance.stores import StoreConformance
from tests.postgres_server import psycopg

from nearfield.stores.base import Store
from nearfield.stores.postgres.store import PostgresStore


@pytest.fixture(scope="module")
def new_database(postgres):
    numbers = itertools.count()

    def make():
        name = f"conformance_{next(numbers)}"
        with psycopg.connect(postgres.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return postgres.url(name)

    return make


class TestPostgresStore(StoreConformance):
    connect_options: ClassVar = {"durability": "normal"}
    files_at_hand: ClassVar = False
    score_tolerance: ClassVar = 1e-5  # pgvector sums in float32

    @pytest.fixture(scope="class")
    @classmethod
    def new_url(cls, new_database):
        schemas = itertools.count()
        url = new_database()
        return lambda: f"{url}?schema=s{next(schemas)}"

    def test_it_is_a_store(self, vectors):
        assert isinstance(vectors._store, PostgresStore)
        assert isinstance(vectors._store, Store)
