"""Documents as Pinecone's records, and back."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import nlargest
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
import numpy as np
from pinecone import SparseValues, Vector

from nearfield.documents import Document, make_document
from nearfield.errors import InvalidDocumentError, StoreError
from nearfield.filters.evaluation import instant_us
from nearfield.stores.flat.fields import flat_fields
from nearfield.stores.pinecone.fields import ENCODING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.stores.base import Include
    from nearfield.stores.sparse_words import Words

__all__ = [
    "ID",
    "ORDER",
    "Record",
    "batches",
    "decode",
    "document_id",
    "encode",
    "record_id",
    "usable",
    "vectors",
    "weights",
    "words_vector",
]

ID = "id"
ORDER = "order"
"""The fields that tell whose record it is, and when it was written."""
_TEXT = "text"
_METADATA = "metadata"
_CREATED = "created_us"
_ZERO = "zero"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_ID = 512
_MAX_METADATA_BYTES = 40_000
"""Pinecone takes 40 KB, and does not say how it counts them."""
_MAX_BATCH = 1_000
_MAX_BATCH_BYTES = 2_000_000
_COMPONENT_BYTES = 24
"""The longest a component gets in JSON."""
_MAX_WORDS = 1_000
"""Pinecone takes so many components of a sparse vector; newer ones of its servers more."""
_WORD_BYTES = 32
"""The longest that a word's number and weight get in JSON."""
_SMALLEST = float(np.finfo(np.float32).tiny)
_ESCAPE = "~"


@dataclass(frozen=True, slots=True)
class Record:
    """A record to write.

    Attributes:
        vector: What the client takes.
        size_bytes: At most so many bytes of a request.
    """

    vector: Vector
    size_bytes: int


def encode(document: Document, order: int, place: int, words: Words | None = None) -> Record:
    """Return the record of a document.

    Args:
        document: What to write, with its embedding.
        order: When it is written, of all documents.
        place: Its place in the batch, for an error.
        words: Those of its text, where keywords are searched.

    Raises:
        InvalidDocumentError: Pinecone's records do not hold as much.
    """
    fields: dict[str, Any] = dict(flat_fields(document.metadata, ENCODING))
    fields[ID] = document.id
    fields[ORDER] = order
    fields[_CREATED] = str(instant_us(document.created_at or datetime.now(UTC)))
    if document.text:
        fields[_TEXT] = document.text
    if document.metadata:
        fields[_METADATA] = msgspec.json.encode(document.metadata).decode()
    values = [] if document.embedding is None else document.embedding.tolist()
    if not any(values):
        fields[_ZERO] = True
    size = len(msgspec.json.encode(fields))
    if size > _MAX_METADATA_BYTES:
        text = len(document.text.encode())
        raise InvalidDocumentError(
            f"the document {document.id[:64]!r} (document {place} of the batch) needs {size:,} "
            f"bytes with what filters are answered from, {text:,} of them for its text, but a "
            f"record of Pinecone holds {_MAX_METADATA_BYTES:,}; split the text into smaller "
            "chunks, or keep long values out of the metadata",
            position=place,
        )
    vector = Vector(record_id(document.id), usable(values), metadata=fields)
    size += _COMPONENT_BYTES * len(values) + len(vector.id) + 64
    if words:
        heaviest = nlargest(_MAX_WORDS, words, key=lambda word: words[word])
        vector.sparse_values = words_vector({word: words[word] for word in heaviest})
        size += _WORD_BYTES * len(heaviest)
    return Record(vector, size)


def words_vector(words: Words) -> SparseValues:
    """Return words as Pinecone takes them."""
    return SparseValues(list(words), list(words.values()))


def weights(record: Any) -> Words:
    """Return the words of a record's document."""
    words = record.sparse_values
    if words is None:
        return {}
    # To 32 bits, as which they are stored: a server may write them with fewer digits than that.
    return dict(zip(words.indices, np.array(words.values, np.float32).tolist(), strict=True))


def usable(values: list[float]) -> list[float]:
    """Return a vector that Pinecone takes, which no vector of zeros is."""
    return values if any(values) else [_SMALLEST, *values[1:]]


def record_id(identifier: str) -> str:
    """Return the id of a document's record: its own, if it can be."""
    plain = identifier.isascii() and "\0" not in identifier
    if plain and len(identifier) <= _MAX_ID and not identifier.startswith(_ESCAPE):
        return identifier
    escaped = _ESCAPE + quote(identifier, safe="")
    if len(escaped) <= _MAX_ID:
        return escaped
    digest = hashlib.blake2b(identifier.encode(), digest_size=32).hexdigest()
    return 2 * _ESCAPE + digest


def batches(records: Sequence[Record]) -> Iterator[list[Vector]]:
    """Split records into requests, by count and by bytes."""
    batch: list[Vector] = []
    size = 0
    for record in records:
        if batch and (len(batch) == _MAX_BATCH or size + record.size_bytes > _MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(record.vector)
        size += record.size_bytes
    if batch:
        yield batch


def vectors(records: Iterable[Any], dimension: int) -> NDArray[np.float32]:
    """Return the vectors of records, shape (n, dimension)."""
    row = struct.Struct(f"<{dimension}f")  # numpy reads lists of floats six times as slowly
    zeros = bytes(row.size)
    data = b"".join(
        zeros if _ZERO in record.metadata else row.pack(*record.values) for record in records
    )
    return np.frombuffer(data, "<f4").reshape(-1, dimension)


def document_id(record: Any) -> str:
    """Return the id of a record's document."""
    try:
        identifier: str = record.metadata[ID]
    except (KeyError, TypeError):
        raise StoreError(
            f"the record {record.id!r} in the namespace of this collection was not written by "
            "nearfield; delete it, and write elsewhere what is not"
        ) from None
    return identifier


def decode(record: Any, include: Include, dimension: int) -> Document:
    """Rebuild the document of a record."""
    fields: Mapping[str, Any] = record.metadata
    metadata: dict[str, Any] = {}
    if include.metadata and _METADATA in fields:
        metadata = msgspec.json.decode(fields[_METADATA])
    return make_document(
        fields.get(_TEXT, "") if include.text else "",
        fields[ID],
        metadata,
        vectors([record], dimension)[0].astype(np.float32) if include.embedding else None,
        _EPOCH + timedelta(microseconds=int(fields[_CREATED])),
    )
