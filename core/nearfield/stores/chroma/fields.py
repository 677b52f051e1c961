"""Metadata as flat fields that Chroma's filters can compare.

Chroma compares strings for equality and numbers by size, and knows neither nesting nor null. So
each path of the metadata gets a field that says what kind of value is there, and further ones by
which it is compared; a field's name is a letter for its use, a colon and the path:

- ``k:`` the :class:`Kind` of the value;
- ``n:`` a number, as an integer in the order of floats, and ``o:`` what it is above that float;
- ``s:`` a text; ``0:`` to ``3:`` its first bytes as integers; ``i:`` the instant that it names;
- ``l:`` a list as a whole, and ``h:`` its elements.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from typing import Any, TypeAlias

from nearfield.filters.evaluation import MISSING, instant_us, lookup

__all__ = [
    "MAX_ORDERED_BYTES",
    "Field",
    "Kind",
    "chunks",
    "field",
    "flat_fields",
    "list_token",
    "number_key",
    "shortened",
    "token",
]

Field: TypeAlias = str | int | list[str]
"""What a field of Chroma's metadata holds here."""

_SHORT = 64
"""Longer texts are compared by their digests."""
_CHUNKS = 4
_CHUNK_BYTES = 7
MAX_ORDERED_BYTES = _CHUNKS * _CHUNK_BYTES
"""The longest text, in UTF-8, that the stored bytes tell the order to."""
_SHORTEST_DATE = "2024W01"
_INT64_MAX = 2**63 - 1
_REST_LIMIT = 2**62
"""What is above a float is at most 1,024 in a stored integer, which has 64 bits."""


class Kind(IntEnum):
    """What is at a path."""

    NULL = 0
    FALSE = 1
    TRUE = 2
    NUMBER = 3
    """A number that is a float."""
    LONG_INTEGER = 4
    """An integer that no float is equal to."""
    TEXT = 5
    DATE = 6
    """A text that names an instant."""
    EMPTY_TEXT = 7
    LIST = 8
    EMPTY_LIST = 9
    MAPPING = 10
    EMPTY_MAPPING = 11


def flat_fields(metadata: Mapping[str, Any]) -> dict[str, Field]:
    """Return the fields for a document's metadata."""
    fields: dict[str, Field] = {}
    for path in _paths(metadata):
        value = lookup(metadata, path)
        if value is not MISSING:  # a key with a dot hides from, or is hidden by, nested ones
            _describe(fields, path, value)
    return fields


def field(use: str, path: str) -> str:
    """Name the field for a use of a path."""
    return f"{use}:{shortened(path)}"


def shortened(text: str) -> str:
    """Return a text, or the digest that stands for it if it is long."""
    if len(text) <= _SHORT and not text.startswith("#"):
        return text
    return "#" + hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


def number_key(value: float) -> tuple[int, int]:
    """Return an integer in the order of floats for the nearest float, and what is above that.

    Numbers compare as their pairs do.
    """
    try:
        near = float(value) or 0.0  # one zero
    except OverflowError:  # beyond every float
        near = float("inf") if value > 0 else float("-inf")
        return _ordered_bits(near), 0
    rest = value - int(near) if isinstance(value, int) else 0
    return _ordered_bits(near), max(-_REST_LIMIT, min(_REST_LIMIT, rest))


def chunks(text: str) -> list[int]:
    """Return integers that compare as texts do, as far as the first 28 bytes of UTF-8 tell.

    Each is seven bytes and how many of them are the text's; eight where it goes on after them.
    """
    data = text.encode()
    keys = []
    for start in range(0, MAX_ORDERED_BYTES, _CHUNK_BYTES):
        part = data[start : start + _CHUNK_BYTES]
        left = min(len(data) - start, _CHUNK_BYTES + 1)
        keys.append(int.from_bytes(part.ljust(_CHUNK_BYTES, b"\0")) << 4 | left)
        if left <= _CHUNK_BYTES:
            break
    return keys


def token(value: Any) -> str | None:
    """Return a text that is the same for equal scalars only, None for lists and mappings."""
    if value is None:
        return "z"
    if isinstance(value, bool):
        return "b1" if value else "b0"
    if isinstance(value, str):
        return "s" + shortened(value)
    if isinstance(value, datetime):
        return f"i{instant_us(value)}"
    if isinstance(value, int | float):
        near, rest = number_key(value)
        return f"n{near}:{rest}" if rest else f"n{near}"
    return None


def list_token(values: Sequence[Any]) -> str | None:
    """Return a text that is the same for equal lists only, None where a mapping is in it."""
    parts = _tokens(values)
    return None if parts is None else shortened(json.dumps(parts, separators=(",", ":")))


def _tokens(values: Sequence[Any]) -> list[Any] | None:
    parts: list[Any] = []
    for value in values:
        part = _tokens(value) if isinstance(value, list | tuple) else token(value)
        if part is None:
            return None
        parts.append(part)
    return parts


def _paths(metadata: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in metadata.items():
        yield prefix + key
        if isinstance(value, Mapping):
            yield from _paths(value, f"{prefix}{key}.")


def _describe(fields: dict[str, Field], path: str, value: Any) -> None:
    kind = _kind(value)
    if isinstance(value, str):
        moment = instant(value)
        if moment is not None:
            kind = Kind.DATE
            fields[field("i", path)] = moment
        fields[field("s", path)] = shortened(value)
        for place, chunk in enumerate(chunks(value)):
            fields[field(str(place), path)] = chunk
    elif isinstance(value, list):
        _describe_list(fields, path, value)
    elif kind is Kind.NUMBER:
        near, rest = number_key(value)
        fields[field("n", path)] = near
        if rest:
            kind = Kind.LONG_INTEGER
            fields[field("o", path)] = rest
    fields[field("k", path)] = int(kind)


def _describe_list(fields: dict[str, Field], path: str, values: list[Any]) -> None:
    whole = list_token(values)
    if whole is not None:
        fields[field("l", path)] = whole
    elements = dict.fromkeys(filter(None, map(token, values)))
    for value in values:
        moment = instant(value) if isinstance(value, str) else None
        if moment is not None:
            elements[f"i{moment}"] = None
    if elements:
        fields[field("h", path)] = list(elements)


def _kind(value: Any) -> Kind:
    if value is None:
        return Kind.NULL
    if isinstance(value, bool):
        return Kind.TRUE if value else Kind.FALSE
    if isinstance(value, str):
        return Kind.TEXT if value else Kind.EMPTY_TEXT
    if isinstance(value, list):
        return Kind.LIST if value else Kind.EMPTY_LIST
    if isinstance(value, Mapping):
        return Kind.MAPPING if value else Kind.EMPTY_MAPPING
    return Kind.NUMBER


def instant(text: str) -> int | None:
    """Return the instant that a text names, None where it names none."""
    # Most texts are told apart without an attempt to read them.
    return instant_us(text) if len(text) >= len(_SHORTEST_DATE) and text[:4].isdigit() else None


def _ordered_bits(value: float) -> int:
    """Return an integer of 64 bits that is in the order of floats."""
    bits: int = struct.unpack(">q", struct.pack(">d", value))[0]
    return bits if bits >= 0 else bits ^ _INT64_MAX
