"""Several embedders as one."""

from __future__ import annotations

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.documents import EmbeddingInfo, EmbeddingKind, Metric
from nearfield.embedders import contract
from nearfield.embedders.base import Sliced, TokenCounter
from nearfield.embedders.fingerprint import derived_fingerprint
from nearfield.embedders.unit import lengths, unit_vectors
from nearfield.embedders.wrapper import check_embedder
from nearfield.errors import InvalidInputError
from nearfield.validation import MIN_COSINE_NORM, check_member

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from numpy.typing import NDArray

    from nearfield.embedders.base import Embedder, ImageLike

__all__ = ["Combination", "CombinedEmbedder"]


class Combination(StrEnum):
    """How the vectors of several embedders become one."""

    AVERAGE = "average"
    """Σ wᵢ vᵢ, with weights that add up to 1."""
    CONCATENATE = "concatenate"
    """(√w₁ v₁, √w₂ v₂, …), with weights that are 1 on the average."""
    MAX = "max"
    """The largest of each component."""
    NORM_ATTENTION = "norm_attention"
    """Σ aᵢ vᵢ, where a = softmax(l / mean(l)) over the lengths lᵢ of a text's vectors vᵢ."""


_WEIGHTED = frozenset({Combination.AVERAGE, Combination.CONCATENATE})
_FEWEST = 2
_SPECIAL_TOKENS = 8
"""What tokenizers put around a text, with some to spare; most put two."""


