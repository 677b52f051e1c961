"""How Pinecone holds numbers, and how its filters are said.

All numbers are floats of 64 bits. What an inequality says of a field that is not there is not
documented, and has changed; so none is asked without an ``$exists``.
"""

from __future__ import annotations

from nearfield.stores.flat.fields import Encoding, nearest_float
from nearfield.stores.flat.filters import Dialect, Where, among_those_there

__all__ = ["DIALECT", "ENCODING"]

_MAX_VALUES = 10_000
"""Pinecone's limit for one $in; see https://docs.pinecone.io/reference/api/database-limits."""
_MAX_CLAUSES = 1_000
_MAX_DEPTH = 50
"""Neither is documented; a filter of this size is still a small part of a request."""
_SECOND_US = 1_000_000


def _instant(microseconds: int) -> tuple[int, int]:
    """In microseconds, the years 1 to 9999 are beyond what floats hold."""
    return divmod(microseconds, _SECOND_US)


def _holds(name: str, element: str, positive: bool) -> Where:  # noqa: FBT001
    """Of a list, ``$eq`` is true where some element is equal, ``$ne`` where none is."""
    return among_those_there(name, [element], positive)


ENCODING = Encoding(nearest_float, _instant, chunk_bytes=6)
DIALECT = Dialect(
    "Pinecone", ENCODING, among_those_there, _holds, _MAX_CLAUSES, _MAX_VALUES, _MAX_DEPTH
)
