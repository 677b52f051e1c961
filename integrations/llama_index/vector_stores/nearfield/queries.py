"""LlamaIndex's queries as searches of a collection."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

from llama_index.vector_stores.nearfield.filters import to_filter
from llama_index.vector_stores.nearfield.nodes import SOURCE_KEY
from nearfield.errors import InvalidInputError, UnsupportedOperationError
from nearfield.filters import And, Condition, Filter, Operator, parse
from nearfield.validation import check_positive, check_share

if TYPE_CHECKING:
    from nearfield import Hit

__all__ = ["Search", "by_meaning", "read_query"]

_OPTIONS: Final = frozenset(
    {"node_ids", "where", "mmr_threshold", "mmr_prefetch_factor", "mmr_prefetch_k"}
)
_RERANKER_POOL: Final = 4
"""Candidates per hit that a reranker sees, and at least 50 in all."""


@dataclass(frozen=True, slots=True)
class Search:
    """What to ask a collection.

    Attributes:
        arguments: The keyword arguments of ``Collection.search``.
        k: How many hits to return.
        reorder: Whether the hits are to be put in the order of meaning.
    """

    arguments: dict[str, Any]
    k: int
    reorder: bool = False


def read_query(
    query: VectorStoreQuery,
    options: Mapping[str, Any],
    ids: Sequence[str] | None,
    *,
    has_reranker: bool,
) -> Search:
    """Translate a query.

    Args:
        query: The query.
        options: The ``vector_store_kwargs`` of a retriever.
        ids: The nodes to search, or None for all.
        has_reranker: Whether something better than embeddings reorders a semantic hybrid.

    Raises:
        InvalidInputError: An option is unknown or out of range, or the query lacks what its mode
            needs.
        UnsupportedOperationError: There is no such mode here.
    """
    if unknown := options.keys() - _OPTIONS:
        raise InvalidInputError(
            f"vector_store_kwargs has {min(unknown)!r}, expected any of: "
            f"{', '.join(sorted(_OPTIONS))}"
        )
    try:
        read_mode = _MODES[VectorStoreQueryMode(query.mode)]
    except (KeyError, ValueError):
        raise UnsupportedOperationError(
            f"nearfield has no query mode {getattr(query.mode, 'value', query.mode)!r}; it has: "
            f"{', '.join(mode.value for mode in _MODES)}"
        ) from None
    search = read_mode(query, options)
    if search.reorder and has_reranker and query.hybrid_top_k is None:
        # Without a reranker the order of meaning would make a vector search of a larger pool.
        search.arguments["k"] = max(_RERANKER_POOL * search.k, 50)
    search.arguments["where"] = _where(query, options)
    search.arguments["ids"] = ids
    return search


def by_meaning(query: VectorStoreQuery, search: Search, hits: Sequence[Hit]) -> dict[str, Any]:
    """Return the search that puts hits in the order of their exact similarity."""
    vector = search.arguments["vector"]
    meaning = query.query_str if vector is None else vector
    return {"query": meaning, "k": search.k, "ids": [hit.id for hit in hits]}


def _where(query: VectorStoreQuery, options: Mapping[str, Any]) -> Filter | None:
    parts = [to_filter(query.filters), parse(options.get("where"))]
    if query.doc_ids is not None:
        parts.append(Condition(SOURCE_KEY, Operator.IN, query.doc_ids))
    wanted = tuple(part for part in parts if part is not None)
    return And(wanted) if len(wanted) > 1 else wanted[0] if wanted else None


def _default(query: VectorStoreQuery, _options: Mapping[str, Any]) -> Search:
    k = query.similarity_top_k
    return Search({"query": _meaning(query), "k": k}, k)


def _mmr(query: VectorStoreQuery, options: Mapping[str, Any]) -> Search:
    k = check_positive(query.similarity_top_k, "similarity_top_k")
    threshold = options.get("mmr_threshold", query.mmr_threshold)
    share = 0.5 if threshold is None else check_share(threshold, "mmr_threshold")
    factor, candidates = options.get("mmr_prefetch_factor"), options.get("mmr_prefetch_k")
    if factor is not None:
        if candidates is not None:
            raise InvalidInputError("give mmr_prefetch_factor or mmr_prefetch_k, not both")
        if isinstance(factor, bool) or not isinstance(factor, int | float) or factor < 1:
            raise InvalidInputError(
                f"mmr_prefetch_factor is {factor!r}, expected a number of at least 1"
            )
        candidates = round(factor * k)
    arguments = {"query": _meaning(query), "k": k, "diversity": 1.0 - share}
    if candidates is not None:
        arguments["candidates"] = max(check_positive(candidates, "mmr_prefetch_k"), k)
    return Search(arguments, k)


def _keyword(query: VectorStoreQuery, _options: Mapping[str, Any]) -> Search:
    k = query.similarity_top_k if query.sparse_top_k is None else query.sparse_top_k
    return Search({"query": _words(query), "k": k, "mode": "keyword"}, k)


def _hybrid(query: VectorStoreQuery, _options: Mapping[str, Any]) -> Search:
    k = query.similarity_top_k if query.hybrid_top_k is None else query.hybrid_top_k
    return Search({"query": _words(query), "k": k, **_fusion(query)}, k)


def _semantic_hybrid(query: VectorStoreQuery, _options: Mapping[str, Any]) -> Search:
    pool = k = check_positive(query.similarity_top_k, "similarity_top_k")
    if query.hybrid_top_k is not None:
        pool = max(check_positive(query.hybrid_top_k, "hybrid_top_k"), k)
    return Search({"query": _words(query), "k": pool, **_fusion(query)}, k, reorder=True)


def _fusion(query: VectorStoreQuery) -> dict[str, Any]:
    alpha = 0.5 if query.alpha is None else query.alpha
    return {"mode": "hybrid", "alpha": alpha, "vector": query.query_embedding}


def _meaning(query: VectorStoreQuery) -> Any:
    if query.query_embedding is not None:
        return query.query_embedding
    if query.query_str is None:
        raise InvalidInputError("the query has neither query_embedding nor query_str; give one")
    return query.query_str


def _words(query: VectorStoreQuery) -> str:
    if query.query_str is None:
        raise InvalidInputError(
            f"the mode {VectorStoreQueryMode(query.mode).value!r} matches words, and the query has "
            "none; give query_str"
        )
    return query.query_str


_MODES: Final[
    dict[VectorStoreQueryMode, Callable[[VectorStoreQuery, Mapping[str, Any]], Search]]
] = {
    VectorStoreQueryMode.DEFAULT: _default,
    VectorStoreQueryMode.MMR: _mmr,
    VectorStoreQueryMode.TEXT_SEARCH: _keyword,
    VectorStoreQueryMode.SPARSE: _keyword,
    VectorStoreQueryMode.HYBRID: _hybrid,
    VectorStoreQueryMode.SEMANTIC_HYBRID: _semantic_hybrid,
}
