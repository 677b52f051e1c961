"""Bad input is refused with a typed error, and nothing of it is written; odd input works."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from types import MappingProxyType

import numpy as np
import pytest
from tests.embedders import HashingEmbedder

import nearfield
from nearfield import Document, EmbeddingInfo, F, Metric, SearchMode
from nearfield.errors import (
    DimensionMismatchError,
    EmbeddingError,
    FilterError,
    InvalidDocumentError,
    InvalidInputError,
    InvalidNameError,
    InvalidURLError,
    InvalidVectorError,
    NearfieldError,
)
from nearfield.filters import And, Not

INF, NAN = math.inf, math.nan
SURROGATES = ["\ud800", "a\udfff", "\udcff tail"]
GOOD = [1.0, 2.0, 3.0]


def short(value):
    return ascii(value)[:20]


def state(collection):
    """Everything a failed call must leave as it was."""
    documents = collection.scan(include=["text", "metadata", "embedding"])
    return (
        [(d, d.created_at, d.embedding.tolist()) for d in documents],
        collection.stats()["sequence"],
    )


@pytest.fixture(scope="module", params=list(Metric))
def any_metric(request, tmp_path_factory):
    """A small collection for each metric, never changed: every test here asserts it."""
    with nearfield.open(
        tmp_path_factory.mktemp("database"), dimension=3, metric=request.param, durability="normal"
    ) as collection:
        fill(collection)
        yield collection


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A small collection compared by cosine, never changed: every test here asserts it."""
    folder = tmp_path_factory.mktemp("database")
    with nearfield.open(folder, dimension=3, durability="normal") as collection:
        fill(collection)
        yield collection


def fill(collection):
    collection.upsert(
        [Document(f"text {i}", id=f"d{i}", metadata={"n": i}) for i in range(3)], vectors=np.eye(3)
    )


@pytest.fixture
def untouched(shared):
    """The shared collection; afterwards it must be what it was."""
    before = state(shared)
    yield shared
    assert state(shared) == before
    assert shared.check().ok


@pytest.fixture
def own(tmp_path):
    with nearfield.open(tmp_path / "own", dimension=3, durability="normal") as collection:
        yield collection


@pytest.fixture
def open_with(tmp_path):
    """A collection with an embedder of this test's own."""
    collections = []

    def make(embedder):
        collection = nearfield.open(tmp_path / "embedded", embedder=embedder, durability="normal")
        collections.append(collection)
        return collection

    yield make
    for collection in collections:
        collection.close()


# ── vectors ──────────────────────────────────────────────────────────────────────────────────────

BAD_VECTORS = {
    "NaN": [1.0, NAN, 0.0],
    "infinity": [1.0, INF, 0.0],
    "minus infinity": [1.0, -INF, 0.0],
    "float64 beyond float32": [1.0, 1e39, 0.0],
    "longer than two can be multiplied": [1e19, 0.0, 0.0],
    "int beyond float64": [10**400, 0, 0],
    "mixed with an int beyond float64": [1.0, 10**400, 0.0],
    "a number": 1.0,
    "a 0-d array": np.array(1.0),
    "a 3-d array": np.ones((1, 1, 3)),
    "too short": [1.0, 2.0],
    "too long": [1.0, 2.0, 3.0, 4.0],
    "bools": np.array([True, False, True]),
    "text": ["1", "2", "3"],
    "bytes": b"123",
    "objects": np.array([1, None, 2], object),
    "complex": [1 + 1j, 0, 0],
    "datetimes": np.array(["2024"] * 3, "datetime64[Y]"),
    "a record": np.array([(1.0, 2.0)], [("x", "f4"), ("y", "f4")]),
    "ragged": [[1.0, 2.0, 3.0], [1.0]],
    "a set": {1.0, 2.0, 3.0},
    "a dict": {"x": 1.0},
    "a text": "vector",
}


@pytest.mark.parametrize("bad", BAD_VECTORS.values(), ids=BAD_VECTORS)
def test_a_bad_vector_is_refused_wherever_it_is_given(any_metric, bad):
    before = state(any_metric)
    calls = [
        lambda: any_metric.upsert("new", vectors=bad),
        lambda: any_metric.upsert(Document("new", embedding=bad)),
        lambda: any_metric.upsert([Document("a", embedding=GOOD), Document("b", embedding=bad)]),
        lambda: any_metric.upsert("new", vectors=bad, replace=F.n >= 0),
        lambda: any_metric.search("text", vector=bad),
    ]
    if not isinstance(bad, str | bytes):  # a text, an image
        calls += [lambda: any_metric.search(bad), lambda: any_metric.search_many([bad])]
    if not (isinstance(bad, np.ndarray) and bad.dtype == bool):  # numpy mixes these with numbers
        calls += [
            lambda: any_metric.upsert(["new", "newer"], vectors=[GOOD, bad]),
            lambda: any_metric.search_many(["a", "b"], vectors=[GOOD, bad]),
            lambda: any_metric.search_many([GOOD, bad]),
        ]
    for call in calls:
        with pytest.raises(InvalidInputError):
            call()
    assert state(any_metric) == before
    assert any_metric.check().ok


