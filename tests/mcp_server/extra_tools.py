"""``nearfield-mcp`` with tools for tests: slow ones, one that writes and one that prints."""

import os
import subprocess
import sys
import time

from anyio import to_thread
from mcp_types import ToolAnnotations

import nearfield_mcp.server
from nearfield_mcp.cli import main

_create_server = nearfield_mcp.server.create_server


def print_in_a_child():
    subprocess.run([sys.executable, "-c", "print('printed by a child')"], check=True)


def create_server(settings):
    print("printed while it starts", flush=True)  # noqa: T201
    server = _create_server(settings)
    reads = ToolAnnotations(read_only_hint=True)

    async def slow(seconds: float) -> str:
        await to_thread.run_sync(time.sleep, seconds)
        return "slept"

    async def note() -> str:
        return "written"

    async def print_much() -> str:
        print("printed and flushed", flush=True)  # noqa: T201
        print("printed, and flushed who knows when")  # noqa: T201
        os.write(1, b"written to the descriptor\n")
        await to_thread.run_sync(print_in_a_child)
        return f"stdin: {sys.stdin.read()!r}"

    server.add_tool(slow, annotations=reads)
    server.add_tool(note)
    server.add_tool(print_much, annotations=reads)
    return server


nearfield_mcp.server.create_server = create_server
main()
