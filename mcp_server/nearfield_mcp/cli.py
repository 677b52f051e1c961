"""``nearfield-mcp``: starts the server, and keeps the tokens of those who may use it.

Nothing that is slow to import is imported here: a host waits for the handshake.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nearfield_mcp.server import NearfieldServer
    from nearfield_mcp.settings import Settings

__all__ = ["main"]

_THREADS = 4
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
)
_USAGE_STATUS = 2
_STUCK_STATUS = 1
_STUCK_AFTER_S = 8.0
"""How long closing may take once the calls that ran were waited for."""

_DESCRIPTION = """\
Serve collections of documents to agents over the Model Context Protocol.

  nearfield-mcp ~/notes                             stdio: a host starts it
  nearfield-mcp ~/notes --transport http            http://127.0.0.1:8321/mcp, read-only
  nearfield-mcp a=~/a b=~/b                         several databases: a/NAME and b/NAME
  nearfield-mcp token create --tokens tokens.json   let somebody in over HTTP
"""
_EPILOG = """\
Each setting can also be given in the environment, --read-only as NEARFIELD_MCP_READ_ONLY=true, or
in the TOML file that --config names, there as read_only = true. A flag comes before the
environment, and that before the file. A database URL that holds a password is not taken from a
flag, which every user of the machine can see.
"""
_GROUPS: dict[str, dict[str, str]] = {
    "what to serve": {
        "embedder": "MODEL",
        "embedders": "COLLECTION=MODEL",
        "reranker": "MODEL",
        "rerankers": "COLLECTION=MODEL",
        "read_only": "",
        "allow_dir": "DIR",
        "allow_urls": "",
        "job_dir": "DIR",
        "config": "FILE",
    },
    "how": {
        "transport": "stdio|http",
        "host": "ADDRESS",
        "port": "PORT",
        "public_url": "URL",
        "allowed_hosts": "NAME",
        "allowed_origins": "ORIGIN",
    },
    "who may use it over HTTP": {
        "tokens": "FILE",
        "issuer": "URL",
        "audience": "NAME",
        "jwks": "URL|FILE",
        "metrics": "open|token|off",
    },
    "limits": {
        "max_request_bytes": "BYTES",
        "rate_per_s": "N",
        "rate_burst": "N",
        "max_sessions": "N",
        "max_calls": "N",
        "call_timeout_s": "SECONDS",
        "shutdown_timeout_s": "SECONDS",
    },
    "logs": {
        "audit_log": "FILE",
        "audit_log_bytes": "BYTES",
        "audit_log_files": "N",
        "log_level": "LEVEL",
    },
}
_MANY = ("embedders", "rerankers", "allow_dir", "allowed_hosts", "allowed_origins")
_SWITCHES = {"read_only": "--read-write", "allow_urls": "--no-allow-urls"}
"""And the flags that say the opposite."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, and exit with its status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _cap_threads()
    if not all(map(_found, ("mcp", "prometheus_client", "pydantic_settings"))):
        from nearfield.errors import MissingDependencyError

        error = MissingDependencyError("mcp", extra="mcp", purpose="nearfield-mcp")
        sys.exit(_failed(str(error)))
    if given[:1] == ["token"]:
        from nearfield_mcp.token_commands import run

        sys.exit(run(given[1:]))
    sys.exit(_serve(given))


def _serve(given: list[str]) -> int:
    gc.disable()  # what is imported now stays; looking for garbage in it takes a tenth of the time
    from nearfield_mcp.settings import InvalidSettingsError, load_settings

    try:
        settings = load_settings(_flags(given))
        return _over_http(settings) if settings.transport == "http" else _over_stdio(settings)
    except (InvalidSettingsError, OSError) as error:
        return _failed(str(error))


def _over_stdio(settings: Settings) -> int:
    from nearfield_mcp.stdio import Wire, serve

    if sys.stdin.isatty():
        _say("speaking MCP on stdin and stdout, for a host that starts it; Ctrl-D ends it")
    wire = Wire.take()
    log = _audit_log(settings)
    from nearfield_mcp.calls import Calls
    from nearfield_mcp.warmup import WarmUp

    server = _create_server(settings)
    calls = Calls(settings.max_calls, settings.call_timeout_s)
    server.middleware.append(WarmUp(server.resume))
    if log is not None:
        from nearfield_mcp.audit import Audit

        server.middleware.append(Audit(log))
    server.middleware.append(calls)
    _collect_garbage_again()
    try:
        serve(
            server,
            wire,
            calls,
            shutdown_timeout_s=settings.shutdown_timeout_s,
            stopping=lambda: _end_at_last(settings),
        )
    finally:
        server.close()
    return 0


