"""What could be chance: bootstrap intervals of means, and a randomisation test of a difference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["RESAMPLES", "bootstrap_intervals", "randomisation_p_value"]

RESAMPLES = 10_000
_LEVEL = 0.95
_NUMBERS_AT_ONCE = 1_000_000
_ROUNDING = 1e-12


def bootstrap_intervals(
    values: NDArray[np.float64], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the 95 % percentile bootstrap intervals of the means of columns.

    Rows are drawn with replacement, the same ones for every column. Source: Efron and Tibshirani,
    An Introduction to the Bootstrap, 1993, section 13.3.

    Args:
        values: Shape (rows, columns), at least one row.
        seed: What the draws follow from.

    Returns:
        The lower and the upper ends, shape (columns,).
    """
    rows = len(values)
    rng = np.random.default_rng(seed)
    means = []
    for count in _slices(rows):
        drawn = rng.integers(0, rows, (count, rows)) + np.arange(count)[:, np.newaxis] * rows
        times = np.bincount(drawn.ravel(), minlength=count * rows).reshape(count, rows)
        means.append(times @ values / rows)
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0)
    return low, high


def randomisation_p_value(differences: NDArray[np.float64], seed: int) -> float:
    """Return how likely a mean difference at least this large is if the two sides are alike.

    Each difference gets a sign by chance. Source: Smucker, Allan and Carterette, A Comparison of
    Statistical Significance Tests for Information Retrieval Evaluation, CIKM 2007.

    Args:
        differences: One for each pair, shape (n,).
        seed: What the signs follow from.
    """
    rng = np.random.default_rng(seed)
    observed = abs(differences.mean()) - _ROUNDING
    extreme = 1  # what was observed is one of the ways it could be
    for count in _slices(len(differences)):
        signs = rng.integers(0, 2, (count, len(differences))) * 2 - 1
        means = signs @ differences / len(differences)
        extreme += int(np.count_nonzero(abs(means) >= observed))
    return extreme / (RESAMPLES + 1)


def _slices(columns: int) -> Iterator[int]:
    """Split the resamples so that memory is bounded; yield how many to draw at once."""
    size = max(_NUMBERS_AT_ONCE // columns, 1)
    for start in range(0, RESAMPLES, size):
        yield min(size, RESAMPLES - start)
