"""Which of a file's own fields become metadata, which every chunk repeats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["metadata_fields", "shortened"]

_MAX_FIELD_BYTES = 1000
"""The largest value, as JSON, that goes into metadata: a label to filter by, not a text."""
_MAX_FIELDS_BYTES = 8000
"""The most that all fields of a document take together."""
_MAX_TITLE_CHARACTERS = 200
"""The longest title or heading in metadata; the text has it whole."""


def metadata_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Choose the fields that fit into metadata, in their order; larger ones are left out."""
    kept: dict[str, Any] = {}
    free_bytes = _MAX_FIELDS_BYTES
    for key, value in fields.items():
        size_bytes = len(msgspec.json.encode(value))
        if size_bytes > _MAX_FIELD_BYTES or size_bytes + len(key.encode()) > free_bytes:
            continue
        free_bytes -= size_bytes + len(key.encode())
        kept[key] = value
    return kept


def shortened(title: str) -> str:
    """Cut a title or heading that is too long for metadata."""
    if len(title) <= _MAX_TITLE_CHARACTERS:
        return title
    return f"{title[: _MAX_TITLE_CHARACTERS - 1].rstrip()}…"
