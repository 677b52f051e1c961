"""Laws of the filter language, over generated metadata and filters."""

from __future__ import annotations

import json
import operator
import pickle
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import (
    DATES,
    DATETIMES,
    cases,
    equality_operands,
    filters,
    list_operands,
    metadata,
    operands,
    paths,
    stored_values,
)

from nearfield.errors import FilterError
from nearfield.filters import (
    MISSING,
    And,
    Condition,
    F,
    Filter,
    Not,
    Operator,
    Or,
    condition_matches,
    fields,
    instant_us,
    lookup,
    matches,
    parse,
)

# A second statement of the semantics, built on other means: numbers as fractions, each value as a
# tagged token, paths by recursion. It shares no code with the reference.


def _instant(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _tokens(value: Any) -> set[tuple[Any, ...]]:
    """Everything that a stored value is equal to."""
    if value is None:
        return {("null",)}
    if isinstance(value, bool):
        return {("bool", value)}
    if isinstance(value, int | float):
        return {("number", Fraction(value))}
    if isinstance(value, str):
        moment = _instant(value)
        return {("text", value), *([("moment", moment)] if moment else [])}
    return set()


def _token(operand: Any) -> tuple[Any, ...]:
    if isinstance(operand, datetime):
        return ("moment", operand)
    (token,) = {token for token in _tokens(operand) if token[0] != "moment"}
    return token


def _same(operand: Any, value: Any) -> bool:
    if isinstance(operand, tuple):
        return (
            isinstance(value, list)
            and len(value) == len(operand)
            and not any(not _same(*pair) for pair in zip(operand, value, strict=True))
        )
    return _token(operand) in _tokens(value)


def _ordered(relation: Any, operand: Any, value: Any) -> bool:
    kind, bound = _token(operand)
    return any(relation(token[1], bound) for token in _tokens(value) if token[0] == kind)


def _reach(level: Any, path: str) -> list[Any]:
    """The value at the path, in a list, or an empty list."""
    if not isinstance(level, dict):
        return []
    if path in level:
        return [level[path]]
    cut = path.find(".")
    return _reach(level[path[:cut]], path[cut + 1 :]) if cut >= 0 and path[:cut] in level else []


def _restated(name: Operator, operand: Any, found: list[Any]) -> bool:  # noqa: PLR0911
    """Evaluate a condition on what was found at its path."""
    items = [item for value in found if isinstance(value, list) for item in value]
    texts = [value for value in found if isinstance(value, str)]
    is_list = any(isinstance(value, list) for value in found)
    match name:
        case Operator.EQ:
            return any(_same(operand, value) for value in found)
        case Operator.NE:
            return not any(_same(operand, value) for value in found)
        case Operator.IN:
            return any(_same(item, value) for value in found for item in operand)
        case Operator.NIN:
            return not any(_same(item, value) for value in found for item in operand)
        case Operator.GT | Operator.GTE | Operator.LT | Operator.LTE:
            relation = {"gt": "gt", "gte": "ge", "lt": "lt", "lte": "le"}[name]
            return any(_ordered(getattr(operator, relation), operand, value) for value in found)
        case Operator.CONTAINS:
            return any(_same(operand, item) for item in items)
        case Operator.ANY:
            return any(_same(wanted, item) for wanted in operand for item in items)
        case Operator.ALL:
            return is_list and all(any(_same(wanted, item) for item in items) for wanted in operand)
        case Operator.TEXT_MATCH:
            return any(text.find(operand) >= 0 for text in texts)
        case Operator.TEXT_MATCH_INSENSITIVE:
            return any(text.casefold().find(operand.casefold()) >= 0 for text in texts)
        case Operator.EXISTS:
            return bool(found) is operand
        case Operator.IS_EMPTY:
            return (found in ([], [None], [""], [[]], [{}])) is operand


def _restated_tree(node: Filter, document: dict[str, Any]) -> bool:
    if isinstance(node, Condition):
        return _restated(node.operator, node.value, _reach(document, node.field))
    if isinstance(node, And):
        return not any(not _restated_tree(child, document) for child in node.children)
    if isinstance(node, Or):
        return any(_restated_tree(child, document) for child in node.children)
    if isinstance(node, Not):
        return not _restated_tree(node.child, document)
    raise TypeError(type(node))


@given(cases(3))
def test_the_reference_agrees_with_an_independent_statement(case):
    tree, document = case
    assert matches(tree, document) is _restated_tree(tree, document)
    assert tree.matches(document) is matches(tree, document)


@given(st.data(), st.sampled_from(Operator), stored_values())
def test_each_operator_agrees_with_an_independent_statement_on_one_value(data, name, value):
    condition = Condition("a", name, data.draw(operands(name)))
    expected = _restated(name, condition.value, [value])
    assert condition_matches(name, condition.value, value) is expected
    assert condition.matches({"a": value}) is expected


@given(cases(3, dollar=False))
def test_the_dict_form_reads_back_as_an_equal_filter_through_json(case):
    tree, document = case
    read = parse(json.loads(json.dumps(tree.to_dict())))
    assert read == tree
    assert read is not None
    assert hash(read) == hash(tree)
    assert read.matches(document) is tree.matches(document)


@given(paths(dollar=False), equality_operands().filter(lambda value: not isinstance(value, list)))
def test_a_plain_value_in_a_dict_means_eq(path, value):
    assert parse({path: value}) == Condition(path, Operator.EQ, value)


_POOLED = st.sampled_from(["scalar", "date", "word", "number", "list"])


@given(st.data(), _POOLED, st.booleans())
def test_ne_and_nin_are_exactly_the_negations_of_eq_and_in(data, key, missing):
    value, values = data.draw(equality_operands(key)), data.draw(list_operands(key))
    document = {} if missing else {"a": data.draw(stored_values(key))}
    assert (F.a != value).matches(document) is not (F.a == value).matches(document)
    assert F.a.nin(values).matches(document) is not F.a.in_(values).matches(document)


@given(st.data(), _POOLED)
def test_membership_is_a_disjunction_of_equalities(data, key):
    values = data.draw(list_operands(key))
    document = {"a": data.draw(stored_values(key))}
    either = Or(tuple(F.a == value for value in values))
    assert F.a.in_(values).matches(document) is either.matches(document)


@given(st.data(), st.sampled_from(["list", "dates", "scalar"]))
def test_any_and_all_are_made_of_contains(data, key):
    values = data.draw(list_operands(key))
    document = {"a": data.draw(stored_values(key))}
    each = tuple(F.a.contains(value) for value in values)
    is_list = isinstance(document["a"], list)
    assert F.a.any(values).matches(document) is Or(each).matches(document)
    assert F.a.all(values).matches(document) is (is_list and And(each).matches(document))


@given(st.data(), st.sampled_from(["date", "word", "number"]))
def test_exactly_one_of_less_equal_and_greater_holds_of_two_comparable_values(data, key):
    value = data.draw(operands(Operator.GT, key))
    document = {"a": data.draw(stored_values(key))}
    less, equal, greater = F.a < value, F.a == value, F.a > value
    comparable = _ordered(lambda *_: True, (F.a > value).value, document["a"])
    assert sum(each.matches(document) for each in (less, equal, greater)) == comparable
    assert (F.a <= value).matches(document) is (less | equal).matches(document)
    assert (F.a >= value).matches(document) is (greater | equal).matches(document)


@given(st.data(), metadata())
def test_the_laws_of_boolean_algebra_hold(data, document):
    x, y, z = (data.draw(filters(2, [document])) for _ in range(3))

    def same(left: Filter, right: Filter) -> bool:
        return left.matches(document) is right.matches(document)

    assert same(~(x & y), ~x | ~y)
    assert same(~(x | y), ~x & ~y)
    assert same(~~x, x)
    assert same(x & (y | z), (x & y) | (x & z))
    assert same(x & y & z, And((x, y, z)))
    assert same(x | y | z, Or((x, y, z)))
    assert (x & ~x).matches(document) is False
    assert (x | ~x).matches(document) is True


_NEAR_EQUAL = st.recursive(
    st.sampled_from([0, 0.0, -0.0, False, None, "", 1, 1.0, True, "1", *DATETIMES, *DATES[:3]]),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
)


@given(_NEAR_EQUAL, _NEAR_EQUAL, _NEAR_EQUAL)
def test_equal_filters_hash_alike_and_match_alike(first, second, value):
    x, y = F.a == first, F.a == second
    document = {"a": value}
    if x == y:
        assert hash(x) == hash(y)
        assert x.matches(document) is y.matches(document)
    elif not any(isinstance(operand, datetime | date | list) for operand in (first, second)):
        assert not (x.matches(document) and y.matches(document))


@given(filters())
def test_a_filter_survives_pickling(tree):
    copy = pickle.loads(pickle.dumps(tree))
    assert copy == tree
    assert hash(copy) == hash(tree)
    assert (copy.depth, copy.conditions) == (tree.depth, tree.conditions)


@given(cases())
def test_only_the_fields_named_matter(case):
    tree, document = case
    # Of a path "a.b.c", lookup reads the keys "a.b.c" and "a" of the top level, and no other.
    tops = fields(tree) | {path.partition(".")[0] for path in fields(tree)}
    stripped = {key: item for key, item in document.items() if key in tops}
    assert tree.matches(stripped) is tree.matches(document)


def _deeply(levels: int) -> list[Any]:
    nest: list[Any] = []
    for _ in range(levels):
        nest = [nest]
    return nest


_ODD = [
    b"a",
    bytearray(b"a"),
    1j,
    Decimal(1),
    Fraction(1, 2),
    float("nan"),
    float("inf"),
    -float("inf"),
    object(),
    object,
    len,
    ...,
    timedelta(1),
    {"a": 1},
    {},
    {1, "a"},
    frozenset({None, True}),
    range(3),
    iter([1]),
    "\ud800",
    ["\udfff"],
    [[1]],
    [{}],
    _deeply(100_000),
    10**5000,
    [float("nan")],
    date(1, 1, 1),
    datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
    datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=14))),
    np.int64(1),
    np.uint64(2**64 - 1),
    np.float32(0.1),
    np.float64(0.1),
    np.float64("nan"),
    np.longdouble(1),
    np.bool_(True),
    np.str_("a"),
    np.bytes_(b"a"),
    np.datetime64("2024-01-01"),
    np.datetime64("2024-01-01T00:00:00.000000001"),
    np.datetime64("NaT"),
    np.datetime64("292277-01-01", "Y"),
    np.timedelta64(1, "ns"),
    np.array([1, 2]),
    np.array(1),
    F.a,
    F,
    Operator.EQ,
    MISSING,
]


