"""Rows that are far from all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nearfield.vectors.outliers import OUTLIER_SCORE

if TYPE_CHECKING:
    from nearfield.vectors.quality.space import Space

__all__ = ["Outlier", "OutlierStatistics", "outliers"]

_LISTED = 20
_FEWEST_ROWS = 10


@dataclass(frozen=True, slots=True)
class Outlier:
    """A row that is far from its neighbours.

    Attributes:
        row: Its position.
        distance: The mean distance to its k nearest.
        score: The robust z-score of that distance.
    """

    row: int
    distance: float
    score: float


@dataclass(frozen=True, slots=True)
class OutlierStatistics:
    """The rows whose neighbours are unusually far.

    Attributes:
        share: Their share of the sampled rows, in [0, 1].
        share_std: Its standard error.
        count: How many there are in the sample.
        threshold: The score above which a row is one.
        listed: Those with the largest scores, at most twenty.
    """

    share: float
    share_std: float
    count: int
    threshold: float
    listed: tuple[Outlier, ...]


def outliers(space: Space, *, threshold: float = OUTLIER_SCORE) -> OutlierStatistics:
    """Find the sampled rows whose mean distance to the k nearest is unusually large.

    The distances and their robust z-scores are those of :func:`nearfield.vectors.find_outliers`,
    and so is the threshold (Iglewicz and Hoaglin, 1993). Of texts, empty and garbled ones score 4
    to 6.

    Args:
        space: The vectors.
        threshold: The score above which a row is an outlier.

    Raises:
        NotMeasurableError: Fewer than 10 rows.
    """
    space.require(_FEWEST_ROWS, "outliers")
    scores = space.isolation_scores
    found = np.flatnonzero(scores > threshold)
    order = found[np.argsort(-scores[found], kind="stable")]
    share = len(found) / len(scores)
    return OutlierStatistics(
        share=share,
        share_std=float(np.sqrt(share * (1 - share) / len(scores))),
        count=len(found),
        threshold=threshold,
        listed=tuple(
            Outlier(
                int(space.sample_rows[place]),
                float(space.isolation[place]),
                float(scores[place]),
            )
            for place in order[:_LISTED]
        ),
    )
