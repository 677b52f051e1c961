"""Long work for a task: on a thread, and ended with the task."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

__all__ = ["finish_on_thread", "run_on_thread"]

_Result = TypeVar("_Result")


class _Stopped(Exception):  # noqa: N818  # a signal between two threads, not an error
    """Ends the work of a task that was cancelled."""


async def run_on_thread(
    work: Callable[..., _Result], on_progress: Callable[..., None] | None
) -> _Result:
    """Run work that tells its progress on a thread, and wait for it.

    When the task is cancelled, the work ends at its next step, and only then is the cancellation
    passed on.

    Args:
        work: Called with ``on_progress``, an exception from which ends it.
        on_progress: Called on that thread.
    """
    cancelled = threading.Event()

    def tell(*progress: Any) -> None:
        if cancelled.is_set():
            raise _Stopped
        if on_progress is not None:
            on_progress(*progress)

    return await finish_on_thread(partial(work, on_progress=tell), cancelled.set)


async def finish_on_thread(
    work: Callable[[], _Result], when_cancelled: Callable[[], None] | None = None
) -> _Result:
    """Run work on a thread, and wait for its end even if the task is cancelled.

    Args:
        work: Called on that thread.
        when_cancelled: Called on this one, before that wait.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if when_cancelled is not None:
            when_cancelled()
        await asyncio.wait([running])
        running.exception()  # seen, so that it is not logged as lost
        raise
