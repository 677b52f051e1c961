"""Hits of several servers as one server would give them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfield.documents import make_hit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearfield.documents import Hit

__all__ = ["merged"]


def merged(answers: Sequence[Sequence[Hit]], k: int) -> list[Hit]:
    """Merge the hits of servers that have different documents: the k best, ties by id."""
    best = sorted(
        (hit for answer in answers for hit in answer), key=lambda hit: (-hit.score, hit.id)
    )
    return [
        make_hit(hit.document, hit.score, rank, hit.relevance)
        for rank, hit in enumerate(best[:k], start=1)
    ]
