"""Filters as Chroma's ``where``, true to the reference evaluation.

Chroma has no negation, and its comparisons by size are false where there is no field, while
``$ne``, ``$nin`` and ``$not_contains`` are true there. So a filter is translated either as it is or
as its negation, down to the single comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from nearfield.errors import UnsupportedFilterError
from nearfield.filters.evaluation import instant_us
from nearfield.filters.operands import Operand, Operator, shown
from nearfield.filters.tree import And, Condition, Filter, Not, Or
from nearfield.stores.chroma.fields import (
    MAX_ORDERED_BYTES,
    Kind,
    chunks,
    field,
    list_token,
    number_key,
    shortened,
    token,
)

__all__ = ["EVERYTHING", "Clause", "where_clause"]

Where: TypeAlias = dict[str, Any]
Clause: TypeAlias = Where | bool
"""A ``where``, or what is true of every document or of none."""
EVERYTHING: Clause = True
_Equalities: TypeAlias = list[tuple[str, str | int]]
"""Fields and what all of them have to be."""

_MAX_CLAUSES = 400
"""Chroma puts each into one expression of SQLite's, whose depth is limited to 1,000."""
_MAX_VALUES = 5_000
"""SQLite takes 32,766 values in a statement, and Chroma gives it each more than once."""
_MAX_DEPTH = 50
"""A server reads JSON of at most 128 levels, of which each and and or takes two."""
_EXACT_INTEGERS = 2**53
_TEXTS = (Kind.TEXT, Kind.DATE, Kind.EMPTY_TEXT)
_NUMBERS = (Kind.NUMBER, Kind.LONG_INTEGER)
_EMPTY = (Kind.NULL, Kind.EMPTY_TEXT, Kind.EMPTY_LIST, Kind.EMPTY_MAPPING)


def where_clause(where: Filter | None) -> Clause:
    """Translate a filter.

    Returns:
        What Chroma takes; True where every document matches, False where none can.

    Raises:
        UnsupportedFilterError: Chroma cannot evaluate it.
    """
    if where is None:
        return True
    clause = _translated(where, positive=True)
    if not isinstance(clause, bool):
        clauses, values, depth = _size(clause)
        if clauses > _MAX_CLAUSES or values > _MAX_VALUES or depth > _MAX_DEPTH:
            raise UnsupportedFilterError(
                f"this filter makes {clauses:,} comparisons with {values:,} values, {depth} levels "
                f"deep, but Chroma takes {_MAX_CLAUSES}, {_MAX_VALUES:,} and {_MAX_DEPTH}; use in_ "
                "for a choice between values, flatten it, or search in parts"
            )
    return clause


def _translated(node: Filter, *, positive: bool) -> Clause:
    if isinstance(node, Condition):
        return _CONDITIONS[node.operator](node.field, node.value, positive)
    if isinstance(node, Not):
        return _translated(node.child, positive=not positive)
    if isinstance(node, And | Or):
        join = _all_of if isinstance(node, And) == positive else _any_of
        return join(_translated(child, positive=positive) for child in node.children)
    raise UnsupportedFilterError(f"filters of the type {type(node).__name__} are not known")


def _all_of(clauses: Iterable[Clause]) -> Clause:
    return _joined("$and", clauses, neutral=True)


def _any_of(clauses: Iterable[Clause]) -> Clause:
    return _joined("$or", clauses, neutral=False)


def _joined(operator: str, clauses: Iterable[Clause], *, neutral: bool) -> Clause:
    parts: list[Where] = []
    for clause in clauses:
        if isinstance(clause, bool):
            if clause is not neutral:
                return clause
        elif operator in clause:  # what nests without need counts against Chroma's depth
            parts += clause[operator]
        else:
            parts.append(clause)
    if not parts:
        return neutral
    return parts[0] if len(parts) == 1 else {operator: parts}


def _size(clause: Where) -> tuple[int, int, int]:
    """Count the comparisons, their values, and the levels of and and or."""
    ((key, value),) = clause.items()
    if key in {"$and", "$or"}:
        sizes = [_size(part) for part in value]
        clauses, values, depths = zip(*sizes, strict=True)
        return sum(clauses), sum(values), 1 + max(depths)
    ((_, operand),) = value.items()
    return 1, len(operand) if isinstance(operand, list) else 1, 0


