"""Orders and scores: reciprocal rank fusion, maximal marginal relevance, relevance in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from nearfield.documents import Metric, SearchMode

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "RRF_K",
    "fusion_depth",
    "maximal_marginal_relevance",
    "reciprocal_rank_fusion",
    "relevance",
    "relevances",
]

RRF_K = 60
"""Cormack, Clarke and Büttcher, Reciprocal Rank Fusion, SIGIR 2009."""

_FUSION_DEPTH = 100

Key = TypeVar("Key", bound=Hashable)


def fusion_depth(k: int) -> int:
    """Return how many hits of each list a hybrid search fuses.

    At least 100, so that a small k gives the head of the list that a larger one would.
    """
    return max(_FUSION_DEPTH, 2 * k)


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[Key]], weights: Sequence[float] | None = None
) -> dict[Key, float]:
    """Fuse rankings: each key scores the sum of weight / (60 + rank) over those it is in.

    Args:
        rankings: Keys, best first.
        weights: One for each ranking; 1 for all when left out. A ranking of weight 0 is left out.

    Returns:
        The score of every key, in no particular order.
    """
    scores: dict[Key, float] = {}
    for ranking, weight in zip(rankings, weights or [1.0] * len(rankings), strict=True):
        for rank, key in enumerate(ranking if weight else (), start=1):
            scores[key] = scores.get(key, 0.0) + weight / (RRF_K + rank)
    return scores


def maximal_marginal_relevance(
    relevances: Sequence[float], vectors: NDArray[np.float32], k: int, diversity: float
) -> list[int]:
    """Pick k candidates that are relevant and unlike each other.

    Each step takes the candidate with the largest (1 − diversity) · relevance − diversity · its
    largest cosine to those already taken (Carbonell and Goldstein, SIGIR 1998, λ = 1 − diversity).

    Args:
        relevances: One per candidate.
        vectors: Their embeddings, shape (n, dimension).
        k: How many to pick at most.
        diversity: From 0, relevance alone, to 1, difference alone.

    Returns:
        Indices of the candidates, in the order they were picked.
    """
    count = len(relevances)
    if count == 0:
        return []
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors / np.where(norms == 0, 1, norms)
    gain = (1.0 - diversity) * np.asarray(relevances, np.float64)
    closest = np.full(count, -np.inf)
    picked = [int(np.argmax(relevances))]
    while len(picked) < min(k, count):
        np.maximum(closest, units @ units[picked[-1]], out=closest)
        values = gain - diversity * closest
        values[picked] = -np.inf
        picked.append(int(np.argmax(values)))
    return picked


def relevance(score: float, mode: SearchMode, metric: Metric) -> float:
    """Map a score to [0, 1]; see :func:`relevances`."""
    return relevances([score], mode, metric)[0]


def relevances(scores: Sequence[float], mode: SearchMode, metric: Metric) -> list[float]:
    """Map scores to [0, 1], never decreasing in them.

    Cosine and euclidean are clamped; an inner product goes through the logistic function; BM25, s,
    becomes s / (1 + s); a fused score is divided by the most that two lists can give.
    """
    if mode is SearchMode.KEYWORD:
        scores = [score / (1.0 + score) for score in scores]
    elif mode is SearchMode.HYBRID:
        scores = [score * (RRF_K + 1) / 2 for score in scores]
    elif metric is Metric.DOT:
        scores = [0.5 * (1.0 + math.tanh(score / 2)) for score in scores]
    return [1.0 if score > 1.0 else max(0.0, score) for score in scores]