def test_the_message_names_the_place_of_a_bad_component(untouched):
    with pytest.raises(InvalidVectorError, match="vector 1 has nan at component 2"):
        untouched.upsert(["a", "b"], vectors=[GOOD, [1, 2, NAN]])
    with pytest.raises(InvalidVectorError, match=r"embedding of 'x'.*inf at component 0"):
        untouched.upsert(Document("a", id="x", embedding=np.array([INF, 1, 2], np.float32)))
    with pytest.raises(DimensionMismatchError) as caught:
        untouched.search([1.0, 2.0])
    assert (caught.value.expected, caught.value.got) == (3, 2)


@pytest.mark.parametrize("zero", [[0.0, 0.0, 0.0], [-0.0, 0.0, 0.0], [1e-30, 0.0, 0.0], [0, 0, 0]])
def test_a_vector_without_direction_is_refused_only_under_cosine(tmp_path, zero):
    for metric in Metric:
        with nearfield.open(
            tmp_path, metric.value, dimension=3, metric=metric, durability="normal"
        ) as collection:
            fill(collection)
            before = state(collection)
            if metric is Metric.COSINE:
                for call in (
                    lambda: collection.upsert("zero", vectors=zero),
                    lambda: collection.upsert(["a", "zero"], vectors=[GOOD, zero]),
                    lambda: collection.search(zero),
                ):
                    with pytest.raises(InvalidVectorError, match="direction"):
                        call()
                assert state(collection) == before
            else:
                collection.upsert(Document("zero", id="zero"), vectors=zero)
                assert len(collection.search(zero, k=9)) == 4
                assert len(collection.search(GOOD, k=9, diversity=0.5)) == 4
                assert collection.check().ok


@pytest.mark.parametrize(
    "rows",
    [
        np.array([[1, 2, 3], [4, 5, 6]], np.float64),
        np.array([[1, 2, 3], [4, 5, 6]], np.float16),
        np.array([[1, 2, 3], [4, 5, 6]], np.longdouble),
        np.array([[1, 2, 3], [4, 5, 6]], np.int64),
        np.array([[1, 2, 3], [4, 5, 6]], np.uint8),
        np.array([[1, 2, 3], [4, 5, 6]], ">f4"),
        np.array([[1, 2, 3], [4, 5, 6]], np.float32, order="F"),
        np.array([[1, 0, 2, 0, 3, 0], [4, 0, 5, 0, 6, 0]], np.float32)[:, ::2],
        np.array([[6, 5, 4], [3, 2, 1]], np.float32)[::-1, ::-1],
        np.array([[1, 4], [2, 5], [3, 6]], np.float32).T,
        [[1, 2, 3], [4, 5, 6]],
        ((1, 2, 3), (4.0, 5, 6)),
        [np.array([1, 2, 3]), [4.0, 5.0, 6.0]],
    ],
    ids=lambda rows: f"{type(rows).__name__} {getattr(rows, 'dtype', '')}",
)
def test_any_real_array_works_whatever_its_type_and_layout(own, rows):
    own.upsert([Document("", id="a"), Document("", id="b")], vectors=rows)
    read = own.get(["a", "b"], include=["embedding"])
    assert [document.embedding.tolist() for document in read] == [[1, 2, 3], [4, 5, 6]]
    assert own.search(rows[1], k=1)[0].id == "b"
    assert [hits[0].id for hits in own.search_many(rows, k=1)] == ["a", "b"]
    own.upsert(Document("", id="c", embedding=rows[0]))
    assert own.get("c", include=["embedding"]).embedding.tolist() == [1, 2, 3]
    assert own.check().ok


def test_read_only_arrays_work(own):
    rows = np.eye(3, dtype=np.float32)
    rows.flags.writeable = False
    own.upsert(["a", "b", "c"], vectors=rows)
    assert len(own.search(rows[0])) == 3


@pytest.mark.parametrize(
    ("documents", "vectors"),
    [
        (["a"], np.ones((2, 3))),
        (["a", "b"], np.ones((1, 3))),
        (["a", "b"], np.ones(3)),
        (["a"], np.empty((0, 3))),
        (["a"], []),
        ([], np.ones((1, 3))),
        ([], np.ones(3)),
    ],
    ids=str,
)
def test_vectors_must_be_as_many_as_documents(untouched, documents, vectors):
    with pytest.raises(InvalidInputError):
        untouched.upsert(documents, vectors=vectors)


