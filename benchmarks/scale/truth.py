"""Exact answers by numpy, and recall against them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

K = 10
_ROUNDING = 1e-6
"""A float32 product of unit vectors errs by less: a row as close to the k-th ties with it."""


class Truth:
    """The exact scores of all rows for some queries.

    Args:
        base: float32 of shape (n, dimension), of length 1.
        queries: float32 of shape (m, dimension), of length 1.
    """

    def __init__(self, base: NDArray[np.float32], queries: NDArray[np.float32]) -> None:
        self._scores = queries @ base.T

    def recalls(
        self, found: Sequence[Sequence[int]], allowed: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """Return recall@10 by query: the share of the true neighbours that was found.

        Args:
            found: The rows found for each query.
            allowed: The rows that a filter takes; None for all.
        """
        scores = self._scores[: len(found)]
        wanted = K if allowed is None else min(K, int(allowed.sum()))
        kth = self._kth(scores if allowed is None else scores[:, allowed], wanted)
        right = []
        for row, least, hits in zip(scores, kth, found, strict=True):
            rows = np.unique(np.asarray(hits, np.int64))
            good = row[rows] >= least - _ROUNDING
            if allowed is not None:
                good &= allowed[rows]
            right.append(min(wanted, int(good.sum())) / wanted)
        return np.array(right)

    @staticmethod
    def _kth(scores: NDArray[np.float32], k: int) -> NDArray[np.float32]:
        place = scores.shape[1] - k
        return np.array([np.partition(row, place)[place] for row in scores])
