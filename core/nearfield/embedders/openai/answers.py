"""A server's answer, read without trust: as many vectors as texts, in their order, and finite."""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from nearfield.errors import EmbeddingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["read_answer"]


class _Row(msgspec.Struct):
    embedding: str | list[float]
    index: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    total_tokens: int | None = None


class _Answer(msgspec.Struct):
    data: list[_Row]
    usage: _Usage | None = None


_DECODER = msgspec.json.Decoder(_Answer)


def read_answer(body: bytes, *, count: int, server: str) -> tuple[NDArray[np.float32], int]:
    """Read the vectors of an answer, and the tokens that were charged.

    Args:
        body: The JSON; embeddings as base64 of little-endian float32, or as numbers.
        count: Vectors that were asked for.
        server: Who answered, for the message of an error.

    Returns:
        Float32 array of shape (count, dimension), in the order asked for; and the tokens.

    Raises:
        EmbeddingError: The answer is none of the embeddings API, or none to what was asked.
    """
    try:
        answer = _DECODER.decode(body)
    except msgspec.MsgspecError as error:
        raise EmbeddingError(
            f"{server} sent no answer of the embeddings API: {error}; check base_url, which most "
            "often ends in /v1"
        ) from None
    if len(answer.data) != count:
        raise EmbeddingError(
            f"{server} sent {len(answer.data)} embeddings for {count} texts; none was used"
        )
    vectors = _stack([_read_vector(row.embedding, server) for row in answer.data], server)
    usage = answer.usage or _Usage()
    return _ordered(vectors, answer.data, server), usage.total_tokens or usage.prompt_tokens or 0


def _read_vector(embedding: str | list[float], server: str) -> NDArray[np.float32]:
    if not isinstance(embedding, str):
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused
            return np.asarray(embedding, dtype=np.float64).astype(np.float32)
    try:
        return np.frombuffer(b64decode(embedding, validate=True), dtype="<f4")
    except (binascii.Error, ValueError) as error:
        raise EmbeddingError(
            f"{server} sent an embedding that is no base64 of float32: {error}; "
            "encoding_format='float' asks for numbers instead"
        ) from None


def _stack(vectors: list[NDArray[np.float32]], server: str) -> NDArray[np.float32]:
    dimensions = sorted({len(vector) for vector in vectors})
    if len(dimensions) != 1 or not dimensions[0]:
        raise EmbeddingError(
            f"{server} sent embeddings of {' and '.join(map(str, dimensions))} components in one "
            "answer; none was used"
        )
    stacked = np.stack(vectors).astype(np.float32, copy=False)
    if not np.isfinite(stacked).all():
        raise EmbeddingError(f"{server} sent an embedding with NaN or infinity; none was used")
    return stacked


def _ordered(vectors: NDArray[np.float32], rows: list[_Row], server: str) -> NDArray[np.float32]:
    indexes = [row.index for row in rows]
    if all(index is None for index in indexes):  # some servers leave it out
        return vectors
    positions = [-1 if index is None else index for index in indexes]
    if sorted(positions) != list(range(len(rows))):
        raise EmbeddingError(
            f"{server} did not number its {len(rows)} embeddings from 0 to {len(rows) - 1}, so "
            "that it is not known whose they are; none was used"
        )
    ordered = np.empty_like(vectors)
    ordered[positions] = vectors
    return ordered
