"""The way from LangChain's FAISS store to this one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_nearfield.embeddings import as_embedder
from langchain_nearfield.vectorstore import NearfieldVectorStore

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_core.embeddings import Embeddings

    from nearfield.embedders import Embedder

__all__ = ["import_faiss"]


def import_faiss(
    folder: str | Path,
    url: str | Path,
    collection_name: str = "default",
    *,
    embedding: Embeddings | Embedder | str | None = None,
    index_name: str = "index",
    metric: str | None = None,
) -> NearfieldVectorStore:
    """Copy what LangChain's ``FAISS.save_local`` wrote: ids, texts, metadata and vectors, exactly.

    Nothing is embedded. Nothing in the pickle is run, so there is nothing dangerous to allow: one
    that would call or import anything is refused. If it is interrupted, the same call goes on.

    Args:
        folder: The folder that the store was saved to.
        url: The database; see :class:`NearfieldVectorStore`.
        collection_name: The collection, made if need be.
        embedding: What the store was built with. Without it, vectors are given with every query,
            and it may be named whenever the collection is opened.
        index_name: The name that the store was saved under.
        metric: ``"cosine"``, ``"dot"`` or ``"euclidean"``; when left out, as the store compares:
            euclidean distance, or the inner product, which for vectors of length 1 is the cosine.

    Raises:
        InvalidInputError: The files are not there, or ``embedding`` makes vectors of another
            dimension.
        IngestError: The files are damaged, unsafe, or do not keep vectors as they are.
        EmbedderMismatchError: The collection was built with other embeddings or another metric.
    """
    from nearfield.ingest import import_langchain_faiss  # readers of files are heavy

    embedder = as_embedder(embedding)
    import_langchain_faiss(
        folder, url, collection_name, index_name=index_name, embedder=embedder, metric=metric
    )
    return NearfieldVectorStore(url, collection_name, embedding=embedding)
