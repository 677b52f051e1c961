"""A real PgBouncer in front of a PostgreSQL server, on loopback, on a free port."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.postgres_server import PostgresServer, psycopg

__all__ = ["pooler"]

_START_S = 20
_PLACES = "/usr/sbin"
"""Where systems put it that keep servers off an ordinary user's PATH."""


@contextlib.contextmanager
def pooler(server: PostgresServer, **settings: object) -> Iterator[str]:
    """Start a pooler in front of a server, or skip where there is none, and tell its URL."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path=_PLACES)
    if program is None:
        pytest.skip("no pooler: install pgbouncer")
    port = _free_port()
    configured = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "any",
        "default_pool_size": 60,
        **settings,
    }
    with tempfile.TemporaryDirectory(prefix="nearfield-pooler-") as folder:
        Path(folder).chmod(0o755)
        file = Path(folder) / "pgbouncer.ini"
        lines = [f"{name} = {value}" for name, value in configured.items()]
        databases = f"[databases]\n* = host=127.0.0.1 port={server.port} user=nearfield\n"
        file.write_text("\n".join([databases, "[pgbouncer]", *lines, ""]))
        # Root may not run one.
        owner = {"user": "nobody"} if sys.platform != "win32" and os.geteuid() == 0 else {}
        process = subprocess.Popen(
            [program, "-q", file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **owner
        )
        try:
            url = f"postgresql://nearfield@127.0.0.1:{port}/postgres"
            _await(process, url)
            yield url
        finally:
            process.kill()
            process.wait(_START_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(process: subprocess.Popen[bytes], url: str) -> None:
    until = time.monotonic() + _START_S
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("PgBouncer did not start") from error
            time.sleep(0.05)
        else:
            return
