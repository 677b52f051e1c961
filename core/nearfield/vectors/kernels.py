"""FAISS's kernels for float32: they take differences in one pass, with no room for them.

They check nothing. All arrays are C-contiguous float32 of one dimension, ids C-contiguous int64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nearfield.faiss_library import faiss_library

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]

__all__ = [
    "largest_products",
    "manhattan_pairs",
    "nearest",
    "squared_distances",
    "squared_distances_by_id",
    "without_own",
]


def squared_distances(one: FloatArray, many: FloatArray) -> FloatArray:
    """Return the squared distances of a vector, shape (1, dimension), to many, shape (n,)."""
    faiss = faiss_library()
    found = np.empty(len(many), np.float32)
    pointers = (faiss.swig_ptr(array) for array in (found, one, many))
    faiss.fvec_L2sqr_ny(*pointers, many.shape[1], len(many))
    return found


def squared_distances_by_id(x: FloatArray, y: FloatArray, ids: IntArray) -> FloatArray:
    """Return the squared distance of x[i] and y[ids[i, j]] for all i and j, shape of ``ids``."""
    faiss = faiss_library()
    found = np.empty(ids.shape, np.float32)
    pointers = (faiss.swig_ptr(array) for array in (found, x, y, ids))
    faiss.fvec_L2sqr_by_idx(*pointers, x.shape[1], *ids.shape)
    return found


def manhattan_pairs(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the sum of absolute differences of each x[i] and y[j], shape (n, m)."""
    faiss = faiss_library()
    found: FloatArray = faiss.pairwise_distances(x, y, faiss.METRIC_L1)
    return found


def nearest(x: FloatArray, y: FloatArray, k: int) -> tuple[FloatArray, IntArray]:
    """Find the k nearest y of each x: squared distances and rows, the nearest first, (n, k)."""
    distances, rows = faiss_library().knn(x, y, k)
    return distances, rows


def largest_products(x: FloatArray, y: FloatArray, k: int) -> tuple[FloatArray, IntArray]:
    """Find the k y with the largest inner products: products and rows, the largest first."""
    faiss = faiss_library()
    products, rows = faiss.knn(x, y, k, metric=faiss.METRIC_INNER_PRODUCT)
    return products, rows


def without_own(found: IntArray, own: IntArray) -> IntArray:
    """Drop a column: what is the row's own, or the last where many equals pushed it out.

    Args:
        found: Shape (n, k).
        own: Shape (n,), −1 where a row cannot be among what was found.
    """
    dropped = found == own[:, np.newaxis]
    dropped[~dropped.any(axis=1), -1] = True
    others: IntArray = found[~dropped].reshape(len(found), -1)
    return others
