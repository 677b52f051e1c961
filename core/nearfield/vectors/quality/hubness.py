"""Whether a few rows are among the nearest of very many, and many of none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nearfield.documents import Metric
from nearfield.vectors.quality.neighbours import largest_products

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.vectors.quality.space import Space

__all__ = ["Hub", "Hubness", "hubness", "occurrences"]

_HUBS_LISTED = 10
_RESAMPLES = 100


@dataclass(frozen=True, slots=True)
class Hub:
    """A row that is near many others.

    Attributes:
        row: Its position.
        occurrences: How many of the sampled rows have it among their k nearest; the mean is k.
    """

    row: int
    occurrences: int


@dataclass(frozen=True, slots=True)
class Hubness:
    """How unevenly the rows occur among the k nearest of the others.

    It grows with the number of rows: compare figures of samples of one size.

    Attributes:
        skewness: The skewness of N_k; 0 for an even distribution, 1/√k where neighbours are drawn
            at random (N_k is Poisson then): 0.32 for the ten that are looked at as a rule.
        skewness_std: Its standard error, by bootstrap over the rows.
        anti_hubs: The share of rows that are among the k nearest of none: no such search finds
            them.
        top_share: The share of all places among the k nearest that the first hundredth of rows
            takes.
        k: Neighbours of each row.
        rows: The rows of the sample.
        hubs: The largest, at most ten.
    """

    skewness: float
    skewness_std: float
    anti_hubs: float
    top_share: float
    k: int
    rows: int
    hubs: tuple[Hub, ...]


def hubness(space: Space) -> Hubness:
    """Measure the hubness of the sampled rows among each other.

    N_k(x) is the number of rows that have x among their k nearest, by the space's metric. Its
    skewness is E[(N_k − k)³] / σ³ (Radovanović, Nanopoulos and Ivanović, 2010, JMLR 11:2487).

    Raises:
        NotMeasurableError: Fewer than 3 rows, or all equal.
    """
    from scipy.stats import skew

    space.require(3, "hubness")
    space.require_spread("hubness")
    counts = occurrences(space)
    rng = space.random(2)
    resampled = (rng.choice(counts, len(counts)) for _ in range(_RESAMPLES))
    skews = [float(skew(some)) for some in resampled if some.any() and np.ptp(some)]
    order = np.argsort(-counts, kind="stable")
    first_hundredth = max(1, len(counts) // 100)
    return Hubness(
        skewness=float(skew(counts)) if np.ptp(counts) else 0.0,
        skewness_std=float(np.std(skews)) if skews else 0.0,
        anti_hubs=float(np.mean(counts == 0)),
        top_share=float(counts[order[:first_hundredth]].sum() / counts.sum()),
        k=int(counts.sum() // len(counts)),
        rows=len(counts),
        hubs=tuple(
            Hub(int(space.sample_rows[place]), int(counts[place])) for place in order[:_HUBS_LISTED]
        ),
    )


def occurrences(space: Space) -> NDArray[np.int64]:
    """Count in how many lists of the k nearest each sampled row is, shape (sample,)."""
    if space.metric is Metric.DOT:
        indices = largest_products(space.sample, space.k)
    else:
        indices = space.neighbours.indices
    return np.bincount(indices.ravel(), minlength=len(space.sample))
