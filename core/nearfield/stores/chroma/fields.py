"""How Chroma holds numbers, and how its filters are said.

Integers are of 64 bits, and compared as such. An inequality is true of a field that is not there.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from nearfield.stores.flat.fields import Encoding, above_float
from nearfield.stores.flat.filters import Dialect, Where

__all__ = ["DIALECT", "ENCODING"]

_INT64_MAX = 2**63 - 1
_MAX_CLAUSES = 400
"""Chroma puts each into one expression of SQLite's, whose depth is limited to 1,000."""
_MAX_VALUES = 5_000
"""SQLite takes 32,766 values in a statement, and Chroma gives it each more than once."""
_MAX_DEPTH = 50
"""A server reads JSON of at most 128 levels, of which each and and or takes two."""


def _number(value: float) -> tuple[int, int]:
    """Take a number to an integer in the order of floats."""
    try:
        near = float(value) or 0.0  # one zero
    except OverflowError:  # beyond every float
        return _ordered_bits(float("inf") if value > 0 else float("-inf")), 0
    return _ordered_bits(near), above_float(value, near)


def _ordered_bits(value: float) -> int:
    """Return an integer of 64 bits that is in the order of floats."""
    bits: int = struct.unpack(">q", struct.pack(">d", value))[0]
    return bits if bits >= 0 else bits ^ _INT64_MAX


def _instant(microseconds: int) -> tuple[int]:
    return (microseconds,)


def _among(name: str, values: Sequence[str | float], positive: bool) -> Where:  # noqa: FBT001
    if len(values) == 1:
        return {name: {"$eq" if positive else "$ne": values[0]}}
    return {name: {"$in" if positive else "$nin": list(values)}}


def _holds(name: str, element: str, positive: bool) -> Where:  # noqa: FBT001
    return {name: {"$contains" if positive else "$not_contains": element}}


ENCODING = Encoding(_number, _instant, chunk_bytes=7)
DIALECT = Dialect("Chroma", ENCODING, _among, _holds, _MAX_CLAUSES, _MAX_VALUES, _MAX_DEPTH)