@pytest.mark.parametrize("rows", [np.ones((2, 3)), np.ones((0, 3)), []], ids=str)
def test_a_document_has_one_embedding(untouched, rows):
    with pytest.raises(InvalidInputError):
        untouched.upsert(Document("a", embedding=rows))


def test_vectors_must_be_as_many_as_queries(untouched):
    for queries, vectors in ((["a"], np.ones((2, 3))), (["a", "b"], np.ones((1, 3))), (["a"], [])):
        with pytest.raises(InvalidInputError):
            untouched.search_many(queries, vectors=vectors)


# ── searches ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("k", [0, -1, -(10**30), True, False, 1.0, 1.5, NAN, "1", None, [1]])
def test_a_bad_k_is_refused(untouched, k):
    for call in (
        lambda: untouched.search(GOOD, k=k),
        lambda: untouched.search(like="d1", k=k),
        lambda: untouched.search_many([GOOD], k=k),
        lambda: untouched.search("text", k=k, mode="keyword"),
        lambda: untouched.search_many([], k=k),
    ):
        with pytest.raises(InvalidInputError, match="k must be"):
            call()


@pytest.mark.parametrize("k", [4, 10**6, 10**30, np.int64(7), np.uint8(7)])
@pytest.mark.parametrize("mode", list(SearchMode))
def test_a_k_beyond_the_count_gives_all_there_are(untouched, k, mode):
    assert len(untouched.search("text", vector=GOOD, k=k, mode=mode)) == 3
    assert len(untouched.search("text", vector=GOOD, k=k, mode=mode, diversity=0.5)) == 3
    assert len(untouched.search(like="d1", k=k, mode=mode)) == 2
    assert len(untouched.search_many(["text"] * 2, vectors=np.ones((2, 3)), k=k, mode=mode)[1]) == 3


@pytest.mark.parametrize("mode", ["", "Vector", "fulltext", None, 1, b"vector", [], Metric.COSINE])
def test_a_bad_mode_is_refused(untouched, mode):
    with pytest.raises(InvalidInputError, match="mode"):
        untouched.search(GOOD, mode=mode)


@pytest.mark.parametrize(
    "value", [NAN, "0.5", True, 1j, np.complex64(1), [], Decimal(1), 10**400], ids=short
)
def test_a_bad_min_score_is_refused(untouched, value):
    with pytest.raises(InvalidInputError, match="min_score"):
        untouched.search(GOOD, min_score=value)


@pytest.mark.parametrize("value", [-0.1, 1.1, NAN, "half", None])
def test_a_bad_alpha_is_refused(untouched, value):
    with pytest.raises(InvalidInputError, match="alpha"):
        untouched.search("text", vector=GOOD, mode="hybrid", alpha=value)


@pytest.mark.parametrize("value", [0, -1, 2.5, "many"])
def test_bad_candidates_are_refused(untouched, value):
    with pytest.raises(InvalidInputError, match="candidates"):
        untouched.search(GOOD, diversity=0.5, candidates=value)


def test_candidates_without_diversity_are_refused(untouched):
    with pytest.raises(InvalidInputError, match="diversity"):
        untouched.search(GOOD, candidates=20)


@pytest.mark.parametrize("value", [[""], [1], 7, b"a"])
def test_bad_ids_to_search_among_are_refused(untouched, value):
    with pytest.raises(InvalidInputError):
        untouched.search(GOOD, ids=value)


@pytest.mark.parametrize(
    "value", [NAN, -0.1, 1.1, INF, -INF, "0.5", False, 1j, [], 10**400], ids=short
)
def test_a_bad_diversity_is_refused(untouched, value):
    with pytest.raises(InvalidInputError, match="diversity"):
        untouched.search(GOOD, diversity=value)


@pytest.mark.parametrize("value", [np.float32(0.5), np.float64(0.5), np.int64(0), 0, 1])
def test_numbers_of_any_real_type_are_numbers(untouched, value):
    assert len(untouched.search(GOOD, diversity=value)) == 3
    assert len(untouched.search(GOOD, min_score=-value)) == 3


@pytest.mark.parametrize("include", ["vector", ["text", "id"], [None], [["x"]], None, 5, b"text"])
def test_a_bad_include_is_refused(untouched, include):
    for call in (
        lambda: untouched.search(GOOD, include=include),
        lambda: untouched.search_many([GOOD], include=include),
        lambda: untouched.get("d1", include=include),
        lambda: untouched.scan(include=include),
    ):
        with pytest.raises(InvalidInputError, match="include"):
            call()


