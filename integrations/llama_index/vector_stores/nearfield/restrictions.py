"""Which nodes a query is for: a user's choice, told from what an index lists of itself.

A retriever made by ``index.as_retriever()`` sends, with each query, the ids of all nodes that the
index lists. Of a store that keeps the text, an index lists its IndexNodes and ImageNodes alone, so
to obey the list would lose every other node as soon as one of these was added. Both look the same
in a query; what differs is what they name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from llama_index.core.schema import BaseNode, ImageNode, IndexNode

from llama_index.vector_stores.nearfield.nodes import is_listed_by_indexes

if TYPE_CHECKING:
    from nearfield import Collection

__all__ = ["ListedNodes"]

_LOOKED_UP = 256


class ListedNodes:
    """The IndexNodes and ImageNodes that were met so far, so that most lists need no look-up."""

    def __init__(self) -> None:
        self._ids: set[str] = set()

    def note(self, nodes: Iterable[BaseNode]) -> None:
        """Remember nodes that were written."""
        for node in nodes:
            if isinstance(node, ImageNode | IndexNode):
                self._ids.add(node.id_)
            else:
                self._ids.discard(node.id_)

    def remember(self, ids: Iterable[str]) -> None:
        """Take over ids that another process met."""
        self._ids.update(ids)

    def gone(self, collection: Collection) -> tuple[str, ...]:
        """Return the ids that were met and whose nodes were deleted since."""
        ids = sorted(self._ids)
        found = collection.get(ids, include=("metadata",))
        return tuple(
            identifier for identifier, document in zip(ids, found, strict=True) if document is None
        )

    def is_index_list(self, collection: Collection, ids: Sequence[str]) -> bool:
        """Whether ids name IndexNodes and ImageNodes only, at least one, and so restrict nothing.

        Those that were deleted since do not count: an index goes on listing them. A list of
        nothing but unknown ids is a restriction, and finds nothing.
        """
        unknown = [identifier for identifier in ids if identifier not in self._ids]
        for start in range(0, len(unknown), _LOOKED_UP):
            part = unknown[start : start + _LOOKED_UP]
            for document in collection.get(part, include=("metadata",)):
                if document is None:
                    continue
                if not is_listed_by_indexes(document):
                    return False
                self._ids.add(document.id)
        return any(identifier in self._ids for identifier in ids)
