"""The values that go in and come out: documents, hits and what an embedding space is."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Document",
    "EmbeddingInfo",
    "EmbeddingKind",
    "Hit",
    "Metric",
    "SearchMode",
    "make_document",
    "make_hit",
    "new_id",
]


class Metric(StrEnum):
    """How two vectors are compared; every score is a similarity, higher is better."""

    COSINE = "cosine"
    """x·y / (‖x‖‖y‖), in [−1, 1]."""
    DOT = "dot"
    """x·y, any real number."""
    EUCLIDEAN = "euclidean"
    """1 / (1 + ‖x − y‖), in (0, 1]."""


class SearchMode(StrEnum):
    """What a query is matched against."""

    VECTOR = "vector"
    """The documents' embeddings."""
    KEYWORD = "keyword"
    """The documents' words, ranked by BM25."""
    HYBRID = "hybrid"
    """Both, fused by reciprocal rank."""


class EmbeddingKind(StrEnum):
    """What an embedder reads."""

    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"
    MULTIMODAL = "multimodal"


def new_id() -> str:
    """Make a UUIDv7: unique without coordination, and sorted by the millisecond it is made in.

    Source: RFC 9562, section 5.7 (48 bits of Unix milliseconds, 74 random bits).
    """
    milliseconds = time.time_ns() // 1_000_000
    random_bits = int.from_bytes(os.urandom(10))
    value = (milliseconds & ((1 << 48) - 1)) << 80 | random_bits
    value = value & ~(0xF << 76) | 0x7 << 76  # version 7
    value = value & ~(0x3 << 62) | 0x2 << 62  # RFC 9562 variant
    return str(uuid.UUID(int=value))


@dataclass(frozen=True, slots=True)
class Document:
    """A text with an id, metadata and, when asked for, its embedding.

    Attributes:
        text: What is embedded, searched and returned. May be empty.
        id: Any non-empty string; one is made when it is left out.
        metadata: Anything JSON can hold, with string keys. Datetimes are stored as ISO 8601 text.
        embedding: float32 array of shape (dimension,), or None when it was not given or asked for.
        created_at: When this version of it was written, with a time zone; None means now.
    """

    text: str
    id: str = field(default_factory=new_id)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    embedding: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    created_at: datetime | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that a search found.

    Attributes:
        document: The document, with the parts that ``include`` asked for.
        score: The similarity on the scale of the search: the metric's for vectors, BM25 for
            keywords, the sum of reciprocal ranks for hybrid, a reranker's relevance where there
            is one. Higher is better.
        rank: The place in the result, from 1.
        relevance: The score mapped to [0, 1], never decreasing in it.
    """

    document: Document
    score: float
    rank: int
    relevance: float

    @property
    def id(self) -> str:
        """The document's id."""
        return self.document.id

    @property
    def text(self) -> str:
        """The document's text."""
        return self.document.text

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The document's metadata."""
        return self.document.metadata


# A frozen class sets each field by name through object.__setattr__. Doing it through the fields'
# own descriptors takes half the time, which the ten hits of a search are worth.
_new: Any = object.__new__
_set_text, _set_id, _set_metadata, _set_embedding, _set_created_at = (
    getattr(Document, name).__set__ for name in Document.__slots__
)
_set_document, _set_score, _set_rank, _set_relevance = (
    getattr(Hit, name).__set__ for name in Hit.__slots__
)


def make_document(
    text: str,
    identifier: str,
    metadata: Mapping[str, Any],
    embedding: NDArray[np.float32] | None,
    created_at: datetime | None,
) -> Document:
    """Make what ``Document(…)`` makes, in half the time; for stores, and what they are given."""
    document: Document = _new(Document)
    _set_text(document, text)
    _set_id(document, identifier)
    _set_metadata(document, metadata)
    _set_embedding(document, embedding)
    _set_created_at(document, created_at)
    return document


def make_hit(document: Document, score: float, rank: int, relevance: float) -> Hit:
    """Make what ``Hit(…)`` makes, in half the time; for stores."""
    hit: Hit = _new(Hit)
    _set_document(hit, document)
    _set_score(hit, score)
    _set_rank(hit, rank)
    _set_relevance(hit, relevance)
    return hit


@dataclass(frozen=True, slots=True)
class EmbeddingInfo:
    """What a vector space is; a collection keeps it from birth and refuses another.

    Attributes:
        model: The model's name, as a user would name it.
        dimension: The number of components of each vector.
        kind: What the model reads.
        normalized: Whether every vector has length 1.
        metric: The metric that the model was trained for, the default of a new collection.
        max_tokens: Tokens of a text that reach the vector; None where there is no limit.
        fingerprint: Changes whenever the same text would get another vector.
    """

    model: str
    dimension: int
    kind: EmbeddingKind = EmbeddingKind.TEXT
    normalized: bool = False
    metric: Metric = Metric.COSINE
    max_tokens: int | None = None
    fingerprint: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return {**asdict(self), "kind": self.kind.value, "metric": self.metric.value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EmbeddingInfo:
        """Rebuild what :meth:`to_dict` returned."""
        return cls(
            **{
                **values,
                "kind": EmbeddingKind(values["kind"]),
                "metric": Metric(values["metric"]),
            }
        )
