"""Documents as Chroma's records, and back."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from nearfield.documents import Document, Metric, make_document
from nearfield.errors import StoreError
from nearfield.filters.evaluation import instant_us
from nearfield.stores.chroma.fields import ENCODING
from nearfield.stores.flat.fields import flat_fields

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.stores.base import Include

__all__ = ["Records", "decode", "encode", "parts", "vectors"]

_METADATA = "metadata"
_CREATED = "created_us"
_VECTOR = "vector"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Records:
    """Records as Chroma returns them, in step.

    Attributes:
        ids: One for each.
        metadatas: Their fields, where they were asked for.
        texts: Their texts, where they were asked for.
        embeddings: Their vectors, where they were asked for.
    """

    ids: Sequence[str]
    metadatas: Sequence[Mapping[str, Any]] | None
    texts: Sequence[str | None] | None
    embeddings: Any

    @classmethod
    def of(cls, answer: Mapping[str, Any], query: int | None = None) -> Records:
        """Take what ``get``, or one query of ``query``, returned."""
        values: list[Any] = [
            answer[name] for name in ("ids", "metadatas", "documents", "embeddings")
        ]
        if query is not None:
            values = [None if each is None else each[query] for each in values]
        return cls(*values)


def encode(document: Document, metric: Metric) -> dict[str, Any]:
    """Return the fields of a document's record."""
    fields: dict[str, Any] = dict(flat_fields(document.metadata, ENCODING))
    fields[_CREATED] = instant_us(document.created_at or datetime.now(UTC))
    if document.metadata:
        fields[_METADATA] = msgspec.json.encode(document.metadata).decode()
    if metric is Metric.COSINE and document.embedding is not None:
        # Of a vector that is compared by cosine, Chroma keeps the direction alone.
        data = np.ascontiguousarray(document.embedding, "<f4").tobytes()
        fields[_VECTOR] = b2a_base64(data, newline=False).decode()
    return fields


def parts(include: Include, metric: Metric, *, scored: bool = False) -> list[str]:
    """Return what to ask Chroma for; ``scored`` where vectors are needed for scores."""
    asked = ["metadatas"]  # the time of creation is there
    if include.text:
        asked.append("documents")
    if (include.embedding or scored) and metric is not Metric.COSINE:
        asked.append("embeddings")
    return asked


def vectors(records: Records, dimension: int) -> NDArray[np.float32]:
    """Return the vectors of records, shape (n, dimension)."""
    if not records.ids:
        return np.empty((0, dimension), np.float32)
    if records.embeddings is not None:
        return np.asarray(records.embeddings, np.float32)
    metadatas = records.metadatas or ()
    try:
        kept = [fields[_VECTOR] for fields in metadatas]
    except (KeyError, TypeError):
        known = [bool(fields) and _VECTOR in fields for fields in metadatas]
        raise _foreign(records.ids[known.index(False)]) from None
    # From base64, in a fourth of binascii's time.
    data = b"".join(msgspec.convert(kept, list[bytes]))
    return np.frombuffer(data, "<f4").reshape(-1, dimension)


def decode(records: Records, place: int, include: Include, dimension: int) -> Document:
    """Rebuild the document of one record."""
    fields = records.metadatas[place] if records.metadatas else None
    if not fields or _CREATED not in fields:
        raise _foreign(records.ids[place])
    text = records.texts[place] if include.text and records.texts is not None else None
    embedding = None
    if include.embedding:
        single = Records(
            records.ids[place : place + 1],
            (fields,),
            None,
            None if records.embeddings is None else records.embeddings[place : place + 1],
        )
        embedding = vectors(single, dimension)[0].astype(np.float32)
    metadata: dict[str, Any] = {}
    if include.metadata and _METADATA in fields:
        metadata = msgspec.json.decode(fields[_METADATA])
    created_at = _EPOCH + timedelta(microseconds=fields[_CREATED])
    return make_document(text or "", records.ids[place], metadata, embedding, created_at)


def _foreign(name: str) -> StoreError:
    return StoreError(
        f"the record {name!r} in Chroma's collection was not written by nearfield; delete it, and "
        "write elsewhere what is not"
    )
