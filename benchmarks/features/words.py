"""Vectors for texts, the same for every store: deterministic, and without a model."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter

import numpy as np

__all__ = ["DIMENSION", "sparse_of", "vector_of"]

DIMENSION = 64
_WORD = re.compile(r"\w+")


def vector_of(text: str, dimension: int = DIMENSION) -> list[float]:
    """A bag of words, hashed, of length 1; a text such as ``[1, 0.5]`` is its own vector."""
    vector = np.zeros(dimension, dtype=np.float32)
    if text.startswith("["):
        given = json.loads(text)
        vector[: len(given)] = given
    else:
        for word in _WORD.findall(text.lower()):
            number = _number(word)
            vector[(number >> 1) % dimension] += 1.0 if number & 1 else -1.0
    if not vector.any():
        vector[0] = 1.0
    return [float(x) for x in vector / np.linalg.norm(vector)]


def sparse_of(text: str) -> tuple[list[int], list[float]]:
    """Numbers of words and how often each occurs: a sparse vector."""
    counts = Counter(_number(word) % 2**31 for word in _WORD.findall(text.lower()))
    return list(counts), [float(count) for count in counts.values()]


def _number(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
