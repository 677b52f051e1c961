"""What a condition means: the reference that every store's translation is tested against."""

from __future__ import annotations

import operator as compare
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final

from nearfield.filters.operands import Operand, Operator

__all__ = ["MISSING", "Missing", "condition_matches", "instant_us", "lookup"]


class Missing(Enum):
    """The type of :data:`MISSING`, for annotations."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING
"""What :func:`lookup` returns for a field that is not there; null is there."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def lookup(metadata: Mapping[str, Any], path: str) -> Any:
    """Return the value that a path names, or :data:`MISSING`.

    At each level, a key equal to the whole remaining path wins. Otherwise the path is cut at its
    first dot; what is before it must be a key whose value is a mapping, and what is after it is
    looked up in there. Nothing else is tried, so the answer never depends on the order of keys.
    Empty segments are keys like any other: ``"a."`` names ``{"a": {"": value}}``.
    """
    level = metadata
    rest = path
    while rest not in level:
        head, dot, rest = rest.partition(".")
        inner = level.get(head) if dot else None
        if not isinstance(inner, Mapping):
            return MISSING
        level = inner
    return level[rest]


def instant_us(moment: str | datetime) -> int | None:
    """Return an instant as microseconds since 1970 UTC, which every year from 1 to 9999 fits.

    Args:
        moment: A datetime, or text in ISO 8601 as :meth:`datetime.datetime.fromisoformat` reads
            it: a date alone is midnight, a trailing Z is UTC, no zone means UTC.

    Returns:
        None for text that is no such date.
    """
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError:
            return None
    offset = moment.utcoffset() or timedelta()
    # Taken apart from the clock time: an early or late one may have no datetime in UTC.
    return (moment.replace(tzinfo=UTC) - _EPOCH - offset) // _MICROSECOND


def condition_matches(operator: Operator, operand: Operand, value: Any) -> bool:
    """Evaluate one condition on one field's value.

    Args:
        operator: How to compare.
        operand: The value of a :class:`Condition`, as the condition holds it.
        value: What the document holds in the field, as JSON gives it, or :data:`MISSING`.
    """
    return _TESTS[operator](operand, value)


def _equal(operand: Any, value: Any) -> bool:
    if isinstance(operand, tuple):
        return (
            isinstance(value, list | tuple)
            and len(operand) == len(value)
            and all(map(_equal, operand, value))
        )
    if operand is None:
        return value is None
    if isinstance(operand, bool):
        return value is operand
    pair = _comparable(operand, value)
    return pair is not None and pair[0] == pair[1]


def _comparable(operand: Any, value: Any) -> tuple[Any, Any] | None:
    """Return value and operand as two things with one order, or None if they have none."""
    if isinstance(operand, datetime):
        if not isinstance(value, str):
            return None
        instant = instant_us(value)
        return None if instant is None else (instant, instant_us(operand))
    if isinstance(operand, str):
        return (value, operand) if isinstance(value, str) else None
    # Python compares int with float exactly, at any size.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (value, operand) if is_number else None


def _ordered(relation: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def test(operand: Any, value: Any) -> bool:
        pair = _comparable(operand, value)
        return pair is not None and relation(*pair)

    return test


def _among(operand: Any, value: Any) -> bool:
    return any(_equal(item, value) for item in operand)


def _contains(operand: Any, value: Any) -> bool:
    return isinstance(value, list | tuple) and any(_equal(operand, item) for item in value)


def _contains_any(operand: Any, value: Any) -> bool:
    return any(_contains(item, value) for item in operand)


def _contains_all(operand: Any, value: Any) -> bool:
    return isinstance(value, list | tuple) and all(_contains(item, value) for item in operand)


def _text_match(operand: Any, value: Any) -> bool:
    return isinstance(value, str) and operand in value


def _text_match_insensitive(operand: Any, value: Any) -> bool:
    return isinstance(value, str) and operand.casefold() in value.casefold()


def _is_empty(value: Any) -> bool:
    if value is MISSING or value is None:
        return True
    return isinstance(value, str | list | tuple | Mapping) and not value


_TESTS: Final[dict[Operator, Callable[[Any, Any], bool]]] = {
    Operator.EQ: _equal,
    Operator.NE: lambda operand, value: not _equal(operand, value),
    Operator.GT: _ordered(compare.gt),
    Operator.GTE: _ordered(compare.ge),
    Operator.LT: _ordered(compare.lt),
    Operator.LTE: _ordered(compare.le),
    Operator.IN: _among,
    Operator.NIN: lambda operand, value: not _among(operand, value),
    Operator.CONTAINS: _contains,
    Operator.ANY: _contains_any,
    Operator.ALL: _contains_all,
    Operator.TEXT_MATCH: _text_match,
    Operator.TEXT_MATCH_INSENSITIVE: _text_match_insensitive,
    Operator.EXISTS: lambda operand, value: operand == (value is not MISSING),
    Operator.IS_EMPTY: lambda operand, value: operand == _is_empty(value),
}