@given(st.sampled_from(Operator), st.sampled_from(_ODD), st.booleans())
def test_any_object_as_an_operand_is_taken_or_refused_with_a_filter_error(name, value, listed):
    try:
        condition = Condition("the field", name, [value] if listed else value)
    except FilterError as error:
        message = str(error)
    else:
        message = f"the field, {name}"
        hash(condition)
        assert isinstance(condition.matches({"the field": 1}), bool)
        assert parse(condition.to_dict()) == condition
    assert "the field" in message
    assert name.value in message
    assert message.isprintable()


_DOLLARS = [f"${name}" for name in Operator] + ["$and", "$or", "$not", "$datetime", "$nor", "$"]
_json = st.recursive(
    st.one_of(st.sampled_from([None, True, 0, 1.5, "a", *DATES[:3]]), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.sampled_from(_DOLLARS), st.sampled_from(["a", "a.b", "eq", ""])),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=12,
)


@given(_json, metadata())
def test_any_json_is_read_as_a_filter_or_refused_with_a_filter_error(where, document):
    try:
        tree = parse(where)
    except FilterError as error:
        str(error).encode()
        return
    if tree is not None:
        assert parse(tree.to_dict()) == tree
        assert isinstance(tree.matches(document), bool)


_EARLY = datetime(1, 1, 3)  # noqa: DTZ001  a zone is given below
_LATE = datetime(9999, 12, 29)  # noqa: DTZ001
_zones = st.integers(-24 * 60 + 1, 24 * 60 - 1).map(lambda m: timezone(timedelta(minutes=m)))


