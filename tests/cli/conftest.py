"""A small real database, made once with the built-in model, and two ways to run a command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import nearfield
from nearfield import Document
from nearfield.cli.app import app

CORE = Path(nearfield.__file__).parent.parent

DOCUMENTS = [
    Document(
        "The cat sat on the mat and purred all afternoon.",
        id="cats/1",
        metadata={"animal": "cat", "year": 2019, "title": "Pets", "section": "At home"},
    ),
    Document(
        "Dogs fetch sticks in the park and bark at strangers.",
        id="dogs/1",
        metadata={"animal": "dog", "year": 2021},
    ),
    Document(
        "Volcanoes erupt when molten rock reaches the surface.",
        id="volcanoes/1",
        metadata={"year": 2023},
    ),
]


@pytest.fixture(scope="session")
def built_database(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "database"
    with nearfield.open(folder, "default") as collection:
        collection.upsert(DOCUMENTS)
    return folder


@pytest.fixture
def database(built_database, tmp_path):
    return Path(shutil.copytree(built_database, tmp_path / "database"))


def environment(**variables):
    kept = {key: value for key, value in os.environ.items() if not key.startswith("NEARFIELD_")}
    return {**kept, "PYTHONPATH": str(CORE), "COLUMNS": "80", **variables}


@pytest.fixture
def invoke(monkeypatch):
    """Run a command in this process."""
    for key in [key for key in os.environ if key.startswith("NEARFIELD_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments, **options):
        return CliRunner().invoke(app, [str(argument) for argument in arguments], **options)

    return run


# A shell makes background jobs, such as a test run, and all they start ignore interrupts.
HEEDS_INTERRUPTS = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from nearfield.cli import main; main()"
)


@pytest.fixture
def nearfield_process(tmp_path):
    """Start the command line as a process of its own, in an empty folder."""
    started = []

    def start(*arguments, stdin=subprocess.DEVNULL, heeds_interrupts=False, **variables):
        program = ["-c", HEEDS_INTERRUPTS] if heeds_interrupts else ["-m", "nearfield"]
        process = subprocess.Popen(
            [sys.executable, *program, *(str(argument) for argument in arguments)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=environment(**variables),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def run_process(nearfield_process):
    """Run the command line as a process of its own, and wait for it."""

    def run(*arguments, **variables):
        process = nearfield_process(*arguments, **variables)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    return run
