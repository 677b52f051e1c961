"""Vectors far from the rest, by a robust z-score of a distance.

The distance is that to the centroid, or the mean distance to the k nearest neighbours. It becomes
a score by 0.6745 · (distance − median) / MAD, where MAD is the median absolute deviation from the
median; 0.6745 makes it a standard score where distances are normally distributed. A score above
3.5 is an outlier (Iglewicz and Hoaglin, How to Detect and Handle Outliers, ASQC 1993). Median and
MAD stay what they are while fewer than half of the vectors are outliers; a mean and a standard
deviation would be drawn along. Only what is too far counts, not what is too near. Where more than
half of the distances are equal, MAD is 0, and 1.2533 times the mean absolute deviation from the
median takes the place of MAD / 0.6745; where all are equal, every score is 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.errors import InvalidInputError
from nearfield.validation import check_member, check_positive, check_seed
from nearfield.vectors.arrays import (
    Array,
    Rows,
    as_rows,
    blocks,
    compute,
    compute_type,
)
from nearfield.vectors.centroids import mean
from nearfield.vectors.kernels import nearest, squared_distances_by_id, without_own
from nearfield.vectors.normalization import lengths

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["OUTLIER_SCORE", "OutlierRule", "Outliers", "find_outliers", "robust_z_scores"]

OUTLIER_SCORE = 3.5
"""The robust z-score above which a vector is an outlier."""

_BLOCK_ROWS = 512
_SEARCHED_ROWS = 4096
_FAR = 2.0**60
"""Float32 holds vectors nearer than this, and farther than its inverse, with room to spare."""
_MAD_TO_DEVIATION = 0.6744897501960817
"""The third quartile of the normal distribution."""
_MEAN_TO_DEVIATION = math.sqrt(math.pi / 2)


class OutlierRule(StrEnum):
    """Which distance tells an outlier."""

    NEIGHBOURS = "neighbours"
    """The mean distance to the k nearest: finds what is alone, also between clusters."""
    CENTROID = "centroid"
    """The distance to the centroid: one pass, but it supposes a single round cluster."""


@dataclass(frozen=True, slots=True, eq=False)
class Outliers:
    """What was found.

    Attributes:
        rows: The rows of the outliers, the farthest first.
        scores: The robust z-score of every vector, shape (n,).
        distances: The distance behind each score, shape (n,).
        threshold: The score above which a vector is an outlier.
        rule: Which distance was taken.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    distances: NDArray[np.float64]
    threshold: float
    rule: OutlierRule


def find_outliers(
    vectors: object,
    *,
    rule: OutlierRule | str = OutlierRule.NEIGHBOURS,
    threshold: float = OUTLIER_SCORE,
    neighbours: int = 10,
    sample: int | None = 10_000,
    seed: int = 0,
) -> Outliers:
    """Find vectors that are far from the rest, by Euclidean distance.

    For vectors that are compared by cosine, normalise them first.

    Args:
        vectors: Shape (n, dimension).
        rule: ``"neighbours"`` or ``"centroid"``; the first suits texts, which are about more than
            one topic.
        threshold: The robust z-score above which a vector is an outlier.
        neighbours: How many are averaged; fewer where there are not so many others. A group of
            outliers that lie together is found only if it is not larger.
        sample: Among how many vectors, drawn at random, neighbours are looked for; None for all,
            which takes time with the square of n.
        seed: What they are drawn by.

    Raises:
        InvalidVectorError: Not finite, or not a matrix of real numbers.
        InvalidInputError: An option that cannot be used.
    """
    kind = check_member(rule, OutlierRule, "rule")
    count = check_positive(neighbours, "neighbours")
    drawn = None if sample is None else check_positive(sample, "sample")
    limit = _check_threshold(threshold)
    random = np.random.default_rng(check_seed(seed))
    rows = as_rows(vectors)
    if not len(rows):
        return Outliers(np.empty(0, np.int64), np.empty(0), np.empty(0), limit, kind)
    center = mean(rows)
    distances = _distances_to(center, rows)
    if kind is OutlierRule.NEIGHBOURS:
        references = _references(len(rows), drawn, random)
        distances = _distances_to_neighbours(rows, center, distances.max(), references, count)
    scores = robust_z_scores(distances)
    found = np.flatnonzero(scores > limit)
    ranked = found[np.argsort(-scores[found], kind="stable")]
    return Outliers(ranked, scores, distances, limit, kind)


