"""Chroma, in a folder and on a server, held to the suite that every store is held to."""

from __future__ import annotations

import itertools
from typing import ClassVar

import pytest
from tests.conformance.stores import StoreConformance

from nearfield import SearchMode
from nearfield.stores.base import Store

pytest.importorskip("chromadb", reason="chromadb is not installed")


class ChromaConformance(StoreConformance):
    modes: ClassVar = frozenset({SearchMode.VECTOR})
    atomic_writes: ClassVar = False
    snapshot_scans: ClassVar = False
    rewritten_last: ClassVar = False
    files_at_hand: ClassVar = False

    def test_it_is_a_store(self, vectors):
        from nearfield.stores.chroma.store import ChromaStore

        assert isinstance(vectors._store, ChromaStore)
        assert isinstance(vectors._store, Store)


class TestEmbeddedChroma(ChromaConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def new_url(cls, tmp_path_factory):
        folder = tmp_path_factory.mktemp("chroma")
        numbers = itertools.count()
        return lambda: f"chroma://{(folder / str(next(numbers))).as_posix()}"


class TestChromaServer(ChromaConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def new_url(cls, chroma):
        return chroma.url
