"""Vectors compared row by row: two sets of the same size, or one vector against many.

========= ======================== =================================================
Function  Formula                  A zero vector
========= ======================== =================================================
cosine    x·y / (‖x‖ ‖y‖)          0 with every vector, itself too: it has no direction
dot       x·y                      0
euclidean ‖x − y‖ = √Σ(xᵢ − yᵢ)²   the other's length
manhattan Σ|xᵢ − yᵢ|               the sum of the other's magnitudes
========= ======================== =================================================

cosine and dot are similarities, euclidean and manhattan are distances. Results are float32 where
that holds the inputs exactly (float32, float16, integers of 16 bits), and float64 otherwise.
:mod:`nearfield.vectors.pairwise` compares every row with every row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nearfield.errors import InvalidInputError
from nearfield.vectors.arrays import Array, as_two, blocks, compute, compute_type
from nearfield.vectors.kernels import (
    manhattan_pairs,
    squared_distances,
    squared_distances_by_id,
)
from nearfield.vectors.normalization import lengths, squares, units, usual

__all__ = ["cosine", "dot", "euclidean", "manhattan"]

_BLOCK_ROWS = 512
"""Two blocks and what is made of them stay in a core's cache."""
_LONG_BLOCK_ROWS = 4096
"""For what is done in one pass, with nothing made on the way."""


def cosine(a: object, b: object) -> Array:
    """Compare directions: 1 for the same, −1 for opposite, 0 at a right angle or without one.

    Args:
        a: Shape (n, dimension), or (dimension,), which is compared with each row of the other.
        b: As ``a``, with as many rows.

    Returns:
        Shape (n,), in [−1, 1]; shape () for two single vectors.

    Raises:
        InvalidVectorError: Not finite, or not a matrix of real numbers.
        DimensionMismatchError: The dimensions differ.
        InvalidInputError: The numbers of rows differ.
    """
    return _row_by_row(_cosine, a, b)


def dot(a: object, b: object) -> Array:
    """Return inner products; arguments, shapes and errors as in :func:`cosine`.

    The error is relative to ‖x‖ ‖y‖. A result beyond the dtype raises ``InvalidVectorError``.
    """
    return _row_by_row(_dot, a, b, _LONG_BLOCK_ROWS)


def euclidean(a: object, b: object) -> Array:
    """Return Euclidean distances; arguments, shapes and errors as in :func:`dot`."""
    return _row_by_row(_euclidean, a, b, _LONG_BLOCK_ROWS)


def manhattan(a: object, b: object) -> Array:
    """Return sums of absolute differences; arguments, shapes and errors as in :func:`dot`."""
    return _row_by_row(_manhattan, a, b)


def _row_by_row(
    kernel: Callable[[Array, Array], Array], a: object, b: object, block_rows: int = _BLOCK_ROWS
) -> Array:
    left, right = as_two(a, b)
    if not (left.single or right.single) and len(left) != len(right):
        raise InvalidInputError(
            f"{len(left)} vectors cannot be compared row by row with {len(right)}; give as many, "
            "one of shape (dimension,), or compare all pairs with nearfield.vectors.pairwise"
        )
    dtype = compute_type(left, right)
    count = len(right) if left.single else len(left)
    one = slice(0, 1)
    result = np.empty(count, dtype)
    for part in blocks(count, block_rows):
        parts = (left, one if left.single else part), (right, one if right.single else part)
        result[part] = compute(kernel, *parts, dtype=dtype)
    return result.reshape(()) if left.single and right.single else result


def _dot(x: Array, y: Array) -> Array:
    products: Array = np.einsum("ij,ij->i", x, y)
    return products


def _dot_in_cache(x: Array, y: Array) -> Array:
    """Return what :func:`_dot` does: faster for one against many, once the many were read."""
    if len(x) == 1:
        return np.asarray(y @ x[0])
    if len(y) == 1:
        return np.asarray(x @ y[0])
    return _dot(x, y)


def _cosine(x: Array, y: Array) -> Array:
    xx, yy = squares(x), squares(y)
    cosines: Array = _dot_in_cache(x, y) / (np.sqrt(xx) * np.sqrt(yy))
    odd = ~(usual(xx) & usual(yy))
    if odd.any():
        x, y = np.broadcast_arrays(x, y)
        cosines[odd] = _dot(units(x[odd]), units(y[odd]))
    return np.minimum(np.maximum(cosines, -1, out=cosines), 1, out=cosines)


def _euclidean(x: Array, y: Array) -> Array:
    if x.dtype != np.float32:
        return lengths(x - y)
    if len(x) == 1:
        squared = squared_distances(x, y)
    elif len(y) == 1:
        squared = squared_distances(y, x)
    else:
        squared = squared_distances_by_id(x, y, np.arange(len(x), dtype=np.int64)[:, np.newaxis])[
            :, 0
        ]
    distances: Array = np.sqrt(squared)
    odd = ~usual(squared)
    if odd.any():
        x, y = np.broadcast_arrays(x, y)
        distances[odd] = lengths(x[odd] - y[odd])
    return distances


def _manhattan(x: Array, y: Array) -> Array:
    if x.dtype == np.float32 and 1 in (len(x), len(y)):
        return manhattan_pairs(x, y).ravel()
    differences = x - y
    np.abs(differences, out=differences)
    sums: Array = differences @ np.ones(differences.shape[1], differences.dtype)
    return sums
