"""How Milvus holds numbers, and how filters over its fields are said.

Filters are answered from the dynamic part of a collection, whose fields are strings, numbers and
lists of strings here: what Milvus makes of nested paths, nulls, bools and missing fields differs
between its versions, so nothing depends on that.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from nearfield.stores.flat.fields import Encoding, Field, flat_fields, nearest_float
from nearfield.stores.flat.filters import Dialect, Where, among_those_there

__all__ = ["DIALECT", "dynamic_fields", "identifier"]

_MAX_VALUES = 10_000
_MAX_CLAUSES = 500
"""A server looks at each document anew for each."""
_MAX_DEPTH = 50
"""Milvus Lite reads an expression with some ten calls a level, of which Python allows 1,000."""
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,47}")


def dynamic_fields(metadata: Mapping[str, Any]) -> dict[str, Field]:
    """Return the fields of the dynamic part for a document's metadata."""
    fields = flat_fields(metadata, _ENCODING)
    return {identifier(name): value for name, value in fields.items()}


@lru_cache(4096)  # the documents of a collection mostly have the same fields
def identifier(name: str) -> str:
    """Return what a field such as ``n:year`` is called in Milvus's expressions: ``n_year``."""
    use, _, path = name.partition(":")
    use = f"t{use}" if use.isdigit() else use
    if _PLAIN.fullmatch(path):
        return f"{use}_{path}"
    return f"{use}__{hashlib.blake2b(path.encode(), digest_size=20).hexdigest()}"


def _instant(microseconds: int) -> tuple[int]:
    return (microseconds,)


def _holds(name: str, element: str, positive: bool) -> Where:  # noqa: FBT001
    if positive:
        return {name: {"$contains": element}}
    return {"$or": [{name: {"$exists": False}}, {name: {"$not_contains": element}}]}


_ENCODING = Encoding(nearest_float, _instant, chunk_bytes=7)
DIALECT = Dialect(
    "Milvus", _ENCODING, among_those_there, _holds, _MAX_CLAUSES, _MAX_VALUES, _MAX_DEPTH
)
