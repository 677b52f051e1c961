"""News of changes, for those who may know of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
)

from nearfield_mcp.scope import CURRENT
from nearfield_mcp.uris import ROOT, collection_of, uri_of_collection

__all__ = ["ScopedBus", "changes_of"]


class ScopedBus(InMemorySubscriptionBus):
    """Tells a listener only of what its own tenant did, in collections that it may use.

    Two tenants' documents can have the same URI, so that the URI does not keep them apart. Whose
    change it was, and who listens, is the scope in which ``publish`` and ``subscribe`` are called.
    """

    def __init__(self) -> None:
        super().__init__()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._telling: set[asyncio.Task[None]] = set()  # held, or one could vanish half done

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Register a listener, on the event loop, and return what ends it."""
        own = CURRENT.get()
        self._loop = asyncio.get_running_loop()

        def tell(event: ServerEvent) -> None:
            # The bus calls in the context of whoever publishes.
            if CURRENT.get().tenant == own.tenant and _may_know(own.may_use, event):
                listener(event)

        return super().subscribe(tell)

    def publish_soon(self, events: list[ServerEvent]) -> None:
        """Publish from any thread; without a listener ever there is nobody to tell."""
        loop = self._loop
        if loop is None:
            return

        def publish() -> None:
            task = loop.create_task(self._publish_all(events))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

        with suppress(RuntimeError):  # the loop has ended: nobody listens any more
            loop.call_soon_threadsafe(publish)  # in this thread's context

    async def _publish_all(self, events: list[ServerEvent]) -> None:
        for event in events:
            await self.publish(event)


def changes_of(collection: str, uris: list[str] | None = None) -> list[ServerEvent]:
    """Return what there is to tell when documents of a collection were written or deleted.

    Args:
        collection: Its name.
        uris: Of the documents, where they are known.
    """
    changed = [*(uris or ()), uri_of_collection(collection), ROOT]
    return [*map(ResourceUpdated, changed), ResourcesListChanged()]


def _may_know(may_use: Callable[[str], bool], event: ServerEvent) -> bool:
    collection = collection_of(event.uri) if isinstance(event, ResourceUpdated) else None
    return collection is None or may_use(collection)
