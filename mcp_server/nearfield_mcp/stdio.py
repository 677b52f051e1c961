"""The server over stdio: one host, until that host closes the pipe."""

from __future__ import annotations

import io
import os
import select
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
from anyio import to_thread
from mcp.server.stdio import stdio_server

if TYPE_CHECKING:
    from mcp.server import MCPServer

    from nearfield_mcp.calls import Calls

__all__ = ["Wire", "serve"]


_TAKEN_BYTES = getattr(select, "PIPE_BUF", 512)
"""A pipe that says it takes some takes as many as this without waiting."""


@dataclass(frozen=True, slots=True)
class Wire:
    """The descriptors that the protocol goes over, which nothing else in the process knows.

    Attributes:
        incoming: Where the host's messages come from.
        outgoing: Where the answers go.
    """

    incoming: int
    outgoing: int

    @classmethod
    def take(cls) -> Wire:
        """Take stdin and stdout away from everything else in this process, for good.

        From here on, what a library prints goes to stderr, at whatever time it is flushed, and
        what reads from stdin finds its end.
        """
        wire = cls(os.dup(0), os.dup(1))
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        return wire


def serve(
    server: MCPServer[Any],
    wire: Wire,
    calls: Calls,
    *,
    shutdown_timeout_s: float,
    stopping: Callable[[], None],
) -> None:
    """Answer until the host closes stdin, or SIGINT or SIGTERM comes.

    Either way the calls that are running are still answered, for as long as the time-out allows.

    Args:
        server: What answers.
        wire: What :meth:`Wire.take` took.
        calls: Its middleware that counts them.
        shutdown_timeout_s: How long to wait for them.
        stopping: Called as soon as the end is known.
    """

    def ended() -> None:
        stopping()
        calls.wait_until_idle(shutdown_timeout_s)

    stop_reader, stop_writer = os.pipe()
    incoming = _Incoming(wire.incoming, stop_reader, ended)

    def stop(*_: object) -> None:
        os.write(stop_writer, b"\0")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    lines = io.TextIOWrapper(io.BufferedReader(incoming), encoding="utf-8", errors="replace")
    answers = _Answers(wire.outgoing, stop)

    async def run() -> None:
        async with stdio_server(anyio.wrap_file(lines), answers) as (read, write):  # type: ignore[arg-type]
            # The only way to serve streams of one's own.
            lowlevel = server._lowlevel_server  # noqa: SLF001
            await lowlevel.run(read, write, lowlevel.create_initialization_options())

    anyio.run(run)


class _Incoming(io.RawIOBase):
    """Reads what the host sends; it ends with the host's pipe, or when it is told to.

    Args:
        descriptor: The pipe.
        stop: A pipe in which a byte says that it is time to end.
        ended: Called before the end is told.
    """

    def __init__(self, descriptor: int, stop: int, ended: Callable[[], None]) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._stop = stop
        self._ended = ended

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Wait for bytes, and return how many there were; 0 for the end."""
        data = b"" if self._told_to_stop() else os.read(self._descriptor, len(buffer))
        if not data:
            self._ended()
        buffer[: len(data)] = data
        return len(data)

    def _told_to_stop(self) -> bool:
        if sys.platform == "win32":
            return False  # pipes cannot be waited for there; the host closes its end
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        poll.register(self._stop, select.POLLIN)
        return any(descriptor == self._stop for descriptor, _ in poll.poll())


class _Answers:
    """Writes answers; once nobody reads them they go nowhere, and the server is told to stop.

    Of an asynchronous file it has what the transport uses. What the pipe takes at once is written
    at once: handing it to a thread would take longer than many a call. The rest goes to a thread.

    Args:
        descriptor: The pipe.
        stop: Tells the server.
    """

    def __init__(self, descriptor: int, stop: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._stop = stop
        self._waiting: list[str] = []

    async def write(self, text: str) -> None:
        """Keep text until it is flushed."""
        self._waiting.append(text)

    async def flush(self) -> None:
        """Write what was kept."""
        text, self._waiting = "".join(self._waiting), []
        left = memoryview(text.encode())
        while left and self._takes_some():
            left = left[self._write(left[:_TAKEN_BYTES]) :]
        if left:
            await to_thread.run_sync(self._write_all, left)

    def _takes_some(self) -> bool:
        if sys.platform == "win32":
            return False
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return bool(poll.poll(0))

    def _write_all(self, left: memoryview) -> None:
        while left:
            left = left[self._write(left) :]

    def _write(self, data: memoryview) -> int:
        try:
            return os.write(self._descriptor, data)
        except BrokenPipeError:
            self._stop()
            return len(data)
