"""Metadata as flat fields that an engine's filters can compare.

Such an engine compares texts for equality and numbers by size, and knows neither nesting nor null.
So each path of the metadata gets a field that says what kind of value is there, and further ones
by which it is compared; a field's name is a letter for its use, a colon and the path:

- ``k:`` the :class:`Kind` of the value;
- ``n:`` a number, rounded to a float, and ``o:`` what it is above that float;
- ``s:`` a text; ``0:`` to ``3:`` its first bytes as numbers;
- ``i:`` the instant that it names, and ``j:`` the microseconds of it where those are apart;
- ``l:`` a list as a whole, and ``h:`` its elements.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from functools import lru_cache
from typing import Any, TypeAlias

from nearfield.filters.evaluation import MISSING, instant_us, lookup

__all__ = [
    "EXACT_INTEGERS",
    "Encoding",
    "Field",
    "Kind",
    "above_float",
    "field",
    "flat_fields",
    "list_token",
    "nearest_float",
    "shortened",
    "token",
]

Field: TypeAlias = str | int | float | list[str]
"""What a field holds."""

EXACT_INTEGERS = 2**53
"""Integers of this size and more are not all floats."""
_SHORT = 64
"""Longer texts are compared by their digests."""
_CHUNKS = 4
_SHORTEST_DATE = "2024W01"
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


@dataclass(frozen=True, slots=True)
class Encoding:
    """How an engine holds numbers.

    Attributes:
        number: Takes a number to one in the same order that the engine holds exactly, for the
            nearest float, and to what the number is above that float. Numbers compare as their
            pairs do.
        instant: Takes microseconds of Unix time to one or two numbers that the engine holds
            exactly, and that compare as the microseconds do.
        chunk_bytes: As many bytes of a text and four bits more are an integer that the engine
            holds exactly.
    """

    number: Callable[[float], tuple[float, int]]
    instant: Callable[[int], tuple[int, ...]]
    chunk_bytes: int

    @property
    def max_ordered_bytes(self) -> int:
        """The longest text, in UTF-8, that the stored bytes tell the order to."""
        return _CHUNKS * self.chunk_bytes

    def chunks(self, text: str) -> list[int]:
        """Return integers that compare as texts do, as far as the first bytes of UTF-8 tell.

        Each is a part of the text and how many of its bytes are the text's; one more where it
        goes on after them.
        """
        data = text.encode()
        keys = []
        for start in range(0, self.max_ordered_bytes, self.chunk_bytes):
            part = data[start : start + self.chunk_bytes]
            left = min(len(data) - start, self.chunk_bytes + 1)
            keys.append(int.from_bytes(part.ljust(self.chunk_bytes, b"\0")) << 4 | left)
            if left <= self.chunk_bytes:
                break
        return keys


def nearest_float(value: float) -> tuple[float, int]:
    """Return the float that is nearest to a number, and what the number is above it."""
    try:
        near = float(value) or 0.0  # one zero
    except OverflowError:  # beyond every float
        beyond = 1 if value > 0 else -1
        return beyond * sys.float_info.max, beyond
    return near, above_float(value, near)


def above_float(value: float, near: float) -> int:
    """Return what a number is above the float that is nearest to it."""
    rest = value - int(near) if isinstance(value, int) else 0
    return max(-_REST_LIMIT, min(_REST_LIMIT, rest))


def flat_fields(metadata: Mapping[str, Any], encoding: Encoding) -> dict[str, Field]:
    """Return the fields for a document's metadata."""
    fields: dict[str, Field] = {}
    for path in _paths(metadata):
        value = lookup(metadata, path)
        if value is not MISSING:  # a key with a dot hides from, or is hidden by, nested ones
            _describe(fields, path, value, encoding)
    return fields


@lru_cache(4096)  # the documents of a collection mostly have the same paths
def field(use: str, path: str) -> str:
    """Name the field for a use of a path."""
    return f"{use}:{shortened(path)}"


def shortened(text: str) -> str:
    """Return a text, or the digest that stands for it if it is long."""
    if len(text) <= _SHORT and not text.startswith("#"):
        return text
    return "#" + hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


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
        whole = int(value)
        return f"n{whole}" if value == whole else f"n{float(value).hex()}"  # 1 is 1.0
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


def _describe(fields: dict[str, Field], path: str, value: Any, encoding: Encoding) -> None:
    kind = _kind(value)
    if isinstance(value, str):
        moment = _instant(value)
        if moment is not None:
            kind = Kind.DATE
            for use, part in zip("ij", encoding.instant(moment), strict=False):
                fields[field(use, path)] = part
        fields[field("s", path)] = shortened(value)
        for place, chunk in enumerate(encoding.chunks(value)):
            fields[field(str(place), path)] = chunk
    elif isinstance(value, list):
        _describe_list(fields, path, value)
    elif kind is Kind.NUMBER:
        near, rest = encoding.number(value)
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
        moment = _instant(value) if isinstance(value, str) else None
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


def _instant(text: str) -> int | None:
    """Return the instant that a text names, None where it names none."""
    # Most texts are told apart without an attempt to read them.
    return instant_us(text) if len(text) >= len(_SHORTEST_DATE) and text[:4].isdigit() else None
