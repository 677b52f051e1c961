"""What others change: other servers on the same data, and programs that use it directly."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from mcp.server.subscriptions import ResourcesListChanged, ResourceUpdated, ServerEvent

from nearfield_mcp.events import changes_of
from nearfield_mcp.scope import CURRENT
from nearfield_mcp.uris import ROOT

if TYPE_CHECKING:
    from nearfield_mcp.catalog import Catalog

__all__ = ["Watch"]


class Watch:
    """Tells what has changed since the last look.

    Collections that come and go are noticed, and writes to those that are open in this server.

    Args:
        catalog: The databases to look at.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        self._names: dict[str | None, list[str]] = {}
        self._versions: dict[tuple[str | None, str], int] = {}

    def look(self) -> list[ServerEvent]:
        """Return what is new to the tenant of the current scope; the first look tells nothing."""
        tenant = CURRENT.get().tenant
        names, versions = self._catalog.names(), self._catalog.versions()
        with self._lock:
            events: list[ServerEvent] = []
            if names != self._names.setdefault(tenant, names):
                self._names[tenant] = names
                events += [ResourceUpdated(ROOT), ResourcesListChanged()]
            for name, version in versions.items():
                if version > self._versions.setdefault((tenant, name), version):
                    events += changes_of(name)
                self._versions[tenant, name] = version
        return events

    def skip(self, collection: str) -> None:
        """Pass over what is new in a collection: the server tells of a write of its own."""
        tenant = CURRENT.get().tenant
        names, versions = self._catalog.names(), self._catalog.versions()
        with self._lock:
            self._names[tenant] = names
            if collection in versions:
                self._versions[tenant, collection] = versions[collection]
