"""Means of vectors, summed in float64: of all, weighted, or one for each label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.errors import InvalidInputError
from nearfield.vectors.arrays import Array, Rows, as_rows, blocks, compute_type, fit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Centroids", "centroid", "centroids", "mean"]

_BLOCK_ROWS = 128
"""So few that their float32 sum errs by less than 1e-5 of their magnitude."""
_GATHERED_ROWS = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Centroids:
    """One centroid for each label.

    Attributes:
        labels: The labels, sorted, shape (k,).
        vectors: Their centroids, shape (k, dimension).
        counts: How many vectors carry each label, shape (k,).
    """

    labels: NDArray[Any]
    vectors: Array
    counts: NDArray[np.int64]


def centroid(vectors: object, *, weights: object | None = None) -> Array:
    """Return the mean of vectors, Σwᵢxᵢ / Σwᵢ.

    Args:
        vectors: Shape (n, dimension), n at least 1.
        weights: Shape (n,), at least 0 and not all 0; all equal when left out.

    Returns:
        Shape (dimension,). It is not normalised: the centroid of unit vectors is shorter than 1.

    Raises:
        InvalidVectorError: Not finite, or not a matrix of real numbers.
        InvalidInputError: No vectors, or weights that cannot be used.
    """
    rows = as_rows(vectors)
    _require_some(rows)
    weighted = None if weights is None else _check_weights(weights, len(rows))
    return fit(mean(rows, weighted), compute_type(rows))


def centroids(vectors: object, labels: object, *, weights: object | None = None) -> Centroids:
    """Return the mean of the vectors of each label.

    Args:
        vectors: Shape (n, dimension).
        labels: Shape (n,): integers, strings, or what else numpy sorts.
        weights: As in :func:`centroid`; those of no label may be all 0.

    Raises:
        InvalidVectorError: Not finite, or not a matrix of real numbers.
        InvalidInputError: Labels or weights that do not fit the vectors.
    """
    rows = as_rows(vectors)
    names, groups, counts = _grouped(labels, len(rows))
    weighted = np.ones(len(rows)) if weights is None else _check_weights(weights, len(rows))
    totals = np.bincount(groups, weights=weighted, minlength=len(names))
    if not (totals > 0).all():
        label = names.tolist()[int(np.argmin(totals > 0))]
        raise InvalidInputError(f"the weights of label {label!r} are all 0; leave its vectors out")
    sums = np.zeros((len(names), rows.dimension))
    order = np.argsort(groups, kind="stable")
    with np.errstate(all="ignore"):  # a sum that is not finite is looked into below
        for part in blocks(len(rows), _GATHERED_ROWS):
            several = order[part]
            members = groups[several]
            starts = np.flatnonzero(np.diff(members, prepend=-1))
            gathered = rows.values[several].astype(np.float64)
            if weights is not None:
                gathered *= weighted[several, np.newaxis]
            sums[members[starts]] += np.add.reduceat(gathered, starts, axis=0)
    if not np.isfinite(sums).all():
        rows.refuse_not_finite()
    return Centroids(names, fit(sums / totals[:, np.newaxis], compute_type(rows)), counts)


def mean(rows: Rows, weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Return the mean of at least one row in float64."""
    with np.errstate(all="ignore"):
        total = _mean(rows, weights, compute_type(rows))
        if not np.isfinite(total).all():
            rows.refuse_not_finite()
            total = _mean(rows, weights, np.dtype(np.float64))
    fit(total, total.dtype)
    return total


def _mean(
    rows: Rows, weights: NDArray[np.float64] | None, dtype: np.dtype[Any]
) -> NDArray[np.float64]:
    """Sum each block in the dtype, and the blocks in float64."""
    total, count = np.zeros(rows.dimension), len(rows)
    for part in blocks(count, _BLOCK_ROWS):
        block = rows.block(part, dtype)
        if weights is None:
            one = np.add.reduce(block, axis=0)
        else:
            one = np.einsum("i,ij->j", weights[part].astype(dtype), block)
        # Divided before it is added up: a sum may be too large where the mean is not.
        total += one.astype(np.float64) / count
    return total if weights is None else total / weights.mean()


def _require_some(rows: Rows) -> None:
    if not len(rows):
        raise InvalidInputError("no vectors have no centroid; give at least one")


def _check_weights(weights: object, count: int) -> NDArray[np.float64]:
    """Return weights in float64, the largest 1."""
    try:
        checked = np.asarray(weights, np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInputError(f"weights are not real numbers: {error}") from None
    if checked.shape != (count,):
        raise InvalidInputError(f"weights have shape {checked.shape}, expected ({count},)")
    usable = np.isfinite(checked) & (checked >= 0)
    if not usable.all():
        place = int(np.argmin(usable))
        raise InvalidInputError(
            f"weight {place} is {checked[place]}, expected a finite number of at least 0"
        )
    if not checked.any():
        raise InvalidInputError("all weights are 0; give at least one that is more")
    return np.asarray(checked / checked.max())


def _grouped(
    labels: object, count: int
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    try:
        given = np.asarray(labels)
        if given.shape != (count,):
            raise InvalidInputError(f"labels have shape {given.shape}, expected ({count},)")
        names, groups, counts = np.unique(given, return_inverse=True, return_counts=True)
    except (ValueError, TypeError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"labels cannot be sorted: {error}; give one type") from None
    return names, groups, counts.astype(np.int64)
