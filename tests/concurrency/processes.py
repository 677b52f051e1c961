"""Other processes that a test starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import nearfield

_CORE = Path(nearfield.__file__).parent.parent
_ROOT = Path(__file__).parent.parent.parent


def environment() -> dict[str, str]:
    """Return an environment in which nearfield and the tests can be imported."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(_CORE), str(_ROOT)])}


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start a Python process, with pipes to its stdin and stdout."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that it can be ended together with its children
    )


def start_code(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a Python process that runs some code."""
    return start("-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(code), *arguments)


def finish(process: subprocess.Popen[str], timeout_s: float = 60.0) -> str:
    """Wait for a process to succeed, and return what it printed."""
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    assert process.returncode == 0, output
    return output


def run_code(code: str, *arguments: object, timeout_s: float = 60.0) -> str:
    """Run some code in a Python process of its own, and return what it printed."""
    return finish(start_code(code, *arguments), timeout_s)
