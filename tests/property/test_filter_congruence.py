"""A store takes exactly the documents that the reference evaluation of a filter takes."""

from __future__ import annotations

import os
import random
import uuid
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.strategies import (
    DATES,
    NUMBERS,
    ODD_KEYS,
    SCALARS,
    WORDS,
    filters,
    metadata,
)

import nearfield
from nearfield import Document, SearchMode
from nearfield.errors import UnsupportedFilterError
from nearfield.filters import And, Condition, Filter, Not, Operator, Or, parse

EXAMPLES = 150
CASES = 20_000
"""Pairs of a filter and a document that are compared at the least."""

EVERYTHING = And(())
INT64 = range(-(2**63), 2**63)


def storable(value: Any) -> Any:
    """Bring integers that no store takes into 64 bits; all else may be stored as it is."""
    if isinstance(value, dict):
        return {key: storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, int) and value not in INT64:
        return INT64[-1] if value > 0 else INT64[0]
    return value


def hard_documents() -> list[dict[str, Any]]:
    """Every value that is easily taken for another, in the places where it may be looked for."""
    plain = [
        {key: storable(value)}
        for key, pool in (
            ("scalar", SCALARS),
            ("number", NUMBERS),
            ("date", DATES),
            ("word", WORDS),
        )
        for value in pool
    ]
    lists = [
        {"list": SCALARS, "dates": DATES, "map": {"list": storable(NUMBERS)}},
        {"list": [], "dates": [], "map": {}},
        {"list": [[]], "dates": [DATES], "map": {"map": {"scalar": 1}}},
        {"list": [1], "dates": DATES[:1], "map": {"scalar": 1, "word": "a"}},
        {"list": [True], "dates": DATES[5:7], "map.scalar": 2, "map": {"scalar": 1}},
    ]
    odd = [{key: 1} for key in ODD_KEYS]
    return [{}, *plain, *lists, *odd]


BASE = [
    Document("words", id=f"base {i:03}", metadata=values, embedding=np.array([1, i], np.float32))
    for i, values in enumerate(hard_documents())
]
near_base = filters(2, [document.metadata for document in BASE])
some_metadata = st.lists(metadata().map(storable), min_size=1, max_size=3)


@st.composite
def scenes(draw):
    """A few documents beside the base, and filters that have something to say about them."""
    extras = draw(some_metadata)
    near_extras = filters(2, extras)
    return extras, draw(st.lists(st.one_of(near_base, near_extras), min_size=4, max_size=8))


A_MILVUS_SERVER = pytest.param(
    "a milvus server",
    marks=pytest.mark.skipif(
        "NEARFIELD_TEST_MILVUS" not in os.environ, reason="set NEARFIELD_TEST_MILVUS=1 to try it"
    ),
)


@pytest.fixture(params=["a folder", "postgresql", "chroma", "milvus", A_MILVUS_SERVER, "pinecone"])
def url(request, tmp_path):
    """A database of each engine; it is empty."""
    if request.param == "a folder":
        return str(tmp_path / "database")
    if request.param == "chroma":
        pytest.importorskip("chromadb", reason="chromadb is not installed")
        return f"chroma://{(tmp_path / 'database').as_posix()}"
    if request.param == "milvus":
        pytest.importorskip("milvus_lite", reason="milvus-lite is not installed")
        return f"milvus://{(tmp_path / 'database.db').as_posix()}"
    if request.param == "a milvus server":
        return request.getfixturevalue("milvus").url()
    if request.param == "pinecone":
        return request.getfixturevalue("pinecone").url()
    return f"{request.getfixturevalue('postgres').url()}?schema={uuid.uuid4().hex}"


