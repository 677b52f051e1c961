"""All operators and conditions of the framework, against a plain evaluation."""

from __future__ import annotations

import pytest

pytest.importorskip("llama_index.core", reason="needs llama-index-core")

from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from llama_index.vector_stores.nearfield import NearfieldVectorStore
from llama_index.vector_stores.nearfield.filters import to_filter
from nearfield import F
from nearfield.errors import FilterError, UnsupportedFilterError

ROWS = {
    "a": {"year": 1999, "lang": "en", "tags": ["x", "y"], "title": "Red Fox", "ok": True},
    "b": {"year": 2005, "lang": "de", "tags": ["y"], "title": "fox", "ok": False, "n": 1},
    "c": {"year": 2020.5, "lang": "fr", "tags": [], "title": "", "none": None, "n": 0},
    "d": {"lang": "en", "numbers": [1, 2.5], "year": "2005", "dotted.key": 3, "n": 2},
}
EVERY = list(FilterOperator)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with NearfieldVectorStore(tmp_path_factory.mktemp("rows")) as store:
        store.add(
            [
                TextNode(id_=name, text=name, metadata=metadata, embedding=[1.0, position])
                for position, (name, metadata) in enumerate(ROWS.items())
            ]
        )
        yield store


def found(store, filters):
    query = VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=10, filters=filters)
    return "".join(sorted(store.query(query).ids))


def one(key, operator, value=None):
    return MetadataFilters(filters=[MetadataFilter(key=key, operator=operator, value=value)])


CASES = [
    ("lang", "==", "en", "ad"),
    ("year", "==", 2005, "b"),
    ("year", "==", 2005.0, "b"),
    ("year", "==", "2005", "d"),
    ("tags", "==", ["x", "y"], "a"),
    ("none", "==", None, "c"),
    ("dotted.key", "==", 3, "d"),
    ("ok", "==", 1, "a"),
    ("ok", "==", 0, "b"),
    ("n", "==", 1, "b"),
    ("lang", "!=", "en", "bc"),
    ("ok", "!=", 1, "bcd"),
    ("missing", "!=", 1, "abcd"),
    ("year", ">", 1999, "bc"),
    ("year", ">=", 1999, "abc"),
    ("year", "<", 2020.5, "ab"),
    ("year", "<=", 2020.5, "abc"),
    ("year", ">", "2004", "d"),
    ("lang", "in", ["en", "fr"], "acd"),
    ("year", "in", [1999, 7], "a"),
    ("ok", "in", [1], "a"),
    ("lang", "in", [], ""),
    ("lang", "nin", ["en", "fr"], "b"),
    ("missing", "nin", ["en"], "abcd"),
    ("lang", "nin", [], "abcd"),
    ("tags", "any", ["x", "q"], "a"),
    ("tags", "any", [], ""),
    ("lang", "any", ["en"], ""),
    ("tags", "all", ["x", "y"], "a"),
    ("tags", "all", [], "abc"),
    ("title", "text_match", "Fox", "a"),
    ("title", "text_match", "ox", "ab"),
    ("title", "text_match_insensitive", "FOX", "ab"),
    ("tags", "contains", "x", "a"),
    ("tags", "contains", "y", "ab"),
    ("title", "contains", "ox", "ab"),
    ("numbers", "contains", 2.5, "d"),
    ("tags", "is_empty", None, "cd"),
    ("title", "is_empty", None, "cd"),
    ("none", "is_empty", None, "abcd"),
]


@pytest.mark.parametrize(("key", "operator", "value", "expected"), CASES)
def test_each_operator_finds_what_it_says(store, key, operator, value, expected):
    filters = one(key, FilterOperator(operator), value)
    assert found(store, filters) == expected
    assert "".join(sorted(node.node_id for node in store.get_nodes(filters=filters))) == expected


def test_the_cases_cover_all_operators():
    assert {operator for _, operator, _, _ in CASES} == {operator.value for operator in EVERY}
    assert len(EVERY) == 14


def test_conditions_nest(store):
    english = MetadataFilter(key="lang", value="en")
    new = MetadataFilter(key="year", value=2000, operator=FilterOperator.GT)
    fox = MetadataFilter(key="title", value="fox", operator=FilterOperator.TEXT_MATCH)

    def joined(condition, *parts):
        return MetadataFilters(filters=list(parts), condition=condition)

    assert found(store, joined("and", english, new)) == ""
    assert found(store, joined("or", english, new)) == "abcd"
    assert found(store, joined("not", english)) == "bc"
    assert found(store, joined("not", english, fox)) == "c"  # none of them
    assert found(store, joined("and", new, joined("not", fox))) == "c"
    assert found(store, joined("or", english, joined("and", new, fox))) == "abd"
    assert found(store, joined("not", joined("not", joined("or", english)))) == "ad"
    assert found(store, joined(None, english, new)) == ""


@pytest.mark.parametrize("condition", [*FilterCondition, None])
def test_no_filters_take_everything(store, condition):
    nothing = MetadataFilters(filters=[], condition=condition)
    assert to_filter(nothing) is None
    assert found(store, nothing) == "abcd"
    english = MetadataFilter(key="lang", value="en")
    assert found(store, MetadataFilters(filters=[nothing, english])) == "ad"


@pytest.mark.parametrize(
    ("operator", "value"),
    [
        (">", None),
        ("<", ["a"]),
        ("in", "en"),
        ("nin", 5),
        ("any", "x"),
        ("all", None),
        ("text_match", 5),
        ("text_match_insensitive", None),
        ("contains", ["x"]),
        ("==", float("nan")),
    ],
)
def test_a_value_that_does_not_suit_the_operator_is_refused(store, operator, value):
    with pytest.raises(FilterError, match="field 'lang'"):
        found(store, one("lang", FilterOperator(operator), value))


