"""Metadata as SQL compares it: what SQL cannot compute as Python does is computed here.

Beside the metadata as they were given, a row has up to three ``jsonb`` columns:

- ``fields``: the metadata;
- ``instants``: the same, with each ISO 8601 text as its instant in microseconds since 1970 and
  null in place of everything else; NULL where there is none;
- ``folded``: the same, with each text casefolded; NULL where that changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from nearfield.filters.evaluation import instant_us

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Shapes", "comparable", "escaped", "json_text", "shapes", "unescaped"]

Shapes: TypeAlias = tuple[str, str | None, str | None]
"""``fields``, ``instants`` and ``folded``, as JSON."""

_CONTROL = re.compile("[\x00-\x03]")
_CODE = re.compile("\x01[\x02\x03]{2}")
_CODES = {
    "\x00": "\x01\x02\x02",
    "\x01": "\x01\x02\x03",
    "\x02": "\x01\x03\x02",
    "\x03": "\x01\x03\x03",
}
_CHARACTERS = {code: character for character, code in _CODES.items()}
_EXACT_FLOATS = 2.0**53
"""From here on, the shortest decimal that reads back as a float is not the float's own value."""
_BEYOND_FLOATS = 2**1100
"""Larger than any number that is stored, as is every larger one."""
_SHORTEST_DATE = "2024W01"
_INCOMPARABLE = re.compile(r"\\u00|[0-9](?:[eE]|[0-9]{15})")
"""In JSON, a control character or a number that may be a large float."""
_PERHAPS_A_DATE = re.compile(r'"\d{4}')


def escaped(text: str) -> str:
    """Write a text without the character NUL, which PostgreSQL's text cannot hold.

    The first four characters of Unicode become codes of three: the second of them, which no text
    then has otherwise, and two of the third and fourth. So texts keep their order, a part of a
    text is a part of it still and nothing else is, and each comes back as it was.
    """
    return _CONTROL.sub(lambda found: _CODES[found[0]], text) if _CONTROL.search(text) else text


def unescaped(text: str) -> str:
    """Undo :func:`escaped`."""
    return _CODE.sub(lambda found: _CHARACTERS[found[0]], text) if "\x01" in text else text


def json_text(value: Any) -> str:
    """Encode what :func:`comparable` returned."""
    return msgspec.json.encode(value).decode()


def comparable(value: Any) -> Any:
    """Return a JSON value whose parts PostgreSQL compares as Python compares the given one's."""
    return _mapped(value, escaped, _number)


def shapes(metadata: Mapping[str, Any], text: str) -> Shapes:
    """Return the columns for a document's metadata.

    Args:
        metadata: The metadata.
        text: The same as JSON, which tells at a glance what most metadata have no need of.
    """
    fields = json_text(comparable(metadata)) if _INCOMPARABLE.search(text) else text
    instants = folded = None
    if _PERHAPS_A_DATE.search(text):
        dated = _mapped(metadata, _instant, lambda _: None)
        instants = json_text(dated) if _holds_number(dated) else None
    if text.casefold() != text:
        folded = json_text(_mapped(metadata, lambda value: escaped(value.casefold()), _number))
    return fields, instants, folded if folded != fields else None


def _mapped(
    value: Any, on_text: Callable[[str], Any], on_number: Callable[[int | float], Any]
) -> Any:
    if isinstance(value, str):
        return on_text(value)
    if isinstance(value, Mapping):
        return {escaped(k): _mapped(item, on_text, on_number) for k, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(item, on_text, on_number) for item in value]
    if isinstance(value, int | float):
        # A bool is told from a number by every shape.
        return value if isinstance(value, bool) else on_number(value)
    return value


def _number(value: float) -> int | float:
    if isinstance(value, int):
        return max(-_BEYOND_FLOATS, min(_BEYOND_FLOATS, value))  # only operands can be so large
    return int(value) if abs(value) >= _EXACT_FLOATS else value


def _instant(text: str) -> int | None:
    # Most texts are told apart without an attempt to read them.
    return instant_us(text) if len(text) >= len(_SHORTEST_DATE) and text[:4].isdigit() else None


def _holds_number(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_number, value.values()))
    if isinstance(value, list):
        return any(map(_holds_number, value))
    return isinstance(value, int) and not isinstance(value, bool)
