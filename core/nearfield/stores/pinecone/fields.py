"""How Pinecone holds numbers, and how its filters are said.

All numbers are floats of 64 bits. What an inequality says of a field that is not there is not
documented, and has changed; so none is asked without an ``$exists``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from nearfield.stores.flat.fields import Encoding, above_float
from nearfield.stores.flat.filters import Dialect, Where

__all__ = ["DIALECT", "ENCODING"]

_MAX_VALUES = 10_000
"""Pinecone's limit for one $in; see https://docs.pinecone.io/reference/api/database-limits."""
_MAX_CLAUSES = 1_000
_MAX_DEPTH = 50
"""Neither is documented; a filter of this size is still a small part of a request."""
_SECOND_US = 1_000_000


def _number(value: float) -> tuple[float, int]:
    try:
        near = float(value) or 0.0  # one zero
    except OverflowError:  # beyond every float
        beyond = 1 if value > 0 else -1
        return beyond * sys.float_info.max, beyond
    return near, above_float(value, near)


def _instant(microseconds: int) -> tuple[int, int]:
    """In microseconds, the years 1 to 9999 are beyond what floats hold."""
    return divmod(microseconds, _SECOND_US)


def _among(name: str, values: Sequence[str | float], positive: bool) -> Where:  # noqa: FBT001
    if positive:
        return {name: {"$eq": values[0]} if len(values) == 1 else {"$in": list(values)}}
    other = {"$ne": values[0]} if len(values) == 1 else {"$nin": list(values)}
    return {"$or": [{name: {"$exists": False}}, {name: other}]}


def _holds(name: str, element: str, positive: bool) -> Where:  # noqa: FBT001
    """Of a list, ``$eq`` is true where some element is equal, ``$ne`` where none is."""
    return _among(name, [element], positive)


ENCODING = Encoding(_number, _instant, chunk_bytes=6)
DIALECT = Dialect("Pinecone", ENCODING, _among, _holds, _MAX_CLAUSES, _MAX_VALUES, _MAX_DEPTH)
