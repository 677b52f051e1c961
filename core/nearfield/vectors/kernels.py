"""FAISS's kernels for float32: they take differences in one pass, with no room for them.

They check nothing. All arrays are C-contiguous float32 of one dimension, ids C-contiguous int64.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]

__all__ = ["manhattan_pairs", "nearest", "squared_distances", "squared_distances_by_id"]


def squared_distances(one: FloatArray, many: FloatArray) -> FloatArray:
    """Return the squared distances of a vector, shape (1, dimension), to many, shape (n,)."""
    faiss = _faiss()
    found = np.empty(len(many), np.float32)
    pointers = (faiss.swig_ptr(array) for array in (found, one, many))
    faiss.fvec_L2sqr_ny(*pointers, many.shape[1], len(many))
    return found


def squared_distances_by_id(x: FloatArray, y: FloatArray, ids: IntArray) -> FloatArray:
    """Return the squared distance of x[i] and y[ids[i, j]] for all i and j, shape of ``ids``."""
    faiss = _faiss()
    found = np.empty(ids.shape, np.float32)
    pointers = (faiss.swig_ptr(array) for array in (found, x, y, ids))
    faiss.fvec_L2sqr_by_idx(*pointers, x.shape[1], *ids.shape)
    return found


def manhattan_pairs(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the sum of absolute differences of each x[i] and y[j], shape (n, m)."""
    faiss = _faiss()
    found: FloatArray = faiss.pairwise_distances(x, y, faiss.METRIC_L1)
    return found


def nearest(x: FloatArray, y: FloatArray, k: int) -> IntArray:
    """Return the rows of the k nearest y of each x, the nearest first, shape (n, k)."""
    _, found = _faiss().knn(x, y, k)
    rows: IntArray = found
    return rows


@cache
def _faiss() -> Any:
    """Import faiss at first use: it is heavy, and carries no types."""
    import faiss

    return faiss
