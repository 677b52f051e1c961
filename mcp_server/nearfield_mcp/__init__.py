"""The MCP server of nearfield: search and ingest for agents, over stdio and HTTP."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nearfield_mcp.server import create_server
    from nearfield_mcp.settings import Settings

__all__ = ["Settings", "create_server"]

_MODULES = {"Settings": "nearfield_mcp.settings", "create_server": "nearfield_mcp.server"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
