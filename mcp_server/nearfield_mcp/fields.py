"""What the metadata of a collection hold, so that an agent can write a filter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from nearfield_mcp.results import FieldDescription

if TYPE_CHECKING:
    from nearfield import Collection

__all__ = ["describe_fields"]

_EXAMPLES = 3
_EXAMPLE_CHARS = 60
_DEPTH = 3
_BOOKKEEPING = {"chunk", "chunks", "previous", "next", "content_hash"}
"""Written by ingestion; no one filters by it."""


def describe_fields(collection: Collection, most: int) -> tuple[int, list[FieldDescription]]:
    """Look at the first documents of a collection.

    Returns:
        How many were looked at, and their fields, those of most documents first. A field inside
        another is named by its path, such as ``author.name``.
    """
    types: dict[str, dict[str, None]] = {}
    counts: dict[str, int] = {}
    examples: dict[str, list[str | float]] = {}
    looked_at = 0
    for document in islice(collection.scan(include=("metadata",)), most):
        looked_at += 1
        for path, value in _fields(document.metadata, "", _DEPTH):
            counts[path] = counts.get(path, 0) + 1
            types.setdefault(path, {})[_type_name(value)] = None
            seen = examples.setdefault(path, [])
            for example in value if isinstance(value, list) else [value]:
                if not isinstance(example, str | int | float):
                    continue
                short = _shortened(example)
                if len(seen) < _EXAMPLES and short not in seen:
                    seen.append(short)
    ordered = sorted(counts, key=lambda path: (-counts[path], path))
    return looked_at, [
        FieldDescription(
            name=path, types=list(types[path]), count=counts[path], examples=examples[path]
        )
        for path in ordered
    ]


def _shortened(example: str | float) -> str | float:
    if isinstance(example, str) and len(example) > _EXAMPLE_CHARS:
        return f"{example[: _EXAMPLE_CHARS - 1]}…"
    return example


def _fields(values: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if name.startswith("_") or (not prefix and name in _BOOKKEEPING):
            continue
        if isinstance(value, Mapping):
            if depth > 1:
                yield from _fields(value, f"{prefix}{name}.", depth - 1)
        else:
            yield f"{prefix}{name}", value


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "boolean", int: "number", float: "number", str: "text", list: "list"}
    return names.get(type(value), "text")
