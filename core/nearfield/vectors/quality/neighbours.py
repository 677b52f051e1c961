"""The nearest rows of some rows, by exact comparison in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nearfield.vectors import kernels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

__all__ = ["Neighbours", "largest_products", "nearest"]

_ROWS_AT_ONCE = 256


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The k nearest rows of each of m rows, itself left out; nearest first.

    Attributes:
        rows: The positions of the m rows, shape (m,).
        indices: The positions of their neighbours, shape (m, k).
        distances: The euclidean distances to them, shape (m, k).
    """

    rows: NDArray[np.int64]
    indices: NDArray[np.int64]
    distances: NDArray[np.float64]

    @property
    def k(self) -> int:
        """Neighbours of each row."""
        return int(self.indices.shape[1])

    def renamed(self, positions: NDArray[np.int64]) -> Neighbours:
        """Return the same with other positions: ``positions[i]`` in place of i."""
        return Neighbours(positions[self.rows], positions[self.indices], self.distances)


def nearest(
    queries: NDArray[np.float32],
    blocks: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]],
    k: int,
    *,
    own: NDArray[np.int64],
    take: Callable[[NDArray[np.int64]], NDArray[np.float32]],
) -> Neighbours:
    """Find the k nearest rows of each query, itself left out; fewer where there are not so many.

    Args:
        queries: Shape (m, dimension).
        blocks: Positions and rows to compare with.
        k: How many to find.
        own: Each query's own position, which is no neighbour of it; −1 where it has none.
        take: Returns rows by their positions.
    """
    # Distances do not depend on the origin, but their rounding does: the kernel computes them as
    # ‖a‖² + ‖b‖² − 2ab, which loses all digits where rows are long and near each other.
    centre = queries.mean(axis=0, dtype=np.float64).astype(np.float32)
    shifted = ((positions, rows - centre) for positions, rows in blocks)
    found = _candidates(queries - centre, shifted, k + 1)
    kept = kernels.without_own(found, own)[:, :k]
    distances = np.empty(kept.shape)
    for start in range(0, len(queries), _ROWS_AT_ONCE):
        some = slice(start, start + _ROWS_AT_ONCE)
        rows = take(kept[some].ravel()).reshape(*kept[some].shape, -1)
        differences = rows - queries[some, np.newaxis]
        distances[some] = np.sqrt(np.einsum("ijk,ijk->ij", differences, differences))
    order = np.argsort(distances, axis=1, kind="stable")
    return Neighbours(
        own, np.take_along_axis(kept, order, axis=1), np.take_along_axis(distances, order, axis=1)
    )


def largest_products(rows: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Find the k rows with the largest inner product with each row, itself left out."""
    everything = np.arange(len(rows))
    _, found = kernels.largest_products(rows, rows, min(k + 1, len(rows)))
    return kernels.without_own(found, everything)


def _candidates(
    queries: NDArray[np.float32],
    blocks: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]],
    count: int,
) -> NDArray[np.int64]:
    """Return the positions of the nearest rows of all blocks, shape (m, at most count)."""
    found = np.empty((len(queries), 0), dtype=np.int64)
    costs = np.empty((len(queries), 0), dtype=np.float32)
    for positions, block in blocks:
        squared, places = kernels.nearest(queries, block, min(count, len(block)))
        costs = np.hstack([costs, squared])
        found = np.hstack([found, positions[places]])
        best = np.argsort(costs, axis=1, kind="stable")[:, :count]
        costs = np.take_along_axis(costs, best, axis=1)
        found = np.take_along_axis(found, best, axis=1)
    return found
