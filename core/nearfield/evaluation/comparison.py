"""Two settings, measured with the same queries: which is better, and could that be chance."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.errors import InvalidInputError
from nearfield.evaluation.report import Estimate
from nearfield.evaluation.resampling import bootstrap_intervals, randomisation_p_value
from nearfield.validation import check_seed

if TYPE_CHECKING:
    from nearfield.evaluation.report import ModeResult

__all__ = ["Comparison", "compare"]

_SIGNIFICANCE = 0.05
_ALIKE = 1e-9


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a setting compares with another one, query by query.

    Attributes:
        measure: What was compared, such as ``"nDCG@10"``.
        difference: The mean of the differences, positive where the first one is better.
        p_value: How likely a mean difference at least this large, either way, is by chance.
        wins: Queries for which the first one is better.
        losses: Queries for which the other one is better.
        ties: Queries for which they are alike.
    """

    measure: str
    difference: Estimate
    p_value: float
    wins: int
    losses: int
    ties: int

    @property
    def is_significant(self) -> bool:
        """Whether the p-value is below 0.05; of many comparisons, one in 20 is so by chance."""
        return self.p_value < _SIGNIFICANCE

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        return {**asdict(self), "is_significant": self.is_significant}


def compare(
    one: ModeResult, other: ModeResult, measure: str = "nDCG@10", *, seed: int = 0
) -> Comparison:
    """Compare two results of the same queries, pair by pair.

    The interval is the percentile bootstrap's over queries, the p-value that of a randomisation
    test of 10,000 sign flips, so it is never below 1/10,001.

    Args:
        one: A result, of any mode, embedder or reranker.
        other: What to compare it with.
        measure: A measure that both have.
        seed: What the resampling follows from.

    Raises:
        InvalidInputError: The results are of other queries, or have no such measure; or a bad seed.
    """
    checked_seed = check_seed(seed)
    for result in (one, other):
        if measure not in result.measures:
            raise InvalidInputError(
                f"{measure!r} was not measured, only: {', '.join(result.measures)}"
            )
    if one.per_query.keys() != other.per_query.keys():
        raise InvalidInputError(
            "the two results are of different queries; evaluate both with the same queries and "
            "judgements"
        )
    differences = np.array(
        [
            values[measure] - other.per_query[query][measure]
            for query, values in one.per_query.items()
        ]
    )
    low, high = bootstrap_intervals(differences[:, np.newaxis], checked_seed)
    wins = int(np.count_nonzero(differences > _ALIKE))
    losses = int(np.count_nonzero(differences < -_ALIKE))
    return Comparison(
        measure=measure,
        difference=Estimate(float(differences.mean()), float(low[0]), float(high[0])),
        p_value=randomisation_p_value(differences, checked_seed),
        wins=wins,
        losses=losses,
        ties=len(differences) - wins - losses,
    )
