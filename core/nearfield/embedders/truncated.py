"""Shorter vectors from models that put what matters most first."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.embedders.fingerprint import derived_fingerprint
from nearfield.embedders.unit import unit_vectors
from nearfield.embedders.wrapper import Wrapper
from nearfield.errors import InvalidInputError
from nearfield.validation import check_positive

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from numpy.typing import NDArray

    from nearfield.documents import EmbeddingInfo
    from nearfield.embedders.base import Embedder

__all__ = ["TruncatedEmbedder"]


class TruncatedEmbedder(Wrapper):
    """Keeps the first components of each vector; normalised vectors are normalised again.

    Made for models trained for it, which put what matters most first. Others lose more, as the
    table in docs/embedders.md shows for the default one. Source: Kusupati et al., "Matryoshka
    Representation Learning", NeurIPS 2022.

    Args:
        embedder: Makes the whole vectors.
        dimension: How many components to keep.

    Raises:
        InvalidInputError: The dimension is below 1. At the first use: the vectors have fewer
            components.
    """

    def __init__(self, embedder: Embedder, dimension: int) -> None:
        super().__init__(embedder)
        self._dimension = check_positive(dimension, "dimension")

    def __repr__(self) -> str:
        return f"TruncatedEmbedder({self._embedder!r}, {self._dimension})"

    @property
    def info(self) -> EmbeddingInfo:
        """The space the shorter vectors live in."""
        whole = self._embedder.info
        if self._dimension > whole.dimension:
            raise InvalidInputError(
                f"dimension is {self._dimension}, but the vectors of {whole.model!r} have "
                f"{whole.dimension} components; give that or less"
            )
        return replace(
            whole,
            model=f"truncated({whole.model}, {self._dimension})",
            dimension=self._dimension,
            fingerprint=derived_fingerprint("truncated", [whole], dimension=self._dimension),
        )

    def _run(
        self, embed: Callable[[Sequence[Any]], NDArray[np.float32]], items: Sequence[Any]
    ) -> NDArray[np.float32]:
        return self._truncated(embed(items), self.info)

    async def _arun(
        self,
        embed: Callable[[Sequence[Any]], Awaitable[NDArray[np.float32]]],
        items: Sequence[Any],
    ) -> NDArray[np.float32]:
        return self._truncated(await embed(items), self.info)

    def _truncated(self, whole: NDArray[np.float32], info: EmbeddingInfo) -> NDArray[np.float32]:
        vectors = np.ascontiguousarray(whole[:, : info.dimension])
        if not info.normalized:
            return vectors
        return unit_vectors(
            vectors, reason=f"its first {info.dimension} components are all 0; keep more"
        )
