"""Measuring recall, on every store alike: queries to measure with, and what they say together."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nearfield.stores.base import RecallEstimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["K", "estimate", "invent_queries", "recall"]

K = 10
"""Recall is measured at this k."""
_NOISE = 0.7
"""Length of the noise, of the row's length."""
_BLEND = 0.6
"""Share of the one row in a query between two."""
_Z = 1.96
"""Standard errors to either side of a 95 % interval."""


def invent_queries(
    vectors: NDArray[np.float32], count: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Make queries from rows: a third are rows, a third lie near one, a third between two.

    Rows alone are easier to answer than questions, which lie farther from all rows. What this
    mixture predicts, and what held-out queries get, is in docs/benchmarks.md.

    Returns:
        Queries of shape (m, dimension), and the row that each is, −1 where it is none.
    """
    generator = np.random.default_rng(seed)
    chosen = generator.choice(len(vectors), min(count, len(vectors)), replace=False)
    as_rows, near, between = np.array_split(np.sort(chosen), 3)
    noise = generator.standard_normal((len(near), vectors.shape[1]), np.float32)
    noise *= _NOISE * np.linalg.norm(vectors[near], axis=1, keepdims=True)
    noise /= max(1.0, vectors.shape[1] ** 0.5)
    others = vectors[generator.choice(len(vectors), len(between))]
    blends = _BLEND * vectors[between] + (1 - _BLEND) * others
    queries = np.concatenate([vectors[as_rows], vectors[near] + noise, blends])
    queries[~queries.any(axis=1)] = 1.0  # opposite rows can cancel; no direction is no query
    own = np.concatenate([as_rows, np.full(len(near) + len(between), -1)])
    return np.ascontiguousarray(queries, np.float32), own.astype(np.int64)


def estimate(values: NDArray[np.float64]) -> RecallEstimate:
    """Summarise recall over queries: mean, normal 95 % interval, 5th percentile."""
    mean = float(values.mean())
    error = _Z * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 1.0
    return RecallEstimate(
        mean,
        low=max(0.0, mean - error),
        high=min(1.0, mean + error),
        p5=float(np.percentile(values, 5)),
        queries=len(values),
    )


def recall(
    found: Sequence[tuple[Hashable, float]], truth: Sequence[tuple[Hashable, float]]
) -> float:
    """Return the share of the true best that was found, any of those that tie counting alike.

    Args:
        found: What a search found, each with its score.
        truth: The same for an exact search, best first.
    """
    if not truth:
        return 1.0
    kth = truth[-1][1]
    return min(1.0, sum(score >= kth for _, score in found) / len(truth))
