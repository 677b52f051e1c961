"""News for clients of the handshake's protocols, who have no ``subscriptions/listen``.

They are told that resources changed without asking, and of single resources once they asked with
``resources/subscribe``: over stdio, and on the stream that a session over HTTP keeps open (GET).
What happens while none is open is not kept for later, as the protocol has it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from mcp.server.subscriptions import ResourcesListChanged, ResourceUpdated, ServerEvent
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    EmptyResult,
    NotificationParams,
    SubscribeRequestParams,
    UnsubscribeRequestParams,
)

if TYPE_CHECKING:
    from mcp.server import MCPServer
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from mcp.server.session import ServerSession

    from nearfield_mcp.events import ScopedBus

__all__ = ["OlderClients"]

_MOST_URIS = 1_000
_KEY = "nearfield"


class OlderClients:
    """Serves their requests to be told, and tells them.

    Args:
        bus: Where changes are published.
    """

    def __init__(self, bus: ScopedBus) -> None:
        self._bus = bus

    def add_to(self, server: MCPServer[Any]) -> None:
        """Have a server accept subscriptions, and say so in its capabilities."""
        lowlevel = server._lowlevel_server  # noqa: SLF001  # the only way to more methods
        lowlevel.add_request_handler("resources/subscribe", SubscribeRequestParams, self._subscribe)
        lowlevel.add_request_handler(
            "resources/unsubscribe", UnsubscribeRequestParams, self._unsubscribe
        )
        lowlevel.add_notification_handler(
            "notifications/initialized", NotificationParams, self._begin
        )
        server.middleware.append(_declared)

    async def _begin(self, ctx: ServerRequestContext[Any, Any], _: NotificationParams) -> None:
        self._client(ctx)

    async def _subscribe(
        self, ctx: ServerRequestContext[Any, Any], params: SubscribeRequestParams
    ) -> EmptyResult:
        uris = self._client(ctx).uris
        if params.uri not in uris and len(uris) >= _MOST_URIS:
            raise MCPError(
                code=INVALID_PARAMS,
                message=f"at most {_MOST_URIS} resources can be subscribed to; unsubscribe from "
                "some, or subscribe to their collection",
            )
        uris.add(params.uri)
        return EmptyResult()

    async def _unsubscribe(
        self, ctx: ServerRequestContext[Any, Any], params: UnsubscribeRequestParams
    ) -> EmptyResult:
        self._client(ctx).uris.discard(params.uri)
        return EmptyResult()

    def _client(self, ctx: ServerRequestContext[Any, Any]) -> _Client:
        """Return who sent a request; the first time, have the bus tell it of changes."""
        connection = ctx.session._connection  # noqa: SLF001  # outlives the request
        client: _Client | None = connection.state.get(_KEY)
        if client is None:
            client = connection.state[_KEY] = _Client(ctx.session)
            connection.exit_stack.callback(self._bus.subscribe(client.hear))
        return client


class _Client:
    """One connection. What it has not been told yet is kept once, however often it happens."""

    def __init__(self, session: ServerSession) -> None:
        self.uris: set[str] = set()
        self._session = session
        self._untold: dict[ServerEvent, None] = {}
        self._telling: asyncio.Task[None] | None = None

    def hear(self, event: ServerEvent) -> None:
        """Tell the client soon, where it wants to know."""
        if isinstance(event, ResourceUpdated):
            is_wanted = event.uri in self.uris
        else:
            is_wanted = isinstance(event, ResourcesListChanged)
        if not is_wanted:
            return
        self._untold[event] = None
        if self._telling is None or self._telling.done():
            self._telling = asyncio.ensure_future(self._tell())

    async def _tell(self) -> None:
        while self._untold:
            event = next(iter(self._untold))
            del self._untold[event]
            if isinstance(event, ResourceUpdated):
                await self._session.send_resource_updated(event.uri)
            else:
                await self._session.send_resource_list_changed()


async def _declared(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Middleware: say in the handshake that changes of resources are told."""
    result = await call_next(ctx)
    if ctx.method == "initialize" and isinstance(result, dict):
        result["capabilities"]["resources"]["listChanged"] = True
    return result
