"""A document index: documents by id, and retrieval, in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.indexing.base import DeleteResponse, DocumentIndex, UpsertResponse

from langchain_nearfield.filters import read_filter
from langchain_nearfield.retrievers import NearfieldRetriever

if TYPE_CHECKING:
    from langchain_core.documents import Document

__all__ = ["NearfieldDocumentIndex"]


class NearfieldDocumentIndex(NearfieldRetriever, DocumentIndex):
    """A vector store as LangChain's document index; its fields are those of the retriever."""

    def upsert(self, items: Sequence[Document], /, **kwargs: Any) -> UpsertResponse:
        """Write documents in one step: all or none; those without an id get one."""
        return UpsertResponse(succeeded=self.vectorstore.add_documents(items, **kwargs), failed=[])

    async def aupsert(self, items: Sequence[Document], /, **kwargs: Any) -> UpsertResponse:
        """Write documents without blocking the event loop; see :meth:`upsert`."""
        ids = await self.vectorstore.aadd_documents(items, **kwargs)
        return UpsertResponse(succeeded=ids, failed=[])

    def delete(
        self, ids: list[str] | None = None, *, filter: Any = None, **kwargs: Any
    ) -> DeleteResponse:
        """Delete documents by id, by filter, or what has both.

        Raises:
            InvalidInputError: Neither was given.
        """
        collection, where = self.vectorstore.collection, read_filter(filter)
        return _deleted(collection.delete(ids, where=where))

    async def adelete(
        self, ids: list[str] | None = None, *, filter: Any = None, **kwargs: Any
    ) -> DeleteResponse:
        """Delete without blocking the event loop; see :meth:`delete`."""
        collection, where = self.vectorstore.collection, read_filter(filter)
        return _deleted(await collection.adelete(ids, where=where))

    def get(self, ids: Sequence[str], /, **kwargs: Any) -> list[Document]:
        """Fetch documents in the order of the ids; those that are not there are left out."""
        return self.vectorstore.get_by_ids(ids)

    async def aget(self, ids: Sequence[str], /, **kwargs: Any) -> list[Document]:
        """Fetch documents without blocking the event loop; see :meth:`get`."""
        return await self.vectorstore.aget_by_ids(ids)


def _deleted(count: int) -> DeleteResponse:
    return DeleteResponse(num_deleted=count, num_failed=0, failed=[])
