"""Filters over flat fields, true to the reference evaluation.

An engine like this has no negation, and each has its own idea of what an inequality says of a
field that is not there. So a filter is translated either as it is or as its negation, down to the
single comparisons, and those are left to the engine's :class:`Dialect`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from nearfield.errors import UnsupportedFilterError
from nearfield.filters.evaluation import instant_us
from nearfield.filters.operands import Operand, Operator, shown
from nearfield.filters.tree import And, Condition, Filter, Not, Or
from nearfield.stores.flat.fields import (
    EXACT_INTEGERS,
    Encoding,
    Kind,
    field,
    list_token,
    shortened,
    token,
)

__all__ = ["Clause", "Dialect", "Where", "all_of", "among_those_there", "any_of"]

Where: TypeAlias = dict[str, Any]
Clause: TypeAlias = Where | bool
"""What the engine takes, or what is true of every document or of none."""
_Equalities: TypeAlias = list[tuple[str, str | float]]
"""Fields and what all of them have to be."""

_TEXTS = (Kind.TEXT, Kind.DATE, Kind.EMPTY_TEXT)
_NUMBERS = (Kind.NUMBER, Kind.LONG_INTEGER)
_EMPTY = (Kind.NULL, Kind.EMPTY_TEXT, Kind.EMPTY_LIST, Kind.EMPTY_MAPPING)
_OPPOSITE = {"$gt": "$lte", "$gte": "$lt", "$lt": "$gte", "$lte": "$gt"}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How an engine says things.

    Attributes:
        engine: Its name, for messages.
        encoding: How it holds numbers.
        among: Says that a field is one of some values; its negation is true without the field.
        holds: Says that a list has an element; its negation is true without the field.
        max_clauses: The most comparisons in a filter.
        max_values: The most values in all of them.
        max_depth: The most levels of and and or.
    """

    engine: str
    encoding: Encoding
    among: Callable[[str, Sequence[str | float], bool], Where]
    holds: Callable[[str, str, bool], Where]
    max_clauses: int
    max_values: int
    max_depth: int

    def clause(self, where: Filter | None) -> Clause:
        """Translate a filter.

        Returns:
            What the engine takes; True where every document matches, False where none can.

        Raises:
            UnsupportedFilterError: The engine cannot evaluate it.
        """
        if where is None:
            return True
        clause = self._translated(where, positive=True)
        if not isinstance(clause, bool):
            clauses, values, depth = _size(clause)
            if clauses > self.max_clauses or values > self.max_values or depth > self.max_depth:
                raise UnsupportedFilterError(
                    f"this filter makes {clauses:,} comparisons with {values:,} values, {depth} "
                    f"levels deep, but {self.engine} takes {self.max_clauses:,}, "
                    f"{self.max_values:,} and {self.max_depth}; use in_ for a choice between "
                    "values, flatten it, or search in parts"
                )
        return clause

    def _translated(self, node: Filter, *, positive: bool) -> Clause:
        if isinstance(node, Condition):
            return self._condition(node, positive=positive)
        if isinstance(node, Not):
            return self._translated(node.child, positive=not positive)
        if isinstance(node, And | Or):
            join = all_of if isinstance(node, And) == positive else any_of
            return join(self._translated(child, positive=positive) for child in node.children)
        raise UnsupportedFilterError(f"filters of the type {type(node).__name__} are not known")

    def _condition(self, node: Condition, *, positive: bool) -> Clause:
        translate, negated = _CONDITIONS.get(node.operator, (_text_match, False))
        return translate(self, node.field, node.value, positive != negated)


def _is_kind(dialect: Dialect, path: str, kinds: Sequence[Kind], positive: bool) -> Where:  # noqa: FBT001
    return dialect.among(field("k", path), [int(kind) for kind in kinds], positive)


# ── equality ─────────────────────────────────────────────────────────────────────────────────────


def _equal(dialect: Dialect, path: str, operand: Operand, positive: bool) -> Clause:  # noqa: FBT001
    return _one_of(dialect, path, [operand], positive)


