"""What an exit status means, and how an error is told to the person at the terminal."""

from __future__ import annotations

import sys
import traceback
from enum import IntEnum

import typer

from nearfield.cli.snippets import printable
from nearfield.errors import (
    CollectionNotFoundError,
    DocumentNotFoundError,
    IngestError,
    NearfieldError,
    StoreError,
    WorkerError,
)

__all__ = ["EXIT_CODES_HELP", "ExitCode", "exit_code_of", "report"]


class ExitCode(IntEnum):
    """The statuses that scripts may rely on."""

    OK = 0
    NOT_FOUND = 1
    USAGE = 2
    STORE = 3
    INCOMPLETE = 4
    UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h
    INTERRUPTED = 130  # 128 + SIGINT, as shells report it
    BROKEN_PIPE = 141  # 128 + SIGPIPE


# \b keeps the lines as they are.
EXIT_CODES_HELP = """\b
Exit codes:
  0    done; a search without hits is done too
  1    not found: the collection, or an id given to get or delete
  2    bad usage or input, or a model that does not fit or failed
  3    the store: busy, damaged, read-only, full or out of reach; or an ingest's workers
  4    finished, but some files failed or damaged documents were set aside
  70   a defect in nearfield; --debug shows where
  130  interrupted
"""

# The first that fits counts.
_CODES: tuple[tuple[type[BaseException], ExitCode], ...] = (
    (CollectionNotFoundError, ExitCode.NOT_FOUND),
    (DocumentNotFoundError, ExitCode.NOT_FOUND),
    (IngestError, ExitCode.INCOMPLETE),
    (StoreError, ExitCode.STORE),
    (WorkerError, ExitCode.STORE),
    (NearfieldError, ExitCode.USAGE),
    (OSError, ExitCode.STORE),
    (KeyboardInterrupt, ExitCode.INTERRUPTED),
)


def exit_code_of(error: BaseException) -> ExitCode:
    """Map an error to the status that the process ends with."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.UNEXPECTED)


def report(error: BaseException, *, debug: bool = False) -> ExitCode:
    """Say on one line of stderr what went wrong, and return the status to end with.

    Args:
        error: What ended the command.
        debug: Whether to print the traceback before.
    """
    code = exit_code_of(error)
    if debug and code is not ExitCode.INTERRUPTED:
        traceback.print_exception(error, file=sys.stderr)
    if code is ExitCode.INTERRUPTED:
        typer.echo(str(error) or "interrupted", err=True)
        return code
    message = printable(" ".join(str(error).split()))
    if isinstance(error, CollectionNotFoundError):
        message = f"{message}; nearfield ingest makes one"
    elif code is ExitCode.UNEXPECTED:
        message = (
            f"unexpected {type(error).__name__}: {message}; this is a defect in nearfield, "
            "run nearfield --debug … to see where"
        )
    typer.echo(f"{typer.style('error:', fg='red', bold=True)} {message}", err=True)
    return code
