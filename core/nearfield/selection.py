"""From the candidates that a store found to the hits of a search: rerank, diversify, cut."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.ranking import maximal_marginal_relevance
from nearfield.rerankers import contract

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearfield.documents import Hit
    from nearfield.queries import SearchOptions
    from nearfield.rerankers import Reranker

__all__ = ["select"]


def select(
    candidates: list[Hit], options: SearchOptions, *, query: str | None, exclude: str | None
) -> list[Hit]:
    """Return the k hits of a search, numbered from 1, with the parts that were asked for.

    Args:
        candidates: What the store found for one query, best first.
        options: What was asked for.
        query: The query's text, which a reranker needs.
        exclude: The id of a document to leave out, such as the example of ``like``.
    """
    reranker, diversity = options.reranker, options.diversity
    if reranker is None and diversity is None and exclude is None:
        return candidates
    kept = [hit for hit in candidates if hit.id != exclude][: options.candidates]
    if reranker is not None and query is not None:
        kept = _reranked(kept, reranker, query, options.min_score)
    if diversity is not None and kept:
        vectors = np.stack([hit.document.embedding for hit in kept])  # type: ignore[misc]
        order = maximal_marginal_relevance(
            [hit.relevance for hit in kept], vectors, options.k, diversity
        )
        kept = [kept[index] for index in order]
    return [
        replace(_as_asked_for(hit, options), rank=rank)
        for rank, hit in enumerate(kept[: options.k], start=1)
    ]


def _reranked(
    hits: Sequence[Hit], reranker: Reranker, query: str, min_score: float | None
) -> list[Hit]:
    """Score hits anew and order them; equal scores are ordered by id."""
    scores = contract.rerank(reranker, query, [hit.text for hit in hits]).tolist()
    judged = [
        replace(hit, score=score, relevance=score)
        for hit, score in zip(hits, scores, strict=True)
        if min_score is None or score >= min_score
    ]
    return sorted(judged, key=lambda hit: (-hit.score, hit.id))


def _as_asked_for(hit: Hit, options: SearchOptions) -> Hit:
    """Leave out what was fetched of the document for the selection alone."""
    surplus: dict[str, Any] = {}
    if options.reranker is not None and not options.include.text:
        surplus["text"] = ""
    if options.diversity is not None and not options.include.embedding:
        surplus["embedding"] = None
    return replace(hit, document=replace(hit.document, **surplus)) if surplus else hit
