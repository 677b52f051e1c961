"""A real Milvus server, for tests, on free ports.

It starts only where it is asked for: it takes minutes, and its proxy listens on every interface,
whatever its configuration says.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

pymilvus = pytest.importorskip("pymilvus", reason="pymilvus is not installed")

import grpc  # noqa: E402  a part of pymilvus

__all__ = ["IS_ASKED_FOR", "MilvusServer", "milvus_server", "where_asked_for"]

IS_ASKED_FOR = "NEARFIELD_TEST_MILVUS" in os.environ
where_asked_for = pytest.mark.skipif(
    not IS_ASKED_FOR,
    reason="set NEARFIELD_TEST_MILVUS=1 to try a Milvus server, which takes ten minutes",
)
"""A collection takes a server seconds to load, and a killed one a minute to return."""

_START_S = 180
_STOP_S = 30
_ANSWER_S = 5
_PORTS = (
    "etcd_port", "root_coord_port", "proxy_port", "proxy_internal_port", "query_coord_port",
    "query_node_port", "index_coord_port", "index_node_port", "data_coord_port", "data_node_port",
)  # fmt: skip
_COMPONENTS = (
    "rootCoord", "proxy", "queryCoord", "queryNode", "indexNode", "dataCoord", "dataNode",
)  # fmt: skip


class MilvusServer:
    """One server and its data, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        *ports, self._peer_port, self._health_port = _free_ports(len(_PORTS) + 2)
        self._ports = dict(zip(_PORTS, ports, strict=True))
        self.port: int = self._ports["proxy_port"]
        self._configure()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def url(self, database: str | None = None) -> str:
        """Return the URL of a database, by default a new one."""
        return f"milvus://127.0.0.1:{self.port}?database={database or f'test_{uuid.uuid4().hex}'}"

    def start(self) -> None:
        binaries = self._folder / "bin"
        places = {
            "LD_LIBRARY_PATH": str(binaries),
            "MILVUS_RUN_DIR": str(self._folder / "run"),
            "ETCD_CONFIG_PATH": str(self._folder / "etcd.yaml"),
            "METRICS_PORT": str(self._health_port),
            "DEPLOY_MODE": "STANDALONE",
        }
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [binaries / "milvus", "run", "standalone"],
                stdout=log, stderr=log, cwd=self._folder, env={**os.environ, **places},
            )  # fmt: skip
        until = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                said = (self._folder / "log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"Milvus did not start:\n{said}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End the server at once and without a word."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_STOP_S)
            self._process = None

    def _configure(self) -> None:
        if sys.platform != "linux":
            pytest.skip("the package milvus brings a server for Linux alone")
        packaged = pytest.importorskip(
            "milvus", reason="no server: pip install milvus==2.3.5, which is not in nearfield[test]"
        )
        config = packaged.MilvusServerConfig(data_dir=str(self._folder))
        config.resolve_storage()
        for name, port in self._ports.items():
            config.set(name, port)
        for component in _COMPONENTS:
            config.set(f"{component}.ip", "127.0.0.1")
        config.set("rootCoord.maxDatabaseNum", 10_000)
        config.write_config()
        # What Milvus's own settings say of etcd's ports, its built-in etcd does not heed.
        peer, client = (
            f"http://127.0.0.1:{port}" for port in (self._peer_port, self._ports["etcd_port"])
        )
        (self._folder / "etcd.yaml").write_text(
            f"name: default\ndata-dir: {self._folder / 'etcd'}\nlog-level: error\n"
            f"listen-client-urls: {client}\nadvertise-client-urls: {client}\n"
            f"listen-peer-urls: {peer}\ninitial-advertise-peer-urls: {peer}\n"
            f"initial-cluster: default={peer}\n"
        )
        packaged._initialize_data_files(str(self._folder))

    def _answers(self) -> bool:
        """Whether the server is up, and has loaded again what it had loaded before."""
        try:
            place = f"http://127.0.0.1:{self._health_port}/healthz"
            with urllib.request.urlopen(place, timeout=5) as answer:
                if b"OK" not in answer.read():
                    return False
            with contextlib.closing(self.client()) as client:
                databases = client.list_databases(timeout=2)
            for database in databases:
                with contextlib.closing(self.client(database)) as client:
                    for name in client.list_collections(timeout=2):
                        client.query(
                            name,
                            output_fields=["count(*)"],
                            consistency_level="Strong",
                            timeout=_ANSWER_S,
                        )
        except (OSError, pymilvus.MilvusException, grpc.RpcError):
            return False
        return True

    def client(self, database: str = "default") -> pymilvus.MilvusClient:
        """Return a bare client; the caller closes it."""
        place = f"http://127.0.0.1:{self.port}"
        return pymilvus.MilvusClient(place, db_name=database, timeout=2, dedicated=True)


@contextlib.contextmanager
def milvus_server() -> Iterator[MilvusServer]:
    """Start a server, or skip where there is none to start."""
    with tempfile.TemporaryDirectory(prefix="nearfield-milvus-") as folder:
        server = MilvusServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()  # to stop takes half a minute, and nothing is kept


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
