"""Who is calling, and which tools that caller may use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_REQUEST

from nearfield_mcp.scope import CURRENT, Right
from nearfield_mcp.tokens import CallerToken

if TYPE_CHECKING:
    from mcp.server import MCPServer
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

__all__ = ["Caller", "Rights", "tool_rights"]


class Caller:
    """Middleware: what the token says holds while its request is answered.

    A request that comes without an accepted token is refused, whatever let it through.
    """

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Answer in the scope of the caller's token."""
        token = get_access_token()
        if not isinstance(token, CallerToken):
            raise MCPError(code=INVALID_REQUEST, message="a token is needed")
        reset = CURRENT.set(token.grants)
        try:
            return await call_next(ctx)
        finally:
            CURRENT.reset(reset)


class Rights:
    """Middleware: tools that the caller has no right to are neither listed nor called.

    Args:
        needed: Returns the right that each tool needs.
    """

    def __init__(self, needed: Callable[[], Awaitable[dict[str, Right]]]) -> None:
        self._needed = needed

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Answer a request as if the other tools were not there."""
        rights = CURRENT.get().rights
        if ctx.method == "tools/call":
            name = (ctx.params or {}).get("name")
            right = (await self._needed()).get(name) if isinstance(name, str) else None
            if right is not None and right not in rights:
                raise MCPError(
                    code=INVALID_REQUEST,
                    message=f"{name} needs the right {right.value!r}, which this token does not "
                    "give; ask the server's operator for one that does",
                )
        result = await call_next(ctx)
        if ctx.method == "tools/list" and isinstance(result, dict):
            needed = await self._needed()
            result["tools"] = [
                tool for tool in result["tools"] if needed.get(tool["name"], Right.ADMIN) in rights
            ]
        return result


def tool_rights(server: MCPServer[Any]) -> Callable[[], Awaitable[dict[str, Right]]]:
    """Return what tells the right that each tool needs: read for those that only read."""
    known: dict[str, Right] = {}

    async def needed() -> dict[str, Right]:
        if not known:
            for tool in await server.list_tools():
                reads = tool.annotations is not None and tool.annotations.read_only_hint
                known[tool.name] = Right.READ if reads else Right.WRITE
        return known

    return needed