def test_one_include_need_not_be_a_list(untouched):
    assert untouched.get("d1", include="text") == Document("text 1", id="d1")


@pytest.mark.parametrize("where", [5, "n > 1", [], [F.n == 1], F.n, object(), True], ids=type)
def test_a_bad_filter_is_refused(untouched, where):
    for call in (
        lambda: untouched.search(GOOD, where=where),
        lambda: untouched.search_many([GOOD], where=where),
        lambda: untouched.count(where),
        lambda: untouched.scan(where=where),
        lambda: untouched.delete(where=where),
        lambda: untouched.upsert("a", vectors=GOOD, replace=where),
    ):
        with pytest.raises(FilterError):
            call()


@pytest.mark.parametrize("depth", [65, 1_000, 100_000])
def test_a_filter_that_is_too_deep_is_refused(untouched, depth):
    nested: dict = {"n": 1}
    for _ in range(depth):
        nested = {"$not": nested}
    listed: dict = {"n": 1}
    for _ in range(depth):
        listed = {"$and": [listed]}
    for where in (nested, listed):
        with pytest.raises(FilterError, match="64 levels"):
            untouched.search(GOOD, where=where)
        with pytest.raises(FilterError, match="64 levels"):
            untouched.delete(where=where)
    deepest = F.n == 1
    for _ in range(64):
        deepest = Not(deepest)
    with pytest.raises(FilterError, match="64"):
        Not(deepest)


def test_a_filter_as_deep_as_allowed_works_everywhere(own):
    fill(own)
    where = F.n == 1
    for _ in range(64):
        where = And((where,))
    assert own.count(where) == 1
    assert [document.id for document in own.scan(where=where)] == ["d1"]
    assert [hit.id for hit in own.search(GOOD, where=where)] == ["d1"]
    assert own.upsert([], replace=where) == []
    assert own.delete(where=where) == 0
    assert len(own) == 2


def test_a_query_is_given_once(untouched):
    for call in (
        untouched.search,
        lambda: untouched.search(None, mode="keyword"),
        lambda: untouched.search(GOOD, vector=GOOD),
        lambda: untouched.search_many([GOOD, "text"]),
        lambda: untouched.search_many([GOOD], vectors=[GOOD]),
        lambda: untouched.search_many([None]),
        lambda: untouched.search_many(None),
        lambda: untouched.search_many("text"),
        lambda: untouched.search_many(5),
        lambda: untouched.search_many({"a": GOOD}),
    ):
        with pytest.raises(InvalidInputError):
            call()


# ── text, ids and metadata ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text", ["", "\x00", "a\x00b", "\ufeff", "\uffff", "\r\n", "😀" * 999], ids=short
)
def test_any_unicode_text_round_trips_everywhere(own, text):
    identifier = text or "empty"
    own.upsert(
        Document(text, id=identifier, metadata={text: text, "m": {text: [text]}}), vectors=GOOD
    )
    assert own.get(identifier) == Document(
        text, id=identifier, metadata={text: text, "m": {text: [text]}}
    )
    assert [hit.id for hit in own.search(GOOD, where=F[text] == text)] == [identifier]
    assert own.count({"m": {"$exists": True}}) == 1
    assert [d.id for d in own.scan(where=F["m"][text].contains(text))] == [identifier]
    assert len(own.search(text, mode="keyword")) == any(map(str.isalnum, text))
    assert own.search(like=identifier) == []
    assert own.check().ok
    assert own.delete(identifier) == 1


def test_words_beside_a_nul_are_found(own):
    own.upsert(Document("apple\x00pear fig", id="a\x00b"), vectors=GOOD)
    for query in ("apple", "pear", "fig", "\x00fig", "pear\x00"):
        assert [hit.id for hit in own.search(query, mode="keyword")] == ["a\x00b"]
    own.upsert(Document("apple", id="a"), vectors=GOOD)
    assert own.get("a").text == "apple"  # another id than the one it begins
    assert own.delete("a") == 1
    assert len(own) == 1


def test_a_text_of_fifty_megabytes_round_trips(own):
    text = ("needle " + "haystack " * 1000) * 5555
    assert len(text) > 50_000_000 - 10_000
    own.upsert(Document(text, id="long"), vectors=GOOD)
    assert own.get("long").text == text
    assert [hit.id for hit in own.search("needle", mode="keyword", include=())] == ["long"]
    own.upsert(Document("short", id="long"), vectors=GOOD)
    assert own.search("needle", mode="keyword") == []
    assert own.check().ok


