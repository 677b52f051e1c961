"""Documents as rows of a Milvus collection, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from nearfield.documents import make_document
from nearfield.errors import InvalidDocumentError
from nearfield.filters.evaluation import instant_us
from nearfield.stores.clock import WriteClock
from nearfield.stores.milvus.fields import dynamic_fields
from nearfield.stores.milvus.messages import DYNAMIC
from nearfield.stores.sparse_words import text_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.documents import Document
    from nearfield.stores.base import Include

__all__ = [
    "MAX_BYTES",
    "MAX_PIECES",
    "columns",
    "decode",
    "encode_all",
    "now_us",
    "size_bytes",
    "stamped",
    "vectors",
]

MAX_BYTES = 65_535
"""Of a string, and of the dynamic part of a row."""
MAX_PIECES = 1024
_PIECE = MAX_BYTES // 4
"""Characters in a piece of a text; UTF-8 takes at most four bytes for one."""
_WORD_BYTES = 8
_NO_WORDS = {0: 1.0}
"""For a text without words, as Milvus Lite takes no vector of nothing; no word has this number."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCK = WriteClock()


def encode_all(documents: Sequence[Document], *, has_words: bool) -> list[dict[str, Any]]:
    """Return the rows of documents, or raise ``InvalidDocumentError`` if one has none."""
    rows = [_encode(document, place) for place, document in enumerate(documents)]
    if has_words:
        for row, words in zip(rows, text_words([each.text for each in documents]), strict=True):
            row["words"] = words or _NO_WORDS
    return rows


def now_us() -> int:
    """Return the moment, after all that this process wrote."""
    return _CLOCK.take(1)[0]


def stamped(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give rows their place in the order of writing."""
    for row, written in zip(rows, _CLOCK.take(len(rows)), strict=True):
        row["written"] = written
    return rows


def size_bytes(row: Mapping[str, Any]) -> int:
    """Return about how many bytes a row takes in a message."""
    text = sum(map(len, row["text"])) + len(row["metadata"])
    words = _WORD_BYTES * len(row.get("words", ()))
    return 2 * text + words + int(row["vector"].nbytes) + len(row["id"])


def columns(include: Include, *, scored: bool = False) -> list[str]:
    """Return what to ask Milvus for; ``scored`` where vectors are needed for scores."""
    asked = ["id", "created"]
    if include.text:
        asked.append("text")
    if include.metadata:
        asked.append("metadata")
    if include.embedding or scored:
        asked.append("vector")
    return asked


def vectors(rows: Sequence[Mapping[str, Any]], dimension: int) -> NDArray[np.float32]:
    """Return the vectors of rows, shape (n, dimension)."""
    if not rows:
        return np.empty((0, dimension), np.float32)
    return np.asarray([row["vector"] for row in rows], np.float32)


def decode(row: Mapping[str, Any], include: Include) -> Document:
    """Rebuild the document of one row."""
    return make_document(
        "".join(row["text"]) if include.text else "",
        row["id"],
        msgspec.json.decode(row["metadata"]) if include.metadata else {},
        np.array(row["vector"], np.float32) if include.embedding else None,
        _EPOCH + timedelta(microseconds=row["created"]),
    )


def _encode(document: Document, place: int) -> dict[str, Any]:
    text = document.text
    pieces = [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]
    if len(pieces) > MAX_PIECES:
        raise InvalidDocumentError(
            f"the text of document {document.id[:80]!r} has {len(text):,} characters, but Milvus "
            f"holds {MAX_PIECES * _PIECE:,}; split it",
            position=place,
        )
    metadata = msgspec.json.encode(document.metadata)
    fields = msgspec.json.encode(dynamic_fields(document.metadata))
    size = max(len(metadata), len(fields))
    if size > MAX_BYTES:
        raise InvalidDocumentError(
            f"the metadata of document {document.id[:80]!r} takes {size:,} bytes, as JSON or as "
            f"the fields that filters are answered from, but Milvus holds {MAX_BYTES:,}; put long "
            "values into the text",
            position=place,
        )
    return {
        DYNAMIC: fields,
        "id": document.id,
        "text": pieces,
        "metadata": metadata.decode(),
        "created": instant_us(document.created_at or datetime.now(UTC)),
        "vector": document.embedding,
    }