class CombinedEmbedder:
    """Embeds with several embedders at once and makes one vector of theirs.

    ``concatenate`` keeps each model's judgement: with ``normalize``, the cosine of two texts is
    the weighted mean of their cosines under the parts. The other methods need equal dimensions,
    and add up components that mean another thing in each model. ``norm_attention`` lets the parts
    with the longer vectors count for more, as is sensible for models whose vectors are longer the
    more they know of a text; for normalised models it is the plain average.

    Args:
        embedders: At least two; they stay open.
        method: ``"average"``, ``"concatenate"``, ``"max"`` or ``"norm_attention"``, see
            :class:`Combination`.
        weights: How much each embedder counts, in any unit; equally when left out. Only for
            ``average`` and ``concatenate``.
        normalize: Scale each part's vectors to length 1 before they are combined (for
            ``norm_attention``, after their lengths were taken), and the result as well.

    Raises:
        InvalidInputError: Fewer than two embedders, an unknown method, or weights that do not fit.
            At the first use: the dimensions differ where they have to be equal.
    """

    def __init__(
        self,
        embedders: Sequence[Embedder],
        method: Combination | str = Combination.AVERAGE,
        *,
        weights: Sequence[float] | None = None,
        normalize: bool = True,
    ) -> None:
        self._embedders = tuple(map(check_embedder, embedders))
        if len(self._embedders) < _FEWEST:
            raise InvalidInputError(f"got {len(self._embedders)} embedders, expected at least two")
        self._method = check_member(method, Combination, "method")
        self._shares = _checked_shares(weights, self._method, len(self._embedders))
        self._normalize = bool(normalize)
        self._concatenates = self._method is Combination.CONCATENATE
        # Not methods: without the ability it must not seem to be there.
        if sizes := [e.slice_size for e in self._embedders if isinstance(e, Sliced)]:
            self.slice_size = max(sizes)
        # Whoever has no counter is asked for its limit when there is something to count: for `info`
        # some send a request.
        if any(isinstance(embedder, TokenCounter) for embedder in self._embedders):
            self.count_tokens = self._count_tokens
        if all(hasattr(embedder, "embed_images") for embedder in self._embedders):
            self.embed_images = self._embed_images

    def __repr__(self) -> str:
        listed = ", ".join(map(repr, self._embedders))
        return f"CombinedEmbedder([{listed}], {self._method.value!r})"

    @property
    def info(self) -> EmbeddingInfo:
        """The space the combined vectors live in."""
        self._check_dimensions()
        infos = [embedder.info for embedder in self._embedders]
        dimensions = [info.dimension for info in infos]
        metrics = {info.metric for info in infos}
        kinds = {info.kind for info in infos}
        return EmbeddingInfo(
            model=f"{self._method}({', '.join(info.model for info in infos)})",
            dimension=sum(dimensions) if self._concatenates else dimensions[0],
            kind=kinds.pop() if len(kinds) == 1 else EmbeddingKind.TEXT,
            normalized=self._normalize,
            metric=metrics.pop() if len(metrics) == 1 and not self._normalize else Metric.COSINE,
            max_tokens=min(
                (limit for i in infos if (limit := i.max_tokens) is not None), default=None
            ),
            fingerprint=derived_fingerprint(
                "combined",
                infos,
                method=self._method,
                weights=self._shares,
                normalize=self._normalize,
            ),
        )

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to be stored, with all embedders at the same time.

        Raises:
            EmbeddingError: An embedder failed; or, with ``normalize``, a text's vectors cancel
                out or are all zero.
        """
        return self._embed(contract.embed_documents, texts)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to search with; as :meth:`embed_documents`."""
        return self._embed(contract.embed_queries, texts)

    async def aembed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to be stored without blocking the event loop."""
        return await self._aembed(contract.aembed_documents, texts)

    async def aembed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to search with, without blocking the event loop."""
        return await self._aembed(contract.aembed_queries, texts)

    def _embed_images(self, images: Sequence[ImageLike]) -> NDArray[np.float32]:
        return self._embed(contract.embed_images, images)

    def _embed(
        self, embed: Callable[[Any, Sequence[Any]], NDArray[np.float32]], items: Sequence[Any]
    ) -> NDArray[np.float32]:
        self._check_dimensions()
        count = len(self._embedders)
        with ThreadPoolExecutor(count, thread_name_prefix="nearfield-combined") as pool:
            waiting = [pool.submit(embed, embedder, items) for embedder in self._embedders]
            return self._combined([future.result() for future in waiting])

    async def _aembed(
        self,
        embed: Callable[[Embedder, Sequence[str]], Coroutine[Any, Any, NDArray[np.float32]]],
        texts: Sequence[str],
    ) -> NDArray[np.float32]:
        await asyncio.to_thread(self._check_dimensions)  # some load a model for it
        tasks = [asyncio.create_task(embed(embedder, texts)) for embedder in self._embedders]
        try:
            parts = await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        return self._combined(parts)

    def _combined(self, parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        norms = [lengths(part) for part in parts]
        if self._normalize:
            vectors = [_directions(part, norm) for part, norm in zip(parts, norms, strict=True)]
        else:
            vectors = [part.astype(np.float64) for part in parts]
        combined = self._mixed(vectors, np.stack(norms)).astype(np.float32)
        if not self._normalize:
            return combined
        return unit_vectors(combined, reason="its parts cancel out, or are zero; leave it out")

    def _mixed(
        self, vectors: list[NDArray[np.float64]], norms: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Combine parts of shape (n, dimension) whose lengths, shape (parts, n, 1), are known."""
        if self._concatenates:
            scales = np.sqrt(len(vectors) * np.array(self._shares))
            return np.hstack([scale * part for scale, part in zip(scales, vectors, strict=True)])
        stacked = np.stack(vectors)
        if self._method is Combination.MAX:
            largest: NDArray[np.float64] = stacked.max(axis=0)
            return largest
        shares = (
            _attention(norms)
            if self._method is Combination.NORM_ATTENTION
            else np.array(self._shares).reshape(-1, 1, 1)
        )
        total: NDArray[np.float64] = (shares * stacked).sum(axis=0)
        return total

    def _check_dimensions(self) -> None:
        infos = [embedder.info for embedder in self._embedders]
        if self._concatenates or len({i.dimension for i in infos}) == 1:
            return
        listed = ", ".join(f"{info.model!r} {info.dimension}" for info in infos)
        raise InvalidInputError(
            f"method {self._method.value!r} needs embedders of one dimension, got {listed}; "
            "truncate the longer with TruncatedEmbedder, or use 'concatenate'"
        )

    def _count_tokens(self, text: str) -> int:
        """Count in units of the lowest limit, as the embedder does that is nearest to its own.

        One that has a limit and cannot count is taken to need a token for each byte of UTF-8.
        """
        counts = [
            (_count(embedder, text), embedder.info.max_tokens)
            for embedder in self._embedders
            if isinstance(embedder, TokenCounter) or embedder.info.max_tokens is not None
        ]
        limited = [(count, limit) for count, limit in counts if limit is not None]
        if not limited:
            return max(count for count, _ in counts)
        lowest = min(limit for _, limit in limited)
        return max(-(-count * lowest // limit) for count, limit in limited)


def _count(embedder: Embedder, text: str) -> int:
    if isinstance(embedder, TokenCounter):
        return embedder.count_tokens(text)
    return len(text.encode("utf-8", "surrogatepass")) + _SPECIAL_TOKENS


def _directions(vectors: NDArray[np.float32], norms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale rows to length 1; zero has no direction and stays."""
    zero = np.zeros(vectors.shape)
    return np.divide(vectors, norms, out=zero, where=norms >= MIN_COSINE_NORM)


def _attention(norms: NDArray[np.float64]) -> NDArray[np.float64]:
    mean = norms.mean(axis=0)
    relative = np.divide(norms, mean, out=np.zeros(norms.shape), where=mean > 0)
    exponents = np.exp(relative)  # at most e to the number of parts
    shares: NDArray[np.float64] = exponents / exponents.sum(axis=0)
    return shares


def _checked_shares(
    weights: Sequence[float] | None, method: Combination, count: int
) -> list[float] | None:
    """Return weights that add up to 1; None where the method has none."""
    if method not in _WEIGHTED:
        if weights is not None:
            raise InvalidInputError(
                f"method {method.value!r} takes no weights; leave them out, or use 'average' or "
                "'concatenate'"
            )
        return None
    try:
        given = [1.0] * count if weights is None else [float(weight) for weight in weights]
    except (TypeError, ValueError):
        given = []
    total = sum(given)
    if len(given) != count or not all(each >= 0 for each in given) or not 0 < total < math.inf:
        raise InvalidInputError(
            f"weights is {weights!r}, expected {count} finite numbers of at least 0, not all 0"
        )
    return [weight / total for weight in given]
