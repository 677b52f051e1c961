"""Filters as LangChain spells them, read into nearfield's one tree."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from langchain_core.structured_query import (
    Comparator,
    Comparison,
    FilterDirective,
    Operation,
    Operator,
    StructuredQuery,
    Visitor,
)

from nearfield.errors import FilterError, UnsupportedFilterError
from nearfield.filters import And, Condition, F, Filter, Not, Or, parse
from nearfield.filters import Operator as FilterOperator

__all__ = ["NearfieldTranslator", "read_filter"]


class NearfieldTranslator(Visitor):
    """Translates structured queries, for LangChain's self-query retriever.

    ``contain`` is true of a list with that element and of a string with that part. ``like`` is
    true of a string with that part whatever its case; ``%`` around it is LIKE's way to say so.
    """

    allowed_comparators = tuple(Comparator)
    allowed_operators = tuple(Operator)

    def visit_structured_query(
        self, structured_query: StructuredQuery
    ) -> tuple[str, dict[str, Any]]:
        """Return the query, and the filter and limit as search arguments."""
        arguments: dict[str, Any] = {}
        if structured_query.filter is not None:
            arguments["filter"] = structured_query.filter.accept(self)
        if structured_query.limit is not None:
            arguments["k"] = structured_query.limit
        return structured_query.query, arguments

    def visit_operation(self, operation: Operation) -> Filter:
        """Translate and, or, not; ``not`` of several is that none of them matches."""
        children = tuple(argument.accept(self) for argument in operation.arguments)
        if operation.operator is Operator.AND:
            return And(children)
        if operation.operator is Operator.OR:
            return Or(children)
        return Not(children[0] if len(children) == 1 else Or(children))

    def visit_comparison(self, comparison: Comparison) -> Filter:
        """Translate a comparison of a field with a value."""
        path, value = comparison.attribute, _read_value(comparison.value)
        if comparison.comparator is Comparator.CONTAIN:
            part = F[path].contains(value)
            return part | F[path].text_match(value) if isinstance(value, str) else part
        if comparison.comparator is Comparator.LIKE:
            return F[path].text_match_insensitive(_read_pattern(path, value))
        return Condition(path, FilterOperator(comparison.comparator.value), value)


def read_filter(value: Any) -> Filter | None:
    """Read a filter in any spelling.

    Args:
        value: nearfield's own, such as ``F.year >= 2020``; a dict such as ``{"year": {"$gte":
            2020}}``; a comparison, operation or whole query of ``langchain_core.structured_query``;
            or None.

    Raises:
        FilterError: It is none of these, or malformed.
    """
    if value is None or isinstance(value, Filter | Mapping):
        return parse(value)
    if isinstance(value, StructuredQuery):
        value = value.filter
        return None if value is None else read_filter(value)
    if isinstance(value, FilterDirective):
        translated: Filter = value.accept(NearfieldTranslator())
        return translated
    if callable(value):
        raise FilterError(
            "a filter that is a function would have to be called for every document; write it as "
            'a dict such as {"year": {"$gte": 2020}} or with nearfield.F, as in F.year >= 2020'
        )
    return parse(value)  # it says what is wrong


def _read_value(value: Any) -> Any:
    """Read a date as query constructors write it: ``{"date": "2024-05-01", "type": "date"}``."""
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind not in {"date", "datetime"} or not isinstance(value.get(kind), str):
        return value
    try:
        return datetime.fromisoformat(value[kind])
    except ValueError as error:
        raise FilterError(
            f"{value[kind]!r} is no date or time in ISO 8601, such as 2024-05-01"
        ) from error


def _read_pattern(field: str, pattern: Any) -> str:
    if not isinstance(pattern, str):
        raise FilterError(f"field {field!r}: like takes a string, got {type(pattern).__name__}")
    part = pattern.removeprefix("%").removesuffix("%")
    one_sided = len(pattern) - len(part) == 1
    if "%" in part or one_sided:
        raise UnsupportedFilterError(
            f"field {field!r}: like {pattern!r} asks for a beginning, an end or several parts, "
            f"which no filter can say; ask for one part, as in '%part%' or 'part'"
        )
    return part
