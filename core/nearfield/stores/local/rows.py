"""How a document is written to SQLite, and verified when it is read back."""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from nearfield.documents import Document
from nearfield.errors import CorruptionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.stores.base import Include

__all__ = [
    "INSERT_DOCUMENT",
    "INSERT_VECTOR",
    "SELECT_DOCUMENTS",
    "decode_document",
    "decode_metadata",
    "decode_vector",
    "encode_document",
    "encode_vector",
    "fetch_vectors",
    "select_in",
]

SELECT_DOCUMENTS = "SELECT slot, id, sequence, created_at, checksum, metadata, text FROM documents"
INSERT_DOCUMENT = (
    "INSERT INTO documents (slot, id, sequence, created_at, checksum, metadata, text) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)
INSERT_VECTOR = "INSERT INTO vectors (slot, checksum, vector) VALUES (?, ?, ?)"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_CHUNK = 500
"""Parameters per IN list: well below SQLite's lowest limit, and few distinct statements."""

_encode_json = msgspec.json.Encoder().encode
_decode_json: Any = msgspec.json.Decoder(dict[str, Any]).decode


def encode_document(slot: int, sequence: int, document: Document) -> tuple[Any, ...]:
    """Return the parameters of :data:`INSERT_DOCUMENT`."""
    if document.created_at is None:
        created_at = time.time_ns() // 1000
    else:
        created_at = (document.created_at - _EPOCH) // _MICROSECOND
    metadata = _encode_json(document.metadata)
    checksum = _document_checksum(document.id, created_at, metadata, document.text)
    return slot, document.id, sequence, created_at, checksum, metadata, document.text


def encode_vector(slot: int, vector: NDArray[np.float32]) -> tuple[int, int, bytes]:
    """Return the parameters of :data:`INSERT_VECTOR`."""
    blob = vector.astype("<f4", copy=False).tobytes()
    return slot, zlib.crc32(blob, slot & 0xFFFFFFFF), blob


def decode_document(
    row: tuple[Any, ...], include: Include, embedding: NDArray[np.float32] | None = None
) -> Document:
    """Rebuild a document from a row of :data:`SELECT_DOCUMENTS`.

    Raises:
        CorruptionError: The checksum differs.
    """
    slot, identifier, _, created_at, checksum, metadata, text = row
    try:
        if _document_checksum(identifier, created_at, metadata, text) != checksum:
            raise _damaged(slot, f"the document {identifier!r}")
    except (TypeError, AttributeError):  # a value of another type than was written
        raise _damaged(slot, f"the document {identifier!r}") from None
    return Document(
        text=text if include.text else "",
        id=identifier,
        metadata=decode_metadata(metadata) if include.metadata else {},
        embedding=embedding,
        created_at=_EPOCH + created_at * _MICROSECOND,
    )


def decode_metadata(blob: bytes) -> dict[str, Any]:
    """Read metadata back from its stored form."""
    try:
        values: dict[str, Any] = _decode_json(blob)
    except (msgspec.MsgspecError, TypeError) as error:
        raise CorruptionError(
            f"stored metadata is not JSON ({error}); run `nearfield check`, then `nearfield repair`"
        ) from None
    return values


def decode_vector(slot: int, checksum: int, blob: bytes, dimension: int) -> bytes:
    """Return a vector's verified bytes, little-endian float32.

    Raises:
        CorruptionError: The checksum or the length differs.
    """
    if len(blob) != 4 * dimension or zlib.crc32(blob, slot & 0xFFFFFFFF) != checksum:
        raise _damaged(slot, "the vector")
    return blob


def fetch_vectors(
    connection: sqlite3.Connection, slots: Sequence[int], dimension: int
) -> dict[int, NDArray[np.float32]]:
    """Fetch the verified vectors of some slots."""
    rows = select_in(connection, "SELECT slot, checksum, vector FROM vectors WHERE slot IN", slots)
    return {
        slot: np.frombuffer(decode_vector(slot, checksum, blob, dimension), dtype="<f4").astype(
            np.float32
        )
        for slot, checksum, blob in rows
    }


def select_in(
    connection: sqlite3.Connection, statement: str, values: Sequence[int | str]
) -> Iterator[tuple[Any, ...]]:
    """Run ``<statement> (?, ?, …)`` over any number of values."""
    for chunk in _chunks(values):
        yield from connection.execute(f"{statement} ({','.join('?' * len(chunk))})", chunk)


def _chunks(values: Sequence[int | str]) -> Iterable[Sequence[int | str]]:
    if len(values) <= _CHUNK:
        return (values,) if values else ()
    return (values[i : i + _CHUNK] for i in range(0, len(values), _CHUNK))


def _document_checksum(identifier: str, created_at: int, metadata: bytes, text: str) -> int:
    checksum = zlib.crc32(identifier.encode(), created_at & 0xFFFFFFFF)
    return zlib.crc32(text.encode(), zlib.crc32(metadata, checksum))


def _damaged(slot: int, what: str) -> CorruptionError:
    return CorruptionError(
        f"{what} in slot {slot} is damaged: its checksum differs from the one it was written "
        "with; run `nearfield check`, then `nearfield repair`"
    )
