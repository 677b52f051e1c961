"""The server over HTTP: who may connect, what is checked first, how it starts and stops."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from anyio import to_thread
from mcp.server import MCPServer
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import (
    AuthenticatedUser,
    BearerAuthBackend,
    RequireAuthMiddleware,
)
from mcp.server.auth.routes import build_resource_metadata_url, create_protected_resource_routes
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from nearfield_mcp.access import Caller, Rights, tool_rights
from nearfield_mcp.audit import Audit, AuditLog
from nearfield_mcp.calls import Calls
from nearfield_mcp.gates import HEALTH_PATH, AuditedRefusals, Names, Streams, ToolScopes, refusal_of
from nearfield_mcp.limits import BodyLimit, RateLimit
from nearfield_mcp.metrics import CallMetrics, Metrics, RequestMetrics
from nearfield_mcp.scope import Right
from nearfield_mcp.sessions import SessionLimit, StreamLimit
from nearfield_mcp.settings import MCP_PATH
from nearfield_mcp.static_tokens import METRICS_SCOPE
from nearfield_mcp.tokens import CallerToken, Verifier

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from nearfield_mcp.settings import Settings

__all__ = ["ListenError", "create_app", "serve"]

_METRICS_PATH = "/metrics"
_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
_MOST_SESSIONS = 1_000
_MOST_CONNECTIONS = 1_000
_HEALTH_TIMEOUT_S = 5.0
_logger = logging.getLogger(__name__)


class ListenError(OSError):
    """The address cannot be listened on; the message says why."""


@dataclass(frozen=True, slots=True)
class Application:
    """What answers requests, the calls that it is answering, and what ends its open streams."""

    asgi: ASGIApp
    calls: Calls
    end_streams: Callable[[], None]


def create_app(
    server: MCPServer[Any],
    settings: Settings,
    *,
    url: str,
    health: Callable[[], Exception | None],
    audit_log: AuditLog | None = None,
) -> Application:
    """Put a server behind HTTP, with all that is checked before a request reaches it.

    Args:
        server: Made for this alone; it is given the middleware that HTTP needs.
        settings: Who may connect and what for.
        url: Where clients reach it: the resource that tokens are for (RFC 8707).
        health: Returns what keeps the databases from being listed; None where nothing does.
        audit_log: Where calls are noted.

    Raises:
        KeyFileError: The public keys of the OAuth server cannot be used.
        TokenFileError: The file of tokens cannot be used.
    """
    metrics, calls = Metrics(), Calls(settings.max_calls, settings.call_timeout_s)
    needed = tool_rights(server)
    if settings.needs_token:
        server.middleware.append(Caller())
    server.middleware.append(CallMetrics(metrics, needed))
    if audit_log is not None:
        server.middleware.append(Audit(audit_log))
    server.middleware.append(Rights(needed))
    server.middleware.append(StreamLimit(settings.max_sessions))
    server.middleware.append(calls)

    security = _transport_security(settings, url)
    inner = server.streamable_http_app(
        streamable_http_path=MCP_PATH,
        max_request_body_size=settings.max_request_bytes,
        max_sessions=_MOST_SESSIONS,
        transport_security=security,
        host=settings.host,
    )
    resource = AnyHttpUrl(url)
    metadata = build_resource_metadata_url(resource) if settings.issuer is not None else None
    endpoint: ASGIApp = SessionLimit(
        inner,
        settings.max_sessions,
        server.session_manager._server_instances.keys,  # noqa: SLF001  # told nowhere else
    )
    if settings.needs_token:
        endpoint = ToolScopes(endpoint, needed, metadata)
    endpoint = BodyLimit(endpoint, settings.max_request_bytes)
    if settings.needs_token:
        endpoint = RequireAuthMiddleware(endpoint, [Right.READ.value], metadata)
    endpoint = RateLimit(endpoint, settings.rate_per_s, settings.rate_burst)

    routes = [
        Route(MCP_PATH, endpoint=endpoint),
        Route(HEALTH_PATH, endpoint=_health(health), methods=["GET"]),
    ]
    shown = settings.metrics or ("open" if settings.on_loopback else "token")
    if shown != "off":
        page = _metrics_page(metrics, needs_token=shown == "token")
        routes.append(Route(_METRICS_PATH, endpoint=page, methods=["GET"]))
    if settings.issuer is not None:
        routes += create_protected_resource_routes(
            resource, [AnyHttpUrl(settings.issuer)], [scope.value for scope in Right], "nearfield"
        )
    app: ASGIApp = Starlette(routes=routes, lifespan=inner.router.lifespan_context)
    if settings.needs_token:
        verifier = Verifier.of(settings, url)
        app = AuthenticationMiddleware(AuthContextMiddleware(app), BearerAuthBackend(verifier))
    if settings.allowed_origins:
        app = CORSMiddleware(
            app,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["Mcp-Session-Id", "WWW-Authenticate"],
        )
    app = Names(app, security)
    if audit_log is not None:
        app = AuditedRefusals(app, audit_log)
    streams = Streams(RequestMetrics(app, metrics))
    return Application(streams, calls, streams.end)


def serve(
    make: Callable[[str], Application],
    settings: Settings,
    *,
    started: Callable[[], None],
    stopping: Callable[[], None],
) -> None:
    """Listen until told to stop by SIGINT or SIGTERM, and answer what was asked until then.

    Args:
        make: Makes the application for the URL that clients use.
        settings: Where to listen.
        started: Called once the address is listened on.
        stopping: Called as soon as the server was told to stop.

    Raises:
        ListenError: The address cannot be listened on.
    """
    listener = _listen(settings.host, settings.port)
    host, port = settings.host, listener.getsockname()[1]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}{MCP_PATH}"
    application = make(settings.public_url or url)
    config = uvicorn.Config(
        application.asgi,
        http="h11",  # httptools, which uvicorn prefers, keeps the blanks around a header's value
        log_config=None,
        access_log=False,
        lifespan="on",
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=1,
    )
    running = _GracefulServer(config, application, settings.shutdown_timeout_s, stopping)
    print(f"nearfield-mcp: listening on {url}", file=sys.stderr, flush=True)  # noqa: T201
    started()
    # uvicorn raises the signal that ended it once more; it was obeyed, so that is no failure.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with suppress(KeyboardInterrupt):
        running.run(sockets=[listener])


class _GracefulServer(uvicorn.Server):
    """Answers the calls that are running before it stops; new ones find the door closed."""

    def __init__(
        self,
        config: uvicorn.Config,
        application: Application,
        timeout_s: float,
        stopping: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._application = application
        self._timeout_s = timeout_s
        self._stopping = stopping
        self._draining: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop."""
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop at the first signal; stop at once at the second."""
        if self._draining is not None or self._loop is None:
            super().handle_exit(sig, frame)
            return
        self._stopping()
        loop, drain = self._loop, self._drain(sig, frame)
        loop.call_soon_threadsafe(lambda: setattr(self, "_draining", loop.create_task(drain)))

    async def _drain(self, sig: int, frame: FrameType | None) -> None:
        for server in self.servers:
            server.close()
        await to_thread.run_sync(self._application.calls.wait_until_idle, self._timeout_s)
        self._application.end_streams()
        super().handle_exit(sig, frame)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise ListenError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}; choose others with "
            "--host and --port"
        ) from None


def _transport_security(settings: Settings, url: str) -> TransportSecuritySettings:
    """Say which Host and Origin are accepted, on every address that is listened on."""
    public = AnyHttpUrl(url)
    names = [*_LOOPBACK_NAMES]
    if settings.host not in ("0.0.0.0", "::", *_LOOPBACK_NAMES):  # noqa: S104  # not bound here
        names.append(f"[{settings.host}]" if ":" in settings.host else settings.host)
    hosts = [host for name in names for host in (name, f"{name}:*")]
    if settings.public_url is not None:
        hosts += [f"{public.host}:{public.port}", str(public.host)]
    origins = [f"http://{name}{port}" for name in _LOOPBACK_NAMES for port in ("", ":*")]
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[*hosts, *settings.allowed_hosts],
        allowed_origins=[*origins, *settings.allowed_origins],
    )


def _health(check: Callable[[], Exception | None]) -> Callable[[Request], Awaitable[Response]]:
    async def health(_: Request) -> Response:
        """Say whether the databases can be listed, and nothing about them."""
        try:
            async with asyncio.timeout(_HEALTH_TIMEOUT_S):
                problem = await to_thread.run_sync(check, abandon_on_cancel=True)
        except TimeoutError as error:
            problem = error
        if problem is None:
            return JSONResponse({"status": "ok"})
        _logger.warning("the databases cannot be listed: %r", problem)
        return JSONResponse({"status": "unavailable"}, status_code=503)

    return health


def _metrics_page(
    metrics: Metrics, *, needs_token: bool
) -> Callable[[Request], Awaitable[Response]]:
    async def page(request: Request) -> Response:
        """Give the metrics to whom they are for."""
        if needs_token:
            user = request.scope.get("user")
            token = user.access_token if isinstance(user, AuthenticatedUser) else None
            if not isinstance(token, CallerToken):
                return refusal_of(401, "invalid_token", METRICS_SCOPE, None)
            if not {METRICS_SCOPE, Right.ADMIN.value} & {*token.scopes}:
                return refusal_of(403, "insufficient_scope", METRICS_SCOPE, None)
        return PlainTextResponse(metrics.text(), media_type="text/plain; version=0.0.4")

    return page
