"""Any nearfield embedder as an embedding model of LlamaIndex."""

from __future__ import annotations

from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr

from nearfield.embedders import Embedder, contract, load

__all__ = ["NearfieldEmbedding"]


class NearfieldEmbedding(BaseEmbedding):
    """Embed with nearfield: its default model, which works offline, or any other of its embedders.

    Args:
        embedder: An embedder, or a name that ``nearfield.open`` takes, such as
            ``"sentence-transformers:all-MiniLM-L6-v2"``; None for the environment variable
            ``NEARFIELD_EMBEDDER`` or else the default.
        model_name: The same, as a name only; what ``to_dict`` writes and ``from_dict`` reads.
        embed_batch_size: The most texts to hand to the embedder at once.
        kwargs: What else :class:`BaseEmbedding` takes.

    Raises:
        InvalidInputError: There is no embedder of this name.
    """

    _embedder: Embedder = PrivateAttr()

    def __init__(
        self,
        embedder: Embedder | str | None = None,
        *,
        model_name: str | None = None,
        embed_batch_size: int = 64,
        **kwargs: Any,
    ) -> None:
        loaded = load(model_name if embedder is None else embedder)
        super().__init__(model_name=loaded.info.model, embed_batch_size=embed_batch_size, **kwargs)
        self._embedder = loaded

    @classmethod
    def class_name(cls) -> str:
        """Name the class, for serialization."""
        return "NearfieldEmbedding"

    @property
    def embedder(self) -> Embedder:
        """The embedder that does the work."""
        return self._embedder

    def _get_query_embedding(self, query: str) -> list[float]:
        return _as_lists(contract.embed_queries(self._embedder, [query]))[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return _as_lists(await contract.aembed_queries(self._embedder, [query]))[0]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._aget_text_embeddings([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return _as_lists(contract.embed_documents(self._embedder, texts))

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return _as_lists(await contract.aembed_documents(self._embedder, texts))


def _as_lists(vectors: Any) -> list[list[float]]:
    """Return an array of shape (n, dimension) as LlamaIndex holds embeddings."""
    lists: list[list[float]] = vectors.tolist()
    return lists
