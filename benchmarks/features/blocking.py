"""How long the event loop is kept from turning."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["BLOCKED_MS", "longest_block_ms"]

BLOCKED_MS = 50.0
"""Above it the loop counts as blocked."""


async def longest_block_ms(work: Coroutine[Any, Any, Any]) -> float:
    """Run something and return the longest time in which nothing else could run."""
    longest_s = 0.0
    ended = False

    async def tick() -> None:
        nonlocal longest_s
        last = time.perf_counter()
        while not ended:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest_s = max(longest_s, now - last)
            last = now

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.01)
    try:
        await work
    finally:
        await asyncio.sleep(0.002)
        ended = True
        await ticking
    return longest_s * 1000
