"""Every verdict, kept in one JSON file."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import platform
import sys
from dataclasses import asdict
from importlib import metadata
from typing import TYPE_CHECKING, Any

from benchmarks.features.verdict import Answer, Probe, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.features.door import Door

__all__ = ["Record"]

_BESIDE = ("langchain-core", "langchain-tests", "llama-index-core", "numpy")


class Record:
    """What came out, by framework, store and row.

    Args:
        path: The file; None keeps nothing from run to run.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._data: dict[str, Any] = {}
        if path is not None and path.exists():
            self._data = json.loads(path.read_text(encoding="utf-8"))

    def begin(self, framework: str, door: Door) -> None:
        """Note what is tried, and with what."""
        store = self._data.setdefault(framework, {}).setdefault(door.name, {"rows": {}})
        store["title"] = door.title
        store["versions"] = door.versions()
        store["at"] = dt.datetime.now(dt.UTC).date().isoformat()
        self._data["beside"] = {
            "Python": platform.python_version(),
            "platform": sys.platform,
            **_versions(_BESIDE),
        }

    def add(self, framework: str, door: Door, probe: Probe, verdict: Verdict) -> None:
        """Keep a verdict."""
        self._data[framework][door.name]["rows"][probe.row] = asdict(verdict)

    def save(self) -> None:
        """Write the file."""
        if self._path is not None:
            text = json.dumps(self._data, indent=1, ensure_ascii=False)
            self._path.write_text(text + "\n", encoding="utf-8")

    def stores(self, framework: str) -> dict[str, dict[str, Any]]:
        """The stores that were tried: title, versions and date."""
        return self._data.get(framework, {})

    def verdict(self, framework: str, store: str, row: str) -> Verdict | None:
        """What came out, None if it was not tried."""
        kept = self._data.get(framework, {}).get(store, {}).get("rows", {}).get(row)
        return None if kept is None else Verdict(**{**kept, "answer": Answer(kept["answer"])})

    @property
    def beside(self) -> dict[str, str]:
        """The versions that all stores ran with."""
        return self._data.get("beside", {})


def _versions(names: tuple[str, ...]) -> dict[str, str]:
    versions = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions
