"""An emulator of Pinecone, held to the suite that every store is held to."""

from __future__ import annotations

from typing import ClassVar

import pytest
from tests.conformance.stores import StoreConformance

from nearfield import Metric, SearchMode
from nearfield.stores.base import Store

pytest.importorskip("pinecone", reason="pinecone is not installed")


class TestPineconeStore(StoreConformance):
    modes: ClassVar = frozenset({SearchMode.VECTOR})
    atomic_writes: ClassVar = False
    snapshot_scans: ClassVar = False
    files_at_hand: ClassVar = False

    @pytest.fixture(scope="class")
    @classmethod
    def new_url(cls, pinecone):
        return pinecone.url

    def test_it_is_a_store(self, vectors):
        from nearfield.stores.pinecone.store import PineconeStore

        assert isinstance(vectors._store, PineconeStore)
        assert isinstance(vectors._store, Store)


class TestPineconeWithWords(TestPineconeStore):
    """Collections whose vectors are compared by dot product, which have words."""

    modes: ClassVar = frozenset(SearchMode)
    default_metric: ClassVar = Metric.DOT

    @pytest.fixture(scope="class")
    @classmethod
    def metric(cls):
        return Metric.DOT
