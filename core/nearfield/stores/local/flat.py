"""The exact search: every vector is scored, and the best are scored again in float64."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from nearfield.documents import Metric
from nearfield.faiss_library import faiss_library

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]
    Ranked = tuple[IntArray, NDArray[np.float64]]

__all__ = ["NOTHING", "exact_scores", "rerank", "top_k_many", "top_k_one"]

_UNIT_ROUNDOFF = 2.0**-24
_UNDERFLOW = 2.0**-126
"""What a product of float32 can lose where it is too small for one, even if that becomes zero."""
_NEAR = 2.0**-80
"""Squared distances that differ by so little, or underflow, can give one float64 score: for small
r, 1/(1 + r) changes in steps of about 2⁻⁵³, which are wider than the relative error of r² from
r = 10⁻⁹ downwards."""
_BATCH_SCORES = 1 << 23
"""Scores held at once by a batch: 32 MiB of float32."""
_ROWS_FOLDED = 64

NOTHING: Ranked = (np.empty(0, np.int64), np.empty(0))


def exact_scores(vectors: FloatArray, query: FloatArray, metric: Metric) -> NDArray[np.float64]:
    """Score vectors against a query in float64.

    Each row is summed on its own in a fixed order, so equal vectors score equally wherever they
    stand. Cosine is rounded to float32, so that vectors which differ only in length tie.

    Args:
        vectors: Shape (n, dimension).
        query: Shape (dimension,).
        metric: How to compare.

    Returns:
        Similarities of shape (n,).
    """
    x, y = vectors.astype(np.float64), query.astype(np.float64)
    add = np.add.reduce  # what sum() calls, after a detour
    if metric is Metric.EUCLIDEAN:
        difference = x - y
        distances = np.sqrt(add(difference * difference, axis=1))
        return np.asarray(1.0 / (1.0 + distances))
    products = np.asarray(add(x * y, axis=1))
    if metric is Metric.DOT:
        return products
    cosines = products / (np.sqrt(add(x * x, axis=1)) * math.sqrt(add(y * y)))
    bounded = np.minimum(np.maximum(cosines, -1.0), 1.0)
    return np.asarray(bounded, np.float32).astype(np.float64)


def top_k_one(
    vectors: FloatArray,
    norms: FloatArray,
    queries: FloatArray,
    k: int,
    *,
    metric: Metric,
    positions: IntArray | None,
) -> list[Ranked]:
    """Find the k rows that match one query best, exactly.

    Args:
        vectors: Shape (n, dimension), C-contiguous.
        norms: Their lengths, shape (n,).
        queries: Shape (1, dimension), C-contiguous.
        k: How many.
        metric: How to compare.
        positions: The rows to consider, ascending; None for all.

    Returns:
        For the query, positions and scores, best first. All rows that tie with the k-th best are
        there, so that the caller can order ties by id; hence more than k rows may come back.
    """
    count = len(vectors) if positions is None else len(positions)
    if count == 0:
        return [NOTHING]
    query = queries[0]
    products = _kernel(vectors, query, metric, positions)
    if positions is not None:
        norms = norms[positions]
    dimension, query_norm = vectors.shape[1], _norm(query)
    # A float32 sum of d products errs by at most d·u·Σ|xᵢqᵢ|, in any order of summation (Higham,
    # Accuracy and Stability of Numerical Algorithms, 2002, section 3.1).
    error = (dimension + 4) * _UNIT_ROUNDOFF
    if metric is Metric.COSINE:
        best = _candidates(products / norms, k, absolute=error * query_norm)
    elif metric is Metric.DOT:
        longest = float(norms.max())
        margin = error * longest * query_norm + dimension * _UNDERFLOW
        best = _candidates(products, k, absolute=margin)
    else:
        best = _candidates(-products, k, absolute=_NEAR, relative=error)
    if positions is not None:
        best = positions[best]
    return [_rescore(vectors, query, best, k, metric)]


def top_k_many(
    vectors: FloatArray,
    norms: FloatArray,
    queries: FloatArray,
    k: int,
    *,
    metric: Metric,
    positions: IntArray | None,
) -> list[Ranked]:
    """Answer many queries with matrix products; arguments and results as in :func:`top_k_one`."""
    if positions is not None:
        vectors, norms = vectors[positions], norms[positions]
    count, dimension = vectors.shape
    if count == 0:
        return [NOTHING for _ in queries]
    error = (dimension + 4) * _UNIT_ROUNDOFF
    longest = float(norms.max())
    step = max(1, _BATCH_SCORES // count)
    results = []
    for start in range(0, len(queries), step):
        block = queries[start : start + step]
        for query, products in zip(block, block @ vectors.T, strict=True):
            query_norm = _norm(query)
            if metric is Metric.COSINE:
                best = _candidates(products / norms, k, absolute=error * query_norm)
            elif metric is Metric.DOT:
                margin = error * longest * query_norm + dimension * _UNDERFLOW
                best = _candidates(products, k, absolute=margin)
            else:
                # ‖x − q‖² = ‖x‖² − 2x·q + ‖q‖²; cancellation is paid for with a wider margin.
                rough = 2.0 * products - norms * norms
                margin = 2 * error * (longest + query_norm) ** 2 + _NEAR
                best = _candidates(rough, k, absolute=margin)
            rows, scores = _rescore(vectors, query, best, k, metric)
            results.append((rows if positions is None else positions[rows], scores))
    return results


def rerank(
    vectors: FloatArray,
    norms: FloatArray,
    queries: FloatArray,
    candidates: IntArray,
    k: int,
    *,
    metric: Metric,
) -> list[Ranked]:
    """Find the k best of some rows for each query.

    Args:
        vectors: Shape (n, dimension), C-contiguous.
        norms: Their lengths, shape (n,).
        queries: Shape (queries, dimension), C-contiguous.
        candidates: The rows to compare with each query, shape (queries, more than k).
        k: How many.
        metric: How to compare.

    Returns:
        As :func:`top_k_one`, for each query.
    """
    rough = _products_by_row(vectors, queries, candidates, metric)
    dimension = vectors.shape[1]
    error = (dimension + 4) * _UNIT_ROUNDOFF
    if metric is Metric.COSINE:
        rough /= norms[candidates]
    elif metric is Metric.EUCLIDEAN:
        np.negative(rough, out=rough)
    last = rough.shape[1] - k
    found = []
    for query, rows, products in zip(queries, candidates, rough, strict=True):
        kth = np.partition(products, last)[last]
        if metric is Metric.COSINE:
            margin = error * _rough_norm(query)
        elif metric is Metric.DOT:
            margin = error * norms[rows].max() * _rough_norm(query) + dimension * _UNDERFLOW
        else:
            margin = _NEAR - error * kth
        found.append(_rescore(vectors, query, rows[products >= kth - 3 * margin], k, metric))
    return found


def _products_by_row(
    vectors: FloatArray, queries: FloatArray, rows: IntArray, metric: Metric
) -> FloatArray:
    """Compare each query with rows of its own: inner products, or squared distances."""
    faiss = faiss_library()
    kernel = (
        faiss.fvec_L2sqr_by_idx if metric is Metric.EUCLIDEAN else faiss.fvec_inner_products_by_idx
    )
    count, width = rows.shape
    out = np.empty(rows.shape, np.float32)
    to, q, x = faiss.swig_ptr(out), faiss.swig_ptr(queries), faiss.swig_ptr(vectors)
    # It shares queries out among a team of threads that costs more than it brings.
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        kernel(to, q, x, faiss.swig_ptr(rows), vectors.shape[1], count, width)
    finally:
        faiss.omp_set_num_threads(threads)
    return out


def _kernel(
    vectors: FloatArray, query: FloatArray, metric: Metric, positions: IntArray | None
) -> FloatArray:
    """Compute inner products, or squared distances for euclidean, on this thread alone."""
    faiss = faiss_library()

    count = len(vectors) if positions is None else len(positions)
    dimension = vectors.shape[1]
    out = np.empty(count, np.float32)
    to, q, x = faiss.swig_ptr(out), faiss.swig_ptr(query), faiss.swig_ptr(vectors)
    if positions is None:
        kernel = faiss.fvec_L2sqr_ny if metric is Metric.EUCLIDEAN else faiss.fvec_inner_products_ny
        kernel(to, q, x, dimension, count)
        return out
    products: FloatArray = _products_by_row(
        vectors, query[np.newaxis], positions[np.newaxis], metric
    )[0]
    return products


def _norm(vector: FloatArray) -> float:
    wide = vector.astype(np.float64)
    return math.sqrt(wide @ wide)


def _rough_norm(vector: FloatArray) -> float:
    """Return no less than the length, for error bounds."""
    return 1.001 * math.sqrt(vector @ vector)


def _candidates(
    rough: FloatArray, k: int, *, absolute: float = 0.0, relative: float = 0.0
) -> IntArray:
    """Return every row that may be among the k best, given how far each rough score can err."""
    if k >= len(rough):
        return np.arange(len(rough))
    kth = _kth_largest(rough, k)
    # Twice the error, as the k-th and the row in question may err in opposite directions, and half
    # as much again for the rounding of this sum and of the scores.
    return np.flatnonzero(rough >= kth - 3 * (absolute + relative * abs(kth)))


def _kth_largest(values: FloatArray, k: int) -> float:
    columns = len(values) // _ROWS_FOLDED
    if columns > k:
        # The maxima of the columns are values too, so their k-th largest is no larger than that of
        # all, and hardly anything above it is left to be sorted.
        maxima = values[: columns * _ROWS_FOLDED].reshape(_ROWS_FOLDED, columns).max(axis=0)
        values = values[values >= np.partition(maxima, columns - k)[columns - k]]
    return float(np.partition(values, len(values) - k)[len(values) - k])


def _rescore(
    vectors: FloatArray, query: FloatArray, rows: IntArray, k: int, metric: Metric
) -> Ranked:
    scores = exact_scores(vectors[rows], query, metric)
    order = (-scores).argsort(kind="stable")
    if len(order) > k:
        order = order[: np.count_nonzero(scores >= scores[order[k - 1]])]
    return rows[order], scores[order]
