"""Documents as rows of a table, and back."""

from __future__ import annotations

from datetime import UTC, datetime
from struct import Struct
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from psycopg import ProgrammingError
from psycopg.adapt import Dumper, Loader
from psycopg.postgres import types
from psycopg.pq import Format
from psycopg.types import TypeInfo

from nearfield.documents import make_document
from nearfield.stores.postgres.fields import escaped, shapes, unescaped

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from psycopg.abc import Buffer

    from nearfield.documents import Document
    from nearfield.stores.base import Include
    from nearfield.stores.postgres.connections import Connection

__all__ = ["COLUMNS", "TYPES", "decode", "encode", "register", "selected"]

COLUMNS = "id, text, metadata, fields, instants, folded, created_at, embedding"
TYPES = ("text", "text", "text", "jsonb", "jsonb", "jsonb", "timestamptz", "vector")
"""The columns' types, as binary COPY has to be told."""


_VECTOR_HEAD = Struct(">HH")
"""Of pgvector's binary format: how many components there are, and nothing."""
_COMPONENT = np.dtype(">f4")


class _Json(bytes):
    """JSON that is encoded already."""

    __slots__ = ()


class _JsonDumper(Dumper):
    format = Format.BINARY
    oid = types["jsonb"].oid

    def dump(self, obj: _Json) -> bytes:
        return b"\x01" + obj  # the version of the format


class _VectorDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: NDArray[np.float32]) -> bytes:
        return _VECTOR_HEAD.pack(len(obj), 0) + obj.astype(_COMPONENT).tobytes()


class _VectorLoader(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> NDArray[np.float32]:
        return np.frombuffer(data, _COMPONENT, offset=_VECTOR_HEAD.size).astype(np.float32)


def register(connection: Connection) -> None:
    """Let a connection write the rows that :func:`encode` makes, and read vectors.

    Raises:
        psycopg.ProgrammingError: The database has no pgvector.
    """
    vector = TypeInfo.fetch(connection, "vector")
    if vector is None:
        raise ProgrammingError("there is no type vector")
    vector.register(connection)
    adapters = connection.adapters
    adapters.register_dumper(np.ndarray, type("_Dumper", (_VectorDumper,), {"oid": vector.oid}))
    adapters.register_loader(vector.oid, _VectorLoader)
    adapters.register_dumper(_Json, _JsonDumper)


def encode(document: Document) -> tuple[Any, ...]:
    """Return a document's row, in the order of ``COLUMNS``."""
    metadata = msgspec.json.encode(document.metadata).decode()
    fields, instants, folded = shapes(document.metadata, metadata)
    return (
        escaped(document.id),
        escaped(document.text),
        metadata,
        _Json(fields.encode()),
        None if instants is None else _Json(instants.encode()),
        None if folded is None else _Json(folded.encode()),
        document.created_at or datetime.now(UTC),
        document.embedding,
    )


def selected(include: Include) -> str:
    """Return the columns to select for the parts of documents that are asked for."""
    text = "text" if include.text else "NULL"
    metadata = "metadata" if include.metadata else "NULL"
    embedding = "embedding" if include.embedding else "NULL"
    return f"id, {text}, {metadata}, created_at, {embedding}"


def decode(row: tuple[Any, ...]) -> Document:
    """Rebuild a document from the columns that :func:`selected` named."""
    name, text, metadata, created_at, embedding = row[:5]
    return make_document(
        "" if text is None else unescaped(text),
        unescaped(name),
        {} if metadata is None else msgspec.json.decode(metadata),
        embedding,
        created_at,
    )
