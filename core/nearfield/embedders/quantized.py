"""Vectors of few bits: one byte a component, or one bit."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from nearfield.documents import Metric
from nearfield.embedders import contract
from nearfield.embedders.fingerprint import derived_fingerprint
from nearfield.embedders.wrapper import Wrapper
from nearfield.errors import InvalidInputError
from nearfield.validation import check_member

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from nearfield.documents import EmbeddingInfo
    from nearfield.embedders.base import Embedder

__all__ = ["Precision", "QuantizedEmbedder"]

_LEVELS = 255
_MARGIN = 0.1
"""What a fitted range is widened by at each end, as a share of it: other texts go further."""


class Precision(StrEnum):
    """What is kept of a component."""

    INT8 = "int8"
    """One of 256 values, evenly spaced over the component's range."""
    BINARY = "binary"
    """Its sign."""


class QuantizedEmbedder(Wrapper):
    """Keeps a byte or a bit of each component, and returns float32 vectors of those values.

    So every store takes them, they show what quantisation costs on your data, and :meth:`encode`
    turns them into the codes, without a further loss. By ``int8`` a vector's length is no longer
    exactly 1; by ``binary`` all have length 1 and are compared by cosine, which orders as the
    Hamming distance does.

    The ranges of ``int8`` are fixed, so that vectors of different calls compare. Fit them once
    with :meth:`fitted`, keep :attr:`ranges` (``numpy.save``) beside the collection, and give them
    when it is opened again.

    Args:
        embedder: Makes the whole vectors.
        precision: ``"int8"`` or ``"binary"``.
        ranges: For ``int8``, the lowest and the highest value of each component, shape
            (2, dimension). What lies beyond is clipped.
        quantize_queries: Quantise queries as well. They are not stored, and retrieve better as
            they are.

    Raises:
        InvalidInputError: ``int8`` without ranges, ``binary`` with them, or ranges that are none.
            At the first use: they are for vectors of another dimension.
    """

    def __init__(
        self,
        embedder: Embedder,
        precision: Precision | str = Precision.INT8,
        *,
        ranges: ArrayLike | None = None,
        quantize_queries: bool = False,
    ) -> None:
        super().__init__(embedder)
        self._precision = check_member(precision, Precision, "precision")
        if (self._precision is Precision.INT8) != (ranges is not None):
            raise InvalidInputError(
                "precision 'int8' takes ranges=, which QuantizedEmbedder.fitted(embedder, texts) "
                "finds from sample texts, and 'binary' takes none"
            )
        self._ranges = None if ranges is None else _checked_ranges(ranges)
        self._quantize_queries = bool(quantize_queries)

    @classmethod
    def fitted(
        cls, embedder: Embedder, texts: Sequence[str], *, quantize_queries: bool = False
    ) -> Self:
        """Make one of precision ``int8`` whose ranges are those of sample texts, and a tenth more.

        Args:
            embedder: Makes the whole vectors.
            texts: Some hundreds of texts like those to be stored.
            quantize_queries: Quantise queries as well.

        Raises:
            InvalidInputError: There are no texts.
            EmbeddingError: The embedder failed.
        """
        if not len(texts):
            raise InvalidInputError("texts is empty; give some hundreds like those to be stored")
        vectors = contract.embed_documents(embedder, texts)
        low, high = vectors.min(axis=0), vectors.max(axis=0)
        margin = _MARGIN * (high - low)
        ranges = np.stack([low - margin, high + margin])
        return cls(embedder, Precision.INT8, ranges=ranges, quantize_queries=quantize_queries)

    def __repr__(self) -> str:
        return f"QuantizedEmbedder({self._embedder!r}, {self._precision.value!r})"

    @property
    def ranges(self) -> NDArray[np.float32] | None:
        """The lowest and the highest value of each component, shape (2, dimension), read-only."""
        return self._ranges

    @property
    def info(self) -> EmbeddingInfo:
        """The space the quantised vectors live in."""
        whole = self._embedder.info
        if self._ranges is not None and self._ranges.shape[1] != whole.dimension:
            raise InvalidInputError(
                f"ranges are for {self._ranges.shape[1]} components, but the vectors of "
                f"{whole.model!r} have {whole.dimension}; fit them again"
            )
        binary = self._precision is Precision.BINARY
        return replace(
            whole,
            model=f"{self._precision}({whole.model})",
            normalized=binary and (whole.normalized or self._quantize_queries),
            metric=Metric.COSINE if binary else whole.metric,
            fingerprint=derived_fingerprint(
                "quantized",
                [whole],
                precision=self._precision,
                ranges=None if self._ranges is None else self._ranges.tobytes().hex(),
                quantize_queries=self._quantize_queries,
            ),
        )

    def encode(self, vectors: NDArray[np.float32]) -> NDArray[np.int8] | NDArray[np.uint8]:
        """Return the codes of finite vectors of shape (n, dimension).

        Returns:
            For ``int8``, an int8 array of the same shape; for ``binary``, a uint8 array of shape
            (n, ⌈dimension / 8⌉) whose bits are 1 where a component is positive, the first
            component highest, as :func:`numpy.packbits` does.

        Raises:
            InvalidInputError: The shape is another.
        """
        _check_width(vectors, self.info.dimension)
        if self._ranges is None:
            return np.packbits(vectors > 0, axis=1)
        low, step = self._grid()
        places = np.divide(vectors - low, step, out=np.zeros(vectors.shape), where=step > 0)
        return (np.clip(np.rint(places), 0, _LEVELS) - 128).astype(np.int8)

    def decode(self, codes: NDArray[np.int8] | NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the vectors that codes stand for, shape (n, dimension).

        Raises:
            InvalidInputError: The codes have another shape than those of :meth:`encode`.
        """
        dimension = self.info.dimension
        _check_width(codes, -(-dimension // 8) if self._ranges is None else dimension)
        if self._ranges is None:
            signs = 2.0 * np.unpackbits(codes.view(np.uint8), axis=1, count=dimension) - 1
            return np.asarray(signs / np.sqrt(dimension), np.float32)
        low, step = self._grid()
        return np.asarray(low + (codes.astype(np.float64) + 128) * step, np.float32)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to search with; quantised only where that was asked for."""
        vectors = contract.embed_queries(self._embedder, texts)
        return self._quantized(vectors) if self._quantize_queries else vectors

    async def aembed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to search with, without blocking the event loop."""
        vectors = await contract.aembed_queries(self._embedder, texts)
        return self._quantized(vectors) if self._quantize_queries else vectors

    def _run(
        self, embed: Callable[[Sequence[Any]], NDArray[np.float32]], items: Sequence[Any]
    ) -> NDArray[np.float32]:
        return self._quantized(embed(items))

    async def _arun(
        self,
        embed: Callable[[Sequence[Any]], Awaitable[NDArray[np.float32]]],
        items: Sequence[Any],
    ) -> NDArray[np.float32]:
        return self._quantized(await embed(items))

    def _quantized(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.decode(self.encode(vectors))

    def _grid(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return each component's lowest value and the step to the next."""
        low, high = np.asarray(self._ranges, np.float64)
        return low, (high - low) / _LEVELS


def _check_width(rows: NDArray[Any], width: int) -> None:
    if rows.ndim != 2 or rows.shape[1] != width:  # noqa: PLR2004
        raise InvalidInputError(f"got an array of shape {rows.shape}, expected (n, {width})")


def _checked_ranges(ranges: ArrayLike) -> NDArray[np.float32]:
    expected = "an array of shape (2, dimension): the lowest and the highest of each component"
    try:
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused
            checked = np.array(ranges, dtype=np.float32, order="C")
    except (TypeError, ValueError):
        raise InvalidInputError(f"ranges is {type(ranges).__name__}, expected {expected}") from None
    if checked.ndim != 2 or len(checked) != 2 or not checked.size:  # noqa: PLR2004
        raise InvalidInputError(f"ranges has shape {checked.shape}, expected {expected}")
    if not np.isfinite(checked).all() or (checked[0] > checked[1]).any():
        raise InvalidInputError(f"ranges has NaN, infinity or a low above its high; {expected}")
    checked.flags.writeable = False
    return checked
