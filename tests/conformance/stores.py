"""What every store must do: one suite over the public API, run against each engine.

A test class for an engine inherits :class:`StoreConformance`, says where a database of that engine
lives, and lowers the flags for what the engine openly does not do.
"""

from __future__ import annotations

import asyncio
import random
import threading
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
from tests.embedders import HashingEmbedder
from tests.oracle import Oracle

import nearfield
from nearfield import Document, F, Metric, SearchMode
from nearfield.errors import (
    ClosedError,
    CollectionExistsError,
    CollectionInUseError,
    CollectionNotFoundError,
    DimensionMismatchError,
    DocumentNotFoundError,
    EmbedderMismatchError,
    EmbedderRequiredError,
    InvalidInputError,
    InvalidNameError,
    ReadOnlyError,
    UnsupportedOperationError,
)
from nearfield.filters import And
from nearfield.ranking import fusion_depth, maximal_marginal_relevance, reciprocal_rank_fusion

if TYPE_CHECKING:
    from collections.abc import Callable

EVERYTHING = And(())
DIMENSION = 24
DOCUMENTS = 300

_WORDS = "amber birch cedar delta ember fjord grove heath inlet jetty knoll larch".split()

BAD_NAMES = ["", ".", "..", "../a", "a\\b", "a b", "é", "-a", ".a", "a.", "x" * 101, "😀", "\ud800"]
BAD_NAMES += [None, 5, b"a", ["a"]]

SELECTIVITIES = {
    "nothing": F.n < 0,
    "one document": F.n == 17,
    "two documents": F.n.in_([3, 250]),
    "a tenth": F.group == "g4",
    "a half": F.even == True,  # noqa: E712
    "all but one": F.n != 5,
    "everything": F.n >= 0,
    "an absent field": F.absent.exists(),
    "a nested field": F.place.zone.in_([1, 2]),
    "a list": F.tags.contains("t3") & ~(F.group == "g3"),
}


def corpus(count: int = DOCUMENTS, dimension: int = DIMENSION, seed: int = 7) -> list[Document]:
    """Make documents with random vectors, words and metadata, the same every time."""
    numbers = np.random.default_rng(seed)
    words = random.Random(seed)
    vectors = numbers.standard_normal((count, dimension)).astype(np.float32)
    return [
        Document(
            " ".join(words.choices(_WORDS, k=words.randint(1, 12))),
            id=f"doc-{i:04}",
            metadata={
                "n": i,
                "group": f"g{i % 10}",
                "even": i % 2 == 0,
                "place": {"zone": i % 4},
                "tags": [f"t{i % 5}", f"t{i % 3}"],
            },
            embedding=vectors[i],
        )
        for i in range(count)
    ]


def pairs(hits) -> list[tuple[str, float]]:
    return [(hit.id, hit.score) for hit in hits]


def ids(hits) -> list[str]:
    return [hit.id for hit in hits]


