"""The tree of a filter: conditions joined by and, or, not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NoReturn

from nearfield.errors import FilterError
from nearfield.filters.evaluation import condition_matches, lookup
from nearfield.filters.operands import (
    MAX_DEPTH,
    Operand,
    Operator,
    canonical_field,
    canonical_operand,
    canonical_operator,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MAX_CONDITIONS", "And", "Condition", "Filter", "Not", "Or", "fields", "matches"]

MAX_CONDITIONS: Final = 10_000
"""The most conditions in one filter; ``in`` with a list counts as one."""


@dataclass(frozen=True, slots=True)
class Filter(ABC):
    """Which documents to take, by their metadata. Immutable and hashable.

    Combine filters with ``&``, ``|`` and ``~``, with parentheses around each comparison.

    Attributes:
        depth: How many levels of and, or, not there are; 0 for a condition.
        conditions: How many conditions there are; an empty and or or counts as one.
    """

    depth: int = field(init=False, repr=False, compare=False)
    conditions: int = field(init=False, repr=False, compare=False)

    @abstractmethod
    def matches(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a document with this metadata, as JSON gives it, is taken."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready dict form, which :func:`parse` reads back as an equal filter.

        Raises:
            FilterError: A field's name starts with ``$``, which the dict form cannot say.
        """

    def __and__(self, other: Filter) -> And:
        """Match what both match."""
        return And(_parts(And, self) + _parts(And, other)) if _is_filter(other) else NotImplemented

    def __or__(self, other: Filter) -> Or:
        """Match what either matches."""
        return Or(_parts(Or, self) + _parts(Or, other)) if _is_filter(other) else NotImplemented

    def __invert__(self) -> Not:
        """Match what this does not."""
        return Not(self)

    def __bool__(self) -> NoReturn:
        """Refuse: Python would drop one side of ``and``, ``or`` and chained comparisons."""
        raise FilterError(
            "a filter is neither true nor false: Python's and, or, not, if and chained "
            "comparisons such as 2000 <= F.year <= 2020 cannot build one; combine with & | ~ "
            "and parentheses: (F.year >= 2000) & (F.year <= 2020)"
        )

    def _measure(self, depth: int, conditions: int) -> None:
        if depth > MAX_DEPTH:
            raise FilterError(
                f"this filter nests {depth} levels deep, but at most {MAX_DEPTH} are allowed; "
                "a chain of & or of | is one level, and in_ replaces a choice between values"
            )
        if conditions > MAX_CONDITIONS:
            raise FilterError(
                f"this filter has {conditions:,} conditions, but at most {MAX_CONDITIONS:,} are "
                "allowed; use in_ for a choice between many values"
            )
        object.__setattr__(self, "depth", depth)
        object.__setattr__(self, "conditions", conditions)


@dataclass(frozen=True, slots=True)
class Condition(Filter):
    """One comparison of a field with a value.

    Attributes:
        field: The path of the field; see :func:`lookup`.
        operator: How to compare; also accepted by its name.
        value: The operand, brought to the canonical form :data:`Operand`: lists as tuples,
            datetimes in UTC, numpy scalars as Python's.

    Raises:
        FilterError: The operator is unknown or does not take such a value.
    """

    field: str
    operator: Operator
    value: Any = None

    def __post_init__(self) -> None:
        name = canonical_field(self.field)
        operator = canonical_operator(name, self.operator)
        object.__setattr__(self, "field", name)
        object.__setattr__(self, "operator", operator)
        object.__setattr__(self, "value", canonical_operand(name, operator, self.value))
        self._measure(0, 1)

    def matches(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a document with this metadata, as JSON gives it, is taken."""
        return condition_matches(self.operator, self.value, lookup(metadata, self.field))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready dict form; see :meth:`Filter.to_dict`."""
        if self.field.startswith("$"):
            raise FilterError(
                f"the field {shown(self.field)} starts with $, which marks an operator in the dict "
                "form; such a field can be filtered only through F[...]"
            )
        return {self.field: {f"${self.operator}": _json_ready(self.value)}}

    def __eq__(self, other: object) -> bool:
        """Whether this is the same condition; unlike in Python, ``True`` is not ``1``."""
        if not isinstance(other, Condition):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[object, ...]:
        return self.field, self.operator, _typed(self.value)


@dataclass(frozen=True, slots=True)
class And(Filter):
    """Matches what every child matches; without children, everything."""

    children: tuple[Filter, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "children", _checked("And", self.children))
        self._measure(*_joined_size(self.children))

    def matches(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a document with this metadata, as JSON gives it, is taken."""
        return all(child.matches(metadata) for child in self.children)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready dict form; see :meth:`Filter.to_dict`."""
        return {"$and": [child.to_dict() for child in self.children]}


@dataclass(frozen=True, slots=True)
class Or(Filter):
    """Matches what some child matches; without children, nothing."""

    children: tuple[Filter, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "children", _checked("Or", self.children))
        self._measure(*_joined_size(self.children))

    def matches(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a document with this metadata, as JSON gives it, is taken."""
        return any(child.matches(metadata) for child in self.children)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready dict form; see :meth:`Filter.to_dict`."""
        return {"$or": [child.to_dict() for child in self.children]}


@dataclass(frozen=True, slots=True)
class Not(Filter):
    """Matches what its child does not."""

    child: Filter

    def __post_init__(self) -> None:
        _checked("Not", (self.child,))
        self._measure(self.child.depth + 1, self.child.conditions)

    def matches(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a document with this metadata, as JSON gives it, is taken."""
        return not self.child.matches(metadata)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready dict form; see :meth:`Filter.to_dict`."""
        return {"$not": self.child.to_dict()}


def matches(filter: Filter, metadata: Mapping[str, Any]) -> bool:
    """Whether a document with this metadata, as JSON gives it, is taken by the filter."""
    return filter.matches(metadata)


def fields(filter: Filter) -> frozenset[str]:
    """Return the paths of all fields that the filter reads."""
    paths = set[str]()
    waiting = [filter]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Condition):
            paths.add(node.field)
        elif isinstance(node, And | Or):
            waiting.extend(node.children)
        elif isinstance(node, Not):
            waiting.append(node.child)
    return frozenset(paths)


def _is_filter(value: object) -> bool:
    return isinstance(value, Filter)


def _parts(kind: type[And | Or], filter: Filter) -> tuple[Filter, ...]:
    return filter.children if isinstance(filter, kind) else (filter,)


def _checked(name: str, children: object) -> tuple[Filter, ...]:
    if not isinstance(children, tuple | list):
        raise FilterError(f"{name} takes a tuple of filters, got {type(children).__name__}")
    for child in children:
        if not isinstance(child, Filter):
            raise FilterError(
                f"{name} joins filters such as F.year >= 2020, got {type(child).__name__}; "
                "read a dict with parse first"
            )
    return tuple(children)


def _joined_size(children: tuple[Filter, ...]) -> tuple[int, int]:
    depth = 1 + max((child.depth for child in children), default=0)
    return depth, max(1, sum(child.conditions for child in children))


def _typed(value: Operand) -> object:
    if isinstance(value, tuple):
        return tuple([_typed(item) for item in value])
    return (bool, value) if isinstance(value, bool) else value


def _json_ready(value: Operand) -> Any:
    if isinstance(value, tuple):
        return [_json_ready(item) for item in value]
    return {"$datetime": value.isoformat()} if isinstance(value, datetime) else value