@given(st.datetimes(_EARLY, _LATE), _zones, _zones)
def test_one_instant_is_equal_in_any_two_zones(moment, zone, other):
    given_in = moment.replace(tzinfo=UTC).astimezone(zone)
    stored_in = moment.replace(tzinfo=UTC).astimezone(other)
    assert (F.a == given_in) == (F.a == stored_in)
    for text in (stored_in.isoformat(), stored_in.isoformat(" ")):
        assert (F.a == given_in).matches({"a": text})
        assert (F.a <= given_in).matches({"a": text})
        assert not (F.a < given_in).matches({"a": text})
    later = (stored_in + timedelta(microseconds=1)).isoformat()
    assert (F.a > given_in).matches({"a": later})


@given(st.datetimes(timezones=_zones), st.datetimes(timezones=_zones))
def test_instants_are_ordered_as_datetimes_are(x, y):
    first, second = instant_us(x), instant_us(y.isoformat())
    assert first is not None
    assert second is not None
    assert (first < second) is (x < y)
    assert (first == second) is (x == y)
    assert timedelta(microseconds=second - first) == y - x
    assert -(2**63) <= first < 2**63


@given(st.text())
def test_any_text_is_a_date_or_none_without_an_error(text):
    assert (instant_us(text) is None) is (_instant(text) is None)


@given(metadata())
def test_lookup_finds_every_key_of_the_top_level_by_its_own_name(document):
    for key, value in document.items():
        assert lookup(document, key) is value


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_the_strategies_keep_to_their_depth(depth):
    @given(filters(depth))
    def check(tree: Filter) -> None:
        assert tree.depth <= depth

    check()
