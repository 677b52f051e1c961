"""Every command ends with a status that means something, one line, and no traceback."""

import sys

import pytest
import typer
from typer.testing import CliRunner

import nearfield
from nearfield import errors
from nearfield.cli.app import CommandLine
from nearfield.cli.exits import ExitCode, exit_code_of


def command_line_that_raises(error):
    app = typer.Typer(cls=CommandLine)

    @app.callback()
    def _root(*, debug: bool = False):
        """Have the option that the real one has."""

    @app.command()
    def fail():
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.CollectionNotFoundError("none", name="x"), ExitCode.NOT_FOUND),
        (errors.DocumentNotFoundError("none", id="x"), ExitCode.NOT_FOUND),
        (errors.FilterError("bad"), ExitCode.USAGE),
        (errors.CollectionExistsError("there", name="x"), ExitCode.USAGE),
        (errors.EmbedderMismatchError("other"), ExitCode.USAGE),
        (errors.MissingDependencyError("x", extra="y", purpose="z"), ExitCode.USAGE),
        (errors.StoreBusyError("busy"), ExitCode.STORE),
        (errors.ReadOnlyError("read-only"), ExitCode.STORE),
        (errors.StorageFullError("full"), ExitCode.STORE),
        (errors.CorruptionError("damaged"), ExitCode.STORE),
        (PermissionError(13, "Permission denied"), ExitCode.STORE),
        (errors.IngestError("bad file", source="x"), ExitCode.INCOMPLETE),
        (ZeroDivisionError("oops"), ExitCode.UNEXPECTED),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
    ],
)
def test_an_error_ends_with_its_status_and_one_line(error, code):
    ran = CliRunner().invoke(command_line_that_raises(error), ["fail"])
    assert ran.exit_code == code == exit_code_of(error)
    assert ran.stdout == ""
    assert ran.stderr.count("\n") == 1
    assert "Traceback" not in ran.stderr


def test_a_message_of_several_lines_becomes_one_and_cannot_steer_the_terminal():
    app = command_line_that_raises(errors.FilterError("first\nsecond \x1b[31m"))
    ran = CliRunner().invoke(app, ["fail"])
    assert ran.stderr == "error: first second \N{REPLACEMENT CHARACTER}[31m\n"


def test_a_defect_says_how_to_see_more_and_debug_shows_it():
    app = command_line_that_raises(ZeroDivisionError("oops"))
    assert "--debug" in CliRunner().invoke(app, ["fail"]).stderr
    shown = CliRunner().invoke(app, ["--debug", "fail"]).stderr
    assert "Traceback (most recent call last)" in shown
    assert "ZeroDivisionError: oops" in shown


def test_every_status_is_in_the_help(invoke):
    shown = invoke("--help").stdout
    for code in (0, 1, 2, 3, 4, 70, 130):
        assert f"\n    {code:<5}" in shown


def test_the_version_is_shown(run_process):
    ran = run_process("--version")
    assert ran.returncode == 0
    assert ran.stdout == f"nearfield {nearfield.__version__}\n"


def test_a_command_that_does_not_exist_is_bad_usage(run_process):
    ran = run_process("serch", "cats")
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.startswith("error: ")
    assert "search" in ran.stderr
    assert ran.stderr.endswith("; see: nearfield --help\n")


def test_no_command_shows_the_help_on_stderr(run_process):
    ran = run_process()
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert "Exit codes:" in ran.stderr


def test_a_damaged_store_is_told_with_its_own_status(run_process, database):
    path = database / "default" / "collection.sqlite3"
    path.write_bytes(b"not a database at all" * 1000)
    ran = run_process("search", "cat", "--db", database)
    assert ran.returncode == 3
    assert ran.stdout == ""
    assert ran.stderr.startswith("error: ")
    assert ran.stderr.count("\n") == 1


def test_the_debug_variable_shows_where_an_error_came_from(run_process, tmp_path):
    ran = run_process("stats", "--db", tmp_path / "absent", NEARFIELD_DEBUG="1")
    assert ran.returncode == 1
    assert "Traceback (most recent call last)" in ran.stderr
    assert ran.stderr.splitlines()[-1].startswith("error: ")


def test_a_reader_that_leaves_early_is_met_with_silence(nearfield_process, database):
    for arguments in (["get", "cats/1"], ["search", "cat"], ["search", "cat", "--json"]):
        process = nearfield_process(*arguments, "--db", database)
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(timeout=60) == 141
        assert err == ""


def test_help_needs_no_model_and_no_parser():
    import subprocess

    script = (
        "import sys; from nearfield.cli.app import app\n"
        "print([name for name in ('onnxruntime', 'tokenizers', 'bs4', 'pypdf', 'docx',"
        " 'semantic_text_splitter') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
