"""Documents to choose hits from, compared exactly, for stores whose engine's scores are not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nearfield.documents import Document, Hit, Metric, make_hit
from nearfield.ranking import relevances

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.stores.base import SearchRequest

__all__ = ["Candidates", "Found", "best_of", "compare", "hits", "leave_no_tie"]

Found: TypeAlias = tuple[float, str, Document]
"""A score, an id, and what has both."""
Ranked: TypeAlias = tuple[float, str, int]
"""A score, negated, an id, and the place of what has both among the candidates."""


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
        self._squares: NDArray[np.float64] | None = None
        self._made: dict[int, Document] = {}

    def ranked(self, query: NDArray[np.float32]) -> list[Ranked]:
        """Compare every candidate with a query: the best first, ties by id."""
        return sorted(
            [
                (-score, self._ids[place], place)
                for place, score in enumerate(self._scores(query).tolist())
            ]
        )

    def _scores(self, query: NDArray[np.float32]) -> NDArray[Any]:
        """Score every candidate in float64; each for itself, so that equal vectors tie."""
        # After an engine's answer the processor's caches are cold, and the first call of a function
        # of numpy's costs more than its work: einsum does all of it.
        rows, asked = self._rows, query.astype(np.float64)
        if self._metric is Metric.EUCLIDEAN:
            apart = rows - asked
            return np.asarray(1.0 / (1.0 + np.sqrt(np.einsum("ij,ij->i", apart, apart))))
        scores = np.einsum("ij,j->i", rows, asked)
        if self._metric is Metric.COSINE:
            scores /= np.sqrt(self._row_squares() * np.einsum("i,i->", asked, asked))
            # As the embedded engine's: vectors that differ only in length tie, none is beyond 1.
            scores = scores.astype(np.float32)
        return np.asarray(scores)

    def _row_squares(self) -> NDArray[np.float64]:
        squares = self._squares
        if squares is None:
            squares = self._squares = np.einsum("ij,ij->i", self._rows, self._rows)
        return squares

    def best(self, ranked: Sequence[Ranked], request: SearchRequest) -> list[Found]:
        """Return at most k that score enough."""
        least = request.min_score
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


def leave_no_tie(ranked: Sequence[Ranked], k: int) -> bool:
    """Whether documents that are farther than all of these cannot tie with the k best."""
    return ranked[-1][0] > ranked[k - 1][0]


def compare(
    queries: NDArray[np.float32],
    pages: Iterable[Candidates],
    request: SearchRequest,
) -> list[list[Found]]:
    """Compare each query with every candidate of all pages, and return the best for each."""
    best: list[list[Found]] = [[] for _ in queries]
    for candidates in pages:
        for place, query in enumerate(queries):
            found = candidates.best(candidates.ranked(query), request)
            best[place] = best_of(best[place] + found, request.k)
    return best


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
