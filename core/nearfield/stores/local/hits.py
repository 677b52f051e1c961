"""From ranked slots to hits: ties ordered, lists cut, each document fetched and verified once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from heapq import nlargest
from typing import TYPE_CHECKING, Any, TypeAlias

from nearfield.documents import Document, Hit, make_hit
from nearfield.ranking import relevances
from nearfield.stores.local.rows import (
    decode_documents,
    fetch_ids,
    fetch_vectors,
    refuse_missing,
    select_slots,
)

if TYPE_CHECKING:
    import sqlite3

    from nearfield.stores.base import CollectionInfo, Include, SearchRequest

__all__ = ["Ranked", "best_in_order", "fetch_hits", "read_documents"]

Ranked: TypeAlias = list[tuple[int, float]]
"""Slots and scores, with all that tie with the last."""


def fetch_hits(
    connection: sqlite3.Connection,
    rankings: Sequence[Ranked],
    request: SearchRequest,
    info: CollectionInfo,
) -> list[list[Hit]]:
    """Make the hits of each query; a document that several queries find is read once.

    Args:
        connection: In the transaction that the rankings are of.
        rankings: For each query, slots and scores in any order: the k best, and all that tie with
            the k-th. No slot twice.
        request: What was asked.
        info: The collection's.

    Returns:
        For each query at most k hits that score at least ``min_score``, best first, ties by id.
        Hits of one document share it.

    Raises:
        CorruptionError: A document is missing or damaged.
    """
    cut = [_cut(connection, ranked, request) for ranked in rankings]
    slots = sorted({slot for ranked in cut for slot, _ in ranked})
    documents = _documents_in(connection, slots, request.include, info.embedding.dimension)
    return [_hits(ranked, documents, request, info) for ranked in cut]


def best_in_order(connection: sqlite3.Connection, ranked: Ranked, k: int) -> Ranked:
    """Return the k best, best first, ties by id; ids are fetched for ties alone."""
    if len(ranked) > k:
        kth = nlargest(k, (score for _, score in ranked))[-1]
        ranked = [pair for pair in ranked if pair[1] >= kth]
    times = Counter(score for _, score in ranked)
    ids = fetch_ids(connection, [slot for slot, score in ranked if times[score] > 1])
    return sorted(ranked, key=lambda pair: (-pair[1], ids.get(pair[0], "")))[:k]


def read_documents(
    connection: sqlite3.Connection,
    rows: Sequence[tuple[Any, ...]],
    include: Include,
    dimension: int,
) -> list[Document]:
    """Rebuild documents from rows of ``SELECT_DOCUMENTS``, with their vectors if asked for."""
    if not include.embedding:
        return decode_documents(rows, include)
    vectors = fetch_vectors(connection, [row[0] for row in rows], dimension)
    return decode_documents(rows, include, vectors)


def _cut(connection: sqlite3.Connection, ranked: Ranked, request: SearchRequest) -> Ranked:
    least = request.min_score
    if least is not None:
        ranked = [pair for pair in ranked if pair[1] >= least]
    return ranked if len(ranked) <= request.k else best_in_order(connection, ranked, request.k)


def _documents_in(
    connection: sqlite3.Connection, slots: Sequence[int], include: Include, dimension: int
) -> dict[int, Document]:
    rows = select_slots(connection, slots)
    documents = read_documents(connection, rows, include, dimension)
    found = {row[0]: document for row, document in zip(rows, documents, strict=True)}
    refuse_missing(slots, found, "the document")
    return found


def _hits(
    ranked: Ranked,
    documents: Mapping[int, Document],
    request: SearchRequest,
    info: CollectionInfo,
) -> list[Hit]:
    best = sorted([(-score, documents[slot].id, slot) for slot, score in ranked])
    scores = [-negated for negated, _, _ in best]
    scaled = relevances(scores, request.mode, info.metric)
    return [
        make_hit(documents[slot], score, rank, relevance)
        for rank, ((_, _, slot), score, relevance) in enumerate(
            zip(best, scores, scaled, strict=True), start=1
        )
    ]