def is_refused_by_chroma(where: Filter, longest: int = 28) -> bool:
    """Whether a filter has a condition that Chroma, Milvus and Pinecone openly cannot evaluate."""
    if isinstance(where, Not):
        return is_refused_by_chroma(where.child, longest)
    if isinstance(where, And | Or):
        return any(is_refused_by_chroma(child, longest) for child in where.children)
    assert isinstance(where, Condition)
    if where.operator in {Operator.TEXT_MATCH, Operator.TEXT_MATCH_INSENSITIVE}:
        return True
    if where.operator in {Operator.GT, Operator.GTE, Operator.LT, Operator.LTE}:
        return isinstance(where.value, str) and len(where.value.encode()) > longest
    lists = where.value if where.operator in {Operator.IN, Operator.NIN} else [where.value]
    return where.operator not in {Operator.ANY, Operator.ALL} and any(map(dated, lists))


def dated(value: Any) -> bool:
    """Whether a list has a datetime in it."""
    if not isinstance(value, tuple):
        return False
    return any(isinstance(item, datetime) or dated(item) for item in value)


class Congruence:
    """Compares handles on one collection with the reference, and counts the comparisons."""

    def __init__(self, url):
        self.url = url
        self.veteran = self.open(dimension=2)  # its columns are loaded before writes
        self.veteran.upsert(BASE)
        self.cases = 0

    @property
    def is_local(self):
        return "://" not in self.url

    def open(self, **options):
        return nearfield.open(self.url, durability="normal", **options)

    def takes(self, where: Filter) -> bool:
        """Whether the engine evaluates a filter; if not, it says so, and not without reason."""
        try:
            self.veteran.count(where)
        except UnsupportedFilterError:
            assert self.url.startswith(("chroma:", "milvus:", "pinecone:"))
            assert is_refused_by_chroma(where, 24 if self.url.startswith("pinecone:") else 28)
            return False
        return True

    def agree(self, collection, where: Filter, documents: dict[str, Document]) -> list[str]:
        """Ask in every way which documents match; return their ids."""
        expected = [each.id for each in documents.values() if where.matches(each.metadata)]
        assert collection.count(where) == len(expected)
        scanned = [document.id for document in collection.scan(where=where, include=())]
        assert sorted(scanned) == sorted(expected)
        hits = collection.search([1, 1], k=len(BASE) + 9, where=where, include=())
        assert sorted(hit.id for hit in hits) == sorted(expected)
        if SearchMode.KEYWORD in collection.modes:
            worded = collection.search("a word", k=len(hits) + 1, mode="keyword", where=where)
            assert sorted(hit.id for hit in worded) == sorted(expected)
        self.cases += len(documents)
        return expected

    def play(self, extras, wheres, seed):
        wheres = list(filter(self.takes, wheres))
        if not wheres:
            return
        documents = {document.id: document for document in BASE}
        self.agree(self.veteran, wheres[0], documents)
        added = [
            Document("words", id=f"extra {i}", metadata=values, embedding=np.ones(2, np.float32))
            for i, values in enumerate(extras)
        ]
        self.veteran.upsert(added)
        documents |= {document.id: document for document in added}
        with self.open() as fresh:  # its columns are loaded after the writes
            for where in wheres:
                expected = self.agree(self.veteran, where, documents)
                assert fresh.count(where) == len(expected)
                assert fresh.count(again(where)) == len(expected)
        self.delete_some(documents, seed)
        for where in wheres[:2]:
            self.agree(self.veteran, where, documents)
        matching = self.agree(self.veteran, wheres[-1], documents)
        assert self.veteran.delete(where=wheres[-1]) == len(matching)
        for name in matching:
            del documents[name]
        for where in wheres[-2:]:
            self.agree(self.veteran, where, documents)
        self.veteran.upsert(BASE, replace=EVERYTHING)

    def delete_some(self, documents, seed):
        """Delete few documents, or so many that the dead rows are cleared away."""
        share = random.Random(seed)
        gone = share.sample(sorted(documents), int(share.choice([0.0, 0.1, 0.6]) * len(documents)))
        assert self.veteran.delete(gone) == len(gone)
        for name in gone:
            del documents[name]


