"""Trying again where a failure may pass by itself."""

from __future__ import annotations

import asyncio
import math
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.embedders import contract
from nearfield.embedders.wrapper import Wrapper
from nearfield.errors import EmbeddingError, InvalidInputError, MissingDependencyError
from nearfield.validation import check_positive, check_seconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from tenacity import RetryCallState

    from nearfield.embedders.base import Embedder

__all__ = ["RetryingEmbedder", "may_pass"]

_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Of HTTP: timeouts, too many requests, and servers that are overloaded or being restarted."""


def may_pass(error: BaseException) -> bool:
    """Tell whether an error may pass by itself.

    It may if it is a ``ConnectionError`` or a ``TimeoutError``; if it is an ``EmbeddingError`` that
    says so; or if it has the HTTP status, as ``status_code`` or of its ``response``, of a timeout
    (408), of too many requests (425, 429) or of a server in trouble (500, 502, 503, 504).
    """
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, EmbeddingError) and error.may_pass:
        return True
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", getattr(response, "status_code", None))
    return isinstance(status, int) and status in _STATUSES


class RetryingEmbedder(Wrapper):
    """Tries again after failures that may pass, waiting longer each time.

    Before the n-th repetition it waits a random time of up to ``first_wait_s`` × 2ⁿ⁻¹ seconds, so
    that many clients do not come back at the same moment. Texts go to the embedder slice by slice,
    and only the slice that failed is repeated. What the input is to blame for
    (``InvalidInputError``) is never tried again. Source: Brooker, "Exponential Backoff And Jitter",
    AWS Architecture Blog, 2015 ("full jitter").

    Args:
        embedder: Does the work.
        attempts: How often a slice is tried, the first time included.
        first_wait_s: The most seconds before the first repetition.
        max_wait_s: The most seconds before any.
        deadline_s: No repetition begins later than this many seconds after the first attempt; None
            for no deadline. An attempt in hand is not cut off.
        retry_on: Tells of an error whether to try again. It is asked about the error and about
            each that caused it; one yes is enough.

    Raises:
        MissingDependencyError: tenacity is not installed.
        InvalidInputError: A number is out of range.
    """

    def __init__(
        self,
        embedder: Embedder,
        *,
        attempts: int = 6,
        first_wait_s: float = 0.5,
        max_wait_s: float = 30.0,
        deadline_s: float | None = 120.0,
        retry_on: Callable[[BaseException], bool] = may_pass,
    ) -> None:
        if find_spec("tenacity") is None:
            raise MissingDependencyError("tenacity", extra="retry", purpose="RetryingEmbedder")
        super().__init__(embedder)
        self._attempts = check_positive(attempts, "attempts")
        self._first_wait_s = check_seconds(first_wait_s, "first_wait_s")
        self._max_wait_s = check_seconds(max_wait_s, "max_wait_s")
        self._deadline_s = None if deadline_s is None else check_seconds(deadline_s, "deadline_s")
        self._retry_on = retry_on

    def _run(
        self, embed: Callable[[Sequence[Any]], NDArray[np.float32]], items: Sequence[Any]
    ) -> NDArray[np.float32]:
        from tenacity import Retrying

        parts: list[NDArray[np.float32]] = []
        for places, part in contract.slices(items, contract.slice_size(self)):
            with contract.placed(places):
                parts.append(Retrying(sleep=time.sleep, **self._policy())(embed, part))
        return np.concatenate(parts)

    async def _arun(
        self,
        embed: Callable[[Sequence[Any]], Awaitable[NDArray[np.float32]]],
        items: Sequence[Any],
    ) -> NDArray[np.float32]:
        from tenacity import AsyncRetrying

        parts: list[NDArray[np.float32]] = []
        for places, part in contract.slices(items, contract.slice_size(self)):
            with contract.placed(places):
                again = AsyncRetrying(sleep=asyncio.sleep, **self._policy())
                parts.append(await again(embed, part))
        return np.concatenate(parts)

    def _policy(self) -> dict[str, Any]:
        import tenacity

        deadline_s = math.inf if self._deadline_s is None else self._deadline_s
        return {
            "stop": tenacity.stop_after_attempt(self._attempts)
            | tenacity.stop_before_delay(deadline_s),
            "wait": tenacity.wait_random_exponential(self._first_wait_s, self._max_wait_s),
            "retry": tenacity.retry_if_exception(self._worth_it),
            "retry_error_callback": self._give_up,
        }

    def _worth_it(self, error: BaseException) -> bool:
        if isinstance(error, InvalidInputError) or not isinstance(error, Exception):
            return False
        return any(self._retry_on(cause) for cause in _causes(error))

    def _give_up(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        raise EmbeddingError(
            f"the embedder {self.info.model!r} gave up after {state.attempt_number} of "
            f"{self._attempts} attempts, {state.seconds_since_start:.1f} s after the first: {error}"
        ) from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Go through an error and what caused it; some name themselves as their cause."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and not any(cause is other for other in seen):
        yield cause
        seen.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
