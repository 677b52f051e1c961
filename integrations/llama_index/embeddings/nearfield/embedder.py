"""Any embedding model of LlamaIndex as a nearfield embedder."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding

from llama_index.embeddings.nearfield.embedding import NearfieldEmbedding
from nearfield.documents import EmbeddingInfo
from nearfield.embedders import Embedder, load
from nearfield.errors import EmbeddingError
from nearfield.validation import check_positive

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LlamaIndexEmbedder", "to_embedder"]


class LlamaIndexEmbedder:
    """Embed with a model of LlamaIndex; its native async methods are awaited.

    A model does not tell which version of it answers, so the collection remembers it by its class,
    name and dimension.

    Args:
        embed_model: The model.
        dimension: The length of its embeddings; when left out, the model is asked once.
    """

    def __init__(self, embed_model: BaseEmbedding, *, dimension: int | None = None) -> None:
        self._model = embed_model
        self._dimension = None if dimension is None else check_positive(dimension, "dimension")
        self._asking = threading.Lock()

    @property
    def info(self) -> EmbeddingInfo:
        """The space the vectors live in."""
        names = (self._model.class_name(), self._model.model_name)
        dimension = self._ask_dimension()
        return EmbeddingInfo(
            model=f"llama-index:{':'.join(names)}",
            dimension=dimension,
            fingerprint=f"llama-index/{'/'.join(names)}/{dimension}",
        )

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to be stored; shape (len(texts), dimension)."""
        return self._stacked(self._model.get_text_embedding_batch(list(texts)))

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to search with; shape (len(texts), dimension)."""
        return self._stacked([self._model.get_query_embedding(text) for text in texts])

    async def aembed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to be stored without blocking the event loop."""
        return self._stacked(await self._model.aget_text_embedding_batch(list(texts)))

    async def aembed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to search with, without blocking the event loop."""
        embed = self._model.aget_query_embedding
        return self._stacked(await asyncio.gather(*map(embed, texts)))

    def _ask_dimension(self) -> int:
        with self._asking:
            if self._dimension is None:
                self._dimension = len(self._model.get_text_embedding("dimension"))
            return self._dimension

    def _stacked(self, embeddings: Sequence[Sequence[float]]) -> NDArray[np.float32]:
        if not embeddings:
            return np.empty((0, self._ask_dimension()), np.float32)
        if len({len(embedding) for embedding in embeddings}) > 1:
            raise EmbeddingError(
                f"{self._model.class_name()} {self._model.model_name!r} returned embeddings of "
                "different lengths, expected one for all"
            )
        return np.asarray(embeddings, np.float32)


def to_embedder(
    embed_model: BaseEmbedding | Embedder | str, *, dimension: int | None = None
) -> Embedder:
    """Return what turns text into vectors for a nearfield collection.

    Args:
        embed_model: A model of LlamaIndex, a nearfield embedder, or the name of one. A
            :class:`NearfieldEmbedding` gives the embedder it was made of, so that the collection
            opens by itself through every door.
        dimension: The length of the embeddings, where it is known; otherwise a model of
            LlamaIndex is asked once.
    """
    if isinstance(embed_model, NearfieldEmbedding):
        return embed_model.embedder
    if isinstance(embed_model, BaseEmbedding):
        return LlamaIndexEmbedder(embed_model, dimension=dimension)
    return load(embed_model)