def again(where: Filter) -> Filter | None:
    """The filter after a round trip through the dict form, if that can say it."""
    try:
        return parse(where.to_dict())
    except nearfield.errors.FilterError:
        return where


# The threads of psycopg's pool draw lots while Hypothesis does.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
def test_every_filter_takes_the_same_documents_in_the_store(url, soak):
    congruence = Congruence(url)

    # Each case is a few statements there.
    slow = url.startswith(("chroma:", "milvus:"))
    share = 1 if congruence.is_local else 0.15 if slow else 0.5
    share = 0.05 if url.startswith("pinecone:") else share
    examples, cases = (round(share * soak * number) for number in (EXAMPLES, CASES))

    @settings(max_examples=examples)
    @given(scenes(), st.integers(0, 2**32))
    def play(scene, seed):
        try:
            congruence.play(*scene, seed)
        except BaseException:  # the next example starts from the base again
            congruence.veteran.upsert(BASE, replace=EVERYTHING)
            raise

    play()
    assert congruence.cases >= cases
    if congruence.is_local:
        assert congruence.veteran.check().ok
    congruence.veteran.close()


@pytest.mark.parametrize("loaded_first", [True, False])
def test_a_column_knows_what_was_written_before_and_after_it_was_loaded(url, loaded_first):
    where = parse({"number": {"$gte": 1}, "scalar": {"$exists": False}})
    with nearfield.open(url, dimension=2, durability="normal") as collection:
        expected: set[str] = set()
        for start in range(0, len(BASE), 10):
            if loaded_first:
                assert collection.count(where) == len(expected)
            batch = BASE[start : start + 10]
            collection.upsert(batch)
            expected |= {document.id for document in batch if where.matches(document.metadata)}
        assert {document.id for document in collection.scan(where=where)} == expected
        assert {hit.id for hit in collection.search([1, 1], k=999, where=where)} == expected
        assert collection.count(where) == len(expected) > 10


def test_numbers_beyond_float64s_integers_are_compared_exactly(url):
    numbers = [2**53 - 1, 2**53, 2**53 + 1, 2**53 + 2, 2**63 - 1, -(2**53) - 1, -(2**63), 0.5]
    documents = [
        Document("", id=str(i), metadata={"n": number}, embedding=np.ones(2, np.float32))
        for i, number in enumerate(numbers)
    ]
    operands = [*numbers, float(2**53), float(2**63), 2**63, -(2**63) - 1, 1e300, -1e300]
    with nearfield.open(url, dimension=2, durability="normal") as collection:
        for half in (documents[:1], documents[1:]):  # a column that fits float64, then one that not
            collection.upsert(half)
            written = [d for d in documents if collection.get(d.id)]
            for operand in operands:
                for operator in ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte"):
                    where = parse({"n": {operator: operand}})
                    expected = sum(where.matches(document.metadata) for document in written)
                    assert collection.count(where) == expected, (operator, operand)


def test_values_that_python_takes_for_equal_are_told_apart_by_one_handle(url):
    values = [True, 1, 1.0, "1", "true", False, 0, -0.0, "", None, [], [1], [True]]
    documents = [
        Document("", id=f"{i:02}", metadata={"v": value}, embedding=np.ones(2, np.float32))
        for i, value in enumerate(values)
    ]
    with nearfield.open(url, dimension=2, durability="normal") as collection:
        collection.upsert(documents)
        for operand in [*values, *reversed(values)]:
            conditions = [{"$eq": operand}, {"$ne": operand}]
            if not isinstance(operand, list):
                conditions += [{"$in": [operand]}, {"$contains": operand}]
            for condition in conditions:
                where = parse({"v": condition})
                expected = [d.id for d in documents if where.matches(d.metadata)]
                hits = collection.search([1, 1], k=99, where=where)
                assert [hit.id for hit in hits] == expected, condition
