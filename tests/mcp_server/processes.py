"""Real servers for tests: processes that are started, spoken to and stopped."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import httpx2

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
DEADLINE_S = 60.0
"""For a machine that is busy with other things; what is awaited takes far less."""
TOOLS = str(Path(__file__).parent / "extra_tools.py")
"""The server with tools that are slow, that write and that print."""


class OverHttp:
    """A server over HTTP; ``errors()`` is what it wrote to stderr."""

    def __init__(self, process, url, errors):
        self.process, self.url, self.errors = process, url, errors

    @property
    def base(self):
        return self.url.removesuffix("/mcp")

    @property
    def port(self):
        return int(self.base.rpartition(":")[2])

    def get(self, path, token=None, **headers):
        return httpx2.get(self.base + path, headers=headers | _bearer(token), timeout=DEADLINE_S)

    def post(self, method, params=None, token=None, content=None, **headers):
        """Send one request of the protocol's newest revision."""
        return httpx2.post(
            self.url,
            content=content or json.dumps(request(method, params)),
            headers=modern_headers(method, params) | _bearer(token) | headers,
            timeout=DEADLINE_S,
        )

    def call(self, tool, arguments=None, token=None, **headers):
        return self.post(
            "tools/call", {"name": tool, "arguments": arguments or {}}, token=token, **headers
        )

    def initialize(self, token=None):
        """Ask for a session of the older revision; return what it is answered."""
        client = {"name": "test", "version": "1"}
        params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client}
        opening = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        headers = {"MCP-Protocol-Version": LEGACY}
        return self.post("initialize", token=token, content=json.dumps(opening), **headers)

    def open_session(self, token=None):
        """Open a session of the older revision; return the headers that its requests carry."""
        opened = self.initialize(token)
        headers = {"MCP-Protocol-Version": LEGACY} | _bearer(token)
        headers["Mcp-Session-Id"] = opened.headers["mcp-session-id"]
        ready = json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"})
        assert self.post("initialized", content=ready, **headers).status_code == 202
        return headers

    def ask(self, session, method, params=None):
        """Send a request of the older revision in a session."""
        body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params or {}}
        return self.post(method, content=json.dumps(body), **session)

    def stop(self):
        """Send SIGTERM; return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=DEADLINE_S)


class OverStdio:
    """A server over stdio, spoken to line by line."""

    def __init__(self, process, errors):
        self.process, self.errors = process, errors
        self._id = 0
        self._buffer = b""

    def send(self, method, params=None, *, answered=True):
        """Send a message; return its id."""
        self._id += 1
        message = {"jsonrpc": "2.0", "method": method, "params": params or {}}
        if answered:
            message["id"] = self._id
        os.write(self.process.stdin.fileno(), json.dumps(message).encode() + b"\n")
        return self._id

    def receive(self):
        """Return the next message; every line on stdout must be one."""
        until = time.monotonic() + DEADLINE_S
        while b"\n" not in self._buffer:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise TimeoutError("no message came")
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise EOFError("the server ended")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def ask(self, method, params=None):
        """Send a request and return the result."""
        identifier = self.send(method, params)
        while True:
            message = self.receive()
            if message.get("id") == identifier:
                return message["result"]

    def initialize(self):
        result = self.ask(
            "initialize",
            {
                "protocolVersion": LEGACY,
                "capabilities": {},
                "clientInfo": {"name": "test", "version": "1"},
            },
        )
        self.send("notifications/initialized", answered=False)
        return result

    def call(self, tool, arguments=None):
        return self.ask("tools/call", {"name": tool, "arguments": arguments or {}})

    def close(self):
        """Close stdin, as a host does; return the exit status and what is left on stdout."""
        if not self.process.stdin.closed:
            self.process.stdin.close()
        rest = self._buffer + self.process.stdout.read()
        return self.process.wait(timeout=DEADLINE_S), rest


def request(method, params=None):
    from mcp_types import (
        CLIENT_CAPABILITIES_META_KEY,
        CLIENT_INFO_META_KEY,
        PROTOCOL_VERSION_META_KEY,
    )

    meta = {
        PROTOCOL_VERSION_META_KEY: MODERN,
        CLIENT_INFO_META_KEY: {"name": "test", "version": "1"},
        CLIENT_CAPABILITIES_META_KEY: {},
    }
    return {
        "jsonrpc": "2.0",
        "id": 1,
        "method": method,
        "params": {**(params or {}), "_meta": meta},
    }


def run(*arguments, env=None, script=None):
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, *_program(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=DEADLINE_S,
        env=_environment(env),
        check=False,
    )


def make_token(file, *arguments):
    made = run("token", "create", "--tokens", file, *arguments)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


@contextmanager
def over_http(*arguments, env=None, script=None):
    """Start a server on a free port, and stop it in the end."""
    arguments = ["--transport", "http", "--port", "0", *arguments]
    with _started(arguments, script, env, stdin=subprocess.DEVNULL) as (process, errors):
        until = time.monotonic() + DEADLINE_S
        while not (said := re.search(r"listening on (\S+)\n", errors())):
            if process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"the server does not listen: {errors()}")
            time.sleep(0.02)
        yield OverHttp(process, said[1], errors)


@contextmanager
def over_stdio(*arguments, env=None, script=None):
    """Start a server on pipes, and stop it in the end."""
    with _started(arguments, script, env, stdin=subprocess.PIPE) as (process, errors):
        yield OverStdio(process, errors)


@contextmanager
def _started(arguments, script, env, stdin):
    """Start a process whose stderr goes to a file: a pipe that nobody reads would stop it."""
    with tempfile.TemporaryFile() as file:
        process = subprocess.Popen(
            [sys.executable, *_program(script), *map(str, arguments)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=file,
            env=_environment(env),
        )

        def errors():
            size = os.fstat(file.fileno()).st_size
            return os.pread(file.fileno(), size, 0).decode()

        try:
            yield process, errors
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(timeout=DEADLINE_S)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def _program(script):
    return [script] if script else ["-m", "nearfield_mcp"]


def _environment(env):
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("NEARFIELD_MCP_")
    }
    return kept | (env or {})


def _bearer(token):
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def modern_headers(method, params=None):
    headers = {
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "MCP-Protocol-Version": MODERN,
        "Mcp-Method": method,
    }
    name = (params or {}).get("name") or (params or {}).get("uri")
    return headers | ({"Mcp-Name": name} if name else {})
