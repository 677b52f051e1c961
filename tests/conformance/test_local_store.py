"""The embedded engine, held to the suite that every store is held to."""

from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
from tests.conformance.stores import DIMENSION, EVERYTHING, StoreConformance, ids, pairs
from tests.segments import TINY_AUTOMATIC, searched_rows

import nearfield
from nearfield import Document, F
from nearfield.stores.base import Checkable, Store, StoreFactory
from nearfield.stores.durability import Durability
from nearfield.stores.local import database, tombstones
from nearfield.stores.local.database import LocalDatabase
from nearfield.stores.local.store import LocalStore


class TestLocalStore(StoreConformance):
    connect_options: ClassVar = {"durability": "normal"}

    @pytest.fixture(scope="class")
    @classmethod
    def new_url(cls, tmp_path_factory):
        return lambda: str(tmp_path_factory.mktemp("database"))

    def test_it_is_a_store(self, vectors, url):
        assert isinstance(vectors._store, LocalStore)
        assert isinstance(vectors._store, Store)
        assert isinstance(vectors._store, Checkable)
        factory: StoreFactory = LocalDatabase(
            Path(url), durability=Durability.NORMAL, timeout_s=1.0, read_only=False
        )
        assert factory.list() == ["default"]

    def test_a_database_is_a_folder_as_text_path_or_file_url(self, tmp_path):
        folder = tmp_path / "mit Leerzeichen é #%20"
        with nearfield.open(folder, "a", dimension=2) as collection:
            collection.upsert(Document("x", id="x"), vectors=[1, 0])
        for url in (str(folder), folder, folder.as_uri()):
            with nearfield.open(url, "a", create=False) as collection:
                assert collection.get("x").text == "x"

    def test_looking_at_a_database_that_is_not_there_makes_nothing(self, tmp_path):
        folder = tmp_path / "no"
        database = nearfield.connect(folder)
        assert database.names() == []
        with pytest.raises(nearfield.errors.CollectionNotFoundError):
            nearfield.open(folder, "a", read_only=True)
        with pytest.raises(nearfield.errors.CollectionNotFoundError):
            nearfield.open(folder, "a", create=False)
        assert not folder.exists()

    def test_keyword_scores_are_bm25(self, texts):
        words = {
            "a": "apple apple banana",
            "b": "apple cherry",
            "c": "banana banana banana plum",
            "d": "plum",
            "e": "fig grape melon lemon lime",
        }
        texts.upsert([Document(text, id=name) for name, text in words.items()])
        bags = {name: text.split() for name, text in words.items()}
        average = sum(map(len, bags.values())) / len(bags)

        def bm25(bag, query):  # k1 = 1.2, b = 0.75
            total = 0.0
            for word in query:
                holders = sum(word in other for other in bags.values())
                rarity = max(math.log((len(bags) - holders + 0.5) / (holders + 0.5)), 1e-6)
                count = bag.count(word)
                total += rarity * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * len(bag) / average))
            return total

        query = ["banana", "plum", "grape"]
        expected = {name: bm25(bag, query) for name, bag in bags.items()}
        hits = texts.search(" ".join(query), mode="keyword")
        assert dict(pairs(hits)) == pytest.approx({k: v for k, v in expected.items() if v > 0})

    def test_a_handle_that_slept_through_too_many_deletions_starts_anew(
        self, create, reopen, monkeypatch
    ):
        monkeypatch.setattr(tombstones, "_KEPT", 4)
        monkeypatch.setattr(tombstones, "_TRIMMED_EVERY", 1)
        writer, sleeper = create(), reopen()
        batch = [Document("", id=f"{i:02}", metadata={"n": i}) for i in range(30)]
        rows = [[1, i, 0, 0] for i in range(30)]
        writer.upsert(batch, vectors=rows)
        for lost in (3, 4, 5, 20):  # fewer than are kept, as many, one more, far more
            writer.upsert(batch, vectors=rows, replace=EVERYTHING)
            assert len(sleeper.search([1, 0, 0, 0], k=99, where=F.n >= 0)) == 30
            for i in range(lost):
                assert writer.delete(f"{i:02}") == 1
            expected = [f"{i:02}" for i in range(lost, 30)]
            assert sorted(ids(sleeper.search([1, 0, 0, 0], k=99))) == expected
            assert sorted(ids(sleeper.search([1, 0, 0, 0], k=99, where=F.n >= 0))) == expected
            assert sleeper.count(F.n >= 0) == 30 - lost

    def test_a_collection_dropped_and_made_again_is_another_one(self, database, create, reopen):
        create("a").close()
        stale = reopen("a")
        stale.close()
        database.drop("a")
        create("a").upsert(Document("new", id="x"), vectors=[1, 0, 0, 0])
        with pytest.raises(nearfield.errors.ClosedError):
            stale.get("x")

    def test_a_read_only_handle_repairs_nothing_however_broken_the_file(self, create, reopen):
        collection = create("a")
        collection.upsert(Document("x" * 500_000), vectors=[1, 0, 0, 0])
        path = Path(collection.stats()["path"]) / "collection.sqlite3"
        collection.close()
        content = bytearray(path.read_bytes())
        content[len(content) // 2 : len(content) // 2 + 16_384] = b"\xff" * 16_384
        path.write_bytes(content)
        reader = reopen("a", read_only=True)
        assert not reader.check().ok
        with pytest.raises(nearfield.errors.ReadOnlyError):
            reader.repair()
        assert path.read_bytes() == content


class TestTinySegments(StoreConformance):
    """The same with segments of a few rows, which come and go in the background."""

    connect_options: ClassVar = {"durability": "normal"}

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def tiny_segments(cls):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(database, "LocalDatabase", partial(LocalDatabase, policy=TINY_AUTOMATIC))
            yield

    @pytest.fixture(scope="class")
    @classmethod
    def new_url(cls, tmp_path_factory):
        return lambda: str(tmp_path_factory.mktemp("database"))

    def test_segments_are_built_and_searched(self, library):
        until = time.monotonic() + 60
        query = [1.0] * DIMENSION
        while not searched_rows(library, query)["segments"] and time.monotonic() < until:
            time.sleep(0.02)
        assert searched_rows(library, query)["segments"]