def test_an_unknown_operator_is_refused():
    unknown = MetadataFilter.model_construct(key="a", value=1, operator="~=")
    with pytest.raises(UnsupportedFilterError, match=r"no form for the operator '~='.*text_match"):
        to_filter(MetadataFilters.model_construct(filters=[unknown], condition=None))
    known = MetadataFilter(key="a", value=1)
    with pytest.raises(UnsupportedFilterError, match=r"joined by 'xor', expected one of: and"):
        to_filter(MetadataFilters.model_construct(filters=[known, known], condition="xor"))


def test_a_filter_that_nests_too_deep_is_refused():
    filters = one("a", FilterOperator.EQ, 1)
    for _ in range(5000):
        filters = MetadataFilters.model_construct(filters=[filters], condition=None)
    with pytest.raises(FilterError, match="deeper than the 64 levels"):
        to_filter(filters)


def test_keys_and_values_are_never_part_of_a_statement(store):
    hostile = "'; DROP TABLE documents; --"
    assert found(store, one(hostile, FilterOperator.EQ, hostile)) == ""
    assert found(store, one('x" OR 1=1 --', FilterOperator.NE, "a")) == "abcd"


def test_nearfields_own_filters_come_in_beside(store):
    query = VectorStoreQuery(
        query_embedding=[1.0, 0.0],
        similarity_top_k=9,
        filters=one("lang", FilterOperator.IN, ["en", "de"]),
    )
    assert store.query(query, where=F.ok == True).ids == ["a"]  # noqa: E712  a filter
    assert store.query(query, where={"ok": False}).ids == ["b"]


SCALARS = st.integers(-2, 2) | st.sampled_from([0.5, 1.0, 2.0]) | st.sampled_from(["", "a", "ab"])
LISTS = st.lists(st.sampled_from(["", "a", "ab"]), max_size=2) | st.lists(
    st.integers(-1, 1), max_size=2
)
TEXTS = st.sampled_from(["", "a", "A", "b"])
FIELDS = st.sampled_from(["p", "q"])
VALUES = {
    FilterOperator.EQ: SCALARS,
    FilterOperator.NE: SCALARS,
    FilterOperator.GT: SCALARS,
    FilterOperator.LT: SCALARS,
    FilterOperator.GTE: SCALARS,
    FilterOperator.LTE: SCALARS,
    FilterOperator.IN: LISTS,
    FilterOperator.NIN: LISTS,
    FilterOperator.ANY: LISTS,
    FilterOperator.ALL: LISTS,
    FilterOperator.TEXT_MATCH: TEXTS,
    FilterOperator.TEXT_MATCH_INSENSITIVE: TEXTS,
    FilterOperator.CONTAINS: SCALARS,
    FilterOperator.IS_EMPTY: st.none(),
}
LEAVES = st.sampled_from(EVERY).flatmap(
    lambda operator: st.builds(
        MetadataFilter, key=FIELDS, operator=st.just(operator), value=VALUES[operator]
    )
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        MetadataFilters,
        filters=st.lists(inner, max_size=3),
        condition=st.none() | st.sampled_from(FilterCondition),
    ),
    max_leaves=5,
)
METADATA = st.dictionaries(FIELDS, SCALARS | LISTS | st.none() | st.booleans(), max_size=2)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    with NearfieldVectorStore(tmp_path_factory.mktemp("many"), dimension=2) as store:
        yield store


@given(tree=TREES, rows=st.lists(METADATA, min_size=1, max_size=6))
def test_any_filter_brings_back_what_its_reference_says(many, tree, rows):
    filters = tree if isinstance(tree, MetadataFilters) else MetadataFilters(filters=[tree])
    many.clear()
    many.add(
        [
            TextNode(id_=str(position), text="t", metadata=metadata, embedding=[1.0, 0.5])
            for position, metadata in enumerate(rows)
        ]
    )
    where = to_filter(filters)
    expected = "".join(
        str(position)
        for position, metadata in enumerate(rows)
        if where is None or where.matches(metadata)
    )
    assert found(many, filters) == expected


def framework_says(filters, metadata):
    try:
        return build_metadata_filter_fn(lambda _: metadata, filters)("")
    except TypeError:
        return None  # it cannot compare these types


FLAT = st.builds(
    MetadataFilters,
    filters=st.lists(LEAVES, min_size=1, max_size=3),
    condition=st.none() | st.sampled_from(FilterCondition),
)
ELEMENTWISE = (FilterOperator.ANY, FilterOperator.ALL)


@given(filters=FLAT, metadata=METADATA)
def test_where_the_frameworks_own_evaluation_has_an_answer_it_is_the_same(filters, metadata):
    for part in filters.filters:
        value = metadata.get(part.key)
        if isinstance(value, bool) and part.operator.value in "<=>=":
            return  # to Python True is a number greater than 0
        if isinstance(value, str) and part.operator in ELEMENTWISE:
            return  # a text is no list of its parts
    expected = framework_says(filters, metadata)
    if expected is not None:
        assert to_filter(filters).matches(metadata) == expected


@pytest.mark.parametrize("filters", [{"year": 1999}, [{"key": "year", "value": 1999}], {}])
def test_filters_of_another_class_are_refused_and_nothing_is_deleted(store, filters):
    query = VectorStoreQuery(query_embedding=[1.0, 0.0], filters=filters)
    with pytest.raises(FilterError, match="from_dicts"):
        store.query(query)
    with pytest.raises(FilterError, match="from_dicts"):
        store.delete_nodes(filters=filters)
    assert len(store.get_nodes()) == len(ROWS)
