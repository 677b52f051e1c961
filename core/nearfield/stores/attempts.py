"""Trying again what failed on the way to a server, within the time there is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_before_delay,
    wait_random_exponential,
)

__all__ = ["attempts"]

_Result = TypeVar("_Result")

_LEAST_S = 0.001
_BACKOFF = wait_random_exponential(multiplier=0.02, max=4.0)


def attempts(
    timeout_s: float,
    operation: Callable[[float], _Result],
    passes: Callable[[BaseException], bool],
) -> _Result:
    """Run an operation until it succeeds, fails for good, or the time is over.

    Between two attempts are up to 20 ms at first, and twice as many after each; at least as many
    as the error asks for by an attribute ``retry_after``, in seconds.

    Args:
        timeout_s: Seconds for all attempts.
        operation: Takes the seconds that are left, at least a millisecond.
        passes: Whether an error may be gone a little later.
    """
    until_s = time.monotonic() + timeout_s
    failures: list[Exception] = []
    try:  # without the library, which takes longer than much of what is asked
        return operation(max(_LEAST_S, timeout_s))
    except Exception as error:
        if not passes(error):
            raise
        failures.append(error)

    def again() -> _Result:
        if failures:
            raise failures.pop()
        return operation(max(_LEAST_S, until_s - time.monotonic()))

    return Retrying(
        stop=stop_before_delay(until_s - time.monotonic()),
        wait=_wait_s,
        retry=retry_if_exception(passes),
        reraise=True,
    )(again)


def _wait_s(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return max(_BACKOFF(state), getattr(error, "retry_after", None) or 0.0)