def _distances_to(center: NDArray[np.float64], rows: Rows) -> NDArray[np.float64]:
    dtype = compute_type(rows)
    distances = np.empty(len(rows))

    def kernel(block: Array) -> Array:
        return lengths(block - center.astype(block.dtype))

    for part in blocks(len(rows), _BLOCK_ROWS):
        distances[part] = compute(kernel, (rows, part), dtype=dtype)
    return distances


def _references(count: int, sample: int | None, random: np.random.Generator) -> NDArray[np.int64]:
    """Return which rows neighbours are looked for among, ascending."""
    if sample is None or sample >= count:
        return np.arange(count)
    return np.sort(random.choice(count, sample, replace=False))


def _distances_to_neighbours(
    rows: Rows,
    center: NDArray[np.float64],
    radius: float,
    references: NDArray[np.int64],
    neighbours: int,
) -> NDArray[np.float64]:
    """Return each row's mean distance to its nearest neighbours, itself not among them.

    That is done in float32 with the centroid as origin and the farthest vector's distance as unit,
    where squared distances lose least. Neighbours are found by matrix products; their distances are
    then taken from the differences.
    """
    count = min(neighbours, len(references) - 1)
    distances = np.zeros(len(rows))
    if count < 1 or radius == 0:
        return distances

    dtype = compute_type(rows) if 1 / _FAR < radius < _FAR else np.dtype(np.float64)
    origin = center.astype(dtype)

    def scaled(block: NDArray[Any]) -> NDArray[np.float32]:
        centered = block.astype(dtype, copy=False) - origin
        return np.ascontiguousarray(centered / dtype.type(radius), np.float32)

    searched = np.empty((len(references), rows.dimension), np.float32)
    for part in blocks(len(references), _SEARCHED_ROWS):
        searched[part] = scaled(rows.values[references[part]])
    for part in blocks(len(rows), _SEARCHED_ROWS):
        block = scaled(rows.values[part])
        _, found = nearest(block, searched, count + 1)
        others = without_own(found, _places(np.arange(part.start, part.stop), references))
        squared = squared_distances_by_id(block, searched, others)
        distances[part] = radius * np.sqrt(squared).mean(axis=1, dtype=np.float64)
    return distances


def _places(rows: NDArray[np.int64], references: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where in the references each row is, −1 where it is not."""
    places = np.searchsorted(references, rows)
    is_there = references[np.minimum(places, len(references) - 1)] == rows
    return np.where(is_there, places, -1)


def robust_z_scores(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 0.6745 · (distance − median) / MAD, as the module says."""
    deviations = distances - np.median(distances)
    magnitudes = np.abs(deviations)
    scale = np.median(magnitudes) / _MAD_TO_DEVIATION
    if scale <= np.finfo(np.float32).eps * np.abs(distances).max():  # rounding, not a spread
        scale = magnitudes.mean() * _MEAN_TO_DEVIATION
    if scale <= np.finfo(np.float32).eps * np.abs(distances).max():
        return np.zeros(len(distances))
    scores: NDArray[np.float64] = deviations / scale
    return scores


def _check_threshold(value: object) -> float:
    is_real = isinstance(value, int | float | np.integer | np.floating)
    if not is_real or isinstance(value, bool) or not 0 < value < math.inf:  # type: ignore[operator]
        raise InvalidInputError(f"threshold is {value!r}, expected a finite number above 0")
    return float(value)  # type: ignore[arg-type]  # narrowed by `is_real`
