"""What stands before the server over HTTP and refuses what must not reach it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from pydantic import AnyHttpUrl
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from nearfield_mcp.audit import AuditLog
from nearfield_mcp.scope import Right
from nearfield_mcp.tokens import CallerToken

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HEALTH_PATH", "AuditedRefusals", "Names", "Streams", "ToolScopes", "refusal_of"]

HEALTH_PATH = "/healthz"


class ToolScopes:
    """Refuses a call of a tool that the token gives no right to: 403, and the scope it takes."""

    def __init__(
        self,
        app: ASGIApp,
        needed: Callable[[], Awaitable[dict[str, Right]]],
        metadata: AnyHttpUrl | None,
    ) -> None:
        self._app = app
        self._needed = needed
        self._metadata = metadata

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        tool = _called_tool(scope.get("nearfield.body", b""))
        right = (await self._needed()).get(tool) if tool is not None else None
        if right is not None and right not in scope["user"].access_token.grants.rights:
            response = refusal_of(403, "insufficient_scope", right.value, self._metadata)
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)


class Streams:
    """Ends the streams on which clients wait for news, once the server stops."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Let every open request see its client leave."""
        self._ended.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, until the server stops."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        open_body, open_response = True, False

        async def received() -> Message:
            nonlocal open_body
            message = await (receive() if open_body else self._until_ended(receive))
            open_body = bool(message.get("more_body", False))
            return message

        async def sent(message: Message) -> None:
            nonlocal open_response
            open_response = message["type"] == "http.response.start" or bool(
                message.get("more_body")
            )
            await send(message)

        await self._app(scope, received, sent)
        if open_response:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _until_ended(self, receive: Receive) -> Message:
        message = asyncio.ensure_future(receive())
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({message, ended}, return_when=asyncio.FIRST_COMPLETED)
            return message.result() if message.done() else {"type": "http.disconnect"}
        finally:
            message.cancel()
            ended.cancel()


class Names:
    """Refuses a request for another host, or from a page of another origin, on every path."""

    def __init__(self, app: ASGIApp, security: TransportSecuritySettings) -> None:
        self._app = app
        self._check = TransportSecurityMiddleware(security)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "http" and scope["path"] != HEALTH_PATH:  # it tells nothing
            refused = await self._check.validate_request(Request(scope))
            if refused is not None:
                await refused(scope, receive, send)
                return
        await self._app(scope, receive, send)


class AuditedRefusals:
    """Notes requests that were refused before they reached a tool."""

    _STATUSES = (401, 403, 408, 413, 421, 429)

    def __init__(self, app: ASGIApp, log: AuditLog) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and note it where it is refused."""

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in self._STATUSES:
                self._note(scope, message["status"])
            await send(message)

        await self._app(scope, receive, sent)

    def _note(self, scope: Scope, status: int) -> None:
        user = scope.get("user")
        token = user.access_token if isinstance(user, AuthenticatedUser) else None
        grants = token.grants if isinstance(token, CallerToken) else None
        self._log.write(
            {
                "subject": grants.subject if grants else None,
                "tenant": grants.tenant if grants else None,
                "client": scope["client"][0] if scope.get("client") else None,
                "method": "http",
                "outcome": "refused",
                "status": status,
            }
        )


def _called_tool(body: bytes) -> str | None:
    try:
        message: Any = json.loads(body)
        if message["method"] != "tools/call":
            return None
        name = message["params"]["name"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None  # what it is, the protocol's own checks will say
    return name if isinstance(name, str) else None


def refusal_of(status: int, error: str, scope: str, metadata: AnyHttpUrl | None) -> Response:
    """Refuse with what RFC 6750 says, section 3."""
    parts = [f'error="{error}"', f'scope="{scope}"']
    if metadata is not None:
        parts.append(f'resource_metadata="{metadata}"')
    return JSONResponse(
        {"error": error, "scope": scope},
        status_code=status,
        headers={"WWW-Authenticate": f"Bearer {', '.join(parts)}"},
    )
