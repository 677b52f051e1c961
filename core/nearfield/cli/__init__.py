"""The command line: ``nearfield`` and ``python -m nearfield``."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit the process with its status."""
    try:
        from nearfield.cli.app import app
    except KeyboardInterrupt:  # half of the time that a short command takes is imports
        raise SystemExit(130) from None
    app(prog_name="nearfield")
