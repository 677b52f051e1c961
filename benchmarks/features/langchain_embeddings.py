"""The vectors of :mod:`benchmarks.features.words` as LangChain's embeddings."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from benchmarks.features.words import DIMENSION, vector_of
from langchain_core.embeddings import Embeddings

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ModelEmbeddings", "SlowEmbeddings", "WordEmbeddings"]


class WordEmbeddings(Embeddings):
    """:func:`vector_of` as LangChain's embeddings."""

    def __init__(self, dimension: int = DIMENSION) -> None:
        self._dimension = dimension

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [vector_of(text, self._dimension) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return vector_of(text, self._dimension)


class ModelEmbeddings(WordEmbeddings):
    """Embeddings that say which model they are, as LangChain's do.

    Args:
        model: Its name.
    """

    def __init__(self, model: str) -> None:
        super().__init__()
        self.model = model


class SlowEmbeddings(Embeddings):
    """Embeddings behind a network: they wait, and an asynchronous caller need not.

    Args:
        texts: Those that will be asked for; their vectors are made now, so that only the wait
            is measured later.
        wait_s: How long a call takes.
    """

    def __init__(self, texts: Sequence[str], wait_s: float) -> None:
        self._vectors = {text: vector_of(text) for text in texts}
        self._wait_s = wait_s
        self.awaited = 0
        """How often it was awaited."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        time.sleep(self._wait_s)
        return [self._vectors.get(text) or vector_of(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        time.sleep(self._wait_s)
        return vector_of(text)

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        self.awaited += 1
        await asyncio.sleep(self._wait_s)
        return [self._vectors.get(text) or vector_of(text) for text in texts]

    async def aembed_query(self, text: str) -> list[float]:
        self.awaited += 1
        await asyncio.sleep(self._wait_s)
        return vector_of(text)
