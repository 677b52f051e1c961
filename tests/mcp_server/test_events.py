"""News of changes reach those whom they concern, and tell nothing to other tenants."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import contextmanager

import httpx2
import pytest

pytest.importorskip("mcp", reason="the MCP server is an extra: pip install 'nearfield[mcp]'")

from mcp.server.subscriptions import ResourcesListChanged, ResourceUpdated
from tests.mcp_server.processes import DEADLINE_S, make_token, over_http, over_stdio

import nearfield
from nearfield_mcp import events
from nearfield_mcp.catalog import Catalog
from nearfield_mcp.events import LOOK_EVERY_S, ScopedBus
from nearfield_mcp.scope import CURRENT, Scope
from nearfield_mcp.watching import Watch

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


def hear(server, uri):
    """Wait until it is told that a resource was updated."""
    while told(server).get("params") != {"uri": uri}:
        pass


def test_an_older_client_over_stdio_hears_of_what_changes(tmp_path):
    with over_stdio(tmp_path / "data") as server:
        resources = server.initialize()["capabilities"]["resources"]
        assert resources == {"subscribe": True, "listChanged": True}
        assert server.ask("resources/subscribe", {"uri": "nearfield://notes"}) == {}
        assert server.ask("resources/subscribe", {"uri": f"{KETTLE}%230"}) == {}
        server.send("tools/call", ingesting(NOTE))
        hear(server, "nearfield://notes")
        assert told(server)["method"] == "notifications/resources/list_changed"
        server.send("tools/call", {"name": "delete", "arguments": {"ids": ["kettle#0"]}})
        hear(server, f"{KETTLE}%230")
        assert told(server)["params"] == {"uri": "nearfield://notes"}
        assert told(server)["method"] == "notifications/resources/list_changed"
        for uri in ("nearfield://notes", f"{KETTLE}%230"):
            assert server.ask("resources/unsubscribe", {"uri": uri}) == {}
        server.send("tools/call", ingesting(NOTE))
        assert told(server)["method"] == "notifications/resources/list_changed"
        assert server.close()[0] == 0


def test_a_client_hears_of_what_another_process_writes(tmp_path):
    with (
        nearfield.open(tmp_path / "data", "notes", dimension=2) as notes,
        over_stdio(tmp_path / "data") as server,
    ):
        server.initialize()
        server.ask("resources/subscribe", {"uri": "nearfield://notes"})
        server.ask("tools/call", {"name": "describe_collection", "arguments": {}})  # opens it
        time.sleep(2.5 * LOOK_EVERY_S)  # a look sees it as it is
        notes.upsert(nearfield.Document("", id="a"), vectors=[1, 0])
        hear(server, "nearfield://notes")
        assert told(server)["method"] == "notifications/resources/list_changed"
        nearfield.open(tmp_path / "data", "others", dimension=2).close()
        assert told(server)["method"] == "notifications/resources/list_changed"


async def test_what_others_change_is_told_to_their_tenant_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "LOOK_EVERY_S", 0.02)
    catalog = Catalog({"data": str(tmp_path / "{tenant}")})
    bus = ScopedBus(Watch(catalog))
    listeners = Listeners(bus)
    ends = [listeners.add(tenant, Scope(tenant=tenant)) for tenant in ("anna", "bert")]
    with nearfield.open(tmp_path / "anna", "notes", dimension=2) as notes:
        reset = CURRENT.set(Scope(tenant="anna"))
        catalog.open("notes")
        CURRENT.reset(reset)
        await asyncio.sleep(0.5)
        before = len(listeners.told["anna"])
        notes.upsert(nearfield.Document("", id="a"), vectors=[1, 0])
        until = time.monotonic() + DEADLINE_S
        while len(listeners.told["anna"]) == before and time.monotonic() < until:  # noqa: ASYNC110  # the bus calls a plain function
            await asyncio.sleep(0.01)
    assert ResourceUpdated("nearfield://notes") in listeners.told["anna"][before:]
    assert listeners.told["bert"] == []
    for end in ends:
        end()
    await asyncio.wait_for(bus._watching, DEADLINE_S)  # nobody listens, nobody looks
    catalog.close()


async def test_what_the_server_writes_itself_is_told_once(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "LOOK_EVERY_S", 0.02)
    with nearfield.open(tmp_path, "notes", dimension=2) as notes:
        catalog = Catalog({"data": str(tmp_path)})
        catalog.open("notes")
        watch = Watch(catalog)
        assert watch.look() == []
        notes.upsert(nearfield.Document("", id="a"), vectors=[1, 0])
        watch.skip("notes")
        assert watch.look() == []
        catalog.close()


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
            # That there is a new collection may be told before.
            while next(anna).get("params") != {"uri": "nearfield://notes"}:
                pass
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
