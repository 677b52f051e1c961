"""How much of the dimension that is stored and compared is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.vectors.quality.space import Space

__all__ = ["DimensionEfficiency", "dimension_efficiency"]

_ROWS_AT_ONCE = 2048
_ROUNDING = 1e-9
_NOISE = 1e-12
"""Variances below this share of the largest come from rounding."""


@dataclass(frozen=True, slots=True)
class DimensionEfficiency:
    """How evenly the variance is spread over the dimensions.

    Attributes:
        efficiency: ``effective_rank`` over the dimension, in (0, 1].
        efficiency_std: Its standard error.
        effective_rank: exp of the entropy of the variances' shares: the number of equally strong
            directions that would have the same entropy, from 1 to the dimension.
        participation_ratio: (Σλ)² / Σλ², the same with less weight for weak directions.
        components_90: Directions that hold 90 % of the variance together.
        components_99: Those that hold 99 %.
        unused: Directions without any variance.
    """

    efficiency: float
    efficiency_std: float
    effective_rank: float
    participation_ratio: float
    components_90: int
    components_99: int
    unused: int


def dimension_efficiency(space: Space) -> DimensionEfficiency:
    """Measure how many directions carry the variance.

    With λ the eigenvalues of the covariance of the sampled rows and p = λ / Σλ: the effective rank
    is exp(−Σ p ln p) (Roy and Vetterli, 2007, EUSIPCO), the participation ratio 1 / Σp². With n
    rows no more than n − 1 directions can be seen, and somewhat fewer than there are as long as n
    is not many times the dimension.

    Raises:
        NotMeasurableError: Fewer than 2 rows, or all equal.
    """
    space.require_spread("dimension efficiency")
    shares = space.pca.variance_ratios
    used = shares[shares > _NOISE * shares[0]]
    rank = float(np.exp(-(used * np.log(used)).sum()))
    cumulative = np.cumsum(used / used.sum()) + _ROUNDING
    return DimensionEfficiency(
        efficiency=rank / space.dimension,
        efficiency_std=rank * _entropy_std(space, used) / space.dimension,
        effective_rank=rank,
        participation_ratio=float(1 / np.square(used).sum()),
        components_90=int(np.searchsorted(cumulative, 0.9)) + 1,
        components_99=int(np.searchsorted(cumulative, 0.99)) + 1,
        unused=space.dimension - len(used),
    )


def _entropy_std(space: Space, shares: NDArray[np.float64]) -> float:
    """Return the standard error of the entropy by the delta method.

    A row with the coordinates y moves the share pᵢ by (yᵢ² − pᵢ Σy²) / nΣλ, and the entropy by
    −ln pᵢ for each unit of that.
    """
    components = space.pca.components[: len(shares)].T
    centre = space.pca.mean
    rows = space.sample
    influences = np.empty(len(rows))
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        block = rows[start : start + _ROWS_AT_ONCE]
        squares = np.square((block - centre) @ components)
        moved = squares - shares * squares.sum(axis=1, keepdims=True)
        influences[start : start + len(block)] = (
            -(moved @ np.log(shares)) / space.pca.total_variance
        )
    return float(influences.std() / np.sqrt(len(rows)))
