"""A reranker for tests: real, small, deterministic and without a model file."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_WORD = re.compile(r"\w+")


class OverlapReranker:
    """Judges by the words that two texts share, of all that they have (Jaccard, 1901).

    Attributes:
        calls: The query and the number of texts of each call.
        threads: The threads that called.
    """

    name = "overlap"

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.threads: set[int] = set()

    def rerank(self, query: str, texts: Sequence[str]) -> NDArray[np.float64]:
        self.calls.append((query, len(texts)))
        self.threads.add(threading.get_ident())
        return np.array([overlap(query, text) for text in texts])


def overlap(query: str, text: str) -> float:
    """Return the share of words that two texts have in common; 0 where neither has any."""
    ours, theirs = (set(_WORD.findall(each.lower())) for each in (query, text))
    return len(ours & theirs) / len(ours | theirs) if ours | theirs else 0.0
