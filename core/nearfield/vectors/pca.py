"""Principal components: the directions in which vectors vary most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nearfield.errors import InvalidInputError
from nearfield.validation import check_positive
from nearfield.vectors.arrays import Array, Rows, as_rows, blocks, compute, compute_type, fit
from nearfield.vectors.centroids import mean
from nearfield.vectors.projection import project

__all__ = ["PCA"]

_BLOCK_ROWS = 2048
_NARROW = 1e-3
"""Float32 products err by so little that variances above this share of the largest are right to
1e-5; for smaller ones the products are taken in float64."""
_UNDERFLOW = 2.0**-60
"""Float32 products may have been lost in smaller variances."""
_NOISE = 1e-12
"""Variances below this share of the largest are rounding."""

_Decomposition: TypeAlias = tuple[
    NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float
]
"""Mean, variances, directions and the total variance."""


@dataclass(frozen=True, slots=True, eq=False)
class PCA:
    """Principal components of a set of vectors; arrays are read-only.

    Attributes:
        mean: The vectors' mean, shape (dimension,).
        components: Orthonormal directions by falling variance, shape (k, dimension). Of each, the
            component of largest magnitude is positive.
        variances: The variance along each, with n − 1 in the denominator, shape (k,).
        total_variance: The variance in all directions together.
        whiten: Whether transformed vectors are divided by the standard deviations.
    """

    mean: NDArray[np.float64]
    components: NDArray[np.float64]
    variances: NDArray[np.float64]
    total_variance: float
    whiten: bool

    @classmethod
    def fit(cls, vectors: object, components: int | None = None, *, whiten: bool = False) -> Self:
        """Find the principal components of vectors.

        The covariance is summed block by block, so that beside it only some megabytes are needed
        however many vectors there are. Nothing is random.

        Args:
            vectors: Shape (n, dimension), n at least 2.
            components: How many; as many as there can be when left out: the smaller of n and the
                dimension.
            whiten: Divide what is transformed by the standard deviations, so that each component
                has variance 1. One that does not vary stays 0.

        Raises:
            InvalidVectorError: Not finite, or not a matrix of real numbers.
            InvalidInputError: Fewer than two vectors, or more components than there can be.
        """
        rows = as_rows(vectors)
        if len(rows) < 2:  # noqa: PLR2004
            raise InvalidInputError(f"{len(rows)} vectors do not vary; give at least 2")
        most = min(len(rows), rows.dimension)
        count = most if components is None else check_positive(components, "components")
        if count > most:
            raise InvalidInputError(
                f"components is {count}, but {len(rows)} vectors of dimension {rows.dimension} "
                f"have at most {most}"
            )
        center, variances, directions, total = (
            _by_singular_values(rows)
            if len(rows) <= rows.dimension
            else _by_covariance(rows, count)
        )
        found = cls(center, _oriented(directions[:count]), variances[:count].copy(), total, whiten)
        for array in (found.mean, found.components, found.variances):
            array.setflags(write=False)
        return found

    @property
    def variance_ratios(self) -> NDArray[np.float64]:
        """Which share of the total variance each component explains; 0 where nothing varies."""
        if self.total_variance == 0:
            return np.zeros_like(self.variances)
        return self.variances / self.total_variance

    def transform(self, vectors: object) -> Array:
        """Return the coordinates of vectors along the components.

        Args:
            vectors: Shape (n, dimension), or (dimension,) for one.

        Returns:
            Shape (n, k), or (k,).

        Raises:
            InvalidVectorError: Not finite, or not a matrix of real numbers.
            DimensionMismatchError: Another dimension.
        """
        matrix = self.components.T
        if self.whiten:
            matrix = matrix * self._scales(inverse=True)
        takes = "the vectors that this PCA was fitted to"
        rows = as_rows(vectors, dimension=len(self.mean), other=takes)
        return project(rows, matrix, origin=self.mean)

    def inverse(self, coordinates: object) -> Array:
        """Return the vectors that have these coordinates: the originals, but for what was dropped.

        Args:
            coordinates: Shape (n, k), or (k,) for one.

        Returns:
            Shape (n, dimension), or (dimension,).

        Raises:
            InvalidVectorError: Not finite, or not a matrix of real numbers.
            DimensionMismatchError: Another number of components.
        """
        matrix = self.components
        if self.whiten:
            matrix = matrix * self._scales()[:, np.newaxis]
        gives = "the vectors that this PCA gives"
        rows = as_rows(coordinates, dimension=len(self.components), other=gives)
        return project(rows, matrix, target=self.mean)

    def _scales(self, *, inverse: bool = False) -> NDArray[np.float64]:
        """Return the standard deviations, or what to multiply with to divide by them."""
        varies = self.variances > _NOISE * self.variances[0]
        deviations = np.sqrt(np.where(varies, self.variances, 1))
        return np.where(varies, 1 / deviations if inverse else deviations, 0)


def _by_singular_values(rows: Rows) -> _Decomposition:
    """Decompose no more vectors than dimensions: exact, and smaller than their covariance."""
    rows.refuse_not_finite()
    values = rows.values.astype(np.float64)
    with np.errstate(all="ignore"):
        center = values.mean(axis=0)
        values -= center
        fit(values, values.dtype)
        _, singular, directions = np.linalg.svd(values, full_matrices=False)
        variances = singular**2 / (len(rows) - 1)
        fit(variances, variances.dtype)
    return center, variances, directions, float(variances.sum())


def _by_covariance(rows: Rows, count: int) -> _Decomposition:
    """Decompose the covariance of more vectors than dimensions."""
    dtype = compute_type(rows)
    center, covariance = _covariance(rows, dtype)
    variances, directions = _eigen(covariance)
    least = max(_NARROW * variances[0], _UNDERFLOW)
    if dtype == np.float32 and variances[count - 1] < least:
        center, covariance = _covariance(rows, np.dtype(np.float64))
        variances, directions = _eigen(covariance)
    return center, variances, directions, float(np.trace(covariance))


def _covariance(
    rows: Rows, dtype: np.dtype[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and covariance, summed in float64, the products of each block in the dtype.

    The mean of what remains after taking off a first mean corrects both: far from zero, the first
    is off by more than what is left.
    """
    origin = mean(rows).astype(dtype)
    sums = np.zeros((rows.dimension + 1, rows.dimension))

    def kernel(block: Array) -> Array:
        centered = block - origin
        return np.vstack([centered.T @ centered, centered.sum(axis=0)])

    for part in blocks(len(rows), _BLOCK_ROWS):
        sums += compute(kernel, (rows, part), dtype=dtype, result_type=np.dtype(np.float64))
    left = sums[-1] / len(rows)
    covariance = (sums[:-1] - len(rows) * np.outer(left, left)) / (len(rows) - 1)
    return origin + left, covariance


def _eigen(covariance: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values, vectors = np.linalg.eigh(covariance)
    return np.maximum(values[::-1], 0), vectors.T[::-1]


def _oriented(directions: NDArray[np.float64]) -> NDArray[np.float64]:
    largest = np.argmax(np.abs(directions), axis=1)
    signs = np.where(directions[np.arange(len(directions)), largest] < 0, -1.0, 1.0)
    return np.ascontiguousarray(directions * signs[:, np.newaxis])
