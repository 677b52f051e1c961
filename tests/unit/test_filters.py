"""The filter language: what each spelling means, and what is refused."""

from __future__ import annotations

import copy
import json
import operator
from dataclasses import FrozenInstanceError
from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum, IntEnum, StrEnum
from functools import reduce

import numpy as np
import pytest

from nearfield.errors import FilterError
from nearfield.filters import (
    MAX_CONDITIONS,
    MAX_DEPTH,
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

NEW_YEAR = datetime(2024, 1, 1, tzinfo=UTC)


def holds(condition: Filter, value: object = MISSING) -> bool:
    """Evaluate a filter on the field x of a document."""
    return condition.matches({} if value is MISSING else {"x": value})


# Equality and types


@pytest.mark.parametrize(
    ("operand", "value", "equal"),
    [
        (1, 1.0, True),
        (1.0, 1, True),
        (0.0, -0.0, True),
        (True, 1, False),
        (1, True, False),
        (False, 0, False),
        (True, True, True),
        (1, "1", False),
        ("1", 1, False),
        ("a", "A", False),
        ("é", "e\u0301", False),
        (None, None, True),
        (None, 0, False),
        (None, "", False),
        (None, MISSING, False),
        (0, None, False),
        ("", None, False),
        (10**17 + 1, 1e17, False),
        (10**17, 1e17, True),
        (1e17, 10**17 + 1, False),
        (2**53 + 1, float(2**53), False),
        (10**400, 10**400, True),
        (10**400, 10**400 + 1, False),
        (1e308, 10**400, False),
        ([], [], True),
        ([], None, False),
        ([1, "a"], [1.0, "a"], True),
        ([1, 2], [2, 1], False),
        ([1], [1, 2], False),
        ([1], [True], False),
        ([1], 1, False),
        (1, [1], False),
        ([[1], []], [[1], []], True),
        ([[1]], [1], False),
        ([None], [None], True),
        ("a", {"a": 1}, False),
        (None, {}, False),
        ([], {}, False),
        ([1], [{"a": 1}], False),
    ],
)
def test_equality_is_of_type_and_value(operand, value, equal):
    assert holds(F.x == operand, value) is equal
    assert holds(F.x != operand, value) is not equal
    if not isinstance(operand, list):
        assert holds(F.x.in_(["other", operand]), value) is equal
        assert holds(F.x.nin(["other", operand]), value) is not equal
        assert holds(F.x.contains(operand), ["other", value]) is equal


@pytest.mark.parametrize("value", [MISSING, None, True, "5", [5], {"a": 5}])
def test_a_missing_field_or_another_type_never_matches_a_comparison(value):
    for condition in (F.x > 4, F.x >= 4, F.x < 6, F.x <= 6, F.x == 5, F.x.in_([5])):
        assert holds(condition, value) is False


def test_ne_and_nin_match_a_missing_field_and_another_type():
    for value in (MISSING, None, "5", [5], {}):
        assert holds(F.x != 5, value)
        assert holds(F.x.nin([5]), value)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (1, 1.5),
        (-1, 0),
        (1e17, 10**17 + 1),
        (2**53, 2.0**53 + 2),
        (1.7976931348623157e308, 10**400),
        ("", "a"),
        ("A", "a"),
        ("Z", "a"),
        ("a", "ab"),
        ("10", "9"),
        ("\uffff", "😀"),
    ],
)
def test_numbers_are_ordered_exactly_and_strings_by_code_point(low, high):
    for condition in (F.x > low, F.x >= low, F.x >= high, F.x <= high):
        assert holds(condition, high)
    for condition in (F.x > high, F.x < high, F.x < low, F.x <= low):
        assert not holds(condition, high)
    assert holds(F.x < high, low)
    assert not holds(F.x < low, low)
    assert not holds(F.x > low, low)


