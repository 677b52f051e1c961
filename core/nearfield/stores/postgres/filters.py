"""Filters as SQL over ``jsonb``, true to the reference evaluation.

No part of a filter becomes part of a statement's text: keys and values are parameters. A condition
is true, or it is false or NULL, which is the same until it is negated: a negation is of what is
certainly true or false. Around anything else stands no function, which would hide it from an index.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from nearfield.errors import UnsupportedFilterError
from nearfield.filters.evaluation import instant_us
from nearfield.filters.operands import Operand, Operator
from nearfield.filters.tree import And, Condition, Filter, Not, Or
from nearfield.stores.postgres.fields import comparable, escaped, json_text
from nearfield.validation import MAX_METADATA_DEPTH

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["where_clause"]

_FIELDS = "fields"
_INSTANTS = "instants"
_FOLDED = "coalesce(folded, fields)"
_INDEXED_VALUES = 16
"""Of a choice between more values, each document is looked at."""
_MAX_PARAMETERS = 65_535
"""What the protocol counts in 16 bits."""


def where_clause(
    where: Filter | None, ids: Sequence[str] | None = None
) -> tuple[str, dict[str, Any]]:
    """Translate a filter, and a restriction to ids, into a condition and its parameters.

    Returns:
        SQL with named placeholders, and their values; ``true`` where there is no restriction.

    Raises:
        UnsupportedFilterError: The filter has more values than a statement takes.
    """
    if where is None and ids is None:
        return "true", {}
    translation = _Translation()
    parts = []
    if ids is not None:
        parts.append(f"id = ANY({translation.value(list(map(escaped, ids)))}::text[])")
    if where is not None:
        parts.append(translation.sql(where))
    if len(translation.parameters) > _MAX_PARAMETERS // 2:
        raise UnsupportedFilterError(
            f"this filter has {len(translation.parameters):,} fields and values, more than a "
            "statement in PostgreSQL takes; use in_ for a choice between many values"
        )
    return " AND ".join(parts), translation.parameters


class _Translation:
    """One filter on its way to SQL: its parameters, each under a name of its own."""

    def __init__(self) -> None:
        self.parameters: dict[str, Any] = {}
        self._keys: dict[str, str] = {}

    def sql(self, node: Filter) -> str:
        if isinstance(node, Condition):
            return _CONDITIONS[node.operator](self, node.field, node.value)
        if isinstance(node, Not):
            return _not(self.sql(node.child))
        if isinstance(node, And):
            return "(" + (" AND ".join(map(self.sql, node.children)) or "true") + ")"
        if isinstance(node, Or):
            return "(" + (" OR ".join(map(self.sql, node.children)) or "false") + ")"
        raise UnsupportedFilterError(f"filters of the type {type(node).__name__} are not known")

    def value(self, value: Any) -> str:
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return f"%({name})s"

    def json(self, operand: Any) -> str:
        return f"{self.value(json_text(comparable(operand)))}::jsonb"

    def path(self, column: str, path: str, depth: int = 1) -> str:
        """Return what a path names in a ``jsonb`` object, NULL where there is nothing."""
        head, dot, rest = path.partition(".")
        whole = f"({column} -> {self._key(path)})"
        if not dot or depth == MAX_METADATA_DEPTH:
            return whole
        inner = f"({column} -> {self._key(head)})"
        return (
            f"(CASE WHEN {column} ? {self._key(path)} THEN {whole} "
            f"WHEN jsonb_typeof({inner}) = 'object' THEN {self.path(inner, rest, depth + 1)} END)"
        )

    def holds(self, path: str, operand: Any) -> str:
        """Narrow by containment, which an index answers: true wherever the path has the value."""
        places = [self.json(place) for place in _places(path, operand)]
        return "(" + " OR ".join(f"{_FIELDS} @> {place}" for place in places) + ")"

    def _key(self, key: str) -> str:
        if key not in self._keys:
            self._keys[key] = self.value(escaped(key)) + "::text"
        return self._keys[key]


def _places(path: str, value: Any, depth: int = 1) -> list[dict[str, Any]]:
    """Return the objects that hold a value where a path may find it."""
    places = [{path: value}]
    head, dot, rest = path.partition(".")
    if dot and depth < MAX_METADATA_DEPTH:
        places += [{head: inner} for inner in _places(rest, value, depth + 1)]
    return places


def _microseconds(operand: Operand) -> Operand:
    return instant_us(operand) if isinstance(operand, datetime) else operand


def _equal(to: _Translation, path: str, operand: Operand) -> str:
    if isinstance(operand, datetime):
        return f"{to.path(_INSTANTS, path)} = {to.json(_microseconds(operand))}"
    if not isinstance(operand, tuple):
        return f"({to.holds(path, operand)} AND {to.path(_FIELDS, path)} = {to.json(operand)})"
    if not _has_instants(operand):
        return f"{to.path(_FIELDS, path)} = {to.json(operand)}"
    value, instant = to.path(_FIELDS, path), to.path(_INSTANTS, path)
    # Each path is followed once, however many elements there are; OFFSET keeps it so.
    return (
        f"(SELECT {_equal_list(to, 'value', 'instant', operand)} "
        f"FROM (SELECT {value} AS value, {instant} AS instant OFFSET 0) AS list)"
    )


def _equal_list(to: _Translation, value: str, instant: str, operand: tuple[Operand, ...]) -> str:
    """Compare element by element, since instants stand in a column of their own."""
    parts = [f"jsonb_typeof({value}) = 'array'"]
    parts.append(f"jsonb_array_length({value}) = {len(operand)}")
    for place, item in enumerate(operand):
        element, moment = f"({value} -> {place})", f"({instant} -> {place})"
        if isinstance(item, datetime):
            parts.append(f"{moment} = {to.json(_microseconds(item))}")
        elif isinstance(item, tuple) and _has_instants(item):
            parts.append(_equal_list(to, element, moment, item))
        else:
            parts.append(f"{element} = {to.json(item)}")
    # AND may be evaluated in any order, and the length of what is no list is an error; CASE not.
    return f"(CASE WHEN {parts[0]} THEN {' AND '.join(parts[1:])} ELSE false END)"


def _has_instants(operand: Operand) -> bool:
    if isinstance(operand, tuple):
        return any(map(_has_instants, operand))
    return isinstance(operand, datetime)


def _ordered(relation: str) -> Callable[[_Translation, str, Operand], str]:
    def condition(to: _Translation, path: str, operand: Operand) -> str:
        if isinstance(operand, str):
            value = to.path(_FIELDS, path)
            test = (
                f'({value} #>> ARRAY[]::text[]) COLLATE "C" {relation} {to.value(escaped(operand))}'
            )
            return f"(CASE jsonb_typeof({value}) WHEN 'string' THEN {test} END)"
        column = _INSTANTS if isinstance(operand, datetime) else _FIELDS
        value = to.path(column, path)
        test = f"{value} {relation} {to.json(_microseconds(operand))}"
        return f"(CASE jsonb_typeof({value}) WHEN 'number' THEN {test} END)"

    return condition


def _among(to: _Translation, path: str, operand: tuple[Operand, ...]) -> str:
    plain, instants = _parted(operand)
    test = f"{to.path(_FIELDS, path)} = ANY({to.value(plain)}::jsonb[])"
    if instants:
        moments = f"{to.path(_INSTANTS, path)} = ANY({to.value(instants)}::jsonb[])"
        return f"({test} OR {moments})"
    if not 0 < len(operand) <= _INDEXED_VALUES:
        return test
    return f"(({' OR '.join(to.holds(path, item) for item in operand)}) AND {test})"


def _contains(to: _Translation, path: str, operand: Operand) -> str:
    column = _INSTANTS if isinstance(operand, datetime) else _FIELDS
    value = to.path(column, path)
    test = f"(jsonb_typeof({value}) = 'array' AND {value} @> {to.json([_microseconds(operand)])})"
    return test if column == _INSTANTS else f"({to.holds(path, [operand])} AND {test})"


def _contains_any(to: _Translation, path: str, operand: tuple[Operand, ...]) -> str:
    tests = []
    for column, values in zip((_FIELDS, _INSTANTS), _parted(operand), strict=True):
        value = to.path(column, path)
        elements = f"SELECT 1 FROM jsonb_array_elements({value}) AS elements (element)"
        found = f"EXISTS ({elements} WHERE element = ANY({to.value(values)}::jsonb[]))"
        tests.append(f"(CASE jsonb_typeof({value}) WHEN 'array' THEN {found} ELSE false END)")
    return f"({' OR '.join(tests)})"


def _contains_all(to: _Translation, path: str, operand: tuple[Operand, ...]) -> str:
    value = to.path(_FIELDS, path)
    instants = [_microseconds(item) for item in operand if isinstance(item, datetime)]
    plain = [item for item in operand if not isinstance(item, datetime)]
    tests = [f"jsonb_typeof({value}) = 'array'", f"{value} @> {to.json(plain)}"]
    if instants:
        tests.append(f"{to.path(_INSTANTS, path)} @> {to.json(instants)}")
    return f"({' AND '.join(tests)})"


def _parted(operand: tuple[Operand, ...]) -> tuple[list[str], list[str]]:
    """Part values from instants, which are looked for in a column of their own."""
    return (
        [json_text(comparable(item)) for item in operand if not isinstance(item, datetime)],
        [json_text(_microseconds(item)) for item in operand if isinstance(item, datetime)],
    )


def _text_match(to: _Translation, path: str, operand: str) -> str:
    return _holds_text(to, to.path(_FIELDS, path), operand)


def _text_match_insensitive(to: _Translation, path: str, operand: str) -> str:
    return _holds_text(to, to.path(_FOLDED, path), operand.casefold())


def _holds_text(to: _Translation, value: str, part: str) -> str:
    test = f"strpos({value} #>> ARRAY[]::text[], {to.value(escaped(part))}) > 0"
    return f"(CASE jsonb_typeof({value}) WHEN 'string' THEN {test} END)"


def _exists(to: _Translation, path: str, operand: Operand) -> str:
    return f"({to.path(_FIELDS, path)} IS {'NOT ' if operand else ''}NULL)"


def _is_empty(to: _Translation, path: str, operand: Operand) -> str:
    value = to.path(_FIELDS, path)
    test = f"({value} IS NULL OR {value} IN ('null', '\"\"', '[]', jsonb_build_object()))"
    return test if operand else f"NOT {test}"


def _negated(
    condition: Callable[[_Translation, str, Any], str],
) -> Callable[[_Translation, str, Any], str]:
    def negation(to: _Translation, path: str, operand: Any) -> str:
        return _not(condition(to, path, operand))

    return negation


def _not(condition: str) -> str:
    return f"NOT coalesce({condition}, false)"


_CONDITIONS: dict[Operator, Callable[[_Translation, str, Any], str]] = {
    Operator.EQ: _equal,
    Operator.NE: _negated(_equal),
    Operator.GT: _ordered(">"),
    Operator.GTE: _ordered(">="),
    Operator.LT: _ordered("<"),
    Operator.LTE: _ordered("<="),
    Operator.IN: _among,
    Operator.NIN: _negated(_among),
    Operator.CONTAINS: _contains,
    Operator.ANY: _contains_any,
    Operator.ALL: _contains_all,
    Operator.TEXT_MATCH: _text_match,
    Operator.TEXT_MATCH_INSENSITIVE: _text_match_insensitive,
    Operator.EXISTS: _exists,
    Operator.IS_EMPTY: _is_empty,
}