@pytest.mark.parametrize("bad", SURROGATES, ids=ascii)
def test_lone_surrogates_are_refused_everywhere(untouched, tmp_path, bad):
    for document in (
        bad,
        Document(bad),
        Document("a", id=bad),
        Document("a", metadata={bad: 1}),
        Document("a", metadata={"k": bad}),
        Document("a", metadata={"k": [{"l": [bad]}]}),
        Document("a", metadata={"k": {bad: 1}}),
    ):
        with pytest.raises(InvalidDocumentError, match="surrogate"):
            untouched.upsert([Document("fine"), document], vectors=[GOOD, GOOD])
    for call in (
        lambda: untouched.search(bad, mode="keyword"),
        lambda: untouched.search(bad, vector=GOOD),
        lambda: untouched.search(bad, vector=GOOD, mode="hybrid"),
        lambda: untouched.search_many([bad], vectors=[GOOD]),
        lambda: untouched.search(like=bad),
        lambda: untouched.get(bad),
        lambda: untouched.get(["d1", bad]),
        lambda: untouched.delete(bad),
        lambda: untouched.count({bad: 1}),
        lambda: untouched.count({"k": bad}),
        lambda: F[bad],
        lambda: F.k == bad,
        lambda: F.k.in_([bad]),
        lambda: nearfield.open(tmp_path / "new", bad, dimension=3),
        lambda: nearfield.open(str(tmp_path / "new") + "\ud800", "a", dimension=3),
        lambda: nearfield.open(tmp_path / "new\ud800", "a", dimension=3),
    ):
        with pytest.raises(InvalidInputError):
            call()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("id", ["", "x" * 4097, "é" * 2049, 5, None, b"a", 1.5, ("a",)], ids=short)
def test_a_bad_id_is_refused(untouched, id):
    for call in (
        lambda: untouched.upsert([Document("a"), Document("b", id=id)], vectors=[GOOD, GOOD]),
        lambda: untouched.get(["d1", id]),
        lambda: untouched.delete(["d1", id]),
    ):
        with pytest.raises(InvalidDocumentError, match="id"):
            call()
    with pytest.raises(InvalidInputError):
        untouched.search(like=id)
    if not isinstance(id, tuple):
        with pytest.raises(InvalidInputError):
            untouched.get(id)


def test_the_longest_id_works(own):
    for identifier in ("x" * 4096, "é" * 2048):
        assert own.upsert(Document("a", id=identifier), vectors=GOOD) == [identifier]
        assert own.get(identifier).id == identifier


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Plain(Enum):
    A = "a"


class Text(str):
    __slots__ = ()

    def __str__(self):
        return "something else"


def test_kinds_of_str_are_stored_as_their_text(own):
    for kind in (Colour.RED, Text("red"), np.str_("red")):
        document = Document(kind, id=kind, metadata={kind: kind, "list": [kind]})
        (made,) = own.upsert(document, vectors=GOOD)
        read = own.get(kind)
        assert read == Document("red", id="red", metadata={"red": "red", "list": ["red"]})
        assert {type(made), type(read.id), type(read.text), type(read.metadata["red"])} == {str}
        assert [hit.id for hit in own.search(kind, mode="keyword", where={kind: kind})] == ["red"]
        assert [hit.id for hit in own.search(like=kind)] == []
        assert own.delete(kind) == 1


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (datetime(2024, 5, 1, 12, 30), "2024-05-01T12:30:00"),  # noqa: DTZ001
        (datetime(2024, 5, 1, tzinfo=UTC), "2024-05-01T00:00:00+00:00"),
        (
            datetime(2024, 5, 1, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=-5))),
            "2024-05-01T01:02:03.000004-05:00",
        ),
        (date(2024, 5, 1), "2024-05-01"),
        (np.datetime64("2024-05-01T12:30:00", "s"), "2024-05-01T12:30:00"),
        (np.datetime64("2024-05-01T12:30:00", "ns"), "2024-05-01T12:30:00"),
        ((1, (2, 3)), [1, [2, 3]]),
        (np.int64(5), 5),
        (np.uint64(2**63 - 1), 2**63 - 1),
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.bool_(True), True),
        (Level.HIGH, 3),
        (-0.0, -0.0),
        (5e-324, 5e-324),
        (1.7976931348623157e308, 1.7976931348623157e308),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (MappingProxyType({"a": MappingProxyType({})}), {"a": {}}),
        ([], []),
        ({}, {}),
        (None, None),
    ],
    ids=str,
)
def test_metadata_is_kept_as_plain_json(own, given, kept):
    for value, expected in ((given, kept), ([given], [kept]), ({"k": given}, {"k": kept})):
        own.upsert(Document("a", id="a", metadata={"v": value}), vectors=GOOD)
        read = own.get("a").metadata["v"]
        assert read == expected
        assert type(read) is type(expected)
    assert own.check().ok


