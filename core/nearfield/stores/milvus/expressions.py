"""Expressions in Milvus's language; the only place where values become part of a text.

Milvus's own placeholders work neither on its servers of version 2.3 nor in Milvus Lite.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from nearfield.stores.milvus.fields import DIALECT, identifier

if TYPE_CHECKING:
    from nearfield.filters import Filter
    from nearfield.stores.flat.filters import Where

__all__ = ["all_of", "among_ids", "expression", "literal"]

_ESCAPED = str.maketrans(
    {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"},
)
"""All that has a meaning within a quoted text; servers and Milvus Lite know these escapes alone."""
_RELATIONS = {
    "$eq": "{field} == {value}",
    "$ne": "{field} != {value}",
    "$gt": "{field} > {value}",
    "$gte": "{field} >= {value}",
    "$lt": "{field} < {value}",
    "$lte": "{field} <= {value}",
    "$in": "{field} in {value}",
    "$nin": "{field} not in {value}",
    "$contains": "json_contains({field}, {value})",
    "$not_contains": "not json_contains({field}, {value})",
    "$exists": "not exists {field}",  # asked for what is not there alone
}


def expression(where: Filter | None) -> str | None:
    """Translate a filter.

    Returns:
        An expression, empty where every document matches; None where none can.

    Raises:
        UnsupportedFilterError: Milvus cannot evaluate it.
    """
    clause = DIALECT.clause(where)
    if isinstance(clause, bool):
        return "" if clause else None
    return _written(clause)


def literal(value: Any) -> str:
    """Write a string, a number, or a list of them."""
    if isinstance(value, str):
        return f'"{value.translate(_ESCAPED)}"'
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    return repr(value)


def among_ids(ids: Sequence[str]) -> str:
    """Say that a document's id is one of some."""
    return f"id in {literal(list(ids))}"


def all_of(expressions: Iterable[str]) -> str:
    """Say that all of some expressions are true; an empty one always is."""
    parts = [each for each in expressions if each]
    return parts[0] if len(parts) == 1 else " and ".join(f"({part})" for part in parts)


def _written(where: Where) -> str:
    ((name, what),) = where.items()
    if name in {"$and", "$or"}:
        word = f" {name.removeprefix('$')} "
        return word.join(f"({_written(part)})" for part in what)
    ((relation, value),) = what.items()
    return _RELATIONS[relation].format(field=identifier(name), value=literal(value))
