"""Where embedders are called: what they return is checked here, once, for every one of them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from nearfield.errors import EmbeddingError, NearfieldError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from nearfield.documents import EmbeddingInfo
    from nearfield.embedders.base import AsyncEmbedder, Embedder

__all__ = [
    "aembed_documents",
    "aembed_queries",
    "check_embeddings",
    "embed_documents",
    "embed_queries",
]

_LENGTH_TOLERANCE = 1e-2
"""How far from 1 a normalised vector's length may be; half precision comes to 1e-3."""


def embed_documents(embedder: Embedder, texts: Sequence[str]) -> NDArray[np.float32]:
    """Embed texts to be stored.

    Returns:
        C-contiguous, finite float32 array of shape (len(texts), dimension).

    Raises:
        EmbeddingError: The embedder failed, or broke its contract.
        NearfieldError: What else the embedder raised of nearfield's own.
    """
    with _failures(embedder, len(texts)):
        vectors = embedder.embed_documents(texts)
    return check_embeddings(vectors, count=len(texts), info=embedder.info)


def embed_queries(embedder: Embedder, texts: Sequence[str]) -> NDArray[np.float32]:
    """Embed texts to search with; as :func:`embed_documents`."""
    with _failures(embedder, len(texts)):
        vectors = embedder.embed_queries(texts)
    return check_embeddings(vectors, count=len(texts), info=embedder.info)


async def aembed_documents(embedder: AsyncEmbedder, texts: Sequence[str]) -> NDArray[np.float32]:
    """Embed texts to be stored without blocking the event loop; as :func:`embed_documents`."""
    with _failures(embedder, len(texts)):
        vectors = await embedder.aembed_documents(texts)
    return check_embeddings(vectors, count=len(texts), info=embedder.info)


async def aembed_queries(embedder: AsyncEmbedder, texts: Sequence[str]) -> NDArray[np.float32]:
    """Embed texts to search with without blocking the event loop; as :func:`embed_documents`."""
    with _failures(embedder, len(texts)):
        vectors = await embedder.aembed_queries(texts)
    return check_embeddings(vectors, count=len(texts), info=embedder.info)


def check_embeddings(vectors: object, *, count: int, info: EmbeddingInfo) -> NDArray[np.float32]:
    """Return an embedder's vectors as C-contiguous float32, or raise ``EmbeddingError``."""
    expected = f"a float32 array of shape ({count}, {info.dimension})"
    try:
        given = np.asarray(vectors)
    except ValueError:  # ragged
        raise _breach(info, f"returned a {type(vectors).__name__}", expected) from None
    if given.shape != (count, info.dimension) or given.dtype.kind not in "fiu":
        got = f"returned a {given.dtype} array of shape {given.shape} for {count} texts"
        raise _breach(info, got, expected)
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused
        checked = np.ascontiguousarray(given, dtype=np.float32)
    squares = np.einsum("ij,ij->i", checked, checked, dtype=np.float64)
    if not np.isfinite(squares).all():
        row = int(np.argmin(np.isfinite(squares)))
        raise _breach(info, f"returned NaN or infinity for text {row} of {count}", expected)
    if info.normalized and (abs(squares - 1) > 2 * _LENGTH_TOLERANCE).any():
        row = int(np.argmax(abs(squares - 1)))
        got = f"says it is normalised, but text {row} has a vector of length {squares[row] ** 0.5}"
        raise _breach(info, got, "length 1")
    return checked


def _breach(info: EmbeddingInfo, got: str, expected: str) -> EmbeddingError:
    return EmbeddingError(
        f"the embedder {info.model!r} {got}, expected {expected}; this is a bug in the embedder"
    )


@contextmanager
def _failures(embedder: Embedder, count: int) -> Iterator[None]:
    try:
        yield
    except NearfieldError:
        raise
    except Exception as error:
        raise EmbeddingError(
            f"the embedder {embedder.info.model!r} failed on {count} texts: "
            f"{type(error).__name__}: {error}"
        ) from error