# Dates


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-01",
        "2024-01-01T00:00",
        "2024-01-01 00:00:00",
        "2024-01-01T00:00:00Z",
        "2024-01-01T00:00:00.000000+00:00",
        "2024-01-01T05:30:00+05:30",
        "2023-12-31T19:00:00-05:00",
        "20240101",
    ],
)
@pytest.mark.parametrize(
    "operand",
    [
        NEW_YEAR,
        datetime(2024, 1, 1),  # noqa: DTZ001  naive means UTC
        datetime(2023, 12, 31, 19, tzinfo=timezone(timedelta(hours=-5))),
        date(2024, 1, 1),
        np.datetime64("2024-01-01"),
        np.datetime64("2024-01-01T00:00:00", "ns"),
    ],
)
def test_a_datetime_is_compared_as_an_instant_with_any_spelling(text, operand):
    assert holds(F.x == operand, text)
    assert holds(F.x >= operand, text)
    assert holds(F.x <= operand, text)
    assert not holds(F.x > operand, text)
    assert not holds(F.x != operand, text)
    assert holds(F.x.in_([operand]), text)
    assert holds(F.x.contains(operand), [text])


@pytest.mark.parametrize(
    "value", ["", "today", "2024", "2024-13-01", 20240101, None, True, MISSING]
)
def test_what_is_no_date_matches_no_comparison_with_a_datetime(value):
    assert not holds(F.x == NEW_YEAR, value)
    assert not holds(F.x >= NEW_YEAR, value)
    assert not holds(F.x < NEW_YEAR, value)
    assert holds(F.x != NEW_YEAR, value)


def test_a_string_is_compared_with_a_date_as_a_string():
    assert not holds(F.x == "2024-01-01", "2024-01-01T00:00:00Z")
    assert holds(F.x < "2024-01-02", "2024-01-01T23:00:00-23:00")


def test_dates_at_the_ends_of_time_have_an_instant():
    assert instant_us("1970-01-01") == 0
    assert instant_us("1970-01-01T00:00:00.000001+00:00") == 1
    assert instant_us("1969-12-31T23:00:00-01:00") == 0
    first, early = instant_us("0001-01-01"), instant_us("0001-01-01T00:00:00+23:59")
    assert first is not None
    assert early is not None
    assert early < first
    assert holds(F.x < datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00+00:01")


def test_a_datetime_before_the_first_or_after_the_last_in_utc_is_refused():
    with pytest.raises(FilterError, match=r"'x'.*gte.*between the years 1 and 9999"):
        _ = F.x >= datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))


# Lists, text, presence


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        (F.x.contains(1), [2, 1.0], True),
        (F.x.contains(1), [True, "1"], False),
        (F.x.contains("a"), "a", False),
        (F.x.contains(None), [None], True),
        (F.x.contains(None), None, False),
        (F.x.contains(1), MISSING, False),
        (F.x.contains(1), [[1]], False),
        (F.x.any([1, 2]), [2, 3], True),
        (F.x.any([1, 2]), [3], False),
        (F.x.any([1]), 1, False),
        (F.x.any([]), [1], False),
        (F.x.any([]), MISSING, False),
        (F.x.all([1, 2]), [2, 3, 1], True),
        (F.x.all([1, 2]), [1], False),
        (F.x.all([1, 1]), [1], True),
        (F.x.all([]), [], True),
        (F.x.all([]), [1], True),
        (F.x.all([]), "a", False),
        (F.x.all([]), MISSING, False),
        (F.x.in_([]), 1, False),
        (F.x.in_([]), MISSING, False),
        (F.x.nin([]), 1, True),
        (F.x.nin([]), MISSING, True),
        (F.x.in_([None]), None, True),
        (F.x.in_([None]), MISSING, False),
        (F.x.nin([None]), MISSING, True),
    ],
)
def test_lists_and_membership(condition, value, expected):
    assert holds(condition, value) is expected


@pytest.mark.parametrize(
    ("text", "value", "exact", "insensitive"),
    [
        ("ell", "hello", True, True),
        ("ELL", "hello", False, True),
        ("", "", True, True),
        ("", "a", True, True),
        ("a%", "abc", False, False),
        ("a_c", "abc", False, False),
        (".", "abc", False, False),
        ("straße", "STRASSE", False, True),
        ("ΣΑΣ", "σας", False, True),
        ("a", ["a"], False, False),
        ("1", 1, False, False),
        ("n", None, False, False),
        ("", MISSING, False, False),
    ],
)
def test_text_matches_are_substrings_and_not_patterns(text, value, exact, insensitive):
    assert holds(F.x.text_match(text), value) is exact
    assert holds(F.x.text_match_insensitive(text), value) is insensitive