def _one_of(dialect: Dialect, path: str, operands: Sequence[Operand], positive: bool) -> Clause:  # noqa: FBT001
    """Whether a value is equal to one of the operands."""
    single: dict[str, list[str | float]] = {}
    several: list[_Equalities] = []
    for operand in operands:
        equalities = _equalities(dialect, path, operand)
        if len(equalities) == 1:
            ((name, value),) = equalities
            single.setdefault(name, []).append(value)
        else:
            several.append(equalities)
    clauses: list[Clause] = [
        dialect.among(name, list(dict.fromkeys(values)), positive)
        for name, values in single.items()
    ]
    outer, inner = (any_of, all_of) if positive else (all_of, any_of)
    clauses += [
        inner(dialect.among(name, [value], positive) for name, value in equalities)
        for equalities in several
    ]
    return outer(clauses)


def _equalities(dialect: Dialect, path: str, operand: Operand) -> _Equalities:
    if operand is None or isinstance(operand, bool):
        kind = Kind.NULL if operand is None else Kind.TRUE if operand else Kind.FALSE
        return [(field("k", path), int(kind))]
    if isinstance(operand, str):
        return [(field("s", path), shortened(operand))]
    if isinstance(operand, datetime):
        parts = dialect.encoding.instant(_microseconds(operand))
        return [(field(use, path), part) for use, part in zip("ij", parts, strict=False)]
    if isinstance(operand, tuple):
        return [(field("l", path), _whole(dialect, path, operand))]
    near, rest = dialect.encoding.number(operand)
    if rest:
        return [(field("n", path), near), (field("o", path), rest)]
    equalities: _Equalities = [(field("n", path), near)]
    if abs(operand) >= EXACT_INTEGERS:
        equalities.append((field("k", path), int(Kind.NUMBER)))
    return equalities


def _whole(dialect: Dialect, path: str, operand: tuple[Operand, ...]) -> str:
    whole = None if _has_instants(operand) else list_token(operand)
    if whole is None:
        raise UnsupportedFilterError(
            f"field {shown(path)}: {dialect.engine} cannot compare a list with datetimes in it "
            "as a whole; use all_ or any_ of its elements, or write the dates as they are "
            "stored"
        )
    return whole


# ── order ────────────────────────────────────────────────────────────────────────────────────────


def _text_match(dialect: Dialect, path: str, _: Operand, __: bool) -> Clause:  # noqa: FBT001
    raise UnsupportedFilterError(
        f"field {shown(path)}: {dialect.engine} cannot look for a part of a text in metadata; use "
        "eq or in_, or order (gte and lt) for what it begins with"
    )


def _ordered(dialect: Dialect, relation: str, path: str, operand: Any, positive: bool) -> Clause:  # noqa: FBT001
    meant = relation if positive else _OPPOSITE[relation]
    kinds: tuple[Kind, ...]
    if isinstance(operand, str):
        kinds, clause = _TEXTS, _text_order(dialect, path, meant, operand)
    elif isinstance(operand, datetime):
        parts = dialect.encoding.instant(_microseconds(operand))
        kinds, clause = (Kind.DATE,), _in_order(path, "ij", meant, parts)
    else:
        kinds, clause = _NUMBERS, _number_order(dialect, path, meant, operand)
    return clause if positive else any_of([clause, _is_kind(dialect, path, kinds, positive=False)])


def _number_order(dialect: Dialect, path: str, relation: str, operand: float) -> Clause:
    near, rest = dialect.encoding.number(operand)
    name = field("n", path)
    if abs(operand) < EXACT_INTEGERS:
        return {name: {relation: near}}
    rests = field("o", path)
    above: list[Clause] = [{rests: {relation: rest}}]
    if _holds(0, relation, rest):  # a number that is a float has nothing above it, and no field
        above.append(_is_kind(dialect, path, [Kind.NUMBER], positive=True))
    strict = relation.removesuffix("e")
    return any_of([{name: {strict: near}}, all_of([{name: {"$eq": near}}, any_of(above)])])


def _text_order(dialect: Dialect, path: str, relation: str, operand: str) -> Clause:
    longest = dialect.encoding.max_ordered_bytes
    if len(operand.encode()) > longest:
        raise UnsupportedFilterError(
            f"field {shown(path)}: {dialect.engine} can order texts by their first {longest} "
            f"bytes only, and the text to compare with has {len(operand.encode())}; shorten it"
        )
    return _in_order(path, "0123", relation, dialect.encoding.chunks(operand))


def _in_order(path: str, uses: str, relation: str, keys: Sequence[int]) -> Clause:
    """Compare fields as tuples compare."""
    strict = relation.removesuffix("e")
    names = [field(use, path) for use, _ in zip(uses, keys, strict=False)]
    alternatives: list[Clause] = []
    for place, key in enumerate(keys):
        same: list[Clause] = [{names[before]: {"$eq": keys[before]}} for before in range(place)]
        last = place == len(keys) - 1
        alternatives.append(all_of([*same, {names[place]: {relation if last else strict: key}}]))
    return any_of(alternatives)


