"""What one caller may keep open over HTTP, so that none of them keeps the others out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from collections.abc import Collection as Keys
from typing import TYPE_CHECKING, Any

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import principal_components
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from nearfield_mcp.limits import caller_of

if TYPE_CHECKING:
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["SessionLimit", "StreamLimit"]

_SESSION = "mcp-session-id"
_ENDS_BY_ITSELF_S = 60
"""When to come again: sessions that are not used end after half an hour, others when they like."""


class SessionLimit:
    """Refuses a caller that keeps too many sessions of the older protocol open: 429.

    Args:
        app: What opens sessions.
        most: How many one caller may have.
        open_ids: Returns the ids of all that are open.
    """

    def __init__(self, app: ASGIApp, most: int, open_ids: Callable[[], Keys[str]]) -> None:
        self._app = app
        self._most = most
        self._open_ids = open_ids
        self._owners: dict[str, Hashable] = {}
        self._opening: Counter[Hashable] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        headers = Headers(scope=scope)
        version = headers.get("mcp-protocol-version")
        if _SESSION in headers or version not in (None, *HANDSHAKE_PROTOCOL_VERSIONS):
            await self._app(scope, receive, send)
            return
        caller = caller_of(scope)
        if self._count(caller) >= self._most:
            response = PlainTextResponse(
                f"{self._most} sessions are open already; end one with DELETE, or wait until one "
                "ends that is not used",
                status_code=429,
                headers={"Retry-After": str(_ENDS_BY_ITSELF_S)},
            )
            await response(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                opened = MutableHeaders(raw=message["headers"]).get(_SESSION)
                if opened is not None:
                    self._owners[opened] = caller
            await send(message)

        self._opening[caller] += 1
        try:
            await self._app(scope, receive, sent)
        finally:
            self._opening[caller] -= 1

    def _count(self, caller: Hashable) -> int:
        open_ids = self._open_ids()
        self._owners = {each: owner for each, owner in self._owners.items() if each in open_ids}
        self._opening = +self._opening  # without those at zero
        return sum(owner == caller for owner in self._owners.values()) + self._opening[caller]


class StreamLimit:
    """Middleware: refuses a caller that keeps too many streams of news open.

    Args:
        most: How many one caller may have.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[Hashable] = Counter()

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Answer a request, or refuse it."""
        if ctx.method != "subscriptions/listen":
            return await call_next(ctx)
        caller = _caller(ctx)
        if self._open[caller] >= self._most:
            raise MCPError(
                code=INTERNAL_ERROR,
                message=f"{self._most} streams are open already; end one of them, or listen to "
                "more on one",
            )
        self._open[caller] += 1
        try:
            return await call_next(ctx)
        finally:
            self._open[caller] -= 1
            self._open = +self._open


def _caller(ctx: ServerRequestContext[Any, Any]) -> Hashable:
    token = get_access_token()
    if token is not None:
        return principal_components(token)
    return caller_of(ctx.request.scope) if isinstance(ctx.request, Request) else None
