"""The distances of all pairs of some rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nearfield.vectors.pairwise import pairwise_euclidean

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["distance_table", "pair_distances"]

_ROWS_AT_ONCE = 256


def pair_distances(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the euclidean distances of all pairs of different rows, shape (n(n − 1)/2,)."""
    parts = [np.empty(0)]
    for start in range(0, len(rows) - 1, _ROWS_AT_ONCE):
        table = distance_table(rows[start : start + _ROWS_AT_ONCE], rows[start:])
        parts.append(table[np.triu_indices(len(table), 1, table.shape[1])])
    return np.concatenate(parts)


def distance_table(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the euclidean distances of each left row to each right row, in float64."""
    return pairwise_euclidean(left, right).astype(np.float64)
