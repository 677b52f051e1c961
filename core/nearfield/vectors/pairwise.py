"""Vectors compared each with each: matrices of similarities or distances.

Matrix products do the work, tile by tile, so that beside the result only some megabytes are
needed. Formulas, and what a zero vector gives, are those of :mod:`nearfield.vectors.similarity`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from nearfield.vectors.arrays import Array, as_two, blocks, compute, compute_type
from nearfield.vectors.kernels import manhattan_pairs
from nearfield.vectors.normalization import lengths, squares, units, usual

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["pairwise_cosine", "pairwise_dot", "pairwise_euclidean", "pairwise_manhattan"]

_TILE_ROWS, _TILE_COLUMNS = 1024, 2048
_BLOCK_ITEMS = 1 << 17
_CANCELLED = {np.dtype(np.float32): 2.0**-4, np.dtype(np.float64): 2.0**-20}
"""‖x‖² + ‖y‖² − 2x·y errs by about 15 units of roundoff of ‖x‖² + ‖y‖² (the most seen in up to
4,096 dimensions). Above this share of it the distance is right to 1e-5, in float64 to 1e-9."""
_UNDERFLOW = {np.dtype(np.float32): 2.0**-80, np.dtype(np.float64): 2.0**-900}
"""A squared distance so small may have lost terms."""
_SHIFTED = 1 / 4
"""From this share of the mean squared length on, the mean is worth taking off."""
_MANY = 1 / 64
"""From this share of cancelled pairs on, a product in float64 is cheaper than their differences."""


def pairwise_cosine(a: object, b: object | None = None) -> Array:
    """Compare the direction of each vector with that of each other.

    Args:
        a: Shape (n, dimension); a single vector counts as one row.
        b: Shape (m, dimension); ``a`` itself when left out.

    Returns:
        Shape (n, m), in [−1, 1]; 0 where one of the two is zero.

    Raises:
        InvalidVectorError: Not finite, or not a matrix of real numbers.
        DimensionMismatchError: The dimensions differ.
    """
    return _pairwise(_cosine, a, b)


def pairwise_dot(a: object, b: object | None = None) -> Array:
    """Return inner products of all pairs; arguments as in :func:`pairwise_cosine`.

    The error is relative to ‖x‖ ‖y‖. A result beyond the dtype raises ``InvalidVectorError``.
    """
    return _pairwise(_dot, a, b)


def pairwise_euclidean(a: object, b: object | None = None) -> Array:
    """Return Euclidean distances of all pairs; arguments as in :func:`pairwise_cosine`.

    Near points are right as well: where ‖x‖² + ‖y‖² − 2x·y cancels, which a matrix product gives,
    the distance is computed from the differences. Equal vectors have distance 0.
    """
    return _pairwise(_euclidean, a, b)


def pairwise_manhattan(a: object, b: object | None = None) -> Array:
    """Return sums of absolute differences of all pairs; arguments as in :func:`pairwise_cosine`.

    No matrix product gives them: they take about five times as long as the other measures.
    """
    return _pairwise(_manhattan, a, b)


def _pairwise(kernel: Callable[[Array, Array], Array], a: object, b: object | None) -> Array:
    left, right = as_two(a, a if b is None else b)
    dtype = compute_type(left, right)
    result = np.empty((len(left), len(right)), dtype)
    for rows in blocks(len(left), _TILE_ROWS):
        for columns in blocks(len(right), _TILE_COLUMNS):
            tile = compute(kernel, (left, rows), (right, columns), dtype=dtype)
            result[rows, columns] = tile
    return result


def _dot(x: Array, y: Array) -> Array:
    products: Array = x @ y.T
    return products


def _cosine(x: Array, y: Array) -> Array:
    x, yy = units(x), squares(y)
    cosines = _dot(x, y)
    cosines /= np.sqrt(yy)
    odd = ~usual(yy)
    if odd.any():
        cosines[:, odd] = _dot(x, units(y[odd]))
    return np.clip(cosines, -1, 1, out=cosines)


def _euclidean(x: Array, y: Array) -> Array:
    few = y[::8]
    shift = few.mean(axis=0)
    near_x, near_y = x, y
    if shift @ shift > _SHIFTED * squares(few).mean():
        near_x, near_y = x - shift, y - shift  # no distance changes, and less cancels
    xx, yy = squares(near_x)[:, np.newaxis], squares(near_y)
    share, floor = _CANCELLED[x.dtype], _UNDERFLOW[x.dtype]
    most = share * (xx.max() + yy.max()) + floor
    if not np.isfinite(most):
        return _euclidean_by_differences(x, y)
    tile = _dot(near_x, near_y)
    tile *= -2
    tile += xx
    tile += yy
    if tile.min() > most:
        return np.sqrt(tile, out=tile)
    cancelled = tile <= share * (xx + yy) + floor
    if x.dtype == np.float32 and np.count_nonzero(cancelled) > _MANY * tile.size:
        return _euclidean(x.astype(np.float64), y.astype(np.float64))
    np.sqrt(tile, out=tile)
    i, j = np.nonzero(cancelled)
    tile[i, j] = _distances(x, y, i, j)
    return tile


def _euclidean_by_differences(x: Array, y: Array) -> Array:
    if x.dtype == np.float32 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return np.full((len(x), len(y)), np.nan, x.dtype)  # float64 is next, or the input is bad
    i, j = np.indices((len(x), len(y))).reshape(2, -1)
    return _distances(x, y, i, j).reshape(len(x), len(y))


def _distances(x: Array, y: Array, i: NDArray[np.int64], j: NDArray[np.int64]) -> Array:
    """Return the distance of x[i] and y[j], for each of the pairs, in float64."""
    found = np.empty(len(i))
    for part in blocks(len(i), max(1, _BLOCK_ITEMS // x.shape[1])):
        found[part] = lengths(x[i[part]].astype(np.float64) - y[j[part]])
    return found


def _manhattan(x: Array, y: Array) -> Array:
    if x.dtype == np.float32:
        return manhattan_pairs(x, y)
    tile = np.empty((len(x), len(y)))
    ones = np.ones(x.shape[1])
    for columns in blocks(len(y), max(1, _BLOCK_ITEMS // x.shape[1])):
        others = y[columns]
        differences = np.empty_like(others)
        for row, vector in zip(tile, x, strict=True):
            np.subtract(others, vector, out=differences)
            np.abs(differences, out=differences)
            row[columns] = differences @ ones
    return tile
