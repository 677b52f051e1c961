"""Three PostgreSQL servers as one, held to the suite that every store is held to."""

from __future__ import annotations

import itertools
from typing import ClassVar

import pytest
from tests.conformance.stores import StoreConformance

from nearfield.stores.base import Store
from nearfield.stores.postgres.sharded_store import ShardedStore


class TestShardedPostgresStore(StoreConformance):
    connect_options: ClassVar = {"durability": "normal"}
    atomic_writes: ClassVar = False  # on each server, but not on all of them together
    files_at_hand: ClassVar = False
    score_tolerance: ClassVar = 1e-5  # pgvector sums in float32

    @pytest.fixture(scope="class")
    @classmethod
    def new_url(cls, postgres_trio):
        schemas = itertools.count()
        return lambda: f"{postgres_trio.url()}?schema=s{next(schemas)}"

    def test_it_is_a_store(self, vectors):
        assert isinstance(vectors._store, ShardedStore)
        assert isinstance(vectors._store, Store)
