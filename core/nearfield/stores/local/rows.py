"""How a document is written to SQLite, and verified when it is read back."""

from __future__ import annotations

import sqlite3
import struct
import time
import zlib
from collections.abc import Container, Iterable, Iterator, Sequence
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
    "SELECT_HEADS",
    "decode_document",
    "decode_metadata",
    "decode_vector",
    "encode_document",
    "encode_vector",
    "fetch_ids",
    "fetch_vectors",
    "missing",
    "refuse_missing",
    "select_in",
    "verify_head",
]

SELECT_HEADS = "SELECT slot, id, sequence, created_at, checksum, metadata FROM documents"
SELECT_DOCUMENTS = (
    "SELECT slot, id, sequence, created_at, checksum, metadata, text_checksum, text FROM documents"
)
INSERT_DOCUMENT = (
    "INSERT INTO documents "
    "(slot, id, sequence, created_at, checksum, metadata, text_checksum, text) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
INSERT_VECTOR = "INSERT INTO vectors (slot, checksum, vector) VALUES (?, ?, ?)"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_HEAD = struct.Struct("<qqqI")
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
    checksum = _head_checksum(slot, document.id, sequence, created_at, metadata)
    text_checksum = _text_checksum(slot, document.text)
    text = document.text
    return slot, document.id, sequence, created_at, checksum, metadata, text_checksum, text


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
    slot, identifier, _, created_at, _, metadata, text_checksum, text = row
    verify_head(row[:6])
    try:
        intact = _text_checksum(slot, text) == text_checksum
    except AttributeError:  # another type than was written
        intact = False
    if not intact:
        raise _damaged(slot, f"the text of the document {identifier!r}")
    return Document(
        text=text if include.text else "",
        id=identifier,
        metadata=decode_metadata(metadata) if include.metadata else {},
        embedding=embedding,
        created_at=_EPOCH + created_at * _MICROSECOND,
    )


def verify_head(row: tuple[Any, ...]) -> None:
    """Raise ``CorruptionError`` if a row of :data:`SELECT_HEADS` is not as it was written."""
    slot, identifier, sequence, created_at, checksum, metadata = row
    try:
        intact = _head_checksum(slot, identifier, sequence, created_at, metadata) == checksum
    except (TypeError, AttributeError, struct.error):  # another type than was written
        intact = False
    if not intact:
        raise _damaged(slot, f"the document {identifier!r}")


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
    try:
        intact = len(blob) == 4 * dimension and zlib.crc32(blob, slot & 0xFFFFFFFF) == checksum
    except TypeError:  # another type than was written
        intact = False
    if not intact:
        raise _damaged(slot, "the vector")
    return blob


def fetch_ids(connection: sqlite3.Connection, slots: Sequence[int]) -> dict[int, str]:
    """Fetch the verified ids of the documents in some slots; each slot must have one."""
    rows = list(select_in(connection, f"{SELECT_HEADS} WHERE slot IN", slots))
    for row in rows:
        verify_head(row)
    ids = {row[0]: row[1] for row in rows}
    refuse_missing(slots, ids, "the document")
    return ids


def fetch_vectors(
    connection: sqlite3.Connection, slots: Sequence[int], dimension: int
) -> dict[int, NDArray[np.float32]]:
    """Fetch the verified vectors of some slots."""
    rows = select_in(connection, "SELECT slot, checksum, vector FROM vectors WHERE slot IN", slots)
    vectors = {
        slot: np.frombuffer(decode_vector(slot, checksum, blob, dimension), dtype="<f4").astype(
            np.float32
        )
        for slot, checksum, blob in rows
    }
    refuse_missing(slots, vectors, "the vector")
    return vectors


def refuse_missing(slots: Iterable[int], found: Container[int], what: str) -> None:
    """Raise ``CorruptionError`` if a slot that is in use has lost its row."""
    for slot in slots:
        if slot not in found:
            raise missing(what, slot)


def missing(what: str, slot: int) -> CorruptionError:
    """Return the error that something which a slot must have is not there."""
    return CorruptionError(
        f"{what} in slot {slot} is missing; run `nearfield check`, then `nearfield repair`"
    )


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


def _head_checksum(
    slot: int, identifier: str, sequence: int, created_at: int, metadata: bytes
) -> int:
    numbers = _HEAD.pack(slot, sequence, created_at, len(metadata))
    return zlib.crc32(metadata, zlib.crc32(identifier.encode(), zlib.crc32(numbers)))


def _text_checksum(slot: int, text: str) -> int:
    return zlib.crc32(text.encode(), slot & 0xFFFFFFFF)


def _damaged(slot: int, what: str) -> CorruptionError:
    return CorruptionError(
        f"{what} in slot {slot} is damaged: its checksum differs from the one it was written "
        "with; run `nearfield check`, then `nearfield repair`"
    )
