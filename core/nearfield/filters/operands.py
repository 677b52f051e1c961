"""The operators and what each may be compared with."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias

import numpy as np

from nearfield.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "MAX_DEPTH",
    "Operand",
    "Operator",
    "Scalar",
    "canonical_field",
    "canonical_operand",
    "canonical_operator",
    "shown",
    "unknown_name",
]

MAX_DEPTH: Final = 64
"""The most levels that a filter, or a list inside one, may nest: far more than people or programs
write, and few enough that evaluating one never exhausts Python's stack."""

Scalar: TypeAlias = str | int | float | bool | datetime | None
Operand: TypeAlias = Scalar | tuple["Operand", ...]
"""What a condition holds: datetimes in UTC, lists as tuples, nothing mutable."""


class Operator(StrEnum):
    """How a condition compares a field with its operand."""

    EQ = "eq"
    """Equal: same type, same value; numbers by value, lists element by element."""
    NE = "ne"
    """Exactly the negation of ``eq``: also true of a missing field or another type."""
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    IN = "in"
    """Equal to one of the operand's elements."""
    NIN = "nin"
    """Exactly the negation of ``in``."""
    CONTAINS = "contains"
    """A list with an element equal to the operand."""
    ANY = "any"
    """A list with at least one of the operand's elements."""
    ALL = "all"
    """A list with every one of the operand's elements."""
    TEXT_MATCH = "text_match"
    """A string that contains the operand."""
    TEXT_MATCH_INSENSITIVE = "text_match_insensitive"
    """A string that contains the operand, both casefolded."""
    EXISTS = "exists"
    """Whether the field is there; null is there."""
    IS_EMPTY = "is_empty"
    """Whether the field is missing, null, ``""``, ``[]`` or ``{}``."""


def canonical_field(field: object) -> str:
    """Return a field's path as a plain string, or raise ``FilterError``."""
    if not isinstance(field, str):
        raise FilterError(
            f"a field is named by a string, got {type(field).__name__}; "
            'reach into nested metadata with a dotted path such as "author.name"'
        )
    path = str.__str__(field)
    if not _is_unicode(path):
        raise FilterError(
            f"the field name {shown(path)} holds a lone surrogate, which no stored key can; "
            "decode the text it came from as UTF-8"
        )
    return path


def canonical_operator(field: str, operator: object) -> Operator:
    """Return the operator, from itself or its name, or raise ``FilterError``."""
    if isinstance(operator, Operator):
        return operator
    if isinstance(operator, str) and operator in _BY_NAME:
        return _BY_NAME[operator]
    if not isinstance(operator, str):
        raise FilterError(
            f"field {shown(field)}: an operator is an Operator or its name, "
            f"got {type(operator).__name__}"
        )
    raise unknown_name(f"field {shown(field)}: unknown operator", operator, _BY_NAME)


def canonical_operand(field: str, operator: Operator, value: object) -> Operand:
    """Return the operand as an immutable value that :func:`condition_matches` reads.

    numpy scalars become Python's, datetimes become UTC (naive ones are taken as UTC), dates become
    midnight UTC, and lists become tuples.

    Raises:
        FilterError: The operator does not take such a value.
    """
    subject = f"field {shown(field)}, operator {operator.value}"
    return _READERS[operator](subject, value)


def unknown_name(what: str, name: str, known: Iterable[str]) -> FilterError:
    """Make the error for a name that is not among the known ones, with the nearest of them."""
    import difflib

    names = list(known)
    near = difflib.get_close_matches(name[:80], names, n=1, cutoff=0.7)
    hint = f"; did you mean {near[0]}?" if near else ""
    return FilterError(f"{what} {shown(name)}; known: {', '.join(names)}{hint}")


def shown(name: str) -> str:
    """Quote a name for a message: printable and short, wherever it came from."""
    return repr(name) if len(name) <= 80 else f"{name[:77]!r}…"  # noqa: PLR2004


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _refuse(subject: str, value: object, expected: str) -> NoReturn:
    raise FilterError(f"{subject}: takes {expected}, got {type(value).__name__}")


