"""Tables, bars and raw figures: kept in one JSON file, printed as Markdown."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import sqlite3
import sys
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = (
    "numpy", "faiss-cpu", "hnswlib", "chromadb", "lancedb", "sqlite-vec", "pymilvus", "milvus-lite",
    "qdrant-edge-py", "langchain-community", "langchain-core",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Table:
    """A table, as it is printed."""

    title: str
    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure that was to be reached.

    Attributes:
        what: What was measured.
        value: What came out, in words.
        bar: What was to be reached, in words.
        met: Whether it was.
    """

    what: str
    value: str
    bar: str
    met: bool

    @property
    def verdict(self) -> str:
        """The outcome in one word."""
        return "met" if self.met else "**MISSED**"


@dataclass(slots=True)
class Result:
    """What one experiment found.

    Attributes:
        tables: For people.
        bars: The figures to be reached.
        notes: What has to be known to read them.
        raw: Every single measurement, ready for JSON.
    """

    tables: list[Table] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)


class Record:
    """The results so far, of this run and, for experiments that it left out, of earlier ones.

    Args:
        path: The JSON file; read if it is there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._results: dict[str, dict[str, Any]] = {}
        if path.exists():
            self._results = json.loads(path.read_bytes())["experiments"]

    def add(self, name: str, result: Result, seconds: float) -> None:
        """Put a result in the place of an earlier one, and write the file."""
        self._results[name] = {
            **asdict(result),
            "machine": describe_machine(),
            "seconds": seconds,
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        content = {"experiments": self._results}
        self._path.write_text(json.dumps(content, indent=1, allow_nan=False), "utf-8")

    def raw(self, name: str) -> dict[str, Any]:
        """Return the measurements of an experiment, none if it was never run."""
        found: dict[str, Any] = self._results.get(name, {}).get("raw", {})
        return found

    def markdown(self) -> str:
        """Return every table, and all bars in the first."""
        bars = [Bar(**bar) for result in self._results.values() for bar in result["bars"]]
        summary = Table(
            "Bars",
            ["what", "measured", "bar", ""],
            [[bar.what, bar.value, bar.bar, bar.verdict] for bar in bars],
        )
        parts = [_table(summary)]
        for name, result in self._results.items():
            machine = result["machine"]
            parts.append(
                f"## {name}\n\n{machine['when']}, {result['seconds']:.0f} s, load average at the "
                f"end {machine['load']:.1f}, `{machine['command']}`"
            )
            parts += [_table(Table(**table)) for table in result["tables"]]
            parts += [f"- {note}" for note in result["notes"]]
        return "\n\n".join(parts)


def describe_machine() -> dict[str, Any]:
    """Return what a measurement was made on."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "when": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m benchmarks.scale", *sys.argv[1:]]),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "platform": platform.platform(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "versions": versions,
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    return next(line.split(": ")[1] for line in lines if line.startswith("model name"))


def _table(table: Table) -> str:
    lines = [f"### {table.title}", "", f"| {' | '.join(table.columns)} |"]
    lines.append(f"|{'---|' * len(table.columns)}")
    lines += [f"| {' | '.join(row)} |" for row in table.rows]
    return "\n".join(lines)
