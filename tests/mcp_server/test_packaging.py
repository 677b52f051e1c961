"""What hosts and the registry are told: it parses, its versions match, and its commands start."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

pytest.importorskip("mcp", reason="mcp is not installed")

import nearfield

ROOT = Path(__file__).parents[2]


def snippets():
    """Return the command of each host's snippet in docs/mcp.md."""
    text = (ROOT / "docs" / "mcp.md").read_text(encoding="utf-8")
    part = text.split("<!-- hosts -->")[1].split("<!-- end of hosts -->")[0]
    commands = []
    for token in MarkdownIt().parse(part):
        if token.type != "fence":
            continue
        if token.info == "json":
            value = json.loads(token.content)
            servers = value.get("mcpServers") or value.get("servers") or value["context_servers"]
            entry = servers["nearfield"]
            commands.append([entry["command"], *entry["args"]])
        elif token.info == "toml":
            import tomllib

            entry = tomllib.loads(token.content)["mcp_servers"]["nearfield"]
            commands.append([entry["command"], *entry["args"]])
        else:
            commands.append(shlex.split(token.content.split(" -- ")[1]))
    return commands


def initialized(command):
    """Start a server, shake hands, and end it by closing its input; return its answer."""
    request = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    return answer["result"]


def test_there_are_snippets_for_five_hosts():
    assert len(snippets()) >= 3
    text = (ROOT / "docs" / "mcp.md").read_text(encoding="utf-8")
    hosts = ("Claude Desktop", "Cursor", "Windsurf", "VS Code", "Claude Code")
    assert all(host in text for host in hosts)


@pytest.mark.parametrize("command", snippets(), ids=lambda command: " ".join(command)[-40:])
def test_the_command_of_a_snippet_starts_a_server(command, tmp_path):
    uvx, flag, package, script, *arguments = command
    assert (uvx, flag, package, script) == ("uvx", "--from", "nearfield[mcp]", "nearfield-mcp")
    here = [argument.replace("/path/to", str(tmp_path)) for argument in arguments]
    (tmp_path / "documents").mkdir()
    result = initialized([sys.executable, "-m", "nearfield_mcp", *here])
    assert result["serverInfo"]["name"] == "nearfield"
    assert result["serverInfo"]["version"] == nearfield.__version__


def test_the_registry_entry_is_of_this_version():
    entry = json.loads((ROOT / "server.json").read_text(encoding="utf-8"))
    [package] = entry["packages"]
    versions = {entry["version"], package["version"]}
    versions |= set(re.findall(r"==(.+)$", package["runtimeArguments"][0]["value"]))
    assert versions == {nearfield.__version__}
    assert len(entry["description"]) <= 100
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"mcp-name: {entry['name']}" in readme  # how the registry knows the package's owner


def test_the_registry_entry_starts_a_server(tmp_path):
    [package] = json.loads((ROOT / "server.json").read_text(encoding="utf-8"))["packages"]
    assert package["identifier"] == "nearfield"  # the command that the arguments are for
    arguments = [a["value"] for a in package["packageArguments"] if "value" in a]
    command = [sys.executable, "-m", "nearfield", *arguments, str(tmp_path)]
    assert initialized(command)["serverInfo"]["name"] == "nearfield"
