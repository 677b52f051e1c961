"""Filters that every store is asked, and what they mean."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "All",
    "Any_",
    "Condition",
    "Expression",
    "InexpressibleError",
    "Not",
    "fields",
    "matches",
]


class InexpressibleError(Exception):
    """A store's filters have no word for it."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of one field.

    ``op`` is eq, ne, gt, gte, lt, lte, in, nin, contains (of a list) or text (of a string).
    """

    op: str
    field: str
    value: Any


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Any_:  # noqa: N801  # `Any` is taken
    """One part holds at least."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Expression


Expression = Condition | All | Any_ | Not

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "in": lambda found, value: found in value,
    "nin": lambda found, value: found not in value,
    "contains": lambda found, value: value in found,
    "text": lambda found, value: value in found,
}


def matches(expression: Expression, metadata: dict[str, Any]) -> bool:
    """Whether metadata with all the fields fulfils a filter."""
    match expression:
        case Condition(op, field, value):
            return _COMPARE[op](metadata[field], value)
        case All(parts):
            return all(matches(part, metadata) for part in parts)
        case Any_(parts):
            return any(matches(part, metadata) for part in parts)
        case Not(part):
            return not matches(part, metadata)


def fields(expression: Expression) -> set[str]:
    """The fields that a filter names."""
    match expression:
        case Condition(_, field, _):
            return {field}
        case All(parts) | Any_(parts):
            return set().union(*(fields(part) for part in parts))
        case Not(part):
            return fields(part)
