"""Retrievers over a vector store: what chains and agents call."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, ClassVar

from langchain_core.vectorstores import VectorStoreRetriever
from pydantic import ConfigDict, model_validator

from langchain_nearfield.documents import plain
from langchain_nearfield.search_types import SearchType
from langchain_nearfield.vectorstore import NearfieldVectorStore  # noqa: TC001  # a field's type

if TYPE_CHECKING:
    from langchain_core.callbacks import (
        AsyncCallbackManagerForRetrieverRun,
        CallbackManagerForRetrieverRun,
    )
    from langchain_core.documents import Document

__all__ = ["NearfieldRetriever"]


class NearfieldRetriever(VectorStoreRetriever):
    """Retrieves documents from a vector store, by any :class:`SearchType`.

    ``invoke(query, k=2, filter=…)`` takes the place of what ``search_kwargs`` say.

    Attributes:
        vectorstore: Where to look.
        search_type: How; also by its name.
        search_kwargs: ``k``, 4 unless told, ``filter`` and what else the type takes. ``k`` may
            also be given as a field of the retriever.
        score_key: Put each score into the document's metadata under this key.
    """

    # A filter given in place of search_kwargs must not be passed over.
    model_config = ConfigDict(extra="forbid")

    vectorstore: NearfieldVectorStore  # pyright: ignore[reportIncompatibleVariableOverride]
    search_type: str = SearchType.SIMILARITY
    score_key: str | None = None

    allowed_search_types: ClassVar[Collection[str]] = tuple(SearchType)

    @model_validator(mode="before")
    @classmethod
    def validate_search_type(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Read the type and take ``k`` for one of its arguments."""
        search_type = SearchType.read(values.get("search_type", SearchType.SIMILARITY))
        options = dict(values.get("search_kwargs") or {})
        rest = {name: value for name, value in values.items() if name != "k"}
        if "k" in values:
            options["k"] = values["k"]
        search_type.check(options)
        return {**rest, "search_type": search_type, "search_kwargs": options}

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        options = {**self.search_kwargs, **kwargs}
        search_type = SearchType.read(self.search_type)
        hits = search_type.search(self.vectorstore.collection, query, options)
        return plain(hits, self.score_key)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        options = {**self.search_kwargs, **kwargs}
        search_type = SearchType.read(self.search_type)
        hits = await search_type.asearch(self.vectorstore.collection, query, options)
        return plain(hits, self.score_key)
