"""Processes that are meant to be killed, seen from the test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Self

import nearfield

_HERE = Path(__file__).parent
_CORE = Path(nearfield.__file__).parent.parent


class Fault(IntEnum):
    """What the library in faults.c does at a change to a file."""

    COUNT = 0
    FAIL_ONCE = 1
    FAIL_ON = 2
    KILL = 3
    KILL_TORN = 4
    RECORD = 5
    KILL_NAME = 6


@dataclass(frozen=True, slots=True)
class Death:
    """How a victim ended.

    Attributes:
        status: Its exit status, −9 when it was killed.
        acknowledged: The lines that it wrote.
        output: What it said on stderr.
    """

    status: int
    acknowledged: list[str]
    output: str

    @property
    def killed(self) -> bool:
        return self.status == -signal.SIGKILL

    @property
    def versions(self) -> list[int]:
        """The steps that it acknowledged."""
        return [int(line) for line in self.acknowledged if line.isdecimal()]


class Victims:
    """A process that forks victims, one at a time. See victim.py.

    Args:
        folder: For its own files.
        faults: The compiled library of faults.c, to be preloaded.
    """

    def __init__(self, folder: Path, faults: Path | None = None) -> None:
        self._acknowledgements = folder / f"acknowledged-{time.monotonic_ns()}"
        self._errors = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed in __exit__
        path = os.pathsep.join([str(_CORE), str(_HERE.parent.parent)])
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        environment["OPENBLAS_NUM_THREADS"] = "1"
        arguments = []
        if faults is not None:
            environment["LD_PRELOAD"] = str(faults)
            arguments.append(str(faults))
        self._process = subprocess.Popen(
            [sys.executable, str(_HERE / "victim.py"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
            start_new_session=True,  # so that it can be ended together with its victim
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:  # a victim hangs
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            raise
        finally:
            self._process.stdout.close()
        self._errors.close()

    def run(self, task: str, **command: object) -> Death:
        """Run a task to its end, or kill it.

        Args:
            task: The name of a function in victim.py.
            command: What it needs, and optionally ``kill_after_lines``: how much it may
                acknowledge, and then ``kill_after_s``: how long it may go on.
        """
        self._acknowledgements.unlink(missing_ok=True)
        self._errors.seek(0)
        self._errors.truncate()
        command = {
            "durability": "full",
            **{key: str(v) if isinstance(v, Path) else v for key, v in command.items()},
            "task": task,
            "acknowledgements": str(self._acknowledgements),
        }
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        status = int(self._process.stdout.readline())
        text = self._acknowledgements.read_text() if self._acknowledgements.exists() else ""
        self._errors.seek(0)
        lines = text.splitlines()
        return Death(status, lines, self._errors.read().decode(errors="replace"))


def spread(total: int, wanted: int) -> list[int]:
    """Choose so many numbers from 1 to a total, evenly, the first ones included."""
    return sorted({1 + i * total // wanted for i in range(wanted)} | set(range(1, 4)))
