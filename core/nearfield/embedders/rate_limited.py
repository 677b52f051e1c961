"""Keeping to the rate that a service allows."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.embedders import contract
from nearfield.embedders.wrapper import Wrapper
from nearfield.errors import InvalidInputError
from nearfield.validation import check_positive

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from numpy.typing import NDArray

    from nearfield.embedders.base import Embedder

__all__ = ["RateLimitedEmbedder"]

_WINDOW_S = 60.0


class RateLimitedEmbedder(Wrapper):
    """Waits, so that no minute sees more requests or texts than are allowed; it drops none.

    Texts go to the embedder in batches, each counted as one request. Every call on this object
    counts, from threads and tasks alike, and they are let through in the order they came. Give one
    object to all that share the allowance. A task that is cancelled while it waits has used its
    turn.

    ``OpenAIEmbedder`` waits by itself where a service asks for it. Below this wrapper, make it with
    ``max_retries=0`` and a ``batch_size`` of which no batch has more than 300,000 bytes: repeated
    and split requests are not seen here.

    Args:
        embedder: Does the work.
        requests_per_minute: The most batches that are begun within any 60 seconds.
        texts_per_minute: The most texts in them.
        batch_size: The most texts in a batch; otherwise the embedder's ``request_size``, and where
            it has none, what it takes at its best pace.

    Raises:
        InvalidInputError: No limit is given, or one is below 1.
    """

    def __init__(
        self,
        embedder: Embedder,
        *,
        requests_per_minute: int | None = None,
        texts_per_minute: int | None = None,
        batch_size: int | None = None,
    ) -> None:
        super().__init__(embedder)
        if requests_per_minute is None and texts_per_minute is None:
            raise InvalidInputError("give requests_per_minute, texts_per_minute or both")
        size = batch_size
        if size is None:
            size = getattr(embedder, "request_size", contract.slice_size(embedder))
        self.slice_size = check_positive(size, "batch_size")
        self._requests = _Window(_limit(requests_per_minute, "requests_per_minute"))
        self._texts = _Window(_limit(texts_per_minute, "texts_per_minute"))
        if texts_per_minute is not None:
            self.slice_size = min(self.slice_size, texts_per_minute)
        self._lock = threading.Lock()

    def _run(
        self, embed: Callable[[Sequence[Any]], NDArray[np.float32]], items: Sequence[Any]
    ) -> NDArray[np.float32]:
        parts = []
        for places, batch in contract.slices(items, self.slice_size):
            time.sleep(self._reserve(len(batch)))
            with contract.placed(places):
                parts.append(embed(batch))
        return np.concatenate(parts)

    async def _arun(
        self,
        embed: Callable[[Sequence[Any]], Awaitable[NDArray[np.float32]]],
        items: Sequence[Any],
    ) -> NDArray[np.float32]:
        parts = []
        for places, batch in contract.slices(items, self.slice_size):
            await asyncio.sleep(self._reserve(len(batch)))
            with contract.placed(places):
                parts.append(await embed(batch))
        return np.concatenate(parts)

    def _reserve(self, texts: int) -> float:
        """Take a turn, and return the seconds until it comes."""
        if not texts:  # nothing is sent
            return 0.0
        with self._lock:
            now = time.monotonic()
            turn = max(self._requests.earliest(now, 1), self._texts.earliest(now, texts))
            self._requests.take(turn, 1)
            self._texts.take(turn, texts)
        return turn - now


class _Window:
    """What was taken of an allowance within the last minute, or will be when its turn comes."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._taken: deque[tuple[float, int]] = deque()
        self._used = 0

    def earliest(self, now: float, amount: int) -> float:
        """Return when ``amount``, at most the limit, can be taken."""
        while self._taken and self._taken[0][0] + _WINDOW_S <= now:
            self._used -= self._taken.popleft()[1]
        turn, used = now, self._used
        for taken_at, taken in self._taken:
            if used + amount <= self._limit:
                break
            turn, used = taken_at + _WINDOW_S, used - taken
        return turn

    def take(self, turn: float, amount: int) -> None:
        """Count an amount whose turn is then; turns never go back."""
        self._taken.append((turn, amount))
        self._used += amount


def _limit(value: int | None, name: str) -> float:
    return math.inf if value is None else check_positive(value, name)
