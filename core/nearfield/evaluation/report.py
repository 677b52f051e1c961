"""What an evaluation found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.errors import InvalidInputError
from nearfield.evaluation.resampling import bootstrap_intervals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nearfield.documents import SearchMode

__all__ = ["Estimate", "EvaluationReport", "ModeResult"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over queries.

    Attributes:
        mean: The mean.
        low: The lower end of its 95 % bootstrap interval.
        high: The upper end.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ModeResult:
    """How well one search mode retrieves.

    Attributes:
        mode: The search mode.
        measures: Each measure, such as ``"nDCG@10"``, as a mean over the queries.
        per_query: The measures of each query by its id.
        search_ms: Milliseconds a query, embedding and reranking included, asked many at once.
    """

    mode: SearchMode
    measures: Mapping[str, Estimate]
    per_query: Mapping[str, Mapping[str, float]]
    search_ms: float

    @classmethod
    def summed_up(
        cls,
        mode: SearchMode,
        per_query: Mapping[str, Mapping[str, float]],
        *,
        search_ms: float,
        seed: int,
    ) -> ModeResult:
        """Make the means and their intervals from what was measured for each query."""
        names = list(next(iter(per_query.values())))
        values = np.array([[each[name] for name in names] for each in per_query.values()])
        columns = zip(values.mean(axis=0), *bootstrap_intervals(values, seed), strict=True)
        estimates = [Estimate(*map(float, column)) for column in columns]
        return cls(mode, dict(zip(names, estimates, strict=True)), per_query, search_ms)


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """How well a collection retrieves, measured with judged queries.

    Attributes:
        collection: The collection's name.
        model: What its vectors were made with.
        reranker: What put the hits in order; None for the search itself.
        queries: How many queries were asked.
        unanswerable: Judged queries that were left out, as no document is relevant to them.
        textless: Judged queries that were left out, as their text was not given.
        documents: How many documents are relevant to one of the queries.
        missing: How many of those the collection does not hold; they count as not found.
        results: One for each mode.
    """

    collection: str
    model: str
    reranker: str | None
    queries: int
    unanswerable: int
    textless: int
    documents: int
    missing: int
    results: tuple[ModeResult, ...]

    def result(self, mode: SearchMode | str) -> ModeResult:
        """Return what was found for a mode, or raise ``InvalidInputError``."""
        for result in self.results:
            if result.mode == mode:
                return result
        measured = ", ".join(result.mode for result in self.results)
        raise InvalidInputError(f"the mode {mode!r} was not measured, only: {measured}")

    def to_dict(self, *, per_query: bool = False) -> dict[str, Any]:
        """Return everything as JSON-ready values, and what each query measured if asked for."""
        content = asdict(self)
        for result in content["results"]:
            result["mode"] = result["mode"].value
            if not per_query:
                del result["per_query"]
        return content
