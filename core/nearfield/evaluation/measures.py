"""Measures of a ranking against judgements, defined as trec_eval does.

With rel(i) the relevance of the document at rank i, 0 where it is not judged or judged below 0, and
R the number of documents judged relevant, that is with a relevance of at least 1:

* nDCG@k is Σ rel(i) / log2(i + 1) over the first k, divided by the same sum of the best order
  there can be (Järvelin and Kekäläinen, ACM TOIS 20(4), 2002); the gain is linear, not 2^rel − 1.
* Recall@k is the number of relevant documents among the first k, divided by R.
* MRR@k is the mean over queries of 1 / rank of the first relevant document, 0 beyond k.
* MAP@k is the mean over queries of the sum, over each rank up to k with a relevant document, of
  the precision at that rank, divided by R.

They are trec_eval's ``ndcg_cut``, ``recall``, ``recip_rank`` (of a run of k) and ``map_cut``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nearfield.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["is_answerable", "measure", "measure_names"]


def measure_names(ks: Sequence[int]) -> tuple[str, ...]:
    """Name the measures at each depth, in the order of :func:`measure`."""
    return tuple(f"{name}@{k}" for k in ks for name in ("nDCG", "Recall", "MRR", "MAP"))


def is_answerable(judged: Mapping[str, int]) -> bool:
    """Tell whether a query has a relevant document; without one no measure is defined."""
    return any(relevance > 0 for relevance in judged.values())


def measure(
    ranking: Sequence[str], judged: Mapping[str, int], ks: Sequence[int] = (10,)
) -> dict[str, float]:
    """Measure one query's ranking.

    Args:
        ranking: Ids of documents, best first, each once.
        judged: The relevance of judged documents, at least one of which is relevant.
        ks: The depths to measure at.

    Returns:
        Each measure by its name, such as ``"nDCG@10"``.

    Raises:
        InvalidInputError: No document is relevant.
    """
    if not is_answerable(judged):
        raise InvalidInputError("no document is relevant, and no measure is defined; leave it out")
    gains = np.array([max(judged.get(identifier, 0), 0) for identifier in ranking[: max(ks)]])
    ideal = np.sort([relevance for relevance in judged.values() if relevance > 0])[::-1]
    found = gains > 0
    ranks = np.arange(1, len(gains) + 1)
    precisions = np.cumsum(found) / ranks * found
    first = int(np.argmax(found)) + 1 if found.any() else np.inf
    values: list[float] = []
    for k in ks:
        values += [
            _discounted(gains[:k]) / _discounted(ideal[:k]),
            np.count_nonzero(found[:k]) / len(ideal),
            1 / first if first <= k else 0.0,
            precisions[:k].sum() / len(ideal),
        ]
    return dict(zip(measure_names(ks), map(float, values), strict=True))


def _discounted(gains: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
    return float((gains / np.log2(np.arange(2, len(gains) + 2))).sum())
