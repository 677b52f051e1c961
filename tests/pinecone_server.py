"""The emulator of Pinecone as a process of its own, for tests: on loopback, on a free port."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pinecone", reason="pinecone is not installed")

__all__ = ["PineconeServer", "pinecone_server"]

_START_S = 60
_ROOT = Path(__file__).parents[1]


class PineconeServer:
    """One emulator and its data, in a folder of its own."""

    def __init__(self, folder: Path, *, key: str | None = None, **behaviour: Any) -> None:
        self._folder = folder
        self._options = ["--behaviour", json.dumps(behaviour)] + (["--key", key] if key else [])
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])

    def url(self, tenant: str | None = None) -> str:
        """Return the URL of a tenant's database, by default a new one's."""
        return f"pinecone://127.0.0.1:{self.port}?ssl=false&tenant={tenant or uuid.uuid4().hex}"

    def behave(self, **behaviour: Any) -> list[dict[str, Any]]:
        """Set how the emulator behaves; return what it was asked since the last time."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/emulator", json.dumps(behaviour).encode()
        )
        with urllib.request.urlopen(request, timeout=_START_S) as answer:
            asked: list[dict[str, Any]] = json.load(answer)
            return asked

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.pinecone_emulator", "--port", str(self.port)]
        command += ["--folder", str(self._folder), *self._options]
        self._process = subprocess.Popen(command, cwd=_ROOT)
        until = time.monotonic() + _START_S
        while True:
            try:
                self.behave()
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                if self._process.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """End the emulator at once and without a word."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_START_S)
            self._process = None


@contextlib.contextmanager
def pinecone_server(**options: Any) -> Iterator[PineconeServer]:
    """Start an emulator, and stop it."""
    with tempfile.TemporaryDirectory(prefix="nearfield-pinecone-") as folder:
        server = PineconeServer(Path(folder), **options)
        server.start()
        try:
            yield server
        finally:
            server.kill()
