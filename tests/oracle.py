"""A collection as a dict and plain arithmetic: slow, obvious, and what every store is held to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nearfield.documents import Document, Metric

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nearfield.filters import Filter


def exact_score(metric: Metric, x: np.ndarray, y: np.ndarray) -> float:
    """Compare two float32 vectors in float64, each sum rounded once.

    Cosine is rounded to float32, which is what makes vectors of one direction tie.
    """
    x, y = x.astype(np.float64), y.astype(np.float64)
    if metric is Metric.EUCLIDEAN:
        return 1.0 / (1.0 + math.sqrt(math.fsum((x - y) ** 2)))
    product = math.fsum(x * y)
    if metric is Metric.DOT:
        return product
    cosine = product / math.sqrt(math.fsum(x * x)) / math.sqrt(math.fsum(y * y))
    return float(np.float32(cosine))


@dataclass
class Oracle:
    """What a collection should hold and answer."""

    metric: Metric
    documents: dict[str, Document] = field(default_factory=dict)  # in the order of writing

    def upsert(self, batch: Iterable[Document], replace: Filter | None = None) -> None:
        written = {document.id: document for document in batch}
        gone = set() if replace is None else {each.id for each in self.matching(replace)}
        self.documents = {
            name: document
            for name, document in self.documents.items()
            if name not in gone and name not in written
        } | written

    def delete(self, ids: Iterable[str]) -> int:
        return sum(self.documents.pop(name, None) is not None for name in list(ids))

    def matching(self, where: Filter | None) -> list[Document]:
        return [
            document
            for document in self.documents.values()
            if where is None or where.matches(document.metadata)
        ]

    def search(
        self, query, k: int, where: Filter | None = None, min_score: float | None = None
    ) -> list[tuple[str, float]]:
        """Return ids and scores, best first, ties by id."""
        query = np.asarray(query, np.float32)
        scored = [
            (document.id, exact_score(self.metric, document.embedding, query))
            for document in self.matching(where)
        ]
        if min_score is not None:
            scored = [pair for pair in scored if pair[1] >= min_score]
        return sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:k]
