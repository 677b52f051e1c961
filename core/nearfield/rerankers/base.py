"""What a reranker is: a model that reads a query and a document together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Reranker"]


@runtime_checkable
class Reranker(Protocol):
    """Judges how well texts answer a query. Safe to call from several threads at once.

    It reads each text together with the query, which is slower and better than comparing two
    embeddings, so it is given the best candidates of a search and not the collection.
    """

    @property
    def name(self) -> str:
        """What the model is called, for people. Cheap: no model is loaded to answer."""
        ...

    def rerank(self, query: str, texts: Sequence[str]) -> ArrayLike:
        """Judge texts, of which there is at least one.

        Returns:
            A relevance for each text, shape (len(texts),), from 0 to 1, higher is better. It
            becomes the score of a hit and its relevance, and is what ``min_score`` is held
            against, so it should not depend on the other texts.
        """
        ...
