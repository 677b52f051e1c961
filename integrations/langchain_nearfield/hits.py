"""From hits to LangChain's documents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from langchain_core.documents import Document

if TYPE_CHECKING:
    import nearfield
    from nearfield import Hit

__all__ = ["plain", "read_document", "scored"]


def plain(hits: Iterable[Hit], score_key: str | None = None) -> list[Document]:
    """Return the documents, best first; their scores under a key of the metadata, if there is one.

    Args:
        hits: What a search found.
        score_key: Takes the place of a field of this name.
    """
    documents = [read_document(hit.document) for hit in hits]
    if score_key is not None:
        for document, hit in zip(documents, hits, strict=True):
            document.metadata = {**document.metadata, score_key: hit.score}
    return documents


def scored(hits: Iterable[Hit]) -> list[tuple[Document, float]]:
    """Return the documents with their scores, best first."""
    return [(read_document(hit.document), hit.score) for hit in hits]


def read_document(document: nearfield.Document) -> Document:
    """Turn nearfield's document into LangChain's."""
    return Document(
        page_content=document.text,
        metadata=document.metadata,  # a dict, and no one else's
        id=document.id,
    )