def _among(name: str, values: Sequence[str | int], positive: bool) -> Where:  # noqa: FBT001
    """Compare a field with one or several values; the negation is true without the field."""
    if len(values) == 1:
        return {name: {"$eq" if positive else "$ne": values[0]}}
    return {name: {"$in" if positive else "$nin": list(values)}}


def _is_kind(path: str, kinds: Sequence[Kind], positive: bool) -> Where:  # noqa: FBT001
    return _among(field("k", path), [int(kind) for kind in kinds], positive)


def _one_of(path: str, operands: Sequence[Operand], positive: bool) -> Clause:  # noqa: FBT001
    """Whether a value is equal to one of the operands."""
    single: dict[str, list[str | int]] = {}
    several: list[_Equalities] = []
    for operand in operands:
        equalities = _equalities(path, operand)
        if len(equalities) == 1:
            ((name, value),) = equalities
            single.setdefault(name, []).append(value)
        else:
            several.append(equalities)
    clauses: list[Clause] = [
        _among(name, list(dict.fromkeys(values)), positive) for name, values in single.items()
    ]
    outer, inner = (_any_of, _all_of) if positive else (_all_of, _any_of)
    clauses += [
        inner(_among(name, [value], positive) for name, value in equalities)
        for equalities in several
    ]
    return outer(clauses)


def _equalities(path: str, operand: Operand) -> _Equalities:
    if operand is None or isinstance(operand, bool):
        kind = Kind.NULL if operand is None else Kind.TRUE if operand else Kind.FALSE
        return [(field("k", path), int(kind))]
    if isinstance(operand, str):
        return [(field("s", path), shortened(operand))]
    if isinstance(operand, datetime):
        return [(field("i", path), _microseconds(operand))]
    if isinstance(operand, tuple):
        return [(field("l", path), _whole(path, operand))]
    return _number_equalities(path, operand)


def _number_equalities(path: str, operand: float) -> _Equalities:
    near, rest = number_key(operand)
    if rest:
        return [(field("n", path), near), (field("o", path), rest)]
    equalities: _Equalities = [(field("n", path), near)]
    if abs(operand) >= _EXACT_INTEGERS:
        equalities.append((field("k", path), int(Kind.NUMBER)))
    return equalities


def _whole(path: str, operand: tuple[Operand, ...]) -> str:
    whole = None if _has_instants(operand) else list_token(operand)
    if whole is None:
        raise UnsupportedFilterError(
            f"field {shown(path)}: Chroma cannot compare a list with datetimes in it as a whole; "
            "use all_ or any_ of its elements, or write the dates as they are stored"
        )
    return whole


def _has_instants(operand: Operand) -> bool:
    if isinstance(operand, tuple):
        return any(map(_has_instants, operand))
    return isinstance(operand, datetime)


def _microseconds(moment: datetime) -> int:
    microseconds = instant_us(moment)
    if microseconds is None:
        raise TypeError("a datetime is an instant")
    return microseconds


def _equal(path: str, operand: Operand, positive: bool) -> Clause:  # noqa: FBT001
    return _one_of(path, [operand], positive)


def _in(path: str, operand: tuple[Operand, ...], positive: bool) -> Clause:  # noqa: FBT001
    return _one_of(path, operand, positive)


_OPPOSITE = {"$gt": "$lte", "$gte": "$lt", "$lt": "$gte", "$lte": "$gt"}


def _ordered(relation: str) -> Callable[[str, Any, bool], Clause]:
    def condition(path: str, operand: Any, positive: bool) -> Clause:  # noqa: FBT001
        meant = relation if positive else _OPPOSITE[relation]
        kinds: tuple[Kind, ...]
        if isinstance(operand, str):
            kinds, clause = _TEXTS, _text_order(path, meant, operand)
        elif isinstance(operand, datetime):
            kinds = (Kind.DATE,)
            clause = {field("i", path): {meant: _microseconds(operand)}}
        else:
            kinds, clause = _NUMBERS, _number_order(path, meant, operand)
        return clause if positive else _any_of([clause, _is_kind(path, kinds, positive=False)])

    return condition


