"""News of changes, for those who may know of them."""

from __future__ import annotations

from collections.abc import Callable

from mcp.server.subscriptions import InMemorySubscriptionBus, ResourceUpdated, ServerEvent

from nearfield_mcp.scope import CURRENT
from nearfield_mcp.uris import read_uri

__all__ = ["ScopedBus"]


class ScopedBus(InMemorySubscriptionBus):
    """Tells a listener only of what its own tenant did, in collections that it may use.

    Two tenants' documents can have the same URI, so that the URI does not keep them apart. Whose
    change it was, and who listens, is the scope in which ``publish`` and ``subscribe`` are called.
    """

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Register a listener, and return what ends it."""
        own = CURRENT.get()

        def tell(event: ServerEvent) -> None:
            # The bus calls in the context of whoever publishes.
            if CURRENT.get().tenant == own.tenant and _may_know(own.may_use, event):
                listener(event)

        return super().subscribe(tell)


def _may_know(may_use: Callable[[str], bool], event: ServerEvent) -> bool:
    named = read_uri(event.uri) if isinstance(event, ResourceUpdated) else None
    return named is None or may_use(named[0])