# ── elements ─────────────────────────────────────────────────────────────────────────────────────


def _contains(dialect: Dialect, path: str, operand: Operand, positive: bool) -> Clause:  # noqa: FBT001
    return dialect.holds(field("h", path), _element(operand), positive)


def _contains_any(
    dialect: Dialect,
    path: str,
    operand: tuple[Operand, ...],
    positive: bool,  # noqa: FBT001
) -> Clause:
    join = any_of if positive else all_of
    return join(_contains(dialect, path, item, positive) for item in operand)


def _contains_all(
    dialect: Dialect,
    path: str,
    operand: tuple[Operand, ...],
    positive: bool,  # noqa: FBT001
) -> Clause:
    if not operand:
        return _is_kind(dialect, path, (Kind.LIST, Kind.EMPTY_LIST), positive)
    join = all_of if positive else any_of
    return join(_contains(dialect, path, item, positive) for item in operand)


# ── what is there ────────────────────────────────────────────────────────────────────────────────


def _exists(dialect: Dialect, path: str, operand: bool, positive: bool) -> Clause:  # noqa: FBT001
    return _is_kind(dialect, path, tuple(Kind), operand == positive)


def _is_empty(dialect: Dialect, path: str, operand: bool, positive: bool) -> Clause:  # noqa: FBT001
    full = [kind for kind in Kind if kind not in _EMPTY]
    return _is_kind(dialect, path, full, operand != positive)


def _by_order(relation: str) -> Callable[[Dialect, str, Any, bool], Clause]:
    return lambda dialect, path, operand, positive: _ordered(
        dialect, relation, path, operand, positive
    )


_CONDITIONS: dict[Operator, tuple[Callable[[Dialect, str, Any, bool], Clause], bool]] = {
    Operator.EQ: (_equal, False),
    Operator.NE: (_equal, True),
    Operator.IN: (_one_of, False),
    Operator.NIN: (_one_of, True),
    Operator.GT: (_by_order("$gt"), False),
    Operator.GTE: (_by_order("$gte"), False),
    Operator.LT: (_by_order("$lt"), False),
    Operator.LTE: (_by_order("$lte"), False),
    Operator.CONTAINS: (_contains, False),
    Operator.ANY: (_contains_any, False),
    Operator.ALL: (_contains_all, False),
    Operator.EXISTS: (_exists, False),
    Operator.IS_EMPTY: (_is_empty, False),
}
"""How each is translated, and whether it is that of its negation."""


def among_those_there(
    name: str,
    values: Sequence[str | float],
    positive: bool,  # noqa: FBT001  as Dialect.among
) -> Where:
    """Say that a field is one of some values, or is not, where negations need the field."""
    if positive:
        return {name: {"$eq": values[0]} if len(values) == 1 else {"$in": list(values)}}
    other = {"$ne": values[0]} if len(values) == 1 else {"$nin": list(values)}
    return {"$or": [{name: {"$exists": False}}, {name: other}]}


def all_of(clauses: Iterable[Clause]) -> Clause:
    """Join clauses that all have to be true."""
    return _joined("$and", clauses, neutral=True)


def any_of(clauses: Iterable[Clause]) -> Clause:
    """Join clauses of which one has to be true."""
    return _joined("$or", clauses, neutral=False)


def _joined(operator: str, clauses: Iterable[Clause], *, neutral: bool) -> Clause:
    parts: list[Where] = []
    for clause in clauses:
        if isinstance(clause, bool):
            if clause is not neutral:
                return clause
        elif operator in clause:  # what nests without need counts against the engine's depth
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


def _has_instants(operand: Operand) -> bool:
    if isinstance(operand, tuple):
        return any(map(_has_instants, operand))
    return isinstance(operand, datetime)


def _microseconds(moment: datetime) -> int:
    microseconds = instant_us(moment)
    if microseconds is None:
        raise TypeError("a datetime is an instant")
    return microseconds


def _holds(left: int, relation: str, right: int) -> bool:
    if left == right:
        return relation.endswith("e")
    return (left > right) == relation.startswith("$g")


def _element(operand: Operand) -> str:
    part = token(operand)
    if part is None:
        raise TypeError("an element to look for is a scalar")
    return part
