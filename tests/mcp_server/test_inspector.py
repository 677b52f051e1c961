"""The inspector, as a host would use the server: strict listing, and calls over stdio."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip("mcp", reason="mcp is not installed")

from tests.mcp_server.conformance.node import installed_node

import nearfield
from nearfield import Document

INSPECTOR = "@modelcontextprotocol/inspector"
TOOLS = {
    *("search", "fetch", "find_similar", "list_collections", "describe_collection"),
    *("ingest", "ingest_status", "delete"),
}
TOOL_ANSWERED_WITH_AN_ERROR = 5
LIMIT_S = 120


@pytest.fixture
def inspect(pytestconfig, tmp_path):
    """Call the inspector with a server of its own, over stdio; return its exit code and outputs."""
    node = installed_node(pytestconfig.cache.mkdir("mcp-node"))
    with nearfield.connect(tmp_path / "data") as database, database.create("notes") as notes:
        notes.upsert([Document("The kettle boils water.", id="kettle", metadata={"year": 2020})])
    server = [sys.executable, "-m", "nearfield_mcp", str(tmp_path / "data")]

    def call(*arguments):
        done = subprocess.run(
            [
                *node.command(INSPECTOR, "clients/launcher/build/index.js"),
                *("--cli", "--format", "json", *arguments, "--", *server),
            ],
            env={**node.environment(), "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return call


def test_the_strict_listing_finds_nothing_to_warn_of(inspect):
    code, out, err = inspect("--method", "tools/list", "--strict")
    assert (code, err) == (0, "")
    tools = json.loads(out)["result"]["tools"]
    assert {tool["name"] for tool in tools} == TOOLS
    assert all(tool["outputSchema"] for tool in tools)


def test_a_search_and_the_document_it_found(inspect):
    arguments = json.dumps({"query": "boil water", "filter": {"year": {"$gte": 2020}}})
    call = ("--method", "tools/call", "--tool-name", "search", "--tool-args-json")
    code, out, err = inspect(*call, arguments)
    assert (code, err) == (0, "")
    [found] = json.loads(out)["result"]["structuredContent"]["results"]
    code, out, err = inspect("--method", "resources/read", "--uri", found["url"])
    assert (code, err) == (0, "")
    assert json.loads(out)["result"]["contents"][0]["text"] == "The kettle boils water."


def test_an_error_says_what_there_is(inspect):
    arguments = json.dumps({"query": "boil water", "collection": "recipes"})
    call = ("--method", "tools/call", "--tool-name", "search", "--tool-args-json")
    code, out, _ = inspect(*call, arguments)
    assert code == TOOL_ANSWERED_WITH_AN_ERROR
    assert "there are: notes" in json.loads(out)["result"]["content"][0]["text"]
