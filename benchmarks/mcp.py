"""What the MCP server costs: run as ``python -m benchmarks.mcp --json mcp.json``.

Three things. From the start of the process to the answer of ``initialize``, against a server
without any tools, in turn, round by round. A search over stdio against ``Collection.search`` of the
same query in this process, in turn as well. And the server's peak of memory after all that.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import nearfield
from nearfield import Document

DOCUMENTS = 2_000
K = 8
MODES = ("keyword", "vector", "hybrid")
BAR_START = 1.15
BAR_OVERHEAD_MS = 3.0
BLOCK = 25
PAUSE_S = 0.1
"""Between blocks: the threads of one still look for work for a while, on the time of the other."""
EMPTY = 'from mcp.server import MCPServer\nMCPServer("empty").run("stdio")\n'
NOUNS = "kettle parser index tensor garden ledger signal module planet river".split()
VERBS = "boils reads merges splits grows balances carries loads orbits bends".split()


class Session:
    """A server over stdio."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._id = 0

    def ask(self, method: str, params: dict[str, Any]) -> Any:
        self._id += 1
        message = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": params}
        self._write(message)
        out = self.process.stdout
        assert out is not None
        answer = json.loads(out.readline())
        assert answer["id"] == self._id, answer
        return answer["result"]

    def initialize(self) -> None:
        client = {"name": "benchmark", "version": "1"}
        self.ask(
            "initialize",
            {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client},
        )
        self._write({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()

    def _write(self, message: dict[str, Any]) -> None:
        pipe: IO[bytes] | None = self.process.stdin
        assert pipe is not None
        pipe.write(json.dumps(message).encode() + b"\n")
        pipe.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="keep every round in this file")
    parser.add_argument("--starts", type=int, default=21)
    parser.add_argument("--searches", type=int, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, _filled(folder) as collection:
        command = [sys.executable, "-m", "nearfield_mcp", folder]
        starts = _starts(command, arguments.starts)
        session = Session(command)
        session.initialize()
        searches = {
            mode: _searches(session, collection, mode, arguments.searches) for mode in MODES
        }
        peak_mib = _peak_mib(session.process.pid)
        session.close()
    print(_table(starts, searches, peak_mib))
    if arguments.json:
        figures = {
            "mcp": version("mcp"),
            "starts_s": starts,
            "searches_ms": searches,
            "peak_rss_mib": peak_mib,
        }
        arguments.json.write_text(json.dumps(figures))


def _filled(folder: str) -> nearfield.Collection:
    collection = nearfield.open(folder, "notes")
    collection.upsert(
        [
            Document(
                f"The {NOUNS[n % 10]} {VERBS[n // 10 % 10]} in chapter {n}, and so it goes on.",
                id=f"chapter {n}",
                metadata={"chapter": n, "source": f"book-{n % 7}.md"},
            )
            for n in range(DOCUMENTS)
        ]
    )
    return collection


def _starts(command: list[str], count: int) -> dict[str, list[float]]:
    """Time from the start to the answer of initialize; the first round warms the file cache."""
    commands = {"empty": [sys.executable, "-c", EMPTY], "nearfield": command}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(count + 1):
        for name in sorted(commands, reverse=bool(number % 2)):
            begun = time.perf_counter()
            session = Session(commands[name])
            session.initialize()
            taken = time.perf_counter() - begun
            session.close()
            if number:
                seconds[name].append(taken)
    return seconds


def _searches(
    session: Session, collection: nearfield.Collection, mode: str, count: int
) -> dict[str, list[float]]:
    """Search in blocks, in turn, and leave out the first of each, which finds cold caches."""
    milliseconds: dict[str, list[float]] = {"library": [], "tool": []}
    found: dict[str, list[list[str]]] = {"library": [], "tool": []}

    def library(query: str) -> list[str]:
        return [hit.id for hit in collection.search(query, k=K, mode=mode)]

    def tool(query: str) -> list[str]:
        arguments = {"query": query, "k": K, "mode": mode}
        answer = session.ask("tools/call", {"name": "search", "arguments": arguments})
        return [result["id"] for result in answer["structuredContent"]["results"]]

    for begin in range(0, count, BLOCK):
        for name, search in (("library", library), ("tool", tool)):
            time.sleep(PAUSE_S)
            for number in range(begin, begin + BLOCK):
                query = f"{NOUNS[number % 10]} {VERBS[number // 10 % 10]} {number}"
                begun = time.perf_counter()
                found[name].append(search(query))
                if number > begin:
                    milliseconds[name].append((time.perf_counter() - begun) * 1000)
    assert found["tool"] == found["library"]
    return milliseconds


def _peak_mib(process_id: int) -> float:
    status = Path(f"/proc/{process_id}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _table(
    starts: dict[str, list[float]], searches: dict[str, dict[str, list[float]]], peak_mib: float
) -> str:
    empty, ours = (statistics.median(starts[name]) for name in ("empty", "nearfield"))
    ratio = statistics.median(
        mine / other for mine, other in zip(starts["nearfield"], starts["empty"], strict=True)
    )
    bars = f"bars: × {BAR_START}, {BAR_OVERHEAD_MS} ms"
    lines = [
        f"mcp {version('mcp')}, {DOCUMENTS} documents, k = {K}; {bars}",
        f"start to initialize: empty {empty:.3f} s, nearfield {ours:.3f} s: × {ratio:.2f}",
    ]
    for mode, rounds in searches.items():
        tool, library = (statistics.median(rounds[name]) for name in ("tool", "library"))
        lines.append(
            f"{mode}: tool {tool:.2f} ms, Collection.search {library:.2f} ms, "
            f"over it {tool - library:.2f} ms"
        )
    lines.append(f"peak RSS of the server: {peak_mib:.0f} MiB")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