@pytest.mark.parametrize(
    ("value", "exists", "empty"),
    [
        (MISSING, False, True),
        (None, True, True),
        ("", True, True),
        ([], True, True),
        ({}, True, True),
        (0, True, False),
        (False, True, False),
        (" ", True, False),
        ([None], True, False),
        ({"a": None}, True, False),
    ],
)
def test_presence_and_emptiness(value, exists, empty):
    assert holds(F.x.exists(True), value) is exists
    assert holds(F.x.exists(), value) is exists
    assert holds(F.x.exists(False), value) is not exists
    assert holds(F.x.is_empty(True), value) is empty
    assert holds(F.x.is_empty(), value) is empty
    assert holds(F.x.is_empty(False), value) is not empty


def test_condition_matches_reads_one_value_without_a_document():
    assert condition_matches(Operator.IN, (1, 2), 2.0)
    assert condition_matches(Operator.NE, 1, MISSING)
    assert not condition_matches(Operator.EXISTS, True, MISSING)


# Paths


@pytest.mark.parametrize(
    ("metadata", "path", "value"),
    [
        ({"a": 1}, "a", 1),
        ({"a": {"b": {"c": 1}}}, "a.b.c", 1),
        ({"a": {"b": 1}}, "a", {"b": 1}),
        ({"a.b": 1, "a": {"b": 2}}, "a.b", 1),
        ({"a": {"b": 2}, "a.b": 1}, "a.b", 1),
        ({"a": {"b.c": 1, "b": {"c": 2}}}, "a.b.c", 1),
        ({"a.b": {"c": 1}}, "a.b.c", MISSING),
        ({"a": 1, "a.b": {"c": 1}}, "a.b.c", MISSING),
        ({"a": None}, "a", None),
        ({"a": None}, "a.b", MISSING),
        ({"a": [{"b": 1}]}, "a.b", MISSING),
        ({"a": [1]}, "a.0", MISSING),
        ({"a": "text"}, "a.b", MISSING),
        ({}, "a", MISSING),
        ({}, "", MISSING),
        ({"": 1}, "", 1),
        ({"": {"": 1}}, ".", 1),
        ({".": 2, "": {"": 1}}, ".", 2),
        ({"a": {"": 1}}, "a.", 1),
        ({"": {"a": 1}}, ".a", 1),
        ({"a": {"": {"b": 1}}}, "a..b", 1),
        ({"a": {".b": 1}}, "a..b", 1),
        ({"a": {"b": 1}}, "a..b", MISSING),
        ({"$a": {"$b": 1}}, "$a.$b", 1),
    ],
)
def test_a_path_names_the_whole_key_first_and_then_what_is_before_its_first_dot(
    metadata, path, value
):
    assert lookup(metadata, path) == value
    assert F[path].exists().matches(metadata) is (value is not MISSING)


def test_a_path_of_many_dots_is_followed_without_recursion():
    path = ".".join("a" * 50_000)
    metadata: dict[str, object] = {"a": 1}
    for _ in range(49_999):
        metadata = {"a": metadata}
    assert lookup(metadata, path) == 1
    while isinstance(metadata.get("a"), dict):  # freed level by level, for Python's stack
        metadata = metadata.pop("a")  # type: ignore[assignment]


# The tree and the builder


def test_the_builder_makes_conditions_with_every_operator():
    built = {
        F.x == 1: "eq",
        F.x != 1: "ne",
        F.x > 1: "gt",
        F.x >= 1: "gte",
        F.x < 1: "lt",
        F.x <= 1: "lte",
        F.x.in_([1]): "in",
        F.x.nin([1]): "nin",
        F.x.contains(1): "contains",
        F.x.any([1]): "any",
        F.x.all([1]): "all",
        F.x.text_match("a"): "text_match",
        F.x.text_match_insensitive("a"): "text_match_insensitive",
        F.x.exists(True): "exists",
        F.x.is_empty(True): "is_empty",
    }
    assert {condition.operator for condition in built} == set(Operator)
    assert all(condition.operator == name for condition, name in built.items())
    assert all(condition.field == "x" for condition in built)


