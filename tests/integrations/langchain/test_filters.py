"""Structured queries become filters that mean the same."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("langchain_core", reason="langchain-core is not installed")

from langchain_core.structured_query import (
    Comparator,
    Comparison,
    Operation,
    Operator,
    StructuredQuery,
)

from langchain_nearfield import NearfieldTranslator
from langchain_nearfield.filters import read_filter
from nearfield import F
from nearfield.errors import FilterError, UnsupportedFilterError

VALUES = st.sampled_from([-1, 0, 1, 2.5, "", "ab", "Abc", "b"])
ORDERED = {
    Comparator.GT: lambda a, b: a > b,
    Comparator.GTE: lambda a, b: a >= b,
    Comparator.LT: lambda a, b: a < b,
    Comparator.LTE: lambda a, b: a <= b,
}
COMPARISONS = st.one_of(
    st.builds(
        Comparison,
        st.sampled_from([Comparator.EQ, Comparator.NE, *ORDERED]),
        st.sampled_from("abc"),
        VALUES,
    ),
    st.builds(
        Comparison,
        st.sampled_from([Comparator.IN, Comparator.NIN]),
        st.sampled_from("abc"),
        st.lists(VALUES, max_size=3),
    ),
    st.builds(Comparison, st.just(Comparator.CONTAIN), st.sampled_from("abc"), VALUES),
    st.builds(
        Comparison,
        st.just(Comparator.LIKE),
        st.sampled_from("abc"),
        st.sampled_from(["a", "%B%", ""]),
    ),
)
FILTERS = st.recursive(
    COMPARISONS,
    lambda inner: st.builds(
        Operation, st.sampled_from(Operator), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=6,
)
METADATA = st.dictionaries(st.sampled_from("abc"), VALUES | st.lists(VALUES, max_size=3))


def means(directive, metadata):  # noqa: PLR0911  # one return for each comparator
    """Evaluate a directive in plain Python."""
    if isinstance(directive, Operation):
        values = [means(argument, metadata) for argument in directive.arguments]
        return {Operator.AND: all, Operator.OR: any, Operator.NOT: lambda v: not any(v)}[
            directive.operator
        ](values)
    wanted, there = directive.value, directive.attribute in metadata
    value = metadata.get(directive.attribute)
    alike = (
        there
        and (isinstance(value, str) == isinstance(wanted, str))
        and not isinstance(value, list)
    )
    match directive.comparator:
        case Comparator.EQ:
            return alike and value == wanted
        case Comparator.NE:
            return not (alike and value == wanted)
        case Comparator.IN:
            return there and value in wanted
        case Comparator.NIN:
            return not (there and value in wanted)
        case Comparator.CONTAIN:
            if isinstance(value, str):
                return isinstance(wanted, str) and wanted in value
            return isinstance(value, list) and wanted in value
        case Comparator.LIKE:
            return isinstance(value, str) and wanted.strip("%").lower() in value.lower()
        case _:
            return alike and ORDERED[directive.comparator](value, wanted)


@given(FILTERS, METADATA)
def test_a_directive_takes_what_it_says(directive, metadata):
    assert read_filter(directive).matches(metadata) == means(directive, metadata)


def test_a_structured_query_becomes_search_arguments():
    query = StructuredQuery("water", Comparison(Comparator.EQ, "n", 3), limit=2)
    assert query.accept(NearfieldTranslator()) == ("water", {"filter": F.n == 3, "k": 2})
    assert StructuredQuery("water", None).accept(NearfieldTranslator()) == ("water", {})
    assert read_filter(StructuredQuery("water", None)) is None


def test_dates_are_compared_as_instants():
    when = Comparison(Comparator.GTE, "at", {"date": "2024-05-01", "type": "date"})
    assert read_filter(when) == (F.at >= datetime(2024, 5, 1, tzinfo=UTC))
    when = Comparison(Comparator.LT, "at", {"datetime": "2024-05-01T10:00:00Z", "type": "datetime"})
    assert read_filter(when).matches({"at": "2024-05-01T09:59:59+00:00"})


@pytest.mark.parametrize("pattern", ["ab%", "%ab", "a%b", "%a%b%"])
def test_a_pattern_that_no_filter_can_say_is_refused(pattern):
    with pytest.raises(UnsupportedFilterError, match="like"):
        read_filter(Comparison(Comparator.LIKE, "a", pattern))


@pytest.mark.parametrize(
    "directive",
    [
        Comparison(Comparator.LIKE, "a", 3),
        Comparison(Comparator.IN, "a", 3),
        Comparison(Comparator.GT, "a", None),
        Comparison(Comparator.GT, "a", {"date": "yesterday", "type": "date"}),
    ],
)
def test_what_cannot_be_compared_is_refused(directive):
    with pytest.raises(FilterError):
        read_filter(directive)
