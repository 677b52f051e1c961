"""How many directions the vectors really vary in, near each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nearfield.vectors.quality.pairs import pair_distances
from nearfield.vectors.quality.space import NotMeasurableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.vectors.quality.space import Space

__all__ = ["IntrinsicDimension", "intrinsic_dimension"]

_FEWEST_ROWS = 20
_FEWEST_NEIGHBOURS = 2
_CENSORED = 0.1
"""The share of the largest ratios that only count as large: they come from outliers."""
_SMALLEST_SHARE, _LARGEST_SHARE = 1e-4, 1e-2
"""The shares of all pairs between which C(r) is taken for a power of r."""
_FEWEST_PAIRS = 20
_POINTS = 20
_PARTS = 5


@dataclass(frozen=True, slots=True)
class IntrinsicDimension:
    """The intrinsic dimension by two estimates, each with its standard error.

    Both are near the truth up to about ten and too low beyond, as any estimate from so few rows is:
    a uniform cube of 20 dimensions is found to have 15 to 17.

    Attributes:
        two_nn: From the ratio of each row's distances to its two nearest, different neighbours.
        two_nn_std: Its standard error.
        correlation: The correlation dimension: how fast the share of pairs within r grows with r.
        correlation_std: Its standard error, by leaving out each fifth of the rows.
        rows: How many rows' neighbours were looked at.
    """

    two_nn: float
    two_nn_std: float
    correlation: float
    correlation_std: float
    rows: int


def intrinsic_dimension(space: Space) -> IntrinsicDimension:
    """Estimate the intrinsic dimension, TwoNN and the correlation dimension.

    TwoNN: with μ = r₂ / r₁, the ratio of the distances to the second and the first neighbour, ln μ
    is exponential with rate d (Facco, d'Errico, Rodriguez and Laio, 2017, Scientific Reports
    7:12140). They fit a line to −ln(1 − F(μ)) against ln μ without the largest tenth; this is a
    variant, the maximum likelihood with the largest tenth of the m ratios censored,
    d = (c − 1) / (Σ_{i≤c} ln μᵢ + (m − c) ln μ_c), c = 0.9 m, whose standard error d / √(c − 2) is
    known. Rows that are equal count once.

    Correlation dimension: the slope of ln C(r) against ln r, by least squares at 20 values of C
    from 10⁻⁴ to 10⁻² of the pairs; C(r) is the share of pairs nearer than r. (Grassberger and
    Procaccia, 1983, Physica D 9:189.)

    Raises:
        NotMeasurableError: Fewer than 20 different rows, one neighbour looked at of each, or all
            neighbours equally far.
    """
    space.require(_FEWEST_ROWS, "intrinsic dimension")
    space.require_spread("intrinsic dimension")
    if space.k < _FEWEST_NEIGHBOURS:
        raise NotMeasurableError(
            f"intrinsic dimension: needs the two nearest of each row, but neighbours is {space.k}; "
            f"give at least {_FEWEST_NEIGHBOURS}"
        )
    logarithms = _log_ratios(space)
    if len(logarithms) < _FEWEST_ROWS:
        raise NotMeasurableError(
            f"intrinsic dimension: needs at least {_FEWEST_ROWS} different rows with two different "
            f"neighbours, got {len(logarithms)}"
        )
    two_nn, two_nn_std = _two_nn(logarithms)
    slope = _correlation_dimension(space.pair_distances)
    return IntrinsicDimension(
        two_nn=two_nn,
        two_nn_std=two_nn_std,
        correlation=slope,
        correlation_std=_jackknife(space.pair_sample),
        rows=len(logarithms),
    )


def _log_ratios(space: Space) -> NDArray[np.float64]:
    """Return ln(r₂ / r₁) of every probe whose two nearest different rows are known."""
    probes = space.probes
    originals = space.originals
    neighbours = originals[probes.indices]
    own = originals[probes.rows]
    is_new = neighbours != own[:, np.newaxis]
    for column in range(1, neighbours.shape[1]):
        seen = neighbours[:, :column] == neighbours[:, column, np.newaxis]
        is_new[:, column] &= ~seen.any(axis=1)
    is_new &= probes.distances > 0
    is_new[own != probes.rows] = False  # a row that repeats another
    known = is_new.sum(axis=1) > 1
    places = np.argsort(~is_new[known], axis=1, kind="stable")[:, :2]
    nearest_two = np.take_along_axis(probes.distances[known], places, axis=1)
    logarithms: NDArray[np.float64] = np.log(nearest_two[:, 1] / nearest_two[:, 0])
    return logarithms


def _two_nn(logarithms: NDArray[np.float64]) -> tuple[float, float]:
    ordered = np.sort(logarithms)
    counted = int(len(ordered) * (1 - _CENSORED))
    total = ordered[:counted].sum() + (len(ordered) - counted) * ordered[counted - 1]
    if total <= 0:
        raise NotMeasurableError(
            "intrinsic dimension: the nearest neighbours of nearly all rows are equally far"
        )
    estimate = float((counted - 1) / total)
    return estimate, estimate / float(np.sqrt(counted - 2))


def _correlation_dimension(distances: NDArray[np.float64]) -> float:
    """Fit the slope of ln C(r) against ln r to the smallest distances that are not 0."""
    distances = distances[distances > 0]
    smallest = max(_SMALLEST_SHARE, _FEWEST_PAIRS / max(len(distances), 1))
    largest = max(_LARGEST_SHARE, min(1.0, 4 * smallest))
    shares = np.geomspace(smallest, largest, _POINTS)
    counted = min(len(distances), int(largest * len(distances)) + 2)
    if counted < _FEWEST_PAIRS:
        raise NotMeasurableError("intrinsic dimension: too few different rows")
    near = np.sort(np.partition(distances, counted - 1)[:counted])
    radii = np.interp(shares * (len(distances) - 1), np.arange(counted), near)
    if radii[-1] <= radii[0]:
        raise NotMeasurableError("intrinsic dimension: all near rows are equally far")
    return float(np.polyfit(np.log(radii), np.log(shares), 1)[0])


def _jackknife(rows: NDArray[np.float32]) -> float:
    """Estimate the standard error by leaving out each fifth of the rows (Efron, 1982)."""
    slopes = []
    for part in np.array_split(np.arange(len(rows)), _PARTS):
        distances = pair_distances(np.delete(rows, part, axis=0))
        slopes.append(_correlation_dimension(distances))
    return float(np.sqrt((_PARTS - 1) * np.var(slopes)))