def test_the_builder_names_any_field():
    assert fields(F.author.name == "x") == {"author.name"}
    assert fields(F["author"]["name"] == "x") == {"author.name"}
    assert fields(F["any key, $even this"] == "x") == {"any key, $even this"}
    assert fields(F.meta["any"] == 1) == {"meta.any"}
    assert fields(F["contains"] == 1) == {"contains"}
    assert fields(F.in_ == 1) == {"in_"}
    assert fields((F.__x == 1) & (F.y.x__ == 1)) == {"__x", "y.x__"}
    assert repr(F.author.name) == "F['author.name']"


def test_a_comparison_may_have_the_value_on_the_left():
    assert (F.year >= 2020) == (F.year >= 2020)
    assert (np.int64(2020) < F.year) == (F.year > 2020)
    assert (np.float64(2020) == F.year) == (F.year == 2020)


def test_the_builder_refuses_dunder_names_and_keys_that_are_no_strings():
    for holder in (F, F.x):
        assert not hasattr(holder, "__wrapped__")
        assert not hasattr(holder, "__array__")
        with pytest.raises(FilterError, match="named by a string, got int"):
            holder[0]
        with pytest.raises(TypeError):
            iter(holder)
    with pytest.raises(TypeError):
        hash(F.x)
    assert repr(copy.copy(F.x)) == repr(copy.deepcopy(F.x)) == "F['x']"


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: F.x == 1 and F.y == 2,
        lambda: F.x == 1 or F.y == 2,
        lambda: not F.x == 1,  # noqa: SIM201
        lambda: 2000 <= F.x <= 2020,
        lambda: bool((F.x == 1) & (F.y == 2)),
        lambda: [condition for condition in [F.x == 1] if condition],
    ],
)
def test_a_filter_has_no_truth_value(misuse):
    with pytest.raises(FilterError, match=r"combine with & \| ~ and parentheses"):
        misuse()


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: F.x == 1 & F.y == 2,
        lambda: F.x == "a" | F.y == "b",
        lambda: (F.x == 1) & F.y,
        lambda: F.x & F.y,
        lambda: ~F.x == 1,
    ],
)
def test_a_forgotten_parenthesis_is_explained(misuse):
    with pytest.raises(FilterError, match="put each comparison in parentheses"):
        misuse()


def test_a_field_alone_has_no_truth_value_and_no_in():
    with pytest.raises(FilterError, match=r"F\['x'\]\.exists\(True\)"):
        bool(F.x)
    with pytest.raises(FilterError, match=r"F\['x'\]\.contains\(value\)"):
        _ = "a" in F.x
    with pytest.raises(FilterError, match=r"F\['x'\] alone is no filter"):
        parse(F.x)
    with pytest.raises(FilterError, match="got Field"):
        _ = F.x == F.y


def test_and_or_not_combine_filters():
    a, b, c = F.a == 1, F.b == 1, F.c == 1
    assert a & b & c == And((a, b, c)) == a & (b & c)
    assert a | b | c == Or((a, b, c))
    assert (a & b) | c == Or((And((a, b)), c))
    assert ~a == Not(a)
    assert matches(a & ~b, {"a": 1})
    assert not matches(a & ~b, {"a": 1, "b": 1})
    assert matches(a | b, {"b": 1})
    assert fields((a & ~b) | ~(c | a)) == {"a", "b", "c"}
    assert isinstance(a & ~b, Filter)


def test_an_empty_and_matches_everything_and_an_empty_or_nothing():
    assert And(()).matches({})
    assert not Or(()).matches({})
    assert Not(Or(())).matches({})
    assert fields(And(())) == frozenset()
    assert (And(()).depth, And(()).conditions) == (1, 1)


def test_a_filter_combines_only_with_filters():
    for combine in (operator.and_, operator.or_):
        with pytest.raises(TypeError):
            combine(F.x == 1, {"y": 2})
        with pytest.raises(TypeError):
            combine(F.x == 1, True)
    with pytest.raises(FilterError, match=r"And joins filters.*got dict"):
        And(({"x": 1},))
    with pytest.raises(FilterError, match="Or takes a tuple of filters, got Condition"):
        Or(F.x == 1)
    with pytest.raises(FilterError, match=r"Not joins filters.*got NoneType"):
        Not(None)