def test_a_datetime_in_metadata_is_found_by_its_instant(own):
    moment = datetime(2024, 5, 1, 12, 30, tzinfo=timezone(timedelta(hours=2)))
    for value in (moment, np.datetime64("2024-05-01T10:30:00", "ns")):
        own.upsert(Document("a", id="a", metadata={"at": value}), vectors=GOOD)
        assert own.count(F.at == moment) == 1
        assert own.count(F.at > moment) == 0


class Anything:
    pass


BAD_METADATA = {
    "a set": ({1}, "metadata['k']"),
    "bytes": (b"x", "metadata['k']"),
    "NaN": (NAN, "metadata['k']"),
    "infinity": (INF, "metadata['k']"),
    "numpy NaN": (np.float32(NAN), "metadata['k']"),
    "not a time": (np.datetime64("NaT"), "metadata['k']"),
    "a timedelta": (timedelta(1), "metadata['k']"),
    "a timedelta64": (np.timedelta64(1, "ns"), "metadata['k']"),
    "complex": (1j, "metadata['k']"),
    "a decimal": (Decimal(1), "metadata['k']"),
    "an array": (np.ones(2), "metadata['k']"),
    "an enum": (Plain.A, "metadata['k']"),
    "an object": (Anything(), "metadata['k']"),
    "a huge int": (2**63, "metadata['k']"),
    "a huge negative int": (-(2**63) - 1, "metadata['k']"),
    "a huge numpy int": (np.uint64(2**64 - 1), "metadata['k']"),
    "an int key": ({1: 2}, "metadata['k']"),
    "a None key": ({None: 2}, "metadata['k']"),
    "deep within": ({"a": [1, {"b": {2}}]}, "metadata['k']['a']['1']['b']"),
}


@pytest.mark.parametrize("name", BAD_METADATA)
def test_metadata_that_is_not_json_is_refused_and_the_path_is_named(untouched, name):
    value, path = BAD_METADATA[name]
    with pytest.raises(InvalidDocumentError) as caught:
        untouched.upsert(
            [Document("a"), Document("b", metadata={"fine": 1, "k": value})], vectors=[GOOD, GOOD]
        )
    assert path in str(caught.value)
    assert "document 1 of the batch" in str(caught.value)
    assert caught.value.position == 1


@pytest.mark.parametrize("metadata", [None, [], "a", 5, [("a", 1)], {1: 2}, {("a",): 1}], ids=str)
def test_metadata_must_be_a_mapping_with_text_for_keys(untouched, metadata):
    with pytest.raises(InvalidDocumentError, match="metadata"):
        untouched.upsert(Document("a", metadata=metadata), vectors=GOOD)


def test_metadata_may_be_nested_to_a_limit(own):
    def dicts(depth):
        value: dict = {}
        for _ in range(depth - 1):
            value = {"k": value}
        return value

    def lists(depth):
        value: list = []
        for _ in range(depth - 2):
            value = [value]
        return {"k": value}

    cycle: list = []
    cycle.append(cycle)
    for metadata in (dicts(32), lists(32)):
        own.upsert(Document("a", id="a", metadata=metadata), vectors=GOOD)
        assert own.get("a").metadata == metadata
        assert own.count(F.k.exists()) == 1
    before = state(own)
    for metadata in (dicts(33), lists(33), dicts(10_000), lists(10_000), {"k": cycle}):
        with pytest.raises(InvalidDocumentError, match="32 levels"):
            own.upsert(Document("a", id="a", metadata=metadata), vectors=GOOD)
    assert state(own) == before


@pytest.mark.parametrize(
    "moment",
    [
        "2024-05-01",
        0,
        date(2024, 5, 1),
        datetime(9999, 12, 31, 23, 59, tzinfo=timezone(timedelta(hours=-5))),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))),
    ],
    ids=str,
)
def test_a_bad_creation_time_is_refused(untouched, moment):
    with pytest.raises(InvalidDocumentError, match="created_at"):
        untouched.upsert(Document("a", created_at=moment), vectors=GOOD)


@pytest.mark.parametrize(
    "documents",
    [None, 5, [None], [5], [b"text"], b"text", ["a", ["b"]], {"text": ""}, [{"text": ""}], object],
    ids=str,
)
def test_what_is_no_document_is_refused(untouched, documents):
    with pytest.raises(InvalidInputError):
        untouched.upsert(documents)
    with pytest.raises(InvalidInputError):
        untouched.upsert(documents, vectors=GOOD)