def _number_order(path: str, relation: str, operand: float) -> Clause:
    near, rest = number_key(operand)
    name = field("n", path)
    if abs(operand) < _EXACT_INTEGERS:
        return {name: {relation: near}}
    rests = field("o", path)
    above: list[Clause] = [{rests: {relation: rest}}]
    if _holds(0, relation, rest):  # numbers that are a float have nothing above it, and no field
        above.append(_is_kind(path, [Kind.NUMBER], positive=True))
    strict = relation.removesuffix("e")
    return _any_of([{name: {strict: near}}, _all_of([{name: {"$eq": near}}, _any_of(above)])])


def _holds(left: int, relation: str, right: int) -> bool:
    if left == right:
        return relation.endswith("e")
    return (left > right) == relation.startswith("$g")


def _text_order(path: str, relation: str, operand: str) -> Clause:
    if len(operand.encode()) > MAX_ORDERED_BYTES:
        raise UnsupportedFilterError(
            f"field {shown(path)}: Chroma can order texts by their first {MAX_ORDERED_BYTES} bytes "
            f"only, and the text to compare with has {len(operand.encode())}; shorten it"
        )
    keys = chunks(operand)
    strict = relation.removesuffix("e")
    alternatives: list[Clause] = []
    for place, key in enumerate(keys):
        last = place == len(keys) - 1
        same: list[Clause] = [
            {field(str(before), path): {"$eq": keys[before]}} for before in range(place)
        ]
        here = {field(str(place), path): {relation if last else strict: key}}
        alternatives.append(_all_of([*same, here]))
    return _any_of(alternatives)


def _element(operand: Operand) -> str:
    part = token(operand)
    if part is None:
        raise TypeError("an element to look for is a scalar")
    return part


def _contains(path: str, operand: Operand, positive: bool) -> Clause:  # noqa: FBT001
    return {field("h", path): {"$contains" if positive else "$not_contains": _element(operand)}}


def _contains_any(path: str, operand: tuple[Operand, ...], positive: bool) -> Clause:  # noqa: FBT001
    join = _any_of if positive else _all_of
    return join(_contains(path, item, positive) for item in operand)


def _contains_all(path: str, operand: tuple[Operand, ...], positive: bool) -> Clause:  # noqa: FBT001
    if not operand:
        return _is_kind(path, (Kind.LIST, Kind.EMPTY_LIST), positive)
    join = _all_of if positive else _any_of
    return join(_contains(path, item, positive) for item in operand)


def _text_match(path: str, operand: str, positive: bool) -> Clause:  # noqa: ARG001, FBT001
    raise UnsupportedFilterError(
        f"field {shown(path)}: Chroma cannot look for a part of a text in metadata; use eq or in_, "
        "or order (gte and lt) for what it begins with"
    )


def _exists(path: str, operand: bool, positive: bool) -> Clause:  # noqa: FBT001
    return _is_kind(path, tuple(Kind), operand == positive)


def _is_empty(path: str, operand: bool, positive: bool) -> Clause:  # noqa: FBT001
    full = [kind for kind in Kind if kind not in _EMPTY]
    return _is_kind(path, full, operand != positive)


def _negated(condition: Callable[[str, Any, bool], Clause]) -> Callable[[str, Any, bool], Clause]:
    return lambda path, operand, positive: condition(path, operand, not positive)


_CONDITIONS: dict[Operator, Callable[[str, Any, bool], Clause]] = {
    Operator.EQ: _equal,
    Operator.NE: _negated(_equal),
    Operator.GT: _ordered("$gt"),
    Operator.GTE: _ordered("$gte"),
    Operator.LT: _ordered("$lt"),
    Operator.LTE: _ordered("$lte"),
    Operator.IN: _in,
    Operator.NIN: _negated(_in),
    Operator.CONTAINS: _contains,
    Operator.ANY: _contains_any,
    Operator.ALL: _contains_all,
    Operator.TEXT_MATCH: _text_match,
    Operator.TEXT_MATCH_INSENSITIVE: _text_match,
    Operator.EXISTS: _exists,
    Operator.IS_EMPTY: _is_empty,
}
