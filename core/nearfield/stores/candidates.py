"""Documents to choose hits from, compared exactly, for stores whose engine's scores are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from nearfield.documents import Document, Hit, Metric, make_hit
from nearfield.ranking import relevances

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.stores.base import SearchRequest

__all__ = ["Candidates", "Found", "best_of", "hits"]

Found: TypeAlias = tuple[float, str, Document]
"""A score, an id, and what has both."""


class Candidates:
    """Documents to choose from, for several queries; one that several find is made once.

    Args:
        ids: Their ids.
        rows: Their vectors, shape (n, dimension).
        make: Makes the document at a place.
        metric: How to compare vectors.
    """

    def __init__(
        self,
        ids: Sequence[str],
        rows: NDArray[np.float32],
        make: Callable[[int], Document],
        metric: Metric,
    ) -> None:
        self._ids = ids
        self._rows = rows.astype(np.float64)
        self._make = make
        self._metric = metric
        self._made: dict[int, Document] = {}

    def scores(self, query: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score every candidate in float64; each for itself, so that equal vectors tie."""
        rows, asked = self._rows, query.astype(np.float64)
        if self._metric is Metric.EUCLIDEAN:
            apart = rows - asked
            return np.asarray(1.0 / (1.0 + np.sqrt(np.einsum("ij,ij->i", apart, apart))))
        scores = np.einsum("ij,j->i", rows, asked)
        if self._metric is Metric.COSINE:
            lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows) * float(asked @ asked))
            # As the embedded engine's: vectors that differ only in length tie.
            scores = np.clip(scores / lengths, -1.0, 1.0).astype(np.float32).astype(np.float64)
        return np.asarray(scores, np.float64)

    def best(self, scores: NDArray[np.float64], request: SearchRequest) -> list[Found]:
        """Return at most k that score enough, best first, ties by id."""
        least = request.min_score
        ranked = sorted(
            [(-score, self._ids[place], place) for place, score in enumerate(scores.tolist())]
        )
        return [
            (-negated, name, self._document(place))
            for negated, name, place in ranked[: request.k]
            if least is None or -negated >= least
        ]

    def _document(self, place: int) -> Document:
        made = self._made.get(place)
        if made is None:
            made = self._made[place] = self._make(place)
        return made


def best_of(found: Sequence[Found], k: int) -> list[Found]:
    """Return the k best, ties by id."""
    return sorted(found, key=lambda each: (-each[0], each[1]))[:k]


def hits(found: Sequence[Found], request: SearchRequest, metric: Metric) -> list[Hit]:
    """Return hits for what was found, best first."""
    scaled = relevances([each[0] for each in found], request.mode, metric)
    return [
        make_hit(document, score, rank, relevance)
        for rank, ((score, _, document), relevance) in enumerate(
            zip(found, scaled, strict=True), start=1
        )
    ]