@pytest.mark.parametrize("ids", [None, 5, [None], [5], b"a", object()], ids=type)
def test_ids_that_are_none_are_refused(untouched, ids):
    with pytest.raises(InvalidInputError):
        untouched.get(ids)
    with pytest.raises(InvalidInputError):
        untouched.delete(ids)


def test_text_of_another_type_is_refused(untouched):
    for text in (None, 5, b"text", ["text"]):
        with pytest.raises(InvalidDocumentError, match="text must be a str"):
            untouched.upsert([Document("fine"), Document(text)], vectors=[GOOD, GOOD])


def test_an_error_within_a_generator_comes_out_and_nothing_is_written(untouched):
    def documents():
        yield Document("a", embedding=np.ones(3, np.float32))
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        untouched.upsert(documents())
    with pytest.raises(ZeroDivisionError, match="mine"):
        untouched.upsert(documents(), replace=F.n >= 0)


async def test_async_calls_refuse_the_same(untouched):
    calls = [
        (untouched.aupsert, ["a"], {"vectors": [[NAN, 0, 0]]}, InvalidVectorError),
        (untouched.aupsert, [Document("a", id="")], {"vectors": GOOD}, InvalidDocumentError),
        (untouched.aget, [5], {}, InvalidDocumentError),
        (untouched.adelete, None, {}, InvalidInputError),
        (untouched.asearch, GOOD, {"k": 0}, InvalidInputError),
        (untouched.asearch_many, [GOOD], {"mode": "no"}, InvalidInputError),
        (untouched.acount, {"$no": 1}, {}, FilterError),
    ]
    for call, argument, options, error in calls:
        with pytest.raises(error):
            await call(argument, **options)


# ── embedders that break their word ──────────────────────────────────────────────────────────────


class Scripted:
    """An embedder whose answer is computed by a function of the true one."""

    def __init__(self, answer):
        self._honest = HashingEmbedder(8)
        self._answer = answer

    @property
    def info(self):
        return self._honest.info

    def embed_documents(self, texts):
        return self._answer(self._honest.embed_documents(texts))

    def embed_queries(self, texts):
        return self._answer(self._honest.embed_queries(texts))


class AsyncScripted(Scripted):
    async def aembed_documents(self, texts):
        return self.embed_documents(texts)

    async def aembed_queries(self, texts):
        return self.embed_queries(texts)


def with_nan(rows):
    rows[-1, 3] = NAN
    return rows


BROKEN = {
    "one too many": lambda rows: np.vstack([rows, rows[:1]]),
    "one too few": lambda rows: rows[1:],
    "none": lambda rows: rows[:0],
    "an empty list": lambda _: [],
    "another dimension": lambda rows: rows[:, :4],
    "three axes": lambda rows: rows[np.newaxis],
    "NaN": with_nan,
    "infinity": lambda rows: np.full_like(rows, INF),
    "no direction": np.zeros_like,
    "None": lambda _: None,
    "text": lambda rows: [["x"] * 8] * len(rows),
    "ragged": lambda rows: [[1.0] * (i + 1) for i in range(len(rows))],
}


@pytest.mark.parametrize("kind", [Scripted, AsyncScripted])
@pytest.mark.parametrize("name", BROKEN)
async def test_an_embedder_that_breaks_its_word_is_found_out(open_with, name, kind):
    collection = open_with(HashingEmbedder(8))
    collection.upsert([Document("one", id="1"), Document("two", id="2")])
    before = state(collection)
    broken = open_with(kind(BROKEN[name]))
    for call in (
        lambda: broken.upsert(["a", "b", "c"]),
        lambda: broken.upsert(["a"], replace=And(())),
        lambda: broken.search("a"),
        lambda: broken.search("a", mode="hybrid"),
        lambda: broken.search_many(["a", "b", "c"]),
        lambda: broken.search_many(["a", "b", "c"], mode="hybrid"),
    ):
        with pytest.raises(EmbeddingError, match="hashing-8"):
            call()
    for acall in (broken.aupsert, broken.asearch_many):
        with pytest.raises(EmbeddingError, match="hashing-8"):
            await acall(["a", "b", "c"])
    with pytest.raises(EmbeddingError, match="hashing-8"):
        await broken.asearch("a")
    assert state(collection) == before
    assert collection.check().ok


def test_an_embedder_may_answer_in_float64_or_lists(open_with):
    collection = open_with(Scripted(lambda rows: rows.astype(np.float64)))
    collection.upsert(Document("one", id="1"))
    listed = open_with(Scripted(lambda rows: rows.tolist()))
    listed.upsert(Document("two", id="2"))
    assert [hits[0].id for hits in listed.search_many(["one", "two"], k=1)] == ["1", "2"]


