"""Counts and times of calls and requests, as Prometheus reads them; no name of a tenant in them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mcp.shared.exceptions import MCPError
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from nearfield_mcp.audit import outcome_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from nearfield_mcp.scope import Right

__all__ = ["CallMetrics", "Metrics", "RequestMetrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """What is counted. Each server has its own."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._registry = registry
        self.calls = Counter(
            "nearfield_mcp_calls",
            "Calls of tools, by how they ended: ok, error or refused",
            ("tool", "outcome"),
            registry=registry,
        )
        self.call_seconds = Histogram(
            "nearfield_mcp_call_seconds",
            "How long calls of tools took",
            ("tool",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.running = Gauge(
            "nearfield_mcp_calls_in_flight", "Calls of tools being answered", registry=registry
        )
        self.requests = Counter(
            "nearfield_mcp_http_requests", "Requests, by status", ("status",), registry=registry
        )
        self.request_bytes = Counter(
            "nearfield_mcp_http_request_bytes", "Bytes of bodies received", registry=registry
        )
        self.response_bytes = Counter(
            "nearfield_mcp_http_response_bytes", "Bytes of bodies sent", registry=registry
        )

    def text(self) -> bytes:
        """Return all in Prometheus' text format."""
        return generate_latest(self._registry)


class CallMetrics:
    """Middleware: counts and times the calls of tools.

    Args:
        metrics: Where to.
        known: Returns the tools there are; the label of another is ``unknown``.
    """

    def __init__(self, metrics: Metrics, known: Callable[[], Awaitable[dict[str, Right]]]) -> None:
        self._metrics = metrics
        self._known = known

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Answer a request, and count it where it calls a tool."""
        if ctx.method != "tools/call":
            return await call_next(ctx)
        name = (ctx.params or {}).get("name")
        tool = name if isinstance(name, str) and name in await self._known() else "unknown"
        begun, outcome = time.perf_counter(), "error"
        try:
            with self._metrics.running.track_inprogress():
                result = await call_next(ctx)
        except MCPError:
            outcome = "refused"
            raise
        else:
            outcome = outcome_of(result)
            return result
        finally:
            self._metrics.calls.labels(tool, outcome).inc()
            self._metrics.call_seconds.labels(tool).observe(time.perf_counter() - begun)


class RequestMetrics:
    """Counts requests over HTTP and their bytes.

    Args:
        app: What answers them.
        metrics: Where to.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def received() -> Message:
            message = await receive()
            self._metrics.request_bytes.inc(len(message.get("body", b"")))
            return message

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests.labels(str(message["status"])).inc()
            self._metrics.response_bytes.inc(len(message.get("body", b"")))
            await send(message)

        await self._app(scope, received, sent)
