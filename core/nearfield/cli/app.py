"""The command line's commands, and what happens when one of them cannot go on."""

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import nearfield
from nearfield.cli.collections import collections_app
from nearfield.cli.copy import copy, migrate
from nearfield.cli.demo import demo
from nearfield.cli.documents import delete, get
from nearfield.cli.evaluate import evaluate
from nearfield.cli.exits import EXIT_CODES_HELP, ExitCode, report
from nearfield.cli.faiss_import import import_faiss
from nearfield.cli.ingest import ingest
from nearfield.cli.maintenance import backup, check, repair, stats
from nearfield.cli.quality import quality
from nearfield.cli.search import search
from nearfield.cli.serve import serve
from nearfield.cli.tuning import tune
from nearfield.errors import InvalidInputError

__all__ = ["CommandLine", "app"]

# \b keeps the lines as they are.
_HELP = """Keep documents and their embeddings in a folder; search them by meaning and by words.

\b
  nearfield demo                              try it on Python's own documentation
  nearfield ingest docs/                      read files into .nearfield
  nearfield search "how do I parse a date"    ask
"""


class CommandLine(TyperGroup):
    """Ends every command with a status that means something, and one line where it failed."""

    def main(self, args: Any = None, *rest: Any, **options: Any) -> Any:
        """Run a command line, and exit with its status unless told not to."""
        try:
            status = super().main(args, *rest, **{**options, "standalone_mode": False})
        except typer.Abort:
            status = report(KeyboardInterrupt())
        except Exception as error:
            if not _is_usage_error(error):
                raise
            status = report(InvalidInputError(_usage_message(error)))
        if not options.get("standalone_mode", True):
            return status
        sys.exit(status or ExitCode.OK)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # a closed pipe is met here rather than after the last handler
        except BrokenPipeError:
            _abandon_stdout()
            raise typer.Exit(ExitCode.BROKEN_PIPE) from None
        except (typer.Exit, typer.Abort):
            raise
        except (Exception, KeyboardInterrupt) as error:
            if _is_usage_error(error):
                raise
            raise typer.Exit(report(error, debug=ctx.params["debug"])) from None
        return result


def _is_usage_error(error: BaseException) -> bool:
    """Tell by its shape: the class has moved between the versions of typer."""
    return hasattr(error, "format_message") and hasattr(error, "ctx")


def _usage_message(error: Any) -> str:
    message = error.format_message().rstrip(".")
    command = error.ctx.command_path if error.ctx is not None else "nearfield"
    return f"{message}; see: {command} --help"


def _abandon_stdout() -> None:
    """Let the interpreter's last flush go nowhere: the reader of the pipe has left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


app = typer.Typer(
    cls=CommandLine,
    name="nearfield",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: fast, and the same in a pipe as on a terminal
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES_HELP,
)


def _show_version(value: bool) -> None:  # noqa: FBT001 - the shape of a typer callback
    if value:
        typer.echo(f"nearfield {nearfield.__version__}")
        raise typer.Exit


@app.callback(help=_HELP)
def nearfield_command(
    ctx: typer.Context,
    *,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
    debug: Annotated[  # noqa: ARG001 - read where errors are told
        bool, typer.Option("--debug", envvar="NEARFIELD_DEBUG", help="Show tracebacks of errors.")
    ] = False,
) -> None:
    """Show the help where no command is given."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help(), err=True)
        raise typer.Exit(ExitCode.USAGE)


# In the order of the help.
app.command()(demo)
app.command()(ingest)
app.command()(import_faiss)
app.command()(search)
app.command()(get)
app.command()(delete)
app.add_typer(collections_app, name="collections")
app.command()(tune)
app.command()(evaluate)
app.command()(quality)
app.command()(stats)
app.command()(check)
app.command()(repair)
app.command()(backup)
app.command()(copy)
app.command()(migrate)
# What follows is the server's own to read, --help too.
app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(serve)