def test_an_embedder_is_asked_only_once_all_documents_are_fine(open_with):
    asked = []

    def note(rows):
        asked.append(len(rows))
        return rows

    collection = open_with(Scripted(note))
    for documents in (["a", "\ud800"], ["a", Document("b", metadata={"k": {1}})]):
        with pytest.raises(InvalidDocumentError):
            collection.upsert(documents)
    with pytest.raises(FilterError):
        collection.upsert(["a"], replace={"$no": 1})
    with pytest.raises(InvalidInputError):
        collection.search("a", k=0)
    with pytest.raises(FilterError):
        collection.search("a", where={"$no": 1})
    assert asked == []
    collection.upsert([Document("a", id="x"), Document("b", id="x"), Document("c", id="y")])
    assert asked == [2]


def test_an_embedders_own_error_is_named_and_nothing_is_written(open_with):
    def fail(rows):
        raise ConnectionError("the model is away")

    collection = open_with(HashingEmbedder(8))
    collection.upsert(Document("a", id="a"))
    before = state(collection)
    failing = open_with(Scripted(fail))
    with pytest.raises(EmbeddingError, match="ConnectionError: the model is away") as failure:
        failing.upsert("b", replace=And(()))
    assert isinstance(failure.value.__cause__, ConnectionError)
    with pytest.raises(EmbeddingError, match="ConnectionError: the model is away"):
        failing.search("b")
    assert state(collection) == before


# ── opening ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("metric", ["", "cos", "Cosine", 5, b"dot", [], SearchMode.VECTOR])
def test_a_bad_metric_is_refused(tmp_path, metric):
    with pytest.raises(InvalidInputError, match="metric"):
        nearfield.open(tmp_path / "new", dimension=3, metric=metric)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("dimension", [0, -1, True, 1.5, "3", [3]])
def test_a_bad_dimension_is_refused(tmp_path, dimension):
    with pytest.raises(InvalidInputError, match="dimension"):
        nearfield.open(tmp_path / "new", dimension=dimension)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("durability", ["", "FULL", "off", None, 1, [], True])
def test_a_bad_durability_is_refused(tmp_path, durability):
    with pytest.raises(InvalidInputError, match="durability"):
        nearfield.open(tmp_path / "new", dimension=3, durability=durability)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("timeout_s", [-1, -0.001, NAN, INF, True, "1", None, [], 1j])
def test_a_bad_timeout_is_refused(tmp_path, timeout_s):
    with pytest.raises(InvalidInputError, match="timeout_s"):
        nearfield.open(tmp_path / "new", dimension=3, timeout_s=timeout_s)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("timeout_s", [0, 0.0, 1e6, np.float64(1.5), np.int64(2)])
def test_any_real_timeout_works(tmp_path, timeout_s):
    with nearfield.open(tmp_path, dimension=3, timeout_s=timeout_s) as collection:
        collection.upsert("a", vectors=GOOD)
        assert len(collection) == 1


@pytest.mark.parametrize(
    "url",
    [
        "",
        "\x00",
        "a\x00b",
        "http://h/x",
        "s3://b",
        "file://host/x",
        "file:///a%00b",
        "://",
        None,
        5,
        [],
    ],
    ids=ascii,
)
def test_a_bad_url_is_refused(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (nearfield.connect, nearfield.open):
        with pytest.raises(InvalidURLError):
            call(url)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["nearfield.lock", "a/b", "", None])
def test_a_bad_name_is_refused_and_nothing_is_made(tmp_path, name):
    for options in ({}, {"create": False}, {"read_only": True}):
        with pytest.raises(InvalidNameError):
            nearfield.open(tmp_path / "new", name, dimension=3, **options)
    assert not (tmp_path / "new").exists()


def test_a_database_cannot_be_a_file(tmp_path):
    file = tmp_path / "file"
    file.write_text("text")
    with pytest.raises(NearfieldError):
        nearfield.open(file, dimension=3)
    with pytest.raises(NearfieldError):
        nearfield.open(file / "below", dimension=3)
    assert file.read_text() == "text"


@pytest.mark.parametrize(
    "embedder", [5, object, HashingEmbedder, [], EmbeddingInfo("m", 3)], ids=repr
)
def test_what_is_no_embedder_is_refused(tmp_path, embedder):
    with pytest.raises(InvalidInputError, match="embedder"):
        nearfield.open(tmp_path / "new", embedder=embedder)
    assert not (tmp_path / "new").exists()


def test_an_embedder_and_a_dimension_are_too_much(tmp_path):
    with pytest.raises(InvalidInputError):
        nearfield.open(tmp_path / "new", embedder=HashingEmbedder(8), dimension=8)
    assert not (tmp_path / "new").exists()
