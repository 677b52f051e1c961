"""``nearfield serve``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec

import typer

from nearfield.errors import MissingDependencyError

__all__ = ["serve"]


def serve(ctx: typer.Context) -> None:
    """Serve collections to agents over the Model Context Protocol.

    The same as nearfield-mcp; see: nearfield serve --help
    """
    raise typer.Exit(_hand_over(ctx.args))


def _hand_over(arguments: Sequence[str]) -> int:
    """Become the server: a process that has not imported anything yet starts it fastest."""
    if not all(map(_found, ("nearfield_mcp", "mcp", "pydantic_settings"))):
        raise MissingDependencyError("mcp", extra="mcp", purpose="nearfield serve")
    # -P: what lies in the folder at hand is not imported.
    command = [sys.executable, "-P", "-m", "nearfield_mcp", *arguments]
    if os.name != "nt":  # there exec leaves the host with a process that has ended
        os.execv(sys.executable, command)  # noqa: S606
    return subprocess.run(command, check=False).returncode  # noqa: S603


def _found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:  # it was imported as None, which says that it is not to be had
        return False
