"""Embeddings, both ways: nearfield's embedders for LangChain, and LangChain's for nearfield."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from langchain_core.embeddings import Embeddings

from nearfield.documents import EmbeddingInfo, Metric
from nearfield.embedders import Embedder, contract, load
from nearfield.errors import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LangChainEmbedder", "NearfieldEmbeddings", "as_embedder"]

_SETTINGS = (
    "model",
    "model_name",
    "model_id",
    "deployment",
    "repo_id",
    "dimensions",
    "dimension",
    "output_dimensionality",
    "truncate_dim",
    "size",
)
"""Attributes by which LangChain's embeddings say which vectors they make."""


class NearfieldEmbeddings(Embeddings):
    """Any nearfield embedder as LangChain embeddings.

    Args:
        embedder: An embedder, or its name such as ``"sentence-transformers:all-MiniLM-L6-v2"``;
            None for the environment variable ``NEARFIELD_EMBEDDER`` or else the default, which
            works offline.

    Raises:
        InvalidInputError: The name is not known.
        MissingDependencyError: What the embedder runs on is not installed.
    """

    def __init__(self, embedder: Embedder | str | None = None) -> None:
        self.embedder = load(embedder)

    def __repr__(self) -> str:
        return f"NearfieldEmbeddings({self.embedder.info.model!r})"

    @property
    def model(self) -> str:
        """The model's name."""
        return self.embedder.info.model

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts to be stored."""
        return _lists(contract.embed_documents(self.embedder, texts))

    def embed_query(self, text: str) -> list[float]:
        """Embed a text to search with."""
        return _lists(contract.embed_queries(self.embedder, [text]))[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts to be stored without blocking the event loop."""
        return _lists(await contract.aembed_documents(self.embedder, texts))

    async def aembed_query(self, text: str) -> list[float]:
        """Embed a text to search with, without blocking the event loop."""
        return _lists(await contract.aembed_queries(self.embedder, [text]))[0]


class LangChainEmbedder:
    """Any LangChain embeddings as a nearfield embedder; see ``nearfield.embedders.AsyncEmbedder``.

    A collection remembers the model it was built with and refuses another. LangChain's embeddings
    do not say what they are in one way, so the class's name, the dimension and what attributes such
    as ``model`` hold stand for them.

    Args:
        embeddings: What embeds.
        model: The model's name, where the attributes do not tell two models apart.
        dimension: Of its vectors; when left out, one short text is embedded to see.
        metric: What the model was trained for.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        *,
        model: str | None = None,
        dimension: int | None = None,
        metric: Metric | str = Metric.COSINE,
    ) -> None:
        if not isinstance(embeddings, Embeddings):
            raise InvalidInputError(
                f"embeddings is {type(embeddings).__name__}, expected LangChain Embeddings"
            )
        self.embeddings = embeddings
        self._model = model
        self._dimension = dimension
        self._metric = Metric(metric)

    @property
    def info(self) -> EmbeddingInfo:
        """The space the vectors live in."""
        return self._info

    @cached_property
    def _info(self) -> EmbeddingInfo:
        # A cache makes the vectors of the model behind it.
        embeddings = getattr(self.embeddings, "underlying_embeddings", self.embeddings)
        name, settings = type(embeddings).__name__, _settings(embeddings)
        model = self._model or next(
            (value for value in settings.values() if isinstance(value, str)), name
        )
        dimension = self._dimension or len(self.embeddings.embed_query("dimension"))
        identity = [dimension, *([name, settings] if self._model is None else [self._model])]
        return EmbeddingInfo(
            f"langchain:{model}",
            dimension,
            metric=self._metric,
            fingerprint=hashlib.sha256(json.dumps(identity).encode()).hexdigest(),
        )

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to be stored."""
        return self._array(self.embeddings.embed_documents(list(texts)))

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to search with."""
        return self._array([self.embeddings.embed_query(text) for text in texts])

    async def aembed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to be stored without blocking the event loop."""
        vectors = await self.embeddings.aembed_documents(list(texts))
        return await asyncio.to_thread(self._array, vectors)

    async def aembed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to search with, without blocking the event loop."""
        return self._array(await asyncio.gather(*map(self.embeddings.aembed_query, texts)))

    def _array(self, vectors: Sequence[Sequence[float]]) -> NDArray[np.float32]:
        array = np.asarray(vectors, np.float32)
        return array if len(array) else array.reshape(0, self.info.dimension)


def as_embedder(embedding: Embeddings | Embedder | str | None) -> Embedder | str | None:
    """Return what ``nearfield.open`` takes as an embedder."""
    if isinstance(embedding, NearfieldEmbeddings):
        return embedding.embedder
    return LangChainEmbedder(embedding) if isinstance(embedding, Embeddings) else embedding


def _settings(embeddings: Embeddings) -> dict[str, Any]:
    found = {name: getattr(embeddings, name, None) for name in _SETTINGS}
    return {name: value for name, value in found.items() if isinstance(value, str | int)}


def _lists(vectors: NDArray[np.float32]) -> list[list[float]]:
    lists: list[list[float]] = vectors.tolist()
    return lists
