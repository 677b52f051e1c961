"""A real Chroma server, for tests: on loopback, on a free port."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("chromadb", reason="chromadb is not installed")

__all__ = ["ChromaServer", "chroma_server"]

_START_S = 60


class ChromaServer:
    """One server and its data, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def url(self, database: str | None = None) -> str:
        """Return the URL of a database, by default a new one."""
        return f"chroma://127.0.0.1:{self.port}?database={database or f'test-{uuid.uuid4().hex}'}"

    def start(self) -> None:
        command = [Path(sysconfig.get_path("scripts")) / "chroma", "run"]
        command += ["--path", self._folder / "data", "--host", "127.0.0.1", "--port", self.port]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                list(map(str, command)), stdout=log, stderr=log,
                env={**os.environ, "ANONYMIZED_TELEMETRY": "False"},
            )  # fmt: skip
        until = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                said = (self._folder / "log").read_text()[-2000:]
                raise RuntimeError(f"Chroma did not start:\n{said}")
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._ended()

    def kill(self) -> None:
        """End the server at once and without a word."""
        if self._process is not None:
            self._process.kill()
            self._ended()

    def _ended(self) -> None:
        if self._process is not None:
            self._process.wait(_START_S)
            self._process = None

    def _answers(self) -> bool:
        try:
            place = f"http://127.0.0.1:{self.port}/api/v2/heartbeat"
            with urllib.request.urlopen(place, timeout=5):
                return True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


@contextlib.contextmanager
def chroma_server() -> Iterator[ChromaServer]:
    """Start a server, and stop it."""
    with tempfile.TemporaryDirectory(prefix="nearfield-chroma-") as folder:
        server = ChromaServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
