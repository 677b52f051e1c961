"""Hits of hybrid searches, for stores that ask their engine by vector and by words, apart."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from nearfield.documents import make_hit
from nearfield.ranking import fusion_depth, reciprocal_rank_fusion, relevances

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearfield.documents import Document, Hit, Metric
    from nearfield.stores.base import SearchRequest

__all__ = ["fused", "ranked", "widened"]


def ranked(
    found: Sequence[tuple[Document, float]], request: SearchRequest, metric: Metric
) -> list[Hit]:
    """Make hits of documents and their scores, best first, less those under ``min_score``."""
    if request.min_score is not None:
        found = [pair for pair in found if pair[1] >= request.min_score]
    scaled = relevances([score for _, score in found], request.mode, metric)
    return [
        make_hit(document, score, rank, relevance)
        for rank, ((document, score), relevance) in enumerate(
            zip(found, scaled, strict=True), start=1
        )
    ]


def widened(request: SearchRequest) -> SearchRequest:
    """Return the search whose hits by vector, and by words, are to be fused."""
    return dataclasses.replace(request, k=fusion_depth(request.k), min_score=None)


def fused(
    near: Sequence[Sequence[Hit]],
    worded: Sequence[Sequence[Hit]],
    request: SearchRequest,
    metric: Metric,
) -> list[list[Hit]]:
    """Fuse the hits of each query, by vector and by words; see ``ranking.fusion_depth``."""
    return [_fused(*both, request, metric) for both in zip(near, worded, strict=True)]


def _fused(
    near: Sequence[Hit], worded: Sequence[Hit], request: SearchRequest, metric: Metric
) -> list[Hit]:
    documents = {hit.id: hit.document for ranking in (near, worded) for hit in ranking}
    scores = reciprocal_rank_fusion(
        [[hit.id for hit in near], [hit.id for hit in worded]],
        [2 * request.alpha, 2 * (1 - request.alpha)],
    )
    best = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[: request.k]
    return ranked([(documents[name], score) for name, score in best], request, metric)