def _over_http(settings: Settings) -> int:
    from nearfield_mcp.health import Health
    from nearfield_mcp.http import create_app, serve
    from nearfield_mcp.warmup import warm_up

    log = _audit_log(settings)
    health = Health(settings)
    server = _create_server(settings)
    _collect_garbage_again()
    try:
        serve(
            lambda url: create_app(server, settings, url=url, health=health.check, audit_log=log),
            settings,
            started=lambda: _in_background(warm_up, server.resume),
            stopping=lambda: _end_at_last(settings),
        )
    finally:
        server.close()
    return 0


def _in_background(work: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=work, args=arguments, name="nearfield-warm-up", daemon=True).start()


def _found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:  # it was imported as None, which says that it is not to be had
        return False


def _collect_garbage_again() -> None:
    gc.freeze()
    gc.enable()


def _audit_log(settings: Settings) -> Any:
    if settings.audit_log is None:
        return None
    from nearfield_mcp.audit import AuditLog

    return AuditLog(
        settings.audit_log, most_bytes=settings.audit_log_bytes, kept=settings.audit_log_files
    )


def _flags(given: list[str]) -> dict[str, Any]:
    """Return the settings that flags give, and only those."""
    parser = _parser()
    flags = {
        name: value for name, value in vars(parser.parse_args(given)).items() if value is not None
    }
    databases: list[str] = flags.pop("DATABASE", [])
    for url in databases:
        if _holds_password(url):
            parser.error(
                "a URL with a password can be seen by every user of this machine: put it in "
                "NEARFIELD_MCP_DATABASE or in the file that --config names"
            )
    if len(databases) > 1 or any(_names_database(each) for each in databases):
        flags["databases"] = databases
    elif databases:
        flags["database"] = databases[0]
    return flags


def _parser() -> argparse.ArgumentParser:
    from importlib.metadata import version

    from nearfield_mcp.settings import Settings, flag_of

    parser = argparse.ArgumentParser(
        prog="nearfield-mcp",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
            prog, max_help_position=34, width=100
        ),
        allow_abbrev=False,
        usage="nearfield-mcp [DATABASE | NAME=DATABASE ...] [OPTIONS]",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('nearfield')}")
    parser.add_argument(
        "DATABASE", nargs="*", default=None, help=_told(Settings, "database", default=True)
    )
    for title, flags in _GROUPS.items():
        group = parser.add_argument_group(title)
        for name, metavar in flags.items():
            options: dict[str, Any] = {"help": _told(Settings, name, default=name not in _MANY)}
            if name in _SWITCHES:
                options |= {"action": "store_const", "const": True}
                group.add_argument(
                    _SWITCHES[name],
                    dest=name,
                    action="store_const",
                    const=False,
                    help=f"the opposite of {flag_of(name)}",
                )
            else:
                options["metavar"] = metavar
            if name in _MANY:
                options |= {"action": "append", "dest": name}
                options["help"] += "; may be given again"
            group.add_argument(flag_of(name), default=None, **options)
    return parser


def _told(settings: type[Settings], name: str, *, default: bool) -> str:
    field = settings.model_fields[name]
    told = (field.description or "").replace("%", "%%")
    shown = default and field.default not in (None, False)
    return f"{told} [{field.default}]" if shown else told


def _names_database(value: str) -> bool:
    """Whether it is NAME=URL rather than a URL that has a = somewhere."""
    name, equals, _ = value.partition("=")
    return bool(equals) and not set(name) & set("/\\:?~") and bool(name)


def _holds_password(value: str) -> bool:
    from nearfield_mcp.credentials import holds_secret

    return holds_secret(value.partition("=")[2] if _names_database(value) else value)


def _create_server(settings: Settings) -> NearfieldServer:
    """Make the server, whose logs show no password of a database."""
    from nearfield_mcp import server
    from nearfield_mcp.credentials import Concealer

    made = server.create_server(settings)
    Concealer(settings.urls.values()).cover_all()  # the handlers are made with the server
    return made


def _cap_threads() -> None:
    """Keep numpy and its like from starting a thread a core, where the user did not say."""
    most = str(min(_THREADS, os.cpu_count() or 1))
    for variable in _THREAD_VARIABLES:
        os.environ.setdefault(variable, most)


def _end_at_last(settings: Settings) -> None:
    """End the process if it has not ended by itself: a host must not be left with an orphan."""

    def end() -> None:
        _say("a call did not end in time; leaving it")
        os._exit(_STUCK_STATUS)

    timer = threading.Timer(settings.shutdown_timeout_s + _STUCK_AFTER_S, end)
    timer.daemon = True
    timer.start()


def _failed(message: str) -> int:
    _say(message)
    return _USAGE_STATUS


def _say(message: str) -> None:
    for line in message.splitlines():
        print(f"nearfield-mcp: {line}", file=sys.stderr, flush=True)  # noqa: T201
