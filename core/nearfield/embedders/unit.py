"""Vectors scaled to length 1, where they have a direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nearfield.errors import EmbeddingError
from nearfield.validation import MIN_COSINE_NORM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["lengths", "unit_vectors"]


def lengths(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the euclidean lengths of the rows, shape (n, 1), summed in float64."""
    squares: NDArray[np.float64]
    squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    return np.sqrt(squares[:, np.newaxis])


def unit_vectors(
    vectors: NDArray[np.float32],
    *,
    reason: str,
    what: str = "text",
    places: Sequence[int] | None = None,
) -> NDArray[np.float32]:
    """Scale rows to length 1.

    Args:
        vectors: Finite, of shape (n, dimension); left as they are.
        reason: Why one of them may be zero and what to do, for the error.
        what: What each stands for, for the error.
        places: Where each of these stands in a whole, for the error.

    Raises:
        EmbeddingError: A row has no direction. The message names the text by its place.
    """
    norms = lengths(vectors)
    if (norms < MIN_COSINE_NORM).any():
        row = int(np.argmin(norms))
        place = row if places is None else places[row]
        raise EmbeddingError(f"the vector of {what} {place} is zero and has no direction: {reason}")
    return np.divide(vectors, norms, dtype=np.float64).astype(np.float32)
