"""LangChain's documents and nearfield's, each made of the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document

import nearfield
from nearfield.errors import InvalidInputError
from nearfield.validation import check_positive

if TYPE_CHECKING:
    from nearfield import Hit

__all__ = ["in_batches", "made_of", "plain", "read_document", "scored", "taken_apart"]


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


def made_of(
    texts: Iterable[str],
    metadatas: Iterable[dict[str, Any]] | None,
    ids: Iterable[str | None] | None,
) -> list[nearfield.Document]:
    """Put texts, metadata and ids together; each may be any iterable, and none is changed."""
    listed = [texts] if isinstance(texts, str) else list(texts)
    fields = [{}] * len(listed) if metadatas is None else list(metadatas)
    names = [None] * len(listed) if ids is None else list(ids)
    for what, given in (("metadatas", fields), ("ids", names)):
        if len(given) != len(listed):
            raise InvalidInputError(
                f"{len(given)} {what} were given for {len(listed)} texts, expected one each"
            )
    return [
        nearfield.Document(text, metadata=metadata or {})
        if name is None
        else nearfield.Document(text, id=name, metadata=metadata or {})
        for text, metadata, name in zip(listed, fields, names, strict=True)
    ]


def taken_apart(documents: Iterable[Document], options: dict[str, Any]) -> dict[str, Any]:
    """Take documents apart into arguments of ``add_texts``; ids among the options come first."""
    listed = list(documents)
    for document in listed:
        if not isinstance(document, Document):
            raise InvalidInputError(
                f"expected LangChain documents, got {type(document).__name__}; for texts there is "
                "add_texts"
            )
    return {
        "texts": [document.page_content for document in listed],
        "metadatas": [document.metadata for document in listed],
        "ids": [document.id for document in listed],
        **{name: value for name, value in options.items() if name != "ids" or value is not None},
    }


def in_batches(
    documents: list[nearfield.Document], size: int | None
) -> Iterator[list[nearfield.Document]]:
    """Cut documents into batches of a size; None makes one of all."""
    size = max(1, len(documents)) if size is None else check_positive(size, "batch_size")
    for start in range(0, len(documents), size):
        yield documents[start : start + size]
