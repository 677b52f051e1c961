"""News of changes reach those whom they concern, and tell nothing to other tenants."""

from __future__ import annotations

import pytest

pytest.importorskip("mcp", reason="the MCP server is an extra: pip install 'nearfield[mcp]'")

from mcp.server.subscriptions import ResourcesListChanged, ResourceUpdated

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
