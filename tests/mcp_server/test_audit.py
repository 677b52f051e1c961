"""The audit log: who asked what of which collection and how many, and never what it said."""

from __future__ import annotations

import json
import logging
import stat
from datetime import UTC, datetime

import pytest

pytest.importorskip("mcp", reason="the MCP server is an extra: pip install 'nearfield[mcp]'")

from tests.mcp_server.processes import TOOLS, make_token, over_http, over_stdio

import nearfield
from nearfield_mcp.audit import AuditLog

SECRETS = ("kettle", "kitchen", "boil", "secret")


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data"
    for tenant in ("anna", "bert"):
        with nearfield.connect(str(path / tenant)).create("notes", dimension=4) as collection:
            documents = [
                nearfield.Document("The kettle is in the kitchen.", id=f"kettle {n}")
                for n in range(3)
            ]
            collection.upsert(documents, vectors=[[1.0, float(n), 0.0, 0.0] for n in range(3)])
    return path


def entries(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_call_over_stdio_is_a_line_without_content(tmp_path, data):
    log = tmp_path / "audit.log"
    with over_stdio(data / "anna", "--audit-log", log) as server:
        server.initialize()
        server.call("search", {"query": "where to boil a secret", "mode": "keyword"})
        server.call("search", {"query": "kettle", "mode": "keyword", "collection": "notes"})
        server.call("fetch", {"id": "kettle 1"})
        server.call("fetch", {"id": "a secret id", "collection": "kettle, kitchen and more\n"})
        server.call("a secret tool", {})
        server.ask("resources/read", {"uri": "nearfield://notes/kettle%201"})
        server.close()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    text = log.read_text()
    assert not [secret for secret in SECRETS if secret in text]
    found = entries(log)
    assert [entry.get("tool") for entry in found] == ["search"] * 2 + ["fetch"] * 2 + ["?", None]
    assert [entry["outcome"] for entry in found] == ["ok", "ok", "ok", "error", "error", "ok"]
    assert [entry.get("count") for entry in found[:2]] == [0, 3]
    assert [entry.get("collection") for entry in found] == ["notes"] * 3 + ["?", None, "notes"]
    assert {entry["subject"] for entry in found} == {"local"}
    assert len({entry["request_id"] for entry in found}) == 6
    assert all(entry["duration_ms"] >= 0 for entry in found)
    assert all(datetime.fromisoformat(entry["time"]).tzinfo == UTC for entry in found)


def test_over_http_it_says_whose_token_it_was_and_what_was_refused(tmp_path, data):
    log, tokens = tmp_path / "audit.log", tmp_path / "tokens.json"
    anna = make_token(tokens, "--tenant", "anna", "--name", "Anna's laptop")
    with over_http(
        *(str(data / "{tenant}"), "--tokens", tokens, "--audit-log", log),
        *("--rate-burst", "4", "--rate-per-s", "0.01", "--max-request-bytes", "5000"),
        script=TOOLS,
    ) as server:
        server.call("fetch", {"id": "kettle 1"}, token=anna)
        server.call("note", token=anna)
        server.call("fetch", {"id": "kettle 1"}, token="nf_secret_secret")
        server.call("fetch", {"id": "kettle 1"}, token=anna, Host="secret.example")
        server.post("tools/call", content="x" * 6000, token=anna)
        server.call("fetch", {"id": "kettle 1"}, token=anna)
        server.call("fetch", {"id": "kettle 1"}, token=anna)
        server.stop()
    assert not [secret for secret in SECRETS if secret in log.read_text()]
    found = entries(log)
    assert [(entry.get("tool"), entry["outcome"], entry.get("status")) for entry in found] == [
        ("fetch", "ok", None),
        (None, "refused", 403),
        (None, "refused", 401),
        (None, "refused", 421),
        (None, "refused", 413),
        ("fetch", "ok", None),
        (None, "refused", 429),
    ]
    by_anna = [entry for entry in found if entry.get("subject") == "Anna's laptop"]
    assert [entry.get("tenant") for entry in by_anna] == ["anna"] * 5
    assert all(entry["client"] == "127.0.0.1" for entry in found if "status" in entry)


def test_it_begins_anew_when_it_has_grown_and_keeps_some(tmp_path):
    path = tmp_path / "audit.log"
    log = AuditLog(path, most_bytes=1000, kept=2)
    for n in range(100):
        log.write({"tool": "search", "n": n})
    log.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["audit.log", "audit.log.1", "audit.log.2"]
    assert all(file.stat().st_size <= 1000 for file in files)
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    kept = [entry["n"] for file in reversed(files) for entry in entries(file)]
    assert kept == list(range(kept[0], 100))


def test_a_line_is_one_line_whatever_is_in_it(tmp_path):
    log = AuditLog(tmp_path / "audit.log", most_bytes=10_000, kept=1)
    log.write({"subject": "a\nb\u2028c\x1b[31m%s", "none": None})
    log.close()
    (entry,) = entries(tmp_path / "audit.log")
    assert entry["subject"] == "a\nb\u2028c\x1b[31m%s"
    assert "none" not in entry
    assert (tmp_path / "audit.log").read_text().isascii()


def test_what_the_process_logs_elsewhere_is_not_in_it(tmp_path):
    log = AuditLog(tmp_path / "audit.log", most_bytes=10_000, kept=1)
    logging.getLogger("audit").error("not for the audit log")
    log.close()
    assert (tmp_path / "audit.log").read_text() == ""


def test_a_log_that_cannot_be_written_keeps_the_server_from_starting(tmp_path, data):
    from tests.mcp_server.processes import run

    refused = run(data / "anna", "--audit-log", tmp_path / "none" / "audit.log")
    assert refused.returncode == 2
    assert "audit.log" in refused.stderr
    assert "Traceback" not in refused.stderr
