"""News of changes reach those whom they concern, and tell nothing to other tenants."""

from __future__ import annotations

import json
from contextlib import contextmanager

import httpx2
import pytest

pytest.importorskip("mcp", reason="the MCP server is an extra: pip install 'nearfield[mcp]'")

from mcp.server.subscriptions import ResourcesListChanged, ResourceUpdated
from tests.mcp_server.processes import DEADLINE_S, make_token, over_http, over_stdio

from nearfield_mcp.events import ScopedBus
from nearfield_mcp.scope import CURRENT, Scope

KETTLE = "nearfield://notes/kettle"


class Listeners:
    """Listen in scopes of their own, and remember what they were told."""

    def __init__(self, bus):
        self._bus = bus
        self.told = {}

    def add(self, name, scope):
        self.told[name] = []
        reset = CURRENT.set(scope)
        try:
            return self._bus.subscribe(self.told[name].append)
        finally:
            CURRENT.reset(reset)


async def publish(bus, scope, event):
    reset = CURRENT.set(scope)
    try:
        await bus.publish(event)
    finally:
        CURRENT.reset(reset)


async def test_a_tenants_changes_are_news_for_that_tenant_alone():
    bus = ScopedBus()
    listeners = Listeners(bus)
    for tenant in ("anna", "bert", None):
        listeners.add(tenant, Scope(tenant=tenant))
    await publish(bus, Scope(tenant="anna"), ResourceUpdated(KETTLE))
    await publish(bus, Scope(tenant="anna"), ResourcesListChanged())
    assert len(listeners.told["anna"]) == 2
    assert listeners.told["bert"] == listeners.told[None] == []


async def test_a_collection_that_a_caller_may_not_use_is_no_news_to_it():
    bus = ScopedBus()
    listeners = Listeners(bus)
    listeners.add("few", Scope(collections=frozenset({"manuals"})))
    end = listeners.add("all", Scope())
    await publish(bus, Scope(), ResourceUpdated(KETTLE))
    assert listeners.told["few"] == []
    assert listeners.told["all"] == [ResourceUpdated(KETTLE)]
    end()
    await publish(bus, Scope(), ResourceUpdated(KETTLE))
    assert len(listeners.told["all"]) == 1


# ── clients of the older protocol ────────────────────────────────────────────────────────────────


NOTE = {"text": "The kettle is in the kitchen.", "id": "kettle"}


def told(server):
    """Return the next notification over stdio."""
    while "id" in (message := server.receive()):
        pass
    return message


def test_an_older_client_over_stdio_hears_of_what_changes(tmp_path):
    with over_stdio(tmp_path / "data") as server:
        resources = server.initialize()["capabilities"]["resources"]
        assert resources == {"subscribe": True, "listChanged": True}
        assert server.ask("resources/subscribe", {"uri": "nearfield://notes"}) == {}
        assert server.ask("resources/subscribe", {"uri": f"{KETTLE}%230"}) == {}
        server.send("tools/call", ingesting(NOTE))
        assert told(server)["params"] == {"uri": "nearfield://notes"}
        assert told(server)["method"] == "notifications/resources/list_changed"
        server.send("tools/call", {"name": "delete", "arguments": {"ids": ["kettle#0"]}})
        assert told(server)["params"] == {"uri": f"{KETTLE}%230"}
        assert told(server)["params"] == {"uri": "nearfield://notes"}
        assert told(server)["method"] == "notifications/resources/list_changed"
        for uri in ("nearfield://notes", f"{KETTLE}%230"):
            assert server.ask("resources/unsubscribe", {"uri": uri}) == {}
        server.send("tools/call", ingesting(NOTE))
        assert told(server)["method"] == "notifications/resources/list_changed"
        assert server.close()[0] == 0


def test_older_clients_over_http_hear_of_what_their_tenant_changes(tmp_path):
    tokens = tmp_path / "tokens.json"
    owners = {
        tenant: make_token(tokens, "--scope", "admin", "--tenant", tenant)
        for tenant in ("anna", "bert")
    }
    data = f"{tmp_path}/data/{{tenant}}"
    with (
        over_http(data, "--read-write", "--tokens", tokens) as server,
        httpx2.Client(timeout=DEADLINE_S) as client,
    ):
        capabilities = server.initialize(owners["anna"]).text
        assert '"subscribe":true' in capabilities
        assert '"listChanged":true' in capabilities
        sessions = {tenant: server.open_session(token) for tenant, token in owners.items()}
        for session in sessions.values():
            server.ask(session, "resources/subscribe", {"uri": "nearfield://notes"})
        with (
            listening(client, server, sessions["anna"]) as anna,
            listening(client, server, sessions["bert"]) as bert,
        ):
            server.ask(sessions["anna"], "tools/call", ingesting(NOTE))
            assert next(anna)["params"] == {"uri": "nearfield://notes"}
            assert next(anna)["method"] == "notifications/resources/list_changed"
            # What bert hears first is of his own doing.
            server.ask(sessions["bert"], "tools/call", ingesting(NOTE, collection="others"))
            assert next(bert)["method"] == "notifications/resources/list_changed"


def test_a_client_may_not_subscribe_to_any_number_of_resources(tmp_path):
    with over_stdio(tmp_path / "data") as server:
        server.initialize()
        for n in range(1_000):
            server.send("resources/subscribe", {"uri": f"nearfield://notes/{n}"})
        server.send("resources/subscribe", {"uri": "nearfield://notes/7"})  # as before
        asked = server.send("resources/subscribe", {"uri": "nearfield://notes/1000"})
        while (message := server.receive())["id"] != asked:
            assert "error" not in message
        assert "1000 resources" in message["error"]["message"]


def ingesting(text, collection="notes"):
    arguments = {"collection": collection, "texts": [text], "wait_s": 60}
    return {"name": "ingest", "arguments": arguments}


@contextmanager
def listening(client, server, session):
    """Open the stream on which a session is told; yield an iterator of what comes."""
    accept = {"Accept": "text/event-stream"}
    with client.stream("GET", server.url, headers=session | accept) as answer:
        assert answer.status_code == 200
        data = (line.partition(":")[2] for line in answer.iter_lines() if line.startswith("data:"))
        yield (json.loads(each) for each in data if each.strip())
