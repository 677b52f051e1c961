"""The dict form of filters, which users of other vector databases know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from nearfield.errors import FilterError
from nearfield.filters.builder import Field
from nearfield.filters.operands import (
    MAX_DEPTH,
    Operator,
    canonical_field,
    shown,
    unknown_name,
)
from nearfield.filters.tree import And, Condition, Filter, Not, Or

__all__ = ["parse"]

_OPERATORS: Final = {f"${operator}": operator for operator in Operator}
_DATETIME: Final = "$datetime"


def parse(where: Filter | Mapping[str, Any] | None) -> Filter | None:
    """Read a filter in either spelling.

    The dict form maps fields to values or to operators: ``{"lang": "en", "year": {"$gte": 2020,
    "$lt": 2024}, "$or": [{…}, {…}]}``. Several keys must all match. A plain value, null included,
    means ``$eq``. ``$and`` and ``$or`` take a list of dicts, ``$not`` takes one dict, or, under a
    field, operators. Every :class:`Operator` is known by its name after ``$``. A datetime is
    given as such or as ``{"$datetime": "2024-05-01T12:00:00Z"}``.

    Returns:
        The filter, or None for None and for an empty dict: everything.

    Raises:
        FilterError: The dict is malformed, or too deep or too large.
    """
    if where is None or isinstance(where, Filter):
        return where
    return _read_root(where)


def _read_root(where: object) -> Filter | None:
    if isinstance(where, Field):
        raise FilterError(
            f"{where!r} alone is no filter; compare it, as in {where!r} == 1, or use "
            f"{where!r}.exists(True)"
        )
    if not isinstance(where, Mapping):
        raise FilterError(
            f"a filter is a Filter such as F.year >= 2020, a dict such as "
            f'{{"year": {{"$gte": 2020}}}} or None, got {type(where).__name__}'
        )
    return _read_node(where, 0) if where else None


def _read_node(where: object, level: int) -> Filter:
    if isinstance(where, Filter):
        return where
    if level > MAX_DEPTH:
        raise FilterError(f"this filter nests deeper than the {MAX_DEPTH} levels allowed")
    if not isinstance(where, Mapping):
        raise FilterError(
            f'$and, $or and $not join dicts such as {{"year": {{"$gte": 2020}}}}, '
            f"got {type(where).__name__}"
        )
    return _conjunction([part for key, value in where.items() for part in _read(key, value, level)])


def _conjunction(parts: list[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _read(key: object, value: object, level: int) -> Iterator[Filter]:
    field = canonical_field(key)
    if field in ("$and", "$or"):
        if not isinstance(value, list | tuple):
            raise FilterError(f"{field} takes a list of dicts, got {type(value).__name__}")
        children = tuple([_read_node(child, level + 1) for child in value])
        yield And(children) if field == "$and" else Or(children)
    elif field == "$not":
        yield Not(_read_node(value, level + 1))
    elif field in _OPERATORS or field == _DATETIME:
        raise FilterError(
            f'{field} compares a field: write {{"field": {{"{field}": …}}}}; '
            "without a field only $and, $or and $not are possible"
        )
    elif field.startswith("$"):
        raise unknown_name(
            'unknown operator (a field whose name starts with "$" needs F["$name"])',
            field,
            ["$and", "$or", "$not"],
        )
    elif isinstance(value, Mapping) and _DATETIME not in value:
        yield from _read_operators(field, value, level)
    elif isinstance(value, list | tuple):
        raise FilterError(
            f"field {shown(field)}: a bare list could mean two things; write "
            f'{{"$in": […]}} for one of these values, or {{"$eq": […]}} for exactly this list'
        )
    else:
        yield Condition(field, Operator.EQ, _read_value(field, value))


def _read_operators(field: str, operators: Mapping[Any, Any], level: int) -> Iterator[Filter]:
    if not operators:
        raise FilterError(
            f"field {shown(field)}: an empty dict says nothing; give an operator such as "
            '{"$eq": …}, or {"$is_empty": true}'
        )
    for name, value in operators.items():
        if not isinstance(name, str) or not name.startswith("$"):
            raise _no_operator(field, name)
        if name == "$not":
            yield Not(_read_negated(field, value, level + 1))
        elif name not in _OPERATORS:
            raise unknown_name(
                f"field {shown(field)}: unknown operator", name, [*_OPERATORS, "$not"]
            )
        else:
            yield Condition(field, _OPERATORS[name], _read_value(field, value))


def _no_operator(field: str, name: object) -> FilterError:
    start = f"field {shown(field)}: a dict here holds operators such as $gte, got the key"
    if not isinstance(name, str):
        return FilterError(f"{start} of type {type(name).__name__}")
    if f"${name}" in _OPERATORS:
        return FilterError(f"{start} {shown(name)}; did you mean ${name}?")
    return FilterError(
        f"{start} {shown(name)}; reach into nested metadata with a dotted path: "
        f"{shown(f'{field}.{name}')}"
    )


def _read_negated(field: str, operators: object, level: int) -> Filter:
    if level > MAX_DEPTH:
        raise FilterError(f"this filter nests deeper than the {MAX_DEPTH} levels allowed")
    if not isinstance(operators, Mapping):
        raise FilterError(
            f'field {shown(field)}: $not takes operators such as {{"$gt": 5}}, '
            f"got {type(operators).__name__}; for a value use $ne"
        )
    return _conjunction(list(_read_operators(field, operators, level)))


def _read_value(field: str, value: object, depth: int = 0) -> Any:
    if isinstance(value, list | tuple) and depth < MAX_DEPTH:
        return [_read_value(field, item, depth + 1) for item in value]
    if not isinstance(value, Mapping) or _DATETIME not in value:
        return value
    text = value[_DATETIME]
    if not isinstance(text, str) or len(value) > 1:
        raise FilterError(
            f'field {shown(field)}: a datetime is written {{"{_DATETIME}": "2024-05-01T12:00:00Z"}}'
        )
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise FilterError(
            f"field {shown(field)}: {shown(text)} is no date or time in ISO 8601, such as "
            "2024-05-01T12:00:00Z"
        ) from error
