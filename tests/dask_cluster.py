"""A real Dask cluster for tests: a scheduler and workers, each a process, on loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["DaskCluster", "dask_cluster"]

_START_S = 60
_OURS = os.pathsep.join(filter(None, sys.path))


class DaskCluster:
    """A scheduler, and workers that are started anew when they die."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._keepers: list[subprocess.Popen[bytes]] = []
        self.port = _free_port()
        self._scheduler = self._start(
            "scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"
        )
        _until(self._answers)

    @property
    def url(self) -> str:
        return f"dask://127.0.0.1:{self.port}"

    def hire(self, count: int) -> None:
        """Start workers, each of one thread."""
        for _ in range(count):
            keeper = self._start(
                "worker", f"tcp://127.0.0.1:{self.port}", "--nthreads", "1", "--no-dashboard",
                "--local-directory", str(self._folder),
            )  # fmt: skip
            self._keepers.append(keeper)

    def pids(self) -> list[int]:
        """The processes that do the work."""
        found = []
        for keeper in self._keepers:
            children = psutil.Process(keeper.pid).children()
            found += [each.pid for each in children if "spawn_main" in " ".join(each.cmdline())]
        return found

    def kill_scheduler(self) -> None:
        self._scheduler.kill()
        self._scheduler.wait()

    def stop(self) -> None:
        """End every process, without waiting for farewells."""
        for process in (*self._keepers, self._scheduler):
            for each in [*_descendants(process.pid), process]:
                each.kill()
            process.wait()
        self._stack.close()

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        log = self._stack.enter_context((self._folder / "log").open("ab"))
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments],
            stdout=log,
            stderr=log,
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": _OURS},
        )

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def dask_cluster(folder: Path, workers: int) -> Iterator[DaskCluster]:
    """Start a cluster, or skip where Dask is not installed."""
    pytest.importorskip("distributed", reason="Dask is not installed")
    cluster = DaskCluster(folder)
    try:
        cluster.hire(workers)
        yield cluster
    finally:
        cluster.stop()


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _until(true: object) -> None:
    until = time.monotonic() + _START_S
    while not true():
        if time.monotonic() > until:
            raise TimeoutError("the scheduler did not start")
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
