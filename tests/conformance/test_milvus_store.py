"""Milvus Lite, and a Milvus server, held to the suite that every store is held to."""

from __future__ import annotations

import itertools
from typing import ClassVar

import pytest
from tests.conformance.stores import StoreConformance
from tests.milvus_server import IS_ASKED_FOR

import nearfield
from nearfield import SearchMode
from nearfield.stores.base import Store

pytest.importorskip("pymilvus", reason="pymilvus is not installed")


class MilvusConformance(StoreConformance):
    modes: ClassVar = frozenset({SearchMode.VECTOR})
    atomic_writes: ClassVar = False
    snapshot_scans: ClassVar = False
    files_at_hand: ClassVar = False

    def test_it_is_a_store(self, vectors):
        from nearfield.stores.milvus.store import MilvusStore

        assert isinstance(vectors._store, MilvusStore)
        assert isinstance(vectors._store, Store)


class TestMilvusLite(MilvusConformance):
    modes: ClassVar = frozenset(SearchMode)

    @pytest.fixture(scope="class")
    @classmethod
    def new_url(cls, tmp_path_factory):
        pytest.importorskip("milvus_lite", reason="milvus-lite is not installed")
        folder = tmp_path_factory.mktemp("milvus")
        numbers = itertools.count()
        return lambda: f"milvus://{(folder / f'{next(numbers)}.db').as_posix()}"


class TestMilvusServer(MilvusConformance):
    __test__ = IS_ASKED_FOR  # for minutes

    @pytest.fixture(scope="class")
    @classmethod
    def new_url(cls, milvus):
        return milvus.url

    @pytest.fixture
    def url(self, new_url):
        url = new_url()
        yield url
        with nearfield.connect(url) as database:  # a server that keeps them all grows slow
            for name in database.names():
                database.drop(name)