def test_a_filter_is_immutable_even_when_made_of_mutable_values():
    values = [1, 2]
    nested = [[1]]
    children = [F.x.in_(values), F.y == nested]
    tree = And(children)
    expected = And((F.x.in_([1, 2]), F.y == [[1]]))
    values.append(3)
    nested[0].append(2)
    children.clear()
    assert tree == expected
    assert hash(tree) == hash(expected)
    for node, attribute in ((tree, "children"), (F.x == 1, "value"), (Or(()), "children")):
        with pytest.raises(FrozenInstanceError):
            setattr(node, attribute, ())
    with pytest.raises(FrozenInstanceError):
        (~tree).child = tree


def test_conditions_that_python_would_call_equal_are_told_apart():
    assert (F.x == 1) == (F.x == 1.0)
    assert ((F.x == 1) == (F.x == True)) is False  # noqa: E712
    assert (F.x.in_([0]) == F.x.in_([False])) is False
    assert ((F.x == NEW_YEAR) == (F.x == "2024-01-01T00:00:00+00:00")) is False
    assert len({F.x == 1, F.x == 1.0, F.x == True, F.x == "1", F.x != 1}) == 4  # noqa: E712
    assert (F.x == 1) != "x"


# Operands


class Colour(StrEnum):
    RED = "red"


class Mixed(str, Enum):  # noqa: UP042  str() of it is not its value, unlike a StrEnum's
    RED = "red"


class Level(IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (Colour.RED, "red"),
        (Mixed.RED, "red"),
        (Level.HIGH, 3),
        (np.int64(3), 3),
        (np.uint8(3), 3),
        (np.float64(0.5), 0.5),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("red"), "red"),
        (date(2024, 1, 1), NEW_YEAR),
        (datetime(2024, 1, 1), NEW_YEAR),  # noqa: DTZ001
        (np.datetime64("2024-01-01T00:00:00.000000001"), NEW_YEAR),
        ([1, [2]], (1, (2,))),
        ((1, 2), (1, 2)),
    ],
)
def test_operands_are_brought_to_plain_immutable_values(given, stored):
    value = Condition("x", Operator.EQ, given).value
    assert value == stored
    assert type(value) is type(stored)


def test_a_set_is_a_list_in_one_order():
    assert F.x.in_({3, 1, "b", None, 2}).value == F.x.in_(frozenset([None, "b", 2, 1, 3])).value
    assert F.x.in_({1, 2}).matches({"x": 2})


@pytest.mark.parametrize(
    ("name", "value", "got", "expected"),
    [
        ("gt", None, "NoneType", "a number, string or datetime"),
        ("gte", True, "bool", "a number, string or datetime"),
        ("lt", [1], "list", "a number, string or datetime"),
        ("lte", {}, "dict", "a number, string or datetime"),
        ("eq", {"a": 1}, "dict", "a string, number, bool, null or datetime, or a list"),
        ("eq", b"a", "bytes", "a string, number, bool, null or datetime, or a list"),
        ("ne", [object()], "object", "a string, number, bool, null or datetime, or a list"),
        ("eq", np.array([1]), "ndarray", "a string, number, bool, null or datetime, or a list"),
        ("eq", np.datetime64("NaT"), "datetime64", "a string, number, bool"),
        ("eq", np.timedelta64(1, "ns"), "timedelta64", "a string, number, bool"),
        ("in", "abc", "str", "a list of values"),
        ("in", 1, "int", "a list of values"),
        ("nin", None, "NoneType", "a list of values"),
        ("in", [[1]], "list", "a list of values"),
        ("any", "abc", "str", "a list of values"),
        ("all", [{}], "dict", "a list of values"),
        ("contains", [1], "list", "a string, number, bool, null or datetime"),
        ("text_match", 1, "int", "a string"),
        ("text_match", None, "NoneType", "a string"),
        ("text_match_insensitive", ["a"], "list", "a string"),
        ("exists", 1, "int", "true or false"),
        ("is_empty", None, "NoneType", "true or false"),
    ],
)
def test_a_refused_operand_is_named_with_field_operator_and_types(name, value, got, expected):
    with pytest.raises(FilterError) as caught:
        Condition("the field", name, value)
    message = str(caught.value)
    assert "'the field'" in message
    assert f"operator {name}" in message
    assert f"got {got}" in message
    assert f"takes {expected}" in message


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), np.float64("nan")])
def test_a_number_that_is_not_finite_is_refused(number):
    for build in (lambda: F.x == number, lambda: F.x < number, lambda: F.x.in_([number])):
        with pytest.raises(FilterError, match=r"field 'x'.*finite number"):
            build()