def _read_scalar(subject: str, value: object, expected: str) -> Scalar:
    plain = _without_numpy(value)
    if plain is None or isinstance(plain, bool):
        return plain
    if isinstance(plain, str):
        text = str.__str__(plain)
        if not _is_unicode(text):
            raise FilterError(
                f"{subject}: the string holds a lone surrogate, which no stored text can; "
                "decode the text it came from as UTF-8"
            )
        return text
    if isinstance(plain, int):
        return int.__index__(plain)
    if isinstance(plain, float):
        if not math.isfinite(plain):
            raise FilterError(
                f"{subject}: takes a finite number, got the float {float.__repr__(plain)}; "
                "metadata never holds one, so use exists to test for a value"
            )
        return float.__float__(plain)
    if isinstance(plain, datetime):
        return _in_utc(subject, plain)
    if isinstance(plain, date):
        return datetime(plain.year, plain.month, plain.day, tzinfo=UTC)
    _refuse(subject, value, expected)


def _without_numpy(value: object) -> object:
    if not isinstance(value, np.generic):
        return value
    if isinstance(value, np.datetime64):
        # .item() would give an int for nanoseconds, and None for not-a-time.
        moment = value.astype("datetime64[us]").item()
        return moment if isinstance(moment, datetime) else value
    return value if isinstance(value, np.timedelta64) else value.item()


def _in_utc(subject: str, moment: datetime) -> datetime:
    try:
        offset = moment.utcoffset() or timedelta()
        # Rebuilt from its parts: subclasses such as pandas.Timestamp carry more, or are no time.
        local = datetime(
            moment.year,
            moment.month,
            moment.day,
            moment.hour,
            moment.minute,
            moment.second,
            moment.microsecond,
            tzinfo=UTC,
        )
        return local - offset
    except (OverflowError, TypeError, ValueError) as error:
        raise FilterError(
            f"{subject}: the {type(moment).__name__} is no instant between the years 1 and 9999 UTC"
        ) from error


_SCALAR = "a string, number, bool, null or datetime"
_SCALARS = f"a list of values, each {_SCALAR}"


def _read_value(subject: str, value: object, depth: int = 0) -> Operand:
    if not isinstance(value, list | tuple):
        return _read_scalar(subject, value, f"{_SCALAR}, or a list of them")
    if depth == MAX_DEPTH:
        raise FilterError(f"{subject}: the list nests deeper than {MAX_DEPTH} levels")
    return tuple([_read_value(subject, item, depth + 1) for item in value])


def _read_element(subject: str, value: object) -> Operand:
    return _read_scalar(subject, value, _SCALAR)


def _read_list(subject: str, value: object) -> Operand:
    if not isinstance(value, list | tuple | set | frozenset):
        _refuse(subject, value, _SCALARS)
    items = [_read_scalar(subject, item, _SCALARS) for item in value]
    if isinstance(value, set | frozenset):
        # In one order whatever the hash seed, so that equal filters have equal trees.
        items.sort(key=lambda item: (type(item).__name__, item))
    return tuple(items)


def _read_ordered(subject: str, value: object) -> Operand:
    expected = "a number, string or datetime"
    scalar = _read_scalar(subject, value, expected)
    if scalar is None or isinstance(scalar, bool):
        _refuse(subject, value, expected)
    return scalar


def _read_text(subject: str, value: object) -> Operand:
    scalar = _read_scalar(subject, value, "a string")
    if not isinstance(scalar, str):
        _refuse(subject, value, "a string")
    return scalar


def _read_flag(subject: str, value: object) -> Operand:
    scalar = _read_scalar(subject, value, "true or false")
    if not isinstance(scalar, bool):
        _refuse(subject, value, "true or false")
    return scalar


_BY_NAME: Final = {operator.value: operator for operator in Operator}

_READERS: Final[dict[Operator, Callable[[str, object], Operand]]] = {
    Operator.EQ: _read_value,
    Operator.NE: _read_value,
    Operator.GT: _read_ordered,
    Operator.GTE: _read_ordered,
    Operator.LT: _read_ordered,
    Operator.LTE: _read_ordered,
    Operator.IN: _read_list,
    Operator.NIN: _read_list,
    Operator.CONTAINS: _read_element,
    Operator.ANY: _read_list,
    Operator.ALL: _read_list,
    Operator.TEXT_MATCH: _read_text,
    Operator.TEXT_MATCH_INSENSITIVE: _read_text,
    Operator.EXISTS: _read_flag,
    Operator.IS_EMPTY: _read_flag,
}
