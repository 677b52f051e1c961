"""Embedders for tests: real, small, deterministic and without a model file."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import numpy as np

from nearfield.documents import EmbeddingInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_WORD = re.compile(r"\w+")


class HashingEmbedder:
    """A bag of words by feature hashing: texts that share words have similar vectors.

    Each word adds +1 or −1 to one component, and the sum is scaled to length 1. Source:
    Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009.

    Args:
        dimension: The number of components.
        max_tokens: Words of a text that reach the vector; None for all of them.
    """

    def __init__(self, dimension: int = 64, *, max_tokens: int | None = None) -> None:
        self._info = EmbeddingInfo(
            model=f"hashing-{dimension}",
            dimension=dimension,
            normalized=True,
            max_tokens=max_tokens,
            fingerprint=f"hashing/1/{dimension}/{max_tokens}",
        )

    @property
    def info(self) -> EmbeddingInfo:
        return self._info

    def count_tokens(self, text: str) -> int:
        """Count the words, which are this embedder's tokens."""
        return len(_WORD.findall(text))

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), self._info.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            words = _WORD.findall(text.lower())[: self._info.max_tokens]
            for word in words:
                component, sign = self._place(word)
                vectors[row, component] += sign
            if not vectors[row].any():  # no words, or words that cancel out exactly
                vectors[row, self._place(text)[0]] = 1.0
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.embed_documents(texts)

    def _place(self, word: str) -> tuple[int, float]:
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        value = int.from_bytes(digest, "little")
        return (value >> 1) % self._info.dimension, 1.0 if value & 1 else -1.0
