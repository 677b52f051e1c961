"""How a document is written to SQLite, and verified when it is read back."""

from __future__ import annotations

import sqlite3
import struct
import time
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec
import numpy as np

from nearfield.documents import Document, make_document
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
    "decode_documents",
    "decode_metadata",
    "decode_vector",
    "encode_document",
    "encode_vector",
    "fetch_ids",
    "fetch_vectors",
    "missing",
    "refuse_missing",
    "select_in",
    "select_slots",
    "verify_head",
]

SELECT_HEADS = "SELECT slot, id, sequence, created_at, checksum, metadata FROM documents"
SELECT_DOCUMENTS = (
    "SELECT slot, id, sequence, created_at, checksum, metadata, text_checksum, text FROM documents"
)
_SELECT_SLOTS = (
    "SELECT slot, id, sequence, created_at, checksum, metadata, text_checksum, text "
    "FROM (VALUES {}) CROSS JOIN documents ON slot = column1"
)
INSERT_DOCUMENT = (
    "INSERT INTO documents "
    "(slot, id, sequence, created_at, checksum, metadata, text_checksum, text) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
INSERT_VECTOR = "INSERT INTO vectors (slot, checksum, vector) VALUES (?, ?, ?)"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_pack_head = struct.Struct("<qqqI").pack
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
    return slot, crc32(blob, slot & 0xFFFFFFFF), blob


def decode_document(row: tuple[Any, ...], include: Include) -> Document:
    """Rebuild one document; see :func:`decode_documents`."""
    return decode_documents([row], include)[0]


def decode_documents(
    rows: Sequence[tuple[Any, ...]],
    include: Include,
    embeddings: Mapping[int, NDArray[np.float32]] | None = None,
) -> list[Document]:
    """Rebuild documents from rows of :data:`SELECT_DOCUMENTS`.

    Args:
        rows: One per document.
        include: The parts that come back; each is verified all the same.
        embeddings: Those of all the slots, or None to leave them out.

    Raises:
        CorruptionError: A checksum differs.
    """
    documents = []
    # One loop with few calls, as every hit of every search goes through it.
    for row in rows:
        slot, identifier, sequence, created_at, checksum, metadata, text_checksum, text = row
        try:
            numbers = _pack_head(slot, sequence, created_at, len(metadata))
            intact = (
                crc32(metadata, crc32(identifier.encode(), crc32(numbers))) == checksum
                and crc32(text.encode(), slot & 0xFFFFFFFF) == text_checksum
            )
        except (TypeError, AttributeError, struct.error):  # another type than was written
            intact = False
        if not intact:
            verify_head(row[:6])
            raise _damaged(slot, f"the text of the document {identifier!r}")
        documents.append(
            make_document(
                text if include.text else "",
                identifier,
                decode_metadata(metadata) if include.metadata else {},
                None if embeddings is None else embeddings[slot],
                _EPOCH + created_at * _MICROSECOND,
            )
        )
    return documents


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
        intact = len(blob) == 4 * dimension and crc32(blob, slot & 0xFFFFFFFF) == checksum
    except TypeError:  # another type than was written
        intact = False
    if not intact:
        raise _damaged(slot, "the vector")
    return blob


def fetch_ids(connection: sqlite3.Connection, slots: Sequence[int]) -> dict[int, str]:
    """Fetch the verified ids of the documents in some slots; each slot must have one."""
    rows = select_in(connection, f"{SELECT_HEADS} WHERE slot IN", slots)
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


def select_slots(connection: sqlite3.Connection, slots: Sequence[int]) -> list[tuple[Any, ...]]:
    """Select rows of :data:`SELECT_DOCUMENTS` by slot, in this order; those not there are left out.

    For a few slots this takes three quarters of the time of an IN list, which SQLite sorts first.
    It is a cross join because SQLite keeps the order of one: a list to look up, no table to build.
    """
    rows: list[tuple[Any, ...]] = []
    for start in range(0, len(slots), _CHUNK):
        chunk = slots[start : start + _CHUNK]
        values = ",".join(["(?)"] * len(chunk))
        rows += connection.execute(_SELECT_SLOTS.format(values), chunk)
    return rows


def select_in(
    connection: sqlite3.Connection, statement: str, values: Sequence[int | str]
) -> list[tuple[Any, ...]]:
    """Run ``<statement> (?, ?, …)`` over any number of values, and return all rows."""
    rows: list[tuple[Any, ...]] = []
    for start in range(0, len(values), _CHUNK):
        chunk = values[start : start + _CHUNK]
        rows += connection.execute(f"{statement} ({','.join('?' * len(chunk))})", chunk)
    return rows


def _head_checksum(
    slot: int, identifier: str, sequence: int, created_at: int, metadata: bytes
) -> int:
    numbers = _pack_head(slot, sequence, created_at, len(metadata))
    return crc32(metadata, crc32(identifier.encode(), crc32(numbers)))


def _text_checksum(slot: int, text: str) -> int:
    return crc32(text.encode(), slot & 0xFFFFFFFF)


def _damaged(slot: int, what: str) -> CorruptionError:
    return CorruptionError(
        f"{what} in slot {slot} is damaged: its checksum differs from the one it was written "
        "with; run `nearfield check`, then `nearfield repair`"
    )
