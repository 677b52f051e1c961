"""What a caller over HTTP may send: how often, how much and how slowly."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

import anyio
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import principal_components
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from collections.abc import Hashable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["BodyLimit", "RateLimit", "TokenBuckets", "caller_of", "whole_body"]

_MOST_CALLERS = 10_000
_BODY_TIMEOUT_S = 30.0


class TokenBuckets:
    """A bucket of permits for every caller, refilled at a steady rate.

    Args:
        per_s: Permits a second.
        burst: How many a bucket holds.
    """

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def wait_s(self, caller: Hashable) -> float:
        """Take a permit: return 0.0, or how long until there is one to take."""
        now = time.monotonic()
        permits, since = self._buckets.pop(caller, (float(self._burst), now))
        permits = min(self._burst, permits + (now - since) * self._per_s)
        wait = 0.0 if permits >= 1 else (1 - permits) / self._per_s
        self._buckets[caller] = (permits if wait else permits - 1, now)
        if len(self._buckets) > _MOST_CALLERS:
            self._buckets.popitem(last=False)
        return wait


class RateLimit:
    """Refuses a caller that sends too often: 429, and when to come again.

    A caller is who its token says, or the address it connects from.

    Args:
        app: What answers the others.
        per_s: Requests a second; 0 for any number.
        burst: How many at once.
    """

    def __init__(self, app: ASGIApp, per_s: float, burst: int) -> None:
        self._app = app
        self._buckets = TokenBuckets(per_s, burst) if per_s else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        wait = self._buckets.wait_s(caller_of(scope)) if self._buckets else 0.0
        if not wait:
            await self._app(scope, receive, send)
            return
        seconds = max(1, math.ceil(wait))
        response = PlainTextResponse(
            f"too many requests; come again in {seconds} s",
            status_code=429,
            headers={"Retry-After": str(seconds)},
        )
        await response(scope, receive, send)


class BodyLimit:
    """Refuses a body that is too long (413) or too slow (408), before anything reads it.

    Args:
        app: What reads the others.
        most_bytes: The longest.
    """

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app = app
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        status, body = 413, None
        if not declared.isdecimal() or int(declared) <= self._most_bytes:
            with anyio.move_on_after(_BODY_TIMEOUT_S) as waiting:
                body = await whole_body(receive, self._most_bytes)
            status = 408 if waiting.cancelled_caught else 413
        if body is None:
            reason = "took too long to arrive" if status == 408 else "is too large"  # noqa: PLR2004
            response = PlainTextResponse(
                f"the request {reason}; at most {self._most_bytes} bytes",
                status_code=status,
                headers={"Connection": "close"},
            )
            await response(scope, receive, send)
            return
        scope["nearfield.body"] = body
        await self._app(scope, _again(body, receive), send)


async def whole_body(receive: Receive, most_bytes: int) -> bytes | None:
    """Return a request's body; None for one that is longer."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(body)  # the client left; what it said so far answers to nobody
        body.extend(message.get("body", b""))
        if len(body) > most_bytes:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    told = False

    async def replay() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def caller_of(scope: Scope) -> Hashable:
    """Return who sent a request: whom its token names, or else the address it came from."""
    user = scope.get("user")
    if isinstance(user, AuthenticatedUser):
        return principal_components(user.access_token)
    client = scope.get("client")
    return client[0] if client else None
