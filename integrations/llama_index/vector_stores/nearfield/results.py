"""The hits of a collection as LlamaIndex's results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llama_index.core.schema import NodeWithScore
from llama_index.core.vector_stores.types import VectorStoreQueryResult

from llama_index.vector_stores.nearfield.nodes import to_node

if TYPE_CHECKING:
    from nearfield import Hit

__all__ = ["reranked", "result_of", "scored_nodes"]


def result_of(hits: Sequence[Hit]) -> VectorStoreQueryResult:
    """Return nodes, scores and ids, best first."""
    return VectorStoreQueryResult(
        nodes=[to_node(hit.document) for hit in hits],
        similarities=[hit.score for hit in hits],
        ids=[hit.id for hit in hits],
    )


def scored_nodes(hits: Sequence[Hit]) -> list[NodeWithScore]:
    """Return what a reranker puts in order."""
    return [NodeWithScore(node=to_node(hit.document), score=hit.score) for hit in hits]


def reranked(scored: Sequence[NodeWithScore], k: int) -> VectorStoreQueryResult:
    """Return the best k of what a reranker put in order, with its scores."""
    best = scored[:k]
    return VectorStoreQueryResult(
        nodes=[item.node for item in best],
        similarities=[item.get_score() for item in best],
        ids=[item.node.node_id for item in best],
    )
