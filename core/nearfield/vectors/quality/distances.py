"""How far rows are from each other, and how much nearer the nearest are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nearfield.vectors.quality.space import NotMeasurableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.vectors.quality.space import Space

__all__ = ["DistanceStatistics", "Quantiles", "distance_statistics"]


@dataclass(frozen=True, slots=True)
class Quantiles:
    """The quantiles of some distances."""

    p1: float
    p5: float
    p25: float
    p50: float
    p75: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Quantiles:
        """Compute them."""
        found = np.quantile(values, (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99))
        return cls(*(float(value) for value in found))


@dataclass(frozen=True, slots=True)
class DistanceStatistics:
    """Distances and density.

    Attributes:
        pairs: Of two random rows.
        nearest: To the nearest row.
        kth: To the k-th nearest.
        relative_contrast: The mean distance to a random row over the mean distance to the nearest,
            at least 1; None where the nearest is everywhere at distance 0.
        relative_contrast_std: Its standard error; None with it.
        density_ratio: The 95 % quantile of the distance to the k-th nearest over the 5 % quantile:
            1 where rows lie evenly, large where some are crowded and others alone; None where the
            lower is 0.
        norms: Of the rows' lengths, before any scaling.
        k: Neighbours looked at.
        rows: Rows whose neighbours were looked at.
    """

    pairs: Quantiles
    nearest: Quantiles
    kth: Quantiles
    relative_contrast: float | None
    relative_contrast_std: float | None
    density_ratio: float | None
    norms: Quantiles
    k: int
    rows: int


def distance_statistics(space: Space) -> DistanceStatistics:
    """Describe the distances between rows.

    Pairs are those of up to 3,000 sampled rows; neighbours are looked for among all rows. The
    relative contrast is E[d(x, random)] / E[d(x, nearest)] (He, Kumar and Chang, 2012, ICML); the
    nearer it is to 1, the less a search by distance can tell rows apart. Its standard error is that
    of the mean distance to the nearest, by the delta method.

    Raises:
        NotMeasurableError: Fewer than 2 rows.
    """
    space.require(2, "distances")
    probes, pairs = space.probes, space.pair_distances
    if not len(pairs):
        raise NotMeasurableError("distances: the sample is one row; take a larger one")
    nearest, kth = probes.distances[:, 0], probes.distances[:, -1]
    mean = nearest.mean()
    contrast = float(pairs.mean() / mean) if mean > 0 else None
    low, high = np.quantile(kth, (0.05, 0.95))
    return DistanceStatistics(
        pairs=Quantiles.of(pairs),
        nearest=Quantiles.of(nearest),
        kth=Quantiles.of(kth),
        relative_contrast=contrast,
        relative_contrast_std=None
        if contrast is None
        else float(contrast * nearest.std() / mean / np.sqrt(len(nearest))),
        density_ratio=float(high / low) if low > 0 else None,
        norms=Quantiles.of(space.norms),
        k=probes.k,
        rows=len(probes.rows),
    )