class StoreConformance:
    """The suite. Flags say what an engine does; a test that needs more is skipped by name."""

    modes: ClassVar[frozenset[SearchMode]] = frozenset(SearchMode)
    several_handles: ClassVar[bool] = True
    """Many handles open one collection at once and see each other's writes at the next call."""
    snapshot_scans: ClassVar[bool] = True
    """A scan shows one moment, whatever is written meanwhile."""
    rewritten_last: ClassVar[bool] = True
    """A document that takes another's place is scanned after those that were written before."""
    atomic_writes: ClassVar[bool] = True
    read_only_handles: ClassVar[bool] = True
    renames: ClassVar[bool] = True
    files_at_hand: ClassVar[bool] = True
    """The store can be checked, repaired and backed up."""
    default_metric: ClassVar[Metric | None] = None
    """How vectors are compared where a test does not say it."""
    connect_options: ClassVar[dict[str, Any]] = {}
    score_tolerance: ClassVar[float] = 1e-6
    """How far scores may be from those computed in float64."""

    # ── what an engine's test class provides ─────────────────────────────────────────────────

    @pytest.fixture(scope="class")
    @classmethod
    def new_url(cls, tmp_path_factory) -> Callable[[], str]:
        """Make the URL of a new, empty database of the engine."""
        raise NotImplementedError

    def assert_same_hits(self, got, expected, *, tolerance: float | None = None) -> None:
        """Same ids in the same order, with the same scores."""
        near = self.score_tolerance if tolerance is None else tolerance
        assert ids(got) == [name for name, _ in expected]
        assert [hit.score for hit in got] == pytest.approx(
            [score for _, score in expected], rel=near, abs=near
        )

    # ── fixtures ─────────────────────────────────────────────────────────────────────────────

    @pytest.fixture
    def url(self, new_url):
        """Where this test's own, empty database is."""
        return new_url()

    @pytest.fixture
    def database(self, url):
        with nearfield.connect(url, **self.connect_options) as database:
            yield database

    @pytest.fixture
    def opened(self):
        """Collections to close at the end."""
        collections: list[nearfield.Collection] = []
        yield collections
        for collection in collections:
            collection.close()

    @pytest.fixture
    def create(self, database, opened):
        """Make a collection; given vectors of four components unless told otherwise."""

        def make(name="default", *, dimension=4, embedder=None, metric=self.default_metric):
            collection = database.create(
                name,
                embedder=embedder,
                dimension=None if embedder is not None else dimension,
                metric=metric,
            )
            opened.append(collection)
            return collection

        return make

    @pytest.fixture
    def reopen(self, url, opened):
        """Open another handle on a collection."""

        def again(name="default", **options):
            collection = nearfield.open(url, name, **{**self.connect_options, **options})
            opened.append(collection)
            return collection

        return again

    @pytest.fixture
    def vectors(self, create):
        """An empty collection of given vectors of four components."""
        return create()

    @pytest.fixture
    def texts(self, create):
        """An empty collection that embeds texts."""
        return create("texts", embedder=HashingEmbedder(64))

    @pytest.fixture(scope="class", params=list(Metric))
    @classmethod
    def metric(cls, request):
        return request.param

    @pytest.fixture(scope="class")
    @classmethod
    def filled(cls, new_url, metric):
        """A collection of random vectors and words for each metric, and its oracle; only read."""
        oracle = Oracle(metric)
        oracle.upsert(corpus())
        with nearfield.open(
            new_url(), dimension=DIMENSION, metric=metric, **cls.connect_options
        ) as collection:
            collection.upsert(corpus())
            yield collection, oracle

    @pytest.fixture(scope="class")
    @classmethod
    def library(cls, new_url):
        """A collection of random vectors and words; only to read."""
        with nearfield.open(
            new_url(), dimension=DIMENSION, metric=cls.default_metric, **cls.connect_options
        ) as collection:
            collection.upsert(corpus())
            yield collection

    @pytest.fixture
    def own_library(self, create):
        """The same, for this test alone."""
        collection = create(dimension=DIMENSION)
        collection.upsert(corpus())
        return collection

    @pytest.fixture(params=list(SearchMode))
    def mode(self, request):
        if request.param not in self.modes:
            pytest.skip(f"the store has no {request.param} search")
        return request.param

    @classmethod
    def need(cls, flag: str) -> None:
        if not getattr(cls, flag):
            pytest.skip(f"the store declares {flag} = False")

    @classmethod
    def need_mode(cls, mode: SearchMode) -> None:
        if mode not in cls.modes:
            pytest.skip(f"the store has no {mode} search")

    # ── the store itself ─────────────────────────────────────────────────────────────────────

    def test_it_declares_what_this_suite_is_told(self, vectors):
        capabilities = vectors._store.capabilities
        assert capabilities.modes == self.modes
        assert capabilities.atomic_writes == self.atomic_writes
        assert capabilities.backup == self.files_at_hand

    def test_a_mode_it_lacks_is_refused_loudly(self, vectors):
        vectors.upsert(["a"], vectors=[[1, 0, 0, 0]])
        for mode in set(SearchMode) - self.modes:
            with pytest.raises(UnsupportedOperationError, match=mode):
                vectors.search("a", vector=[1, 0, 0, 0], mode=mode)

    # ── writing and reading back ─────────────────────────────────────────────────────────────

    def test_a_document_comes_back_as_it_was_written(self, vectors):
        written = Document(
            "Grüße, 世界 😀\n\ttab",
            id="ключ/1",
            metadata={"s": "é", "i": -(2**63), "f": 0.1, "b": True, "z": None, "l": [1, [2]], "": 0}
            | {"m": {"a.b": {"c": "d"}}},
        )
        vectors.upsert(written, vectors=[0.1, -2.5, 3e-20, 4e10])
        read = vectors.get("ключ/1", include=["text", "metadata", "embedding"])
        assert read == written
        assert read.embedding.dtype == np.float32
        assert read.embedding.tolist() == np.array([0.1, -2.5, 3e-20, 4e10], np.float32).tolist()
        assert read.created_at is not None
        assert read.created_at.tzinfo is not None

    def test_types_of_metadata_survive(self, vectors):
        metadata = {
            "int": 1,
            "float": 1.0,
            "bool": True,
            "text": "1",
            "none": None,
            "big": 2**53 + 1,
        }
        vectors.upsert(Document("", id="a", metadata=metadata), vectors=[1, 0, 0, 0])
        read = vectors.get("a").metadata
        assert read == metadata
        assert {key: type(value) for key, value in read.items()} == {
            key: type(value) for key, value in metadata.items()
        }

    def test_creation_times_come_back_in_utc_to_the_microsecond(self, vectors):
        from datetime import UTC, datetime, timedelta, timezone

        moments = [
            datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2))),
            datetime(1, 1, 1, tzinfo=UTC),
            datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            datetime(1969, 7, 20, 20, 17, tzinfo=UTC),
        ]
        vectors.upsert(
            [Document("", id=str(i), created_at=moment) for i, moment in enumerate(moments)],
            vectors=np.eye(4),
        )
        read = [document.created_at for document in vectors.get(["0", "1", "2", "3"])]
        assert read == moments
        assert {moment.utcoffset() for moment in read} == {timedelta()}

    def test_ids_come_back_in_the_order_of_the_documents(self, vectors):
        names = ["z", "ä", "a", "0", "😀", "A"]
        written = vectors.upsert([Document("", id=name) for name in names], vectors=np.ones((6, 4)))
        assert written == names
        assert [document.id for document in vectors.scan()] == names

    def test_ids_are_made_for_texts_and_they_differ(self, texts):
        made = texts.upsert(["same"] * 50)
        assert len(set(made)) == 50
        assert len(texts) == 50
        assert {document.id for document in texts.scan()} == set(made)

    def test_one_text_and_one_document_need_no_list(self, texts):
        (made,) = texts.upsert("one")
        assert texts.upsert(Document("two", id="b")) == ["b"]
        assert [document.text for document in texts.get([made, "b"])] == ["one", "two"]

    def test_add_is_upsert(self, texts):
        assert texts.add(Document("a", id="a")) == ["a"]
        assert texts.get("a").text == "a"

    def test_an_upsert_takes_the_place_of_the_document_with_its_id(self, vectors):
        vectors.upsert([Document("old", id="a", metadata={"v": 1})], vectors=[[1, 0, 0, 0]])
        vectors.upsert([Document("new", id="a", metadata={"w": 2})], vectors=[[0, 1, 0, 0]])
        assert len(vectors) == 1
        assert vectors.get("a") == Document("new", id="a", metadata={"w": 2})
        assert pairs(vectors.search([0, 1, 0, 0])) == [("a", 1.0)]
        assert vectors.count(F.v.exists()) == 0

    def test_of_duplicate_ids_in_a_batch_the_last_counts(self, vectors):
        batch = [Document("first", id="a"), Document("other", id="b"), Document("last", id="a")]
        written = vectors.upsert(batch, vectors=[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
        assert written == ["a", "b", "a"]
        assert len(vectors) == 2
        assert vectors.get("a").text == "last"
        assert ids(vectors.search([0, 0, 1, 0], k=1, min_score=0.9)) == ["a"]
        assert vectors.search([1, 0, 0, 0], min_score=0.9) == []

    def test_an_empty_batch_writes_nothing(self, texts, vectors):
        assert texts.upsert([]) == []
        assert vectors.upsert([], vectors=np.empty((0, 4))) == []
        assert len(texts) == 0

    def test_a_generator_is_a_batch(self, texts):
        texts.upsert(Document(f"text {i}", id=str(i)) for i in range(3))
        assert len(texts) == 3

    def test_a_document_may_bring_its_own_embedding(self, create):
        vectors = create(metric="cosine")
        vectors.upsert(Document("", id="a", embedding=np.array([0, 0, 2, 0], np.float32)))
        assert pairs(vectors.search([0, 0, 1, 0])) == [("a", 1.0)]

    def test_own_embeddings_and_embedded_texts_mix_in_one_batch(self, create):
        embedder = HashingEmbedder(16)
        collection = create(embedder=embedder)
        own = np.linspace(1, 2, 16, dtype=np.float32)
        batch = [Document("x", id="a"), Document("y", id="b", embedding=own), Document("z", id="c")]
        collection.upsert(batch)
        read = collection.get(["a", "b", "c"], include=["embedding"])
        x, z = embedder.embed_documents(["x", "z"])
        for document, expected in zip(read, [x, own, z], strict=True):
            assert document.embedding.tolist() == expected.tolist()

    def test_what_was_given_can_be_changed_afterwards(self, vectors):
        vector = np.array([[1, 0, 0, 0]], np.float32)
        metadata = {"list": [1]}
        vectors.upsert([Document("a", id="a", metadata=metadata)], vectors=vector)
        vectors.search([1, 0, 0, 0])
        vector[:] = [0, 1, 0, 0]
        metadata["list"].append(2)
        assert pairs(vectors.search([1, 0, 0, 0])) == [("a", 1.0)]
        assert vectors.get("a").metadata == {"list": [1]}

    def test_a_large_batch_is_one_write(self, vectors):
        count = 3000
        rows = np.random.default_rng(0).standard_normal((count, 4)).astype(np.float32)
        names = [f"{i:05}" for i in range(count)]
        vectors.upsert([Document("", id=name) for name in names], vectors=rows)
        assert len(vectors) == count
        assert [document.id for document in vectors.get(names)] == names
        assert [document.id for document in vectors.scan()] == names
        assert vectors.delete(names[:2500]) == 2500
        assert [document.id for document in vectors.scan()] == names[2500:]

    # ── get ──────────────────────────────────────────────────────────────────────────────────

    def test_get_answers_one_id_with_one_document_and_many_with_a_list(self, vectors):
        vectors.upsert([Document("a", id="a"), Document("b", id="b")], vectors=np.ones((2, 4)))
        assert vectors.get("a").text == "a"
        assert vectors.get("no") is None
        found = vectors.get(["b", "no", "a", "b"])
        assert [document and document.id for document in found] == ["b", None, "a", "b"]
        assert vectors.get([]) == []
        assert vectors.get(("a",))[0].id == "a"

    @pytest.mark.parametrize(
        "parts", [[], ["text"], ["metadata"], ["embedding"], ["text", "embedding"]]
    )
    def test_include_says_which_parts_come_back(self, vectors, parts):
        vectors.upsert(Document("words", id="a", metadata={"x": 1}), vectors=[1, 2, 3, 4])
        documents = [
            vectors.get("a", include=parts),
            next(vectors.scan(include=parts)),
            vectors.search([1, 2, 3, 4], include=parts)[0].document,
            vectors.search_many([[1, 2, 3, 4]], include=parts)[0][0].document,
            vectors.search([1, 2, 3, 4], include=parts, diversity=0.5)[0].document,
        ]
        for document in documents:
            assert document.id == "a"
            assert document.text == ("words" if "text" in parts else "")
            assert document.metadata == ({"x": 1} if "metadata" in parts else {})
            if "embedding" in parts:
                assert document.embedding.tolist() == [1, 2, 3, 4]
            else:
                assert document.embedding is None

    # ── delete ───────────────────────────────────────────────────────────────────────────────

    def test_delete_counts_the_documents_that_were_there(self, vectors):
        vectors.upsert([Document("", id=name) for name in "abcd"], vectors=np.ones((4, 4)))
        assert vectors.delete("a") == 1
        assert vectors.delete("a") == 0
        assert vectors.delete(["b", "no", "b"]) == 1
        assert vectors.delete([]) == 0
        assert [document.id for document in vectors.scan()] == ["c", "d"]
        assert vectors.get("a") is None
        assert sorted(ids(vectors.search([1, 1, 1, 1]))) == ["c", "d"]

    def test_delete_by_filter_deletes_exactly_the_matches(self, own_library):
        assert own_library.delete(where=F.group == "g1") == 30
        assert own_library.delete(where=F.group == "g1") == 0
        assert own_library.delete(where={"n": {"$gte": 290}}) == 9
        assert len(own_library) == DOCUMENTS - 39
        left = [document.metadata for document in own_library.scan()]
        assert all(each["group"] != "g1" and each["n"] < 290 for each in left)

    def test_delete_wants_ids_or_a_filter(self, vectors):
        vectors.upsert("a", vectors=[1, 0, 0, 0])
        for arguments in ({}, {"where": {}}):
            with pytest.raises(InvalidInputError):
                vectors.delete(**arguments)
        assert len(vectors) == 1

    def test_delete_with_ids_and_a_filter_deletes_what_has_both(self, own_library):
        assert own_library.delete(["doc-0001", "doc-0002", "no"], where=F.n == 2) == 1
        assert own_library.get(["doc-0001", "doc-0002"])[1] is None
        assert own_library.delete([], where=F.n < 100) == 0
        assert len(own_library) == DOCUMENTS - 1

    def test_a_deleted_id_can_be_written_again(self, vectors):
        for round_ in range(5):
            vectors.upsert(Document(str(round_), id="a"), vectors=[1, round_, 0, 0])
            assert vectors.get("a").text == str(round_)
            assert vectors.delete("a") == 1
            assert vectors.search([1, 0, 0, 0]) == []
        assert len(vectors) == 0

    # ── replace ──────────────────────────────────────────────────────────────────────────────

    def test_replace_deletes_the_matches_that_are_not_written(self, vectors):
        source = {"source": "a.md"}
        old = [Document(f"old {i}", id=f"a{i}", metadata=source) for i in range(4)]
        other = Document("other", id="b0", metadata={"source": "b.md"})
        vectors.upsert([*old, other], vectors=np.ones((5, 4)))
        new = [
            Document("new", id="a1", metadata=source),  # matched before, and written
            Document("new", id="a9", metadata={"source": "c.md"}),  # never matches
        ]
        vectors.upsert(new, vectors=np.ones((2, 4)), replace=F.source == "a.md")
        expected = [("b0", "other"), ("a1", "new"), ("a9", "new")]
        if not self.rewritten_last:
            expected[:2] = expected[1::-1]
        assert [(d.id, d.text) for d in vectors.scan()] == expected

    def test_replace_keeps_what_is_written_even_if_it_matches(self, vectors):
        vectors.upsert([Document("", id="a"), Document("", id="b")], vectors=np.ones((2, 4)))
        vectors.upsert([Document("", id="c")], vectors=np.ones((1, 4)), replace=EVERYTHING)
        assert [document.id for document in vectors.scan()] == ["c"]

    def test_replace_with_nothing_to_write_only_deletes(self, own_library):
        assert own_library.upsert([], replace={"group": "g2"}) == []
        assert len(own_library) == DOCUMENTS - 30
        assert own_library.count(F.group == "g2") == 0

    def test_a_refused_replace_deletes_nothing(self, own_library):
        with pytest.raises(DimensionMismatchError):
            own_library.upsert(["x"], vectors=[[1.0]], replace=EVERYTHING)
        assert len(own_library) == DOCUMENTS

    def test_others_never_see_half_of_a_replace(self, create, reopen):
        self.need("atomic_writes")
        self.need("several_handles")
        writer, reader = create(dimension=2), reopen()
        generations, size = 40, 15
        batches = [
            [
                Document("", id=f"{generation % 3}/{i}", metadata={"g": generation})
                for i in range(size)
            ]
            for generation in range(generations)
        ]
        writer.upsert(batches[0], vectors=np.ones((size, 2)))
        failures: list[BaseException] = []

        def write():
            try:
                for batch in batches[1:]:
                    writer.upsert(batch, vectors=np.ones((size, 2)), replace=EVERYTHING)
            except BaseException as error:  # noqa: BLE001  reported by the test itself
                failures.append(error)

        thread = threading.Thread(target=write)
        thread.start()
        looks = 0
        while thread.is_alive() or looks < 3:
            for seen in (
                [document.metadata["g"] for document in reader.scan()],
                [hit.metadata["g"] for hit in reader.search([1, 1], k=2 * size)],
                [hit.metadata["g"] for hit in reader.search([1, 1], k=2 * size, where=F.g >= 0)],
            ):
                assert len(seen) == size
                assert len(set(seen)) == 1
            looks += 1
        thread.join()
        assert failures == []
        assert {document.metadata["g"] for document in reader.scan()} == {generations - 1}

    # ── count and scan ───────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("name", SELECTIVITIES)
    def test_count_and_scan_agree_with_the_meaning_of_the_filter(self, library, name):
        where = SELECTIVITIES[name]
        expected = [d.id for d in corpus() if where.matches(d.metadata)]
        assert library.count(where) == len(expected)
        assert [document.id for document in library.scan(where=where)] == expected
        assert library.count(where.to_dict()) == len(expected)

    def test_len_and_count_follow_every_write(self, vectors):
        assert len(vectors) == vectors.count() == 0
        vectors.upsert([Document("", id=str(i)) for i in range(10)], vectors=np.ones((10, 4)))
        assert len(vectors) == vectors.count() == vectors.count({}) == 10
        vectors.delete(["1", "2", "3"])
        assert len(vectors) == vectors.count() == 7

    def test_a_scan_shows_the_moment_it_began(self, vectors):
        self.need("snapshot_scans")
        names = [f"{i:04}" for i in range(700)]
        batch = [Document("old", id=name, metadata={"old": True}) for name in names]
        vectors.upsert(batch, vectors=np.ones((700, 4)))
        everything, filtered = vectors.scan(), vectors.scan(where=F.old == True)  # noqa: E712
        seen, matched = [next(everything)], [next(filtered)]
        vectors.delete(names[300:])
        vectors.upsert(
            [Document("new", id=name) for name in names[:300]], vectors=np.ones((300, 4))
        )
        seen += everything
        matched += filtered
        assert [document.id for document in seen] == names
        assert [document.id for document in matched] == names
        assert {document.text for document in seen} == {"old"}
        assert {document.text for document in vectors.scan()} == {"new"}

    def test_an_abandoned_scan_blocks_nobody(self, vectors, database):
        vectors.upsert([Document("", id=str(i)) for i in range(600)], vectors=np.ones((600, 4)))
        scan = vectors.scan()
        next(scan)
        vectors.upsert(Document("", id="x"), vectors=[1, 0, 0, 0])
        del scan
        assert len(vectors) == 601
        vectors.close()
        database.drop("default")

    # ── vector search against the oracle ─────────────────────────────────────────────────────

    @pytest.mark.parametrize("k", [1, 2, 10, 100, DOCUMENTS - 1, DOCUMENTS, DOCUMENTS + 50])
    def test_the_hits_are_exactly_the_best(self, filled, k):
        collection, oracle = filled
        for query in np.random.default_rng(1).standard_normal((5, DIMENSION)):
            self.assert_same_hits(collection.search(query, k=k), oracle.search(query, k))

    @pytest.mark.parametrize("name", SELECTIVITIES)
    def test_the_hits_under_a_filter_are_exactly_the_best_that_match(self, filled, name):
        collection, oracle = filled
        where = SELECTIVITIES[name]
        for query in np.random.default_rng(2).standard_normal((3, DIMENSION)):
            for k in (1, 10, 400):
                self.assert_same_hits(
                    collection.search(query, k=k, where=where), oracle.search(query, k, where)
                )

    def test_the_hits_stay_exact_as_documents_come_and_go(self, create, metric):
        collection, oracle = create(dimension=DIMENSION, metric=metric), Oracle(metric)
        collection.upsert(corpus())
        oracle.upsert(corpus())
        numbers = np.random.default_rng(3)
        for round_ in range(6):
            gone = [f"doc-{i:04}" for i in numbers.integers(0, DOCUMENTS, 60)]
            assert collection.delete(gone) == oracle.delete(gone)
            fresh = corpus(30, seed=100 + round_)
            collection.upsert(fresh)
            oracle.upsert(fresh)
            query = numbers.standard_normal(DIMENSION)
            for where in (None, F.group == "g4", F.n < 40):
                self.assert_same_hits(
                    collection.search(query, k=20, where=where), oracle.search(query, 20, where)
                )

    def test_scores_are_similarities_on_the_scale_of_the_metric(self, filled):
        collection, oracle = filled
        query = np.random.default_rng(4).standard_normal(DIMENSION)
        hits = collection.search(query, k=DOCUMENTS)
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
        if oracle.metric is Metric.COSINE:
            assert all(-1.0 <= score <= 1.0 for score in scores)
            assert min(scores) < 0 < max(scores)
        if oracle.metric is Metric.EUCLIDEAN:
            assert all(0.0 < score <= 1.0 for score in scores)
        relevances = [hit.relevance for hit in hits]
        assert relevances == sorted(relevances, reverse=True)
        assert all(0.0 <= relevance <= 1.0 for relevance in relevances)
        assert [hit.rank for hit in hits] == list(range(1, DOCUMENTS + 1))

    def test_a_vector_is_its_own_best_match(self, filled):
        collection, oracle = filled
        if oracle.metric is Metric.DOT:
            pytest.skip("an inner product has no best match")
        for document in corpus()[::50]:
            hit = collection.search(document.embedding, k=1)[0]
            assert (hit.id, hit.score, hit.relevance) == (document.id, 1.0, 1.0)

    @pytest.mark.parametrize(
        ("metric", "rows", "expected"),
        [
            (
                Metric.COSINE,  # angles to (2, 0, 0, 0): 0°, 60°, 90°, 180°
                [[9, 0, 0, 0], [4, 4, 4, 4], [0, 1, 0, 0], [-6, 0, 0, 0]],
                [("a", 1.0), ("b", 0.5), ("c", 0.0), ("d", -1.0)],
            ),
            (
                Metric.DOT,
                [[9, 0, 0, 0], [4, 4, 4, 4], [0, 0, 0, 0], [-6, 0, 0, 0]],
                [("a", 18.0), ("b", 8.0), ("c", 0.0), ("d", -12.0)],
            ),
            (
                Metric.EUCLIDEAN,  # distances from (2, 0, 0, 0): 0, 2, 5, 8
                [[2, 0, 0, 0], [0, 0, 0, 0], [2, 3, 4, 0], [-6, 0, 0, 0]],
                [("a", 1.0), ("b", 1 / 3), ("c", 1 / 6), ("d", 1 / 9)],
            ),
        ],
    )
    def test_scores_mean_what_the_metric_says(self, create, metric, rows, expected):
        collection = create(metric=metric)
        collection.upsert([Document("", id=name) for name in "abcd"], vectors=rows)
        self.assert_same_hits(collection.search([2, 0, 0, 0]), expected)

    def test_ties_are_ordered_by_id(self, create, metric):
        collection = create(metric=metric)
        names = [f"{i:03}" for i in range(200)] + ["Z", "a", "ä", "😀", "\ufeff"]
        shuffled = random.Random(5).sample(names, len(names))
        collection.upsert(
            [Document("", id=name) for name in shuffled], vectors=[[1, 2, 3, 4]] * 205
        )
        for k in (1, 7, 200, 205, 300):
            assert ids(collection.search([4, 3, 2, 1], k=k)) == sorted(names)[:k]
            found = collection.search([4, 3, 2, 1], k=k, where=F.x.exists(False))
            assert ids(found) == sorted(names)[:k]

    def test_ties_that_straddle_the_cut_are_ordered_by_id(self, create, metric):
        collection = create(metric=metric)
        rows = [[3, 0, 0, 0]] * 2 + [[0, 2, 0, 0]] * 30
        names = ["y", "x"] + [f"t{i:02}" for i in range(30)]
        order = random.Random(6).sample(range(32), 32)
        collection.upsert(
            [Document("", id=names[i]) for i in order], vectors=[rows[i] for i in order]
        )
        assert ids(collection.search([3, 0, 0, 0], k=5)) == ["x", "y", "t00", "t01", "t02"]

    def test_an_empty_collection_has_no_hits(self, create, metric, mode):
        collection = create(metric=metric)
        assert collection.search("a", vector=[1, 0, 0, 0], mode=mode) == []
        assert collection.search("a", vector=[1, 0, 0, 0], mode=mode, where=F.x == 1) == []
        assert collection.search_many(["a", "b"], vectors=np.ones((2, 4)), mode=mode) == [[], []]
        assert list(collection.scan()) == []

    def test_min_score_cuts_where_it_says(self, filled):
        collection, _ = filled
        query = np.random.default_rng(8).standard_normal(DIMENSION)
        scores = [hit.score for hit in collection.search(query, k=DOCUMENTS)]
        for place in (0, 5, 150, DOCUMENTS - 1):
            limit = scores[place]
            kept = collection.search(query, k=DOCUMENTS, min_score=limit)
            assert [hit.score for hit in kept] == scores[: place + 1]  # the limit is inside
            above = collection.search(query, k=DOCUMENTS, min_score=np.nextafter(limit, np.inf))
            assert [hit.score for hit in above] == scores[:place]
        assert collection.search(query, min_score=float("inf")) == []
        assert len(collection.search(query, min_score=float("-inf"))) == 10
        assert collection.search(query, k=3, where=F.n < 100, min_score=-1e9) == collection.search(
            query, k=3, where=F.n < 100
        )

    # ── like ─────────────────────────────────────────────────────────────────────────────────

    def test_like_finds_the_neighbours_of_a_document_without_itself(self, filled):
        collection, oracle = filled
        example = corpus()[42]
        expected = [
            pair for pair in oracle.search(example.embedding, DOCUMENTS) if pair[0] != example.id
        ]
        for k in (1, 10, DOCUMENTS - 1, DOCUMENTS, DOCUMENTS + 1):
            hits = collection.search(like=example.id, k=k)
            self.assert_same_hits(hits, expected[:k])
            assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))

    def test_like_under_a_filter_still_gives_k_hits(self, filled):
        collection, oracle = filled
        example = corpus()[44]
        for where in (F.group == "g4", F.group == "g5", F.n < 10):  # matches it; does not; few
            matches = oracle.search(example.embedding, DOCUMENTS, where)
            others = [pair for pair in matches if pair[0] != example.id]
            self.assert_same_hits(collection.search(like=example.id, k=8, where=where), others[:8])

    def test_like_works_in_every_mode(self, library, mode):
        hits = library.search(like="doc-0007", k=5, mode=mode)
        assert len(hits) == 5
        assert "doc-0007" not in ids(hits)

    def test_like_of_the_only_document_finds_nothing(self, vectors):
        vectors.upsert(Document("a", id="a"), vectors=[1, 0, 0, 0])
        assert vectors.search(like="a") == []

    def test_like_an_unknown_document_is_an_error(self, vectors):
        vectors.upsert(Document("a", id="a"), vectors=[1, 0, 0, 0])
        with pytest.raises(DocumentNotFoundError) as caught:
            vectors.search(like="b")
        assert caught.value.id == "b"

    def test_like_takes_the_place_of_a_query(self, vectors):
        vectors.upsert(Document("a", id="a"), vectors=[1, 0, 0, 0])
        for arguments in ({"query": [1, 0, 0, 0]}, {"query": "a"}, {"vector": [1, 0, 0, 0]}):
            with pytest.raises(InvalidInputError):
                vectors.search(**arguments, like="a")

    # ── diversity ────────────────────────────────────────────────────────────────────────────

    def test_no_diversity_is_the_plain_order(self, filled):
        collection, _ = filled
        query = np.random.default_rng(9).standard_normal(DIMENSION)
        plain = collection.search(query, k=12)
        assert collection.search(query, k=12, diversity=0.0) == plain

    @pytest.mark.parametrize("diversity", [0.2, 0.7, 1.0])
    def test_diversity_is_maximal_marginal_relevance_over_the_best(self, filled, diversity):
        collection, _ = filled
        query = np.random.default_rng(10).standard_normal(DIMENSION)
        pool = collection.search(query, k=50, include=["text", "metadata", "embedding"])
        order = maximal_marginal_relevance(
            [hit.relevance for hit in pool],
            np.stack([hit.document.embedding for hit in pool]),
            10,
            diversity,
        )
        hits = collection.search(query, k=10, diversity=diversity)
        assert pairs(hits) == pairs([pool[i] for i in order])
        assert [hit.rank for hit in hits] == list(range(1, 11))

    def test_diversity_passes_over_near_copies(self, vectors):
        rows = [
            [1, 0, 0, 0],
            [1, 0.001, 0, 0],
            [1, 0, 0.001, 0],
            [0.9, 0.5, 0, 0],
            [0.9, 0, 0.5, 0],
        ]
        vectors.upsert([Document("", id=name) for name in "abcde"], vectors=rows)
        assert ids(vectors.search([1, 0, 0, 0], k=3)) == ["a", "b", "c"]
        assert ids(vectors.search([1, 0, 0, 0], k=3, diversity=0.6)) == ["a", "d", "e"]

    def test_diversity_never_costs_results(self, library, mode):
        for k in (1, 5, 30, 100):
            hits = library.search(
                "amber birch", vector=[1.0] * DIMENSION, mode=mode, k=k, diversity=0.5
            )
            plain = library.search("amber birch", vector=[1.0] * DIMENSION, mode=mode, k=k)
            assert len(hits) == len(plain)
            assert len(set(ids(hits))) == len(hits)

    def test_diversity_picks_from_as_many_candidates_as_are_asked_for(self, filled):
        collection, _ = filled
        query = np.random.default_rng(12).standard_normal(DIMENSION)
        best = ids(collection.search(query, k=14))
        hits = ids(collection.search(query, k=7, diversity=1.0, candidates=14))
        assert len(hits) == 7
        assert set(hits) < set(best)
        assert hits != best[:7]
        few = collection.search(query, k=7, diversity=1.0, candidates=3)
        assert sorted(ids(few)) == sorted(best[:7])

    # ── among ids ────────────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("count", [0, 1, 30, DOCUMENTS])
    def test_a_search_among_ids_finds_the_best_of_them(self, library, mode, count):
        among = [f"doc-{n:04}" for n in range(0, DOCUMENTS, DOCUMENTS // max(1, count))][:count]
        query, words = [1.0] * DIMENSION, " ".join(_WORDS)
        for where in (None, F.n >= DOCUMENTS // 2):
            hits = library.search(
                words, vector=query, mode=mode, k=8, ids=[*among, "no"], where=where
            )
            left = [d for d in library.get(among) if where is None or where.matches(d.metadata)]
            assert len(hits) == min(8, len(left))
            if mode is not SearchMode.HYBRID:
                ranked = library.search(words, vector=query, mode=mode, k=DOCUMENTS)
                expected = [pair for pair in pairs(ranked) if pair[0] in {d.id for d in left}]
                self.assert_same_hits(hits, expected[:8], tolerance=1e-12)

    def test_one_id_to_search_among_needs_no_list(self, library):
        assert ids(library.search([1.0] * DIMENSION, ids="doc-0007")) == ["doc-0007"]

    def test_searches_among_ids_follow_updates_and_deletions(self, vectors):
        vectors.upsert([Document("", id=name) for name in "abc"], vectors=np.eye(4)[:3])
        vectors.upsert(Document("", id="a"), vectors=[0, 0, 0, 1])
        vectors.delete("b")
        hits = vectors.search([0, 0, 0, 1], ids=["a", "b"])
        assert pairs(hits) == [("a", pytest.approx(hits[0].score))]
        assert hits[0].score > 0.4

    # ── keyword ──────────────────────────────────────────────────────────────────────────────

    @pytest.fixture(scope="class")
    @classmethod
    def kitchen(cls, new_url):
        """A few telling texts; only to read."""
        cls.need_mode(SearchMode.KEYWORD)
        collection = nearfield.open(
            new_url(),
            embedder=HashingEmbedder(64),
            metric=cls.default_metric,
            **cls.connect_options,
        )
        collection.upsert(
            [
                Document("The kettle is in the kitchen", id="kettle"),
                Document("Kitchens have ovens", id="oven"),
                Document("She was running and runs a lot", id="run"),
                Document("Café crème in Zürich", id="cafe"),
                Document("Москва весной", id="moscow"),
                Document("to be or not to be", id="hamlet"),
                Document("C++ and C# at 3.14 on host-name_1", id="code"),
                Document("", id="empty"),
                Document("NEAR the text AND the OR", id="syntax"),
            ]
        )
        yield collection
        collection.close()

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("kettle", {"kettle"}),
            ("KETTLE", {"kettle"}),
            ("kettles", {"kettle"}),
            ("kitchen", {"kettle", "oven"}),
            ("run", {"run"}),
            ("runner kettle oven", {"kettle", "oven"}),
            ("cafe", {"cafe"}),
            ("creme ZURICH", {"cafe"}),
            ("cafe\u0301", {"cafe"}),
            ("москва", {"moscow"}),
            ("3.14", {"code"}),
            ("host-name_1", {"code"}),
            ("absent", set()),
            ("ket", set()),
        ],
    )
    def test_keywords_are_words_whatever_their_case_ending_or_accents(
        self, kitchen, query, expected
    ):
        assert set(ids(kitchen.search(query, mode="keyword"))) == expected

    @pytest.mark.parametrize(
        "query",
        [
            '"kettle"',
            '"kettle',
            'kettle"',
            'ket"tle kettle',
            "kettle*",
            "*kettle",
            "NEAR(kettle, 2)",
            "-kettle",
            "+kettle",
            "^kettle",
            "text:kettle",
            "text : kettle",
            "{text}: kettle",
            "kettle AND",
            "NOT kettle",
            "(kettle",
            "kettle)",
            "kettle;--",
            "kettle' OR '1'='1",
            "kettle\\",
            "kettle%",
            "\x00kettle\x00",
            "kettle\u2026",
            "\u201ckettle\u201d",
            "kettle\n\t kettle",
            "\ufeffkettle",
        ],
    )
    def test_nothing_in_a_query_is_read_as_syntax(self, kitchen, query):
        assert "kettle" in ids(kitchen.search(query, mode="keyword"))

    @pytest.mark.parametrize(
        "query", ["", " ", "\n", '"', "*", "()", "-", ":", "\x00", "…", "“”", "😀"]
    )
    def test_a_query_without_words_finds_nothing(self, kitchen, query):
        assert kitchen.search(query, mode="keyword") == []

    def test_stop_words_count_only_when_there_is_nothing_else(self, kitchen):
        for query in ("to be or not to be", "to be — or “not”…", "BE?"):
            assert ids(kitchen.search(query, mode="keyword"))[0] == "hamlet"
        assert ids(kitchen.search("where is the kettle", mode="keyword")) == ["kettle"]

    def test_a_long_query_finds_its_words(self, kitchen):
        query = " ".join(["kettle", *(f"word{i}" for i in range(5000))])
        assert ids(kitchen.search(query, mode="keyword")) == ["kettle"]
        assert ids(kitchen.search("kettle " * 5000, mode="keyword")) == ["kettle"]

    def test_documents_with_more_of_the_words_come_first(self, texts):
        self.need_mode(SearchMode.KEYWORD)
        texts.upsert(
            [
                Document("apple pear plum fig", id="one"),
                Document("apple banana plum fig", id="two"),
                Document("apple banana cherry fig", id="three"),
                Document("grape melon lemon lime", id="none"),
            ]
        )
        hits = texts.search("apple banana cherry", mode="keyword")
        assert ids(hits) == ["three", "two", "one"]
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
        assert all(score > 0 for score in scores)
        relevances = [hit.relevance for hit in hits]
        assert relevances == sorted(relevances, reverse=True)
        assert all(0 <= relevance <= 1 for relevance in relevances)

    def test_equal_keyword_scores_are_ordered_by_id(self, texts):
        self.need_mode(SearchMode.KEYWORD)
        names = [f"{i:03}" for i in range(40)]
        shuffled = random.Random(1).sample(names, 40)
        texts.upsert([Document("same words", id=name) for name in shuffled])
        for k in (1, 5, 39, 40, 41):
            assert ids(texts.search("words", mode="keyword", k=k)) == names[:k]

    def test_keywords_follow_updates_and_deletions(self, texts):
        self.need_mode(SearchMode.KEYWORD)
        texts.upsert([Document("apple", id="a"), Document("apple", id="b")])
        texts.upsert(Document("banana", id="a"))
        assert ids(texts.search("apple", mode="keyword")) == ["b"]
        assert ids(texts.search("banana", mode="keyword")) == ["a"]
        texts.delete("b")
        assert texts.search("apple", mode="keyword") == []
        texts.upsert(Document("apple", id="c"), replace=EVERYTHING)
        assert texts.search("banana", mode="keyword") == []
        assert ids(texts.search("apple", mode="keyword")) == ["c"]

    def test_a_filter_never_costs_keyword_results(self, library):
        self.need_mode(SearchMode.KEYWORD)
        for where in SELECTIVITIES.values():
            matches = {
                d.id for d in corpus() if "amber" in d.text.split() and where.matches(d.metadata)
            }
            everything = library.search("amber", mode="keyword", k=DOCUMENTS, where=where)
            assert set(ids(everything)) == matches
            for k in (1, 5, 50):
                hits = library.search("amber", mode="keyword", k=k, where=where)
                assert pairs(hits) == pairs(everything)[:k]

    def test_a_filter_does_not_change_keyword_scores(self, library):
        self.need_mode(SearchMode.KEYWORD)
        plain = dict(pairs(library.search("amber fjord", mode="keyword", k=DOCUMENTS)))
        under = library.search("amber fjord", mode="keyword", k=DOCUMENTS, where=F.n < 100)
        assert under
        assert all(plain[hit.id] == hit.score for hit in under)

    def test_a_keyword_search_needs_words(self, vectors):
        self.need_mode(SearchMode.KEYWORD)
        for query in ([1, 0, 0, 0], None):
            with pytest.raises(InvalidInputError):
                vectors.search(query, mode="keyword")

    def test_a_keyword_search_needs_no_embedder(self, vectors):
        self.need_mode(SearchMode.KEYWORD)
        vectors.upsert(Document("apple", id="a"), vectors=[1, 0, 0, 0])
        assert ids(vectors.search("apple", mode="keyword")) == ["a"]
        assert ids(vectors.search_many(["apple"], mode="keyword")[0]) == ["a"]

    # ── hybrid ───────────────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("name", ["everything", "a tenth", "one document", "nothing"])
    @pytest.mark.parametrize("k", [1, 10, 60, 400])
    def test_hybrid_is_the_reciprocal_rank_fusion_of_both_lists(self, filled, k, name):
        self.need_mode(SearchMode.HYBRID)
        collection, _ = filled
        where = SELECTIVITIES[name]
        query = np.random.default_rng(11).standard_normal(DIMENSION)
        depth = fusion_depth(k)
        lists = [
            ids(collection.search(query, k=depth, where=where)),
            ids(collection.search("amber fjord", mode="keyword", k=depth, where=where)),
        ]
        fused = reciprocal_rank_fusion(lists)
        expected = sorted(fused.items(), key=lambda pair: (-pair[1], pair[0]))[:k]
        hits = collection.search("amber fjord", vector=query, mode="hybrid", k=k, where=where)
        self.assert_same_hits(hits, expected, tolerance=1e-12)
        assert len(hits) == min(k, collection.count(where))
        assert all(0 < hit.relevance <= 1 for hit in hits)

    @pytest.mark.parametrize("alpha", [0.0, 0.25, 0.9, 1.0])
    def test_alpha_weighs_the_vectors_against_the_words(self, filled, alpha):
        self.need_mode(SearchMode.HYBRID)
        collection, _ = filled
        query = np.random.default_rng(13).standard_normal(DIMENSION)
        lists = [
            ids(collection.search(query, k=fusion_depth(10))),
            ids(collection.search("amber fjord", mode="keyword", k=fusion_depth(10))),
        ]
        fused = reciprocal_rank_fusion(lists, (2 * alpha, 2 - 2 * alpha))
        expected = sorted(fused.items(), key=lambda pair: (-pair[1], pair[0]))[:10]
        hits = collection.search("amber fjord", vector=query, mode="hybrid", alpha=alpha)
        self.assert_same_hits(hits, expected, tolerance=1e-12)
        assert all(0 < hit.relevance <= 1 for hit in hits)
        if alpha in {0, 1}:
            assert ids(hits) == lists[0 if alpha else 1][:10]

    def test_hybrid_puts_what_both_lists_agree_on_first(self, vectors):
        self.need_mode(SearchMode.HYBRID)
        vectors.upsert(
            [
                Document("apple", id="both"),
                Document("pear", id="vector only"),
                Document("an apple among many other things", id="word only"),
            ],
            vectors=[[1, 0.2, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]],
        )
        hits = vectors.search("apple", vector=[1, 0, 0, 0], mode="hybrid")
        assert ids(hits)[0] == "both"
        assert len(hits) == 3

    # ── filters in every mode ────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("name", SELECTIVITIES)
    def test_a_filter_never_costs_results(self, library, mode, name):
        where = SELECTIVITIES[name]
        matching = {d.id for d in corpus() if where.matches(d.metadata)}
        words = " ".join(_WORDS)  # every document has some of them
        for k in (1, 10, DOCUMENTS):
            hits = library.search(words, vector=[1.0] * DIMENSION, mode=mode, k=k, where=where)
            assert len(hits) == min(k, len(matching))
            assert set(ids(hits)) <= matching
            assert len(set(ids(hits))) == len(hits)

    # ── texts ────────────────────────────────────────────────────────────────────────────────

    def test_texts_are_found_by_their_embedding(self, texts):
        texts.upsert(
            [Document("the kettle is hot", id="kettle"), Document("cats purr at night", id="cat")]
        )
        assert ids(texts.search("hot kettle", k=1)) == ["kettle"]
        by_vector = texts.search(HashingEmbedder(64).embed_queries(["hot kettle"])[0], k=1)
        assert pairs(by_vector) == pairs(texts.search("hot kettle", k=1))
        cats = HashingEmbedder(64).embed_queries(["cats"])[0]
        assert ids(texts.search("hot kettle", vector=cats, k=1)) == ["cat"]

    def test_text_without_an_embedder_is_an_error_that_says_what_to_do(self, vectors):
        for call in (lambda: vectors.upsert("text"), lambda: vectors.search("text")):
            with pytest.raises(EmbedderRequiredError, match="embedder="):
                call()
        assert len(vectors) == 0

    # ── many queries at once ─────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("where", [None, F.group == "g4", F.n < 0, F.n != 5])
    @pytest.mark.parametrize("count", [1, 2, 33])
    def test_many_searches_equal_one_by_one(self, filled, where, count):
        collection, _ = filled
        queries = np.random.default_rng(12).standard_normal((count, DIMENSION)).astype(np.float32)
        for k in (1, 10, 400):
            together = collection.search_many(queries, k=k, where=where)
            assert len(together) == count
            for query, hits in zip(queries, together, strict=True):
                self.assert_same_hits(hits, pairs(collection.search(query, k=k, where=where)))

    def test_many_searches_equal_one_by_one_in_every_mode(self, library, mode):
        queries = ["amber", "fjord knoll", "the", "nothing such", ""]
        vectors = np.random.default_rng(13).standard_normal((5, DIMENSION))
        for options in ({}, {"where": F.n < 50}, {"diversity": 0.4}, {"min_score": 0.02}):
            together = library.search_many(queries, vectors=vectors, mode=mode, **options)
            for query, vector, hits in zip(queries, vectors, together, strict=True):
                alone = library.search(query, vector=vector, mode=mode, **options)
                self.assert_same_hits(hits, pairs(alone))
                assert [hit.document for hit in hits] == [hit.document for hit in alone]
                assert [hit.rank for hit in hits] == [hit.rank for hit in alone]

    def test_many_searches_take_texts_lists_and_arrays(self, texts):
        texts.upsert([Document("apple", id="a"), Document("pear", id="b")])
        embedded = HashingEmbedder(64).embed_queries(["apple", "pear"])
        for queries in (["apple", "pear"], embedded, list(embedded), embedded.tolist()):
            assert [hits[0].id for hits in texts.search_many(queries, k=1)] == ["a", "b"]
        assert texts.search_many([]) == []
        assert texts.search_many(np.empty((0, 64))) == []

    # ── async ────────────────────────────────────────────────────────────────────────────────

    async def test_async_twins_write_and_read_as_the_others_do(self, create, tmp_path):
        collection = create(embedder=HashingEmbedder(32))
        batch = [Document(f"text {i}", id=f"{i:03}", metadata={"n": i}) for i in range(600)]
        assert await collection.aupsert(batch) == [document.id for document in batch]
        assert await collection.aadd("one more", replace=F.n == 0) is not None
        assert await collection.acount() == len(collection) == 600
        assert await collection.acount(F.n < 10) == collection.count(F.n < 10) == 9
        assert await collection.aget("001") == collection.get("001")
        assert await collection.aget(["001", "no"]) == [collection.get("001"), None]
        scanned = [document async for document in collection.ascan(where=F.n < 500)]
        assert scanned == list(collection.scan(where=F.n < 500))
        assert await collection.astats() == collection.stats()
        assert await collection.adelete("001") == 1
        assert await collection.adelete(where=F.n < 10) == 8
        if self.files_at_hand:
            assert await collection.acheck() == collection.check()
            assert (await collection.arepair()).documents == len(collection)
            await collection.abackup(tmp_path / "copy")
            with nearfield.open(tmp_path / "copy", embedder=HashingEmbedder(32)) as copy:
                assert list(copy.scan()) == list(collection.scan())
        await collection.aclose()
        with pytest.raises(ClosedError):
            await collection.acount()

    async def test_async_searches_equal_the_others(self, library, mode):
        query, vector = "amber fjord", np.linspace(-1, 1, DIMENSION)
        for options in (
            {},
            {"k": 3, "where": F.n < 50},
            {"min_score": 0.02},
            {"diversity": 0.5},
            {"include": ["embedding"]},
        ):
            expected = library.search(query, vector=vector, mode=mode, **options)
            assert await library.asearch(query, vector=vector, mode=mode, **options) == expected
            many = library.search_many([query] * 2, vectors=[vector] * 2, mode=mode, **options)
            assert (
                await library.asearch_many([query] * 2, vectors=[vector] * 2, mode=mode, **options)
                == many
            )
        assert await library.asearch(like="doc-0003", mode=mode) == library.search(
            like="doc-0003", mode=mode
        )

    async def test_async_searches_embed_texts(self, texts):
        await texts.aupsert([Document("apple", id="a"), Document("pear", id="b")])
        assert await texts.asearch("apple") == texts.search("apple")
        assert await texts.asearch_many(["apple", "pear"]) == texts.search_many(["apple", "pear"])

    async def test_async_calls_run_together(self, library):
        queries = np.random.default_rng(14).standard_normal((20, DIMENSION))
        found = await asyncio.gather(*(library.asearch(query) for query in queries))
        assert found == [library.search(query) for query in queries]

    async def test_an_async_collection_closes_itself(self, create):
        async with create() as collection:
            await collection.aupsert("a", vectors=[1, 0, 0, 0])
        with pytest.raises(ClosedError):
            await collection.acount()

    # ── several handles ──────────────────────────────────────────────────────────────────────

    def test_handles_see_each_others_writes_at_the_next_call(self, create, reopen):
        self.need("several_handles")
        first = create()
        second = reopen()
        handles = [first, second]
        for round_ in range(20):
            writer, reader = handles[round_ % 2], handles[1 - round_ % 2]
            row = [1, round_, 0, 0]
            document = Document(f"word{round_}", id=f"{round_:02}", metadata={"r": round_})
            writer.upsert(document, vectors=row)
            assert len(reader) == len(writer)
            assert reader.get(f"{round_:02}").text == f"word{round_}"
            assert reader.count(F.r == round_) == 1
            assert ids(reader.search(row, k=1)) == [f"{round_:02}"]
            assert ids(reader.search(row, where=F.r == round_)) == [f"{round_:02}"]
            if SearchMode.KEYWORD in self.modes:
                assert ids(reader.search(f"word{round_}", mode="keyword")) == [f"{round_:02}"]
            assert [d.id for d in reader.scan(where=F.r == round_)] == [f"{round_:02}"]
            if round_ % 3 == 2:
                assert reader.delete(where=F.r == round_ - 1) == 1
                assert writer.get(f"{round_ - 1:02}") is None
                assert f"{round_ - 1:02}" not in ids(writer.search([1, 1, 1, 1], k=99))

    def test_what_was_written_is_there_after_reopening(self, create, reopen, metric):
        documents = corpus(50)
        collection = create(dimension=DIMENSION, metric=metric)
        collection.upsert(documents)
        collection.delete(["doc-0001", "doc-0049"])
        query = documents[3].embedding
        before = pairs(collection.search(query)), list(collection.scan())
        info = collection.info
        collection.close()
        again = reopen()
        assert again.info == info
        assert (pairs(again.search(query)), list(again.scan())) == before

    # ── the life of a collection ─────────────────────────────────────────────────────────────

    def test_a_database_lists_creates_and_drops(self, database, create):
        assert database.names() == []
        for name in ("b", "a", "C", "a.b-c_d", "0", "x" * 100):
            create(name).upsert("x", vectors=[1, 0, 0, 0])
        assert database.names() == sorted(["b", "a", "C", "a.b-c_d", "0", "x" * 100])
        database.open("a").close()

    def test_dropping_deletes_everything(self, database, create):
        collection = create("a")
        collection.upsert("x", vectors=[1, 0, 0, 0])
        collection.close()
        database.drop("a")
        assert database.names() == []
        with pytest.raises(CollectionNotFoundError):
            database.open("a")
        assert len(create("a")) == 0

    def test_collections_of_one_database_are_strangers(self, create):
        first, second = create("a"), create("b", dimension=2, metric="dot")
        first.upsert(Document("x", id="x"), vectors=[1, 0, 0, 0])
        second.upsert(Document("y", id="x"), vectors=[1, 0])
        assert (first.get("x").text, second.get("x").text) == ("x", "y")
        first.delete("x")
        assert (len(first), len(second)) == (0, 1)

    def test_a_collection_can_be_renamed(self, database, create, reopen):
        self.need("renames")
        collection = create("a")
        collection.upsert(Document("x", id="x"), vectors=[1, 0, 0, 0])
        collection.close()
        database.rename("a", "b")
        assert database.names() == ["b"]
        moved = reopen("b")
        assert (moved.info.name, moved.get("x").text) == ("b", "x")
        assert len(create("a")) == 0

    def test_missing_and_taken_names_are_errors(self, database, create):
        create("a").close()
        create("b").close()
        missing = [lambda: database.open("no"), lambda: database.drop("no")]
        taken = [lambda: database.create("a", dimension=4)]
        if self.renames:
            missing.append(lambda: database.rename("no", "new"))
            taken += [lambda: database.rename("a", "b"), lambda: database.rename("a", "a")]
        for call in missing:
            with pytest.raises(CollectionNotFoundError) as not_found:
                call()
            assert not_found.value.name == "no"
        for call in taken:
            with pytest.raises(CollectionExistsError):
                call()
        assert database.names() == ["a", "b"]

    @pytest.mark.parametrize(
        "name",
        [*BAD_NAMES, *(name + suffix for name in ("a", "a.b") for suffix in ("\n", "\x00", "/"))],
        ids=lambda name: ascii(name)[:20],
    )
    def test_a_bad_name_is_refused(self, database, create, name):
        create("a").close()
        calls = [
            lambda: database.create(name, dimension=4),
            lambda: database.open(name),
            lambda: database.drop(name),
        ]
        if self.renames:
            calls += [lambda: database.rename(name, "b"), lambda: database.rename("a", name)]
        for call in calls:
            with pytest.raises(InvalidNameError):
                call()
        assert database.names() == ["a"]

    def test_opening_makes_a_collection_only_when_asked(self, reopen):
        with pytest.raises(CollectionNotFoundError):
            reopen("a", create=False)
        made = reopen("a", dimension=3, metric="dot")
        assert (made.info.embedding.dimension, made.info.metric) == (3, Metric.DOT)
        assert reopen("a", create=False).info == made.info

    def test_an_open_collection_can_be_neither_dropped_nor_renamed(self, database, create):
        collection = create("a")
        collection.upsert(Document("x", id="x"), vectors=[1, 0, 0, 0])
        calls = [lambda: database.drop("a")]
        if self.renames:
            calls.append(lambda: database.rename("a", "b"))
        for call in calls:
            with pytest.raises(CollectionInUseError):
                call()
        assert collection.get("x").text == "x"
        collection.upsert(Document("y", id="y"), vectors=[0, 1, 0, 0])
        assert len(collection) == 2

    def test_another_space_is_refused_and_the_message_names_both(self, create, reopen):
        create("texts", embedder=HashingEmbedder(64), metric="cosine").upsert("a")
        create("vectors", dimension=4)
        for name, options in (
            ("texts", {"embedder": HashingEmbedder(32)}),
            ("texts", {"embedder": HashingEmbedder(64, max_tokens=5)}),
            ("texts", {"dimension": 32}),
            ("texts", {"metric": "dot"}),
            ("vectors", {"embedder": HashingEmbedder(5)}),
            ("vectors", {"dimension": 5}),
            ("vectors", {"metric": Metric.EUCLIDEAN}),
        ):
            with pytest.raises(EmbedderMismatchError, match=name):
                reopen(name, **options)
        same = reopen("texts", embedder=HashingEmbedder(64), dimension=64, metric="cosine")
        assert len(same) == 1

    def test_whoever_knows_where_given_vectors_came_from_may_say_so(self, create, reopen):
        embedder = HashingEmbedder(64)
        vectors = embedder.embed_documents(["hot kettle", "cat"])
        create(dimension=64).upsert(["hot kettle", "cat"], vectors=vectors)
        told = reopen(embedder=embedder)
        assert told.search("kettle", k=1)[0].text == "hot kettle"
        told.upsert("a dog")
        with pytest.raises(EmbedderRequiredError):
            reopen().search("kettle")

    def test_an_unnamed_embedder_is_asked_for_only_when_text_is_embedded(self, create, reopen):
        create(embedder=HashingEmbedder(64)).upsert(Document("apple", id="a"))
        bare = reopen()
        vector = HashingEmbedder(64).embed_queries(["apple"])[0]
        assert ids(bare.search(vector)) == ["a"]
        assert ids(bare.search(like="a")) == []
        bare.upsert(Document("pear", id="b"), vectors=vector)
        for call in (
            lambda: bare.search("apple"),
            lambda: bare.upsert("fig"),
            lambda: bare.embedder,
        ):
            with pytest.raises(EmbedderRequiredError, match="hashing-64"):
                call()

    def test_the_metric_is_the_embedders_unless_told(self, create):
        embedder = HashingEmbedder(8)
        assert create("a", embedder=embedder, metric=None).info.metric is Metric.COSINE
        assert create("b", embedder=embedder, metric="dot").info.metric is Metric.DOT
        assert create("c", metric=None).info.metric is Metric.COSINE

    # ── read-only and closed ─────────────────────────────────────────────────────────────────

    def test_a_read_only_handle_reads_everything_and_writes_nothing(self, url, create, reopen):
        self.need("read_only_handles")
        writer = create("a")
        writer.upsert(Document("apple", id="x", metadata={"n": 1}), vectors=[1, 0, 0, 0])
        reader = reopen("a", read_only=True)
        assert len(reader) == reader.count(F.n == 1) == 1
        assert reader.get("x") == writer.get("x")
        assert pairs(reader.search([1, 0, 0, 0], where=F.n == 1)) == [("x", 1.0)]
        if SearchMode.KEYWORD in self.modes:
            assert ids(reader.search("apple", mode="keyword")) == ["x"]
        assert list(reader.scan()) == list(writer.scan())
        assert reader.stats() == writer.stats()
        calls = [
            lambda: reader.upsert("b", vectors=[1, 0, 0, 0]),
            lambda: reader.upsert([], replace=EVERYTHING),
            lambda: reader.delete("x"),
            lambda: reader.delete(where=F.n == 1),
        ]
        if self.files_at_hand:
            assert reader.check().ok
            calls.append(reader.repair)
        database = nearfield.connect(url, read_only=True)
        calls += [
            lambda: database.create("b", dimension=4),
            lambda: database.drop("a"),
            lambda: database.rename("a", "b"),
        ]
        for call in calls:
            with pytest.raises(ReadOnlyError):
                call()
        assert database.names() == ["a"]
        writer.upsert(Document("pear", id="y"), vectors=[0, 1, 0, 0])
        assert len(reader) == 2
        with pytest.raises(CollectionNotFoundError):
            reopen("b", read_only=True)

    def test_a_closed_collection_refuses_every_call(self, create, tmp_path):
        collection = create()
        collection.upsert(Document("a", id="a"), vectors=[1, 0, 0, 0])
        with collection:
            pass
        collection.close()
        calls = [
            lambda: collection.upsert("b", vectors=[1, 0, 0, 0]),
            lambda: collection.get("a"),
            lambda: collection.delete("a"),
            lambda: collection.delete(where=EVERYTHING),
            lambda: collection.search([1, 0, 0, 0]),
            lambda: collection.search(like="a"),
            lambda: collection.search_many([[1, 0, 0, 0]]),
            collection.count,
            lambda: collection.count(F.x == 1),
            lambda: len(collection),
            lambda: list(collection.scan()),
            collection.stats,
        ]
        if self.files_at_hand:
            calls += [collection.check, collection.repair]
            calls.append(lambda: collection.backup(tmp_path / "copy"))
        for call in calls:
            with pytest.raises(ClosedError):
                call()
        assert collection.info.name == "default"
        assert "default" in repr(collection)

    # ── keeping it well ──────────────────────────────────────────────────────────────────────

    def test_stats_say_what_the_collection_is(self, create):
        collection = create("a", embedder=HashingEmbedder(8), metric="dot")
        collection.upsert(["x", "y"])
        stats = collection.stats()
        assert (stats["name"], stats["metric"], stats["documents"]) == ("a", "dot", 2)
        assert stats["embedding"] == HashingEmbedder(8).info.to_dict()

    def test_a_sound_collection_checks_out_and_repairs_to_itself(self, own_library):
        self.need("files_at_hand")
        own_library.delete(where=F.group == "g3")
        before = list(own_library.scan())
        report = own_library.check()
        assert (report.ok, report.documents, report.problems) == (True, DOCUMENTS - 30, ())
        repaired = own_library.repair()
        assert (repaired.documents, repaired.quarantined) == (DOCUMENTS - 30, ())
        assert list(own_library.scan()) == before
        query = corpus()[0].embedding
        assert ids(own_library.search(query, k=1)) == ["doc-0000"]
        assert own_library.check().ok

    def test_a_backup_is_the_collection_as_it_was(self, own_library, tmp_path):
        self.need("files_at_hand")
        before = list(own_library.scan(include=["text", "metadata", "embedding"]))
        query = np.ones(DIMENSION)
        found = pairs(own_library.search("amber", vector=query, mode="hybrid"))
        own_library.backup(tmp_path / "copy")
        own_library.delete(where=EVERYTHING)
        with nearfield.open(tmp_path / "copy", create=False) as copy:
            assert copy.info == own_library.info
            after = list(copy.scan(include=["text", "metadata", "embedding"]))
            assert after == before
            assert all(
                a.embedding.tolist() == b.embedding.tolist() and a.created_at == b.created_at
                for a, b in zip(after, before, strict=True)
            )
            assert pairs(copy.search("amber", vector=query, mode="hybrid")) == found
            assert copy.check().ok
            copy.upsert("x", vectors=query)
        with pytest.raises(CollectionExistsError):
            own_library.backup(tmp_path / "copy")
