"""How many calls run at once, and for how long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR

if TYPE_CHECKING:
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

__all__ = ["Calls", "Place"]

_T = TypeVar("_T")
_BOUNDED = frozenset({"tools/call", "resources/read", "completion/complete"})
"""What reads collections, or writes to them."""
_IN_LINE_PER_PLACE = 8
"""How many calls wait for each that may run; as many may have left their place."""
_SETTLE_S = 0.05
"""A request that was just read has begun after this long."""


class Place:
    """What a call has while it runs; one that only waits for something leaves it to others.

    Args:
        calls: Whose place it is.
    """

    _of_this_call: ContextVar[Place | None] = ContextVar("place", default=None)

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._was_left = False

    @classmethod
    def leave(cls) -> None:
        """Leave the place of the call at hand: from here on it only waits.

        A call stays where it is while too many have left already.
        """
        place = cls._of_this_call.get()
        if place is not None:
            place.lend()

    @classmethod
    async def take_again(cls) -> None:
        """Go on with the call at hand once there is a place, if it left its own."""
        place = cls._of_this_call.get()
        if place is not None:
            await place.take_back()

    def lend(self) -> None:
        """Let others have the place."""
        self._was_left = self._was_left or self._calls.lend()

    async def take_back(self) -> None:
        """Wait for a place, where it was lent."""
        if self._was_left:
            await self._calls.take_back()
            self._was_left = False

    async def __aenter__(self) -> None:
        await self._calls.enter()
        self._of_this_call.set(self)

    async def __aexit__(self, *_: object) -> None:
        self._calls.end(was_left=self._was_left)


class Calls:
    """Middleware: bounds how many requests run at once and how long each is waited for.

    A request that takes too long is answered with an error; the work that it began keeps its place
    until it is done, so that no flood of slow calls ever runs more than ``most`` at once.

    Args:
        most: Calls that run at once; see :class:`Place`.
        timeout_s: After which a call is answered with an error.
    """

    def __init__(self, most: int, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._free = asyncio.Semaphore(most)
        self._most_in_line = most * _IN_LINE_PER_PLACE
        self._in_line = 0
        self._left = 0
        self._running = 0
        self._changed = threading.Condition()
        self._late: set[asyncio.Future[Any]] = set()

    @property
    def running(self) -> int:
        """How many requests are being answered or still work."""
        return self._running

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Answer a request once there is room for it."""
        if ctx.method == "subscriptions/listen" or ctx.request_id is None:
            return await call_next(ctx)
        if ctx.method not in _BOUNDED:
            return await self._counted(call_next(ctx))
        if self._in_line >= self._most_in_line:
            raise MCPError(
                code=INTERNAL_ERROR, message="the server is busy; call again in a few seconds"
            )
        self._in_line += 1  # until there is a place
        return await self._in_time(call_next, ctx)

    async def enter(self) -> None:
        """Wait in line for a place."""
        try:
            await self._free.acquire()
        finally:
            self._in_line -= 1

    def lend(self) -> bool:
        """Let others have the place of a call that waits; return whether it could be done."""
        if self._left >= self._most_in_line:
            return False
        self._left += 1
        self._free.release()
        return True

    async def take_back(self) -> None:
        """Wait for a place anew."""
        await self._free.acquire()
        self._left -= 1

    def end(self, *, was_left: bool) -> None:
        """Give up a place, or what was lent."""
        if was_left:
            self._left -= 1
        else:
            self._free.release()

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait, on another thread than the server's, until no request is being answered.

        Returns:
            Whether that came to pass in time.
        """
        until = time.monotonic() + timeout_s
        while True:
            time.sleep(min(_SETTLE_S, timeout_s))
            with self._changed:
                if not self._running:
                    return True
                if not self._changed.wait_for(lambda: not self._running, until - time.monotonic()):
                    return False

    async def _in_time(
        self, call_next: CallNext, ctx: ServerRequestContext[Any, Any]
    ) -> HandlerResult:
        scope = anyio.CancelScope()
        task = asyncio.ensure_future(self._counted(self._in_turn(scope, call_next, ctx)))
        try:
            done, _ = await asyncio.wait({task}, timeout=self._timeout_s)
        except BaseException:
            self._let_go(task, scope)
            raise
        if done:
            return task.result()
        self._let_go(task, scope)
        raise MCPError(
            code=INTERNAL_ERROR,
            message=f"no answer within {self._timeout_s:g} s; ask for less, or call again later",
        )

    async def _in_turn(
        self,
        scope: anyio.CancelScope,
        call_next: CallNext,
        ctx: ServerRequestContext[Any, Any],
    ) -> HandlerResult:
        with scope:
            async with Place(self):
                return await call_next(ctx)
        return None  # nobody waits for it any more

    def _let_go(self, task: asyncio.Future[Any], scope: anyio.CancelScope) -> None:
        """Stop the work of a call where it waits; a thread that works for it ends by itself."""
        scope.cancel()
        self._late.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Future[Any]) -> None:
        self._late.discard(task)
        if not task.cancelled():
            task.exception()  # it was looked at

    async def _counted(self, work: Awaitable[_T]) -> _T:
        self._count(1)
        try:
            return await work
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._changed:
            self._running += change
            self._changed.notify_all()
