"""The protocol's own conformance suite, against the server over HTTP.

An ordinary server cannot pass every scenario: most call tools, resources and prompts that only a
server made for the suite has. So the server as it is shipped passes the scenarios that are about
any server, and the same server with those fixtures added passes every scenario that is scored.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("mcp", reason="mcp is not installed")

from tests.mcp_server.conformance.node import installed_node

SUITE = "@modelcontextprotocol/conformance"
ORDINARY = {
    "2025-11-25": """
        server-initialize ping tools-list resources-list prompts-list completion-complete
        dns-rebinding-protection server-session-lifecycle server-sse-multiple-streams
    """.split(),
    "2026-07-28": """
        tools-list resources-list prompts-list completion-complete dns-rebinding-protection caching
        http-header-validation sep-2164-resource-not-found server-sse-multiple-streams
        input-required-result-unsupported-methods
    """.split(),
}
# Checks that call tools only the fixtures have; the others of this scenario hold for any server.
STATELESS_WITH_FIXTURES = {
    "sep-2575-server-rejects-undeclared-capability",
    "sep-2575-missing-capability-http-400",
    "sep-2575-server-sends-prompts-list-changed-on-subscription",
    "sep-2575-server-sends-tools-list-changed-on-subscription",
}
# The suite asks faster than a caller may.
ARGUMENTS = ("{folder}", "--transport", "http", "--port", "{port}", "--rate-per-s", "0")
SHIPPED = [sys.executable, "-m", "nearfield_mcp", *ARGUMENTS]
WITH_FIXTURES = [sys.executable, "-m", "tests.mcp_server.conformance.serve", *ARGUMENTS]
ROOT = Path(__file__).parents[2]
START_S = 60
SUITE_S = 300


@pytest.fixture
def node(pytestconfig):
    return installed_node(pytestconfig.cache.mkdir("mcp-node"))


@contextmanager
def serving(command, folder):
    """Run a server on a free port; hand out its URL and where its stderr goes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    heard = folder / "stderr.txt"
    with heard.open("wb") as stderr:
        process = subprocess.Popen(
            [word.format(folder=folder / "data", port=port) for word in command],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        try:
            _wait_for(process, port, heard)
            yield f"http://127.0.0.1:{port}/mcp", heard
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(process, port, heard):
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            pytest.fail(f"the server ended with {process.returncode}: {heard.read_text()[-2000:]}")
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"the server did not listen within {START_S} s")


def run_suite(node, revision, url, folder):
    """Run what a revision requires; return the statuses of the checks of each scenario."""
    out = folder / "results"
    result = subprocess.run(
        [
            *node.command(SUITE, "dist/index.js"),
            *("server", "--url", url, "--requirements", revision, "-o", str(out)),
        ],
        env=node.environment(),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SUITE_S,
        check=False,
    )
    checks = {
        re.fullmatch(r"server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z", found.parent.name)[1]: [
            (check["id"], check["status"], check.get("errorMessage"))
            for check in json.loads(found.read_text())
        ]
        for found in out.glob("*/checks.json")
    }
    assert checks, result.stdout[-2000:] + result.stderr[-2000:]
    return result.returncode, checks


def faults(checks):
    """Return the checks of a scenario that failed, or that there are none."""
    if not any(status == "SUCCESS" for _, status, _ in checks):
        return [("nothing passed", checks)]
    return [check for check in checks if check[1] not in {"SUCCESS", "INFO"}]


@pytest.mark.parametrize("revision", ORDINARY)
def test_the_server_as_it_is_shipped_passes_what_is_about_any_server(node, tmp_path, revision):
    with serving(SHIPPED, tmp_path) as (url, heard):
        _, checks = run_suite(node, revision, url, tmp_path)
    assert {name: faults(checks[name]) for name in ORDINARY[revision]} == {
        name: [] for name in ORDINARY[revision]
    }
    if "server-stateless" in checks:
        failed = {check for check, *_ in faults(checks["server-stateless"])}
        assert failed <= STATELESS_WITH_FIXTURES
    assert "Traceback" not in heard.read_text()


@pytest.mark.parametrize("revision", ORDINARY)
def test_with_the_fixtures_it_passes_every_scenario_that_is_scored(node, tmp_path, revision):
    with serving(WITH_FIXTURES, tmp_path) as (url, heard):
        code, checks = run_suite(node, revision, url, tmp_path)
    scored = required(node, revision)
    assert {name: faults(checks[name]) for name in scored} == {name: [] for name in scored}
    assert code == 0
    assert "Traceback" not in heard.read_text()


def required(node, revision):
    """Return the scenarios of servers that count for a revision."""
    text = (node.packages / SUITE / "requirements" / f"{revision}.yaml").read_text()
    section = re.search(r"^server:\n((?:  - .+\n)+)", text, re.MULTILINE)
    names = re.findall(r"- (\S+)", section[1])
    assert len(names) >= 30
    return names