def test_a_lone_surrogate_is_refused_in_values_and_names():
    for build in (
        lambda: F.x == "a\ud800",
        lambda: F.x.in_(["\udfff"]),
        lambda: F.x.text_match("\ud83d"),
        lambda: F["\ud800"] == 1,
        lambda: parse({"\ud800": 1}),
    ):
        with pytest.raises(FilterError, match="lone surrogate") as caught:
            build()
        assert str(caught.value).isprintable()
    assert (F["😀"] == "😀").matches({"😀": "😀"})


def test_an_unknown_operator_is_named_with_the_known_ones_and_the_nearest():
    with pytest.raises(FilterError, match=r"'x'.*'gtee'.*known: eq, ne, .*did you mean gte?"):
        Condition("x", "gtee", 1)
    with pytest.raises(FilterError, match=r"'x'.*'\$neq'.*known: \$eq, .*did you mean \$ne?"):
        parse({"x": {"$neq": 1}})
    with pytest.raises(FilterError, match=r"'\$regex'.*known") as caught:
        parse({"x": {"$regex": "a"}})
    assert "did you mean" not in str(caught.value)
    with pytest.raises(FilterError, match="got NoneType"):
        Condition("x", None, 1)


def test_an_operator_is_taken_by_its_name():
    assert Condition("x", "in", [1]) == F.x.in_([1])
    assert Condition("x", "in", [1]).operator is Operator.IN


def test_messages_stay_short_whatever_the_names_are():
    long = "n" * 1_000_000
    for build in (
        lambda: F[long] > None,
        lambda: parse({long: [1]}),
        lambda: parse({"x": {long: 1}}),
        lambda: parse({"x": {f"${long}": 1}}),
        lambda: parse({f"${long}": 1}),
        lambda: parse({"x": {"$datetime": long}}),
        lambda: parse({"x": {10**5000: 1}}),
        lambda: F.x > [10**5000],
    ):
        with pytest.raises(FilterError) as caught:
            build()
        assert len(str(caught.value)) < 600


# The dict form


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"lang": "en"}, F.lang == "en"),
        ({"x": None}, F.x == None),  # noqa: E711
        ({"x": NEW_YEAR}, F.x == NEW_YEAR),
        ({"x": {"$eq": [1, [2]]}}, F.x == [1, [2]]),
        ({"x": {"$eq": None}}, F.x == None),  # noqa: E711
        ({"a.b": 1}, F.a.b == 1),
        ({"": 1}, F[""] == 1),
        ({"year": {"$gte": 2020, "$lt": 2024}}, (F.year >= 2020) & (F.year < 2024)),
        ({"a": 1, "b": {"$gt": 2, "$ne": 3}}, (F.a == 1) & (F.b > 2) & (F.b != 3)),
        ({"x": {"$not": {"$gt": 5}}}, ~(F.x > 5)),
        ({"x": {"$not": {"$gt": 5, "$lt": 9}}}, ~((F.x > 5) & (F.x < 9))),
        ({"x": {"$not": {"$not": {"$gt": 5}}}}, ~~(F.x > 5)),
        ({"$not": {"x": 1}}, ~(F.x == 1)),
        ({"$not": {"x": 1, "y": 2}}, ~((F.x == 1) & (F.y == 2))),
        ({"$or": [{"x": 1}, {"y": 2}]}, (F.x == 1) | (F.y == 2)),
        ({"$and": [{"x": 1}, {"y": 2}]}, (F.x == 1) & (F.y == 2)),
        ({"$or": [{"x": 1}, {"y": 2}], "z": 3}, ((F.x == 1) | (F.y == 2)) & (F.z == 3)),
        ({"$or": [F.x == 1, {"y": 2}]}, (F.x == 1) | (F.y == 2)),
        ({"$and": []}, And(())),
        ({"$or": []}, Or(())),
        ({"$or": [{}]}, Or((And(()),))),
        ({"$not": {}}, Not(And(()))),
        ({"x": {"$in": ["a", None]}}, F.x.in_(["a", None])),
        ({"x": {"$exists": False}}, F.x.exists(False)),
        ({"x": {"$datetime": "2024-01-01T01:00:00+01:00"}}, F.x == NEW_YEAR),
        ({"x": {"$gte": {"$datetime": "2024-01-01"}}}, F.x >= NEW_YEAR),
        ({"x": {"$in": [{"$datetime": "2024-01-01T00:00:00Z"}]}}, F.x.in_([NEW_YEAR])),
    ],
)
def test_the_dict_form_means_what_the_builder_says(where, expected):
    assert parse(where) == expected


@pytest.mark.parametrize("name", list(Operator))
def test_every_operator_has_its_name_after_a_dollar(name):
    value = {
        "in": [1],
        "nin": [1],
        "any": [1],
        "all": [1],
        "text_match": "a",
        "text_match_insensitive": "a",
        "exists": True,
        "is_empty": True,
    }.get(name, 1)
    assert parse({"x": {f"${name}": value}}) == Condition("x", name, value)


def test_nothing_is_no_filter():
    assert parse(None) is None
    assert parse({}) is None
    tree = F.x == 1
    assert parse(tree) is tree


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"x": [1, 2]}, r'\{"\$in": \[…\]\}.*\{"\$eq": \[…\]\}'),
        ({"x": (1, 2)}, r'\{"\$in": \[…\]\}.*\{"\$eq": \[…\]\}'),
        ({"author": {"name": "x"}}, r"dotted path: 'author\.name'"),
        ({"x": {"$gt": 1, "y": 2}}, r"dotted path: 'x\.y'"),
        ({"x": {"gte": 1}}, r"did you mean \$gte\?"),
        ({"x": {1: 2}}, "key of type int"),
        ({"x": {}}, "empty dict says nothing"),
        ({"x": {"$not": 5}}, r"\$not takes operators.*got int.*\$ne"),
        ({"x": {"$not": {}}}, "empty dict says nothing"),
        ({"x": {"$and": []}}, r"unknown operator '\$and'"),
        ({1: 2}, "named by a string, got int"),
        ({"$gte": 1}, r'\{"field": \{"\$gte": …\}\}'),
        ({"$datetime": "2024-01-01"}, r'\{"field": \{"\$datetime": …\}\}'),
        ({"$nor": []}, r"unknown operator.*'\$nor'.*did you mean \$or"),
        ({"$price": 3}, r'F\["\$name"\]'),
        ({"$and": {"x": 1}}, r"\$and takes a list of dicts, got dict"),
        ({"$or": None}, r"\$or takes a list of dicts, got NoneType"),
        ({"$or": [1]}, "join dicts.*got int"),
        ({"$and": [None]}, "join dicts.*got NoneType"),
        ({"$not": [{"x": 1}]}, "join dicts.*got list"),
        ({"x": {"$in": 1}}, "'x', operator in.*got int"),
        ({"x": {"$exists": "yes"}}, "'x', operator exists.*true or false, got str"),
        ({"x": {"$eq": {"y": 1}}}, "'x', operator eq.*got dict"),
        ({"x": {"$datetime": "soon"}}, "'soon' is no date or time in ISO 8601"),
        ({"x": {"$datetime": 5}}, r'a datetime is written \{"\$datetime"'),
        ({"x": {"$datetime": "2024-01-01", "$gt": 1}}, r'a datetime is written \{"\$datetime"'),
        ({"x": b"a"}, "'x', operator eq.*got bytes"),
        ("x = 1", "a filter is a Filter such as F.year >= 2020.*got str"),
        ([], "got list"),
        (False, "got bool"),
    ],
)
def test_a_malformed_dict_is_refused_with_what_to_write(where, message):
    with pytest.raises(FilterError, match=message):
        parse(where)


