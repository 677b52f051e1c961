"""A random projection: fewer dimensions without looking at the data, distances nearly kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from nearfield.errors import InvalidInputError
from nearfield.validation import check_positive, check_seed
from nearfield.vectors.arrays import Array, as_rows
from nearfield.vectors.projection import project

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RandomProjection", "johnson_lindenstrauss_dimension"]


@dataclass(frozen=True, slots=True, eq=False)
class RandomProjection:
    """A Gaussian random projection.

    Attributes:
        matrix: Shape (dimension, components), read-only; independent normal numbers of variance
            1 / components, so that squared distances are kept on average.
        seed: What they were drawn by.
    """

    matrix: NDArray[np.float64]
    seed: int

    @classmethod
    def draw(cls, dimension: int, components: int, *, seed: int) -> Self:
        """Draw a projection; the same arguments draw the same one.

        Args:
            dimension: Of the vectors.
            components: Of what becomes of them; :func:`johnson_lindenstrauss_dimension` tells how
                many are enough.
            seed: At least 0.

        Raises:
            InvalidInputError: One of them cannot be used.
        """
        shape = check_positive(dimension, "dimension"), check_positive(components, "components")
        checked = check_seed(seed)
        matrix = np.random.default_rng(checked).standard_normal(shape)
        matrix /= math.sqrt(components)
        matrix.setflags(write=False)
        return cls(matrix, checked)

    @property
    def dimension(self) -> int:
        """The dimension of the vectors it takes."""
        return int(self.matrix.shape[0])

    @property
    def components(self) -> int:
        """The dimension of the vectors it gives."""
        return int(self.matrix.shape[1])

    def transform(self, vectors: object) -> Array:
        """Project vectors.

        Args:
            vectors: Shape (n, dimension), or (dimension,) for one.

        Returns:
            Shape (n, components), or (components,).

        Raises:
            InvalidVectorError: Not finite, or not a matrix of real numbers.
            DimensionMismatchError: Another dimension.
        """
        takes = "the vectors that this projection takes"
        return project(as_rows(vectors, dimension=self.dimension, other=takes), self.matrix)


def johnson_lindenstrauss_dimension(count: int, *, epsilon: float) -> int:
    """Return how many components keep the distances of vectors within a factor.

    With k ≥ 4 ln n / (ε²/2 − ε³/3) components a projection of n vectors exists, and a random one
    is it with a fair chance, that changes no squared distance by more than a factor of 1 ± ε
    (Dasgupta and Gupta, An Elementary Proof of a Theorem of Johnson and Lindenstrauss, 2003).

    Args:
        count: How many vectors, n.
        epsilon: The factor's distance from 1, between 0 and 1.
    """
    number = check_positive(count, "count")
    if not 0 < epsilon < 1:
        raise InvalidInputError(f"epsilon is {epsilon!r}, expected a number between 0 and 1")
    return max(1, math.ceil(4 * math.log(number) / (epsilon**2 / 2 - epsilon**3 / 3)))
