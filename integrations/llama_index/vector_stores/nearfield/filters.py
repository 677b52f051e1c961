"""LlamaIndex's metadata filters as nearfield's.

An empty list of filters takes everything, whatever joins it. A missing field matches ``!=``,
``nin`` and ``is_empty``, and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilters,
)

from nearfield.errors import FilterError, UnsupportedFilterError
from nearfield.filters import MAX_DEPTH, And, Condition, Filter, Not, Operator, Or

if TYPE_CHECKING:
    from llama_index.core.vector_stores.types import MetadataFilter

__all__ = ["to_filter"]


def to_filter(filters: MetadataFilters | None) -> Filter | None:
    """Translate filters, nested ones too.

    Returns:
        The filter, or None where everything is taken.

    Raises:
        FilterError: A value does not suit its operator, or the tree is too deep.
        UnsupportedFilterError: An operator or condition is not known.
    """
    if filters is None:
        return None
    if not isinstance(filters, MetadataFilters):
        raise FilterError(
            f"filters is a {type(filters).__name__}, expected MetadataFilters; of dicts it is made "
            'by MetadataFilters.from_dicts([{"key": "year", "operator": ">=", "value": 2020}])'
        )
    return _joined(filters) if filters.filters else None


def _joined(filters: MetadataFilters, level: int = 0) -> Filter:
    if level > MAX_DEPTH:
        raise FilterError(f"this filter nests deeper than the {MAX_DEPTH} levels allowed")
    parts = tuple(
        _joined(part, level + 1) if isinstance(part, MetadataFilters) else _condition(part)
        for part in filters.filters
    )
    condition = filters.condition or FilterCondition.AND
    if condition == FilterCondition.AND or not parts:
        return parts[0] if len(parts) == 1 else And(parts)
    if condition == FilterCondition.OR:
        return parts[0] if len(parts) == 1 else Or(parts)
    if condition == FilterCondition.NOT:
        return Not(Or(parts))
    raise UnsupportedFilterError(
        f"filters are joined by {condition!r}, expected one of: "
        f"{', '.join(known.value for known in FilterCondition)}"
    )


def _condition(filter: MetadataFilter) -> Filter:
    field, operator, value = filter.key, filter.operator, filter.value
    if operator == FilterOperator.CONTAINS:
        # Both readings of the framework: an element of a list, or a part of a string.
        element = Condition(field, Operator.CONTAINS, value)
        is_text = isinstance(value, str)
        return element | Condition(field, Operator.TEXT_MATCH, value) if is_text else element
    if operator == FilterOperator.IS_EMPTY:
        return Condition(field, Operator.IS_EMPTY, value=True)
    if operator in _EQUALITIES and _is_binary(value):
        return Condition(field, _EQUALITIES[operator], [value, bool(value)])
    if operator in (FilterOperator.IN, FilterOperator.NIN) and isinstance(value, list):
        return Condition(field, _OPERATORS[operator], _with_bools(value))
    if operator not in _OPERATORS:
        raise UnsupportedFilterError(
            f"field {field!r}: nearfield has no form for the operator {operator!r}; it has: "
            f"{', '.join(known.value for known in FilterOperator)}"
        )
    return Condition(field, _OPERATORS[operator], value)


# The framework's filters cannot hold a bool, and in its own store 1 finds True, as in Python.
def _is_binary(value: Any) -> bool:
    return type(value) in (int, float) and value in (0, 1)


def _with_bools(values: list[Any]) -> list[Any]:
    return values + [bool(value) for value in values if _is_binary(value)]


_EQUALITIES: Final = {FilterOperator.EQ: Operator.IN, FilterOperator.NE: Operator.NIN}

_OPERATORS: Final = {
    FilterOperator.EQ: Operator.EQ,
    FilterOperator.NE: Operator.NE,
    FilterOperator.GT: Operator.GT,
    FilterOperator.LT: Operator.LT,
    FilterOperator.GTE: Operator.GTE,
    FilterOperator.LTE: Operator.LTE,
    FilterOperator.IN: Operator.IN,
    FilterOperator.NIN: Operator.NIN,
    FilterOperator.ANY: Operator.ANY,
    FilterOperator.ALL: Operator.ALL,
    FilterOperator.TEXT_MATCH: Operator.TEXT_MATCH,
    FilterOperator.TEXT_MATCH_INSENSITIVE: Operator.TEXT_MATCH_INSENSITIVE,
}