def test_to_dict_is_json_and_keeps_instants():
    tree = (F.when >= datetime(2024, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) & ~F.x.in_(
        [None, 1]
    )
    form = tree.to_dict()
    assert form == {
        "$and": [
            {"when": {"$gte": {"$datetime": "2024-01-01T00:00:00+00:00"}}},
            {"$not": {"x": {"$in": [None, 1]}}},
        ]
    }
    assert parse(json.loads(json.dumps(form))) == tree


def test_a_field_that_starts_with_a_dollar_is_for_the_builder_only():
    tree = F["$price"] > 3
    assert tree.matches({"$price": 4})
    with pytest.raises(FilterError, match=r"'\$price' starts with \$.*F\["):
        tree.to_dict()
    with pytest.raises(FilterError):
        (F.x == 1).__or__(tree).to_dict()
    assert parse({"a.$b": 1}) == (F["a.$b"] == 1)


# Limits


def test_a_long_chain_is_one_level():
    chain = reduce(operator.and_, [F.x != number for number in range(1000)])
    assert chain.depth == 1
    assert chain.conditions == 1000
    assert chain.matches({"x": 1000})
    assert not chain.matches({"x": 999})
    assert reduce(operator.or_, [F.x == number for number in range(1000)]).depth == 1
    assert parse(chain.to_dict()) == chain


def test_a_filter_of_the_greatest_depth_works_and_one_level_more_is_refused():
    tree: Filter = F.x == 1
    for level in range(MAX_DEPTH):
        assert tree.depth == level
        tree = Not(tree) if level % 2 else And((tree, F.y != 1))
    assert isinstance(tree.matches({"x": 1}), bool)
    assert parse(tree.to_dict()) == tree
    assert isinstance(hash(tree), int)
    for deeper in (lambda: ~tree, lambda: tree | (F.x == 1), lambda: And((tree,))):
        with pytest.raises(FilterError, match="nests 65 levels deep, but at most 64"):
            deeper()


@pytest.mark.parametrize(
    ("core", "wrap"),
    [
        ({"x": 1}, lambda inner: {"$not": inner}),
        ({"x": 1}, lambda inner: {"$and": [inner]}),
        ({"x": 1}, lambda inner: {"$or": [{"y": 1}, inner]}),
        ({"$gt": 1}, lambda inner: {"$not": inner}),
    ],
)
def test_a_dict_of_any_depth_is_read_or_refused(core, wrap):
    def nested(levels: int) -> dict[str, object]:
        where = core
        for _ in range(levels):
            where = wrap(where)
        return {"x": where} if "$gt" in core else where

    tree = parse(nested(MAX_DEPTH))
    assert tree is not None
    assert tree.depth == MAX_DEPTH
    for levels in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(FilterError, match="deep"):
            parse(nested(levels))


def test_an_operand_of_any_depth_is_read_or_refused():
    def nested(levels: int) -> list[object]:
        value: list[object] = []
        for _ in range(levels - 1):
            value = [value]
        return value

    assert (F.x == nested(MAX_DEPTH)).matches({"x": nested(MAX_DEPTH)})
    assert parse((F.x == nested(MAX_DEPTH)).to_dict()) == (F.x == nested(MAX_DEPTH))
    assert not (F.x == nested(3)).matches({"x": nested(100_000)})
    endless: list[object] = []
    endless.append(endless)
    for value in (nested(MAX_DEPTH + 1), nested(100_000), endless):
        with pytest.raises(FilterError, match="'x', operator eq: the list nests deeper"):
            _ = F.x == value
        with pytest.raises(FilterError, match="'x', operator eq: the list nests deeper"):
            parse({"x": {"$eq": value}})


def test_the_number_of_conditions_is_bounded():
    conditions = tuple(F.x == number for number in range(MAX_CONDITIONS))
    assert Or(conditions).conditions == MAX_CONDITIONS
    too_many = (*conditions, F.x == -1)
    with pytest.raises(FilterError, match=r"10,001 conditions, but at most 10,000.*in_"):
        Or(too_many)
    with pytest.raises(FilterError, match="10,001 conditions"):
        parse({"$or": [{"x": number} for number in range(MAX_CONDITIONS + 1)]})
    with pytest.raises(FilterError, match="10,001 conditions"):
        And(tuple(And(()) for _ in range(MAX_CONDITIONS + 1)))
    doubled: Filter = F.x == 1
    while doubled.conditions <= MAX_CONDITIONS // 2:
        doubled = Or((Not(doubled), doubled))
    with pytest.raises(FilterError, match="16,384 conditions"):
        Or((doubled, doubled))
    assert F.x.in_(list(range(100_000))).conditions == 1
