"""News of changes, for those who may know of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
)

from nearfield_mcp.failures import log_failure
from nearfield_mcp.scope import CURRENT, Scope
from nearfield_mcp.uris import ROOT, collection_of, uri_of_collection

if TYPE_CHECKING:
    from nearfield_mcp.watching import Watch

__all__ = ["ScopedBus", "changes_of"]

LOOK_EVERY_S = 1.0


class ScopedBus(InMemorySubscriptionBus):
    """Tells a listener only of what its own tenant did, in collections that it may use.

    Two tenants' documents can have the same URI, so that the URI does not keep them apart. Whose
    change it was, and who listens, is the scope in which ``publish`` and ``subscribe`` are called.

    Args:
        watch: Sees what others change; asked as long as someone listens.
    """

    def __init__(self, watch: Watch | None = None) -> None:
        super().__init__()
        self._watch = watch
        self._listening: Counter[str | None] = Counter()
        self._watching: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._telling: set[asyncio.Task[None]] = set()  # held, or one could vanish half done

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Register a listener, on the event loop, and return what ends it."""
        own = CURRENT.get()
        self._loop = asyncio.get_running_loop()
        self._listening[own.tenant] += 1
        if self._watch is not None and (self._watching is None or self._watching.done()):
            self._watching = self._loop.create_task(self._keep_looking(self._watch))

        def tell(event: ServerEvent) -> None:
            # The bus calls in the context of whoever publishes.
            if CURRENT.get().tenant == own.tenant and _may_know(own.may_use, event):
                listener(event)

        end = super().subscribe(tell)
        ended = False

        def unsubscribe() -> None:
            nonlocal ended
            if not ended:
                ended = True
                self._listening[own.tenant] -= 1
                end()

        return unsubscribe

    def publish_soon(self, collection: str, uris: list[str] | None = None) -> None:
        """Publish, from any thread, that documents of a collection were written or deleted.

        Args:
            collection: Its name.
            uris: Of the documents, where they are known.
        """
        loop = self._loop
        if loop is None:  # nobody ever listened
            return
        if self._watch is not None:
            try:
                self._watch.skip(collection)
            except Exception as error:  # noqa: BLE001  # it will be told twice
                log_failure("a look at what others changed", error)
        events = changes_of(collection, uris)

        def publish() -> None:
            task = loop.create_task(self._publish_all(events))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

        with suppress(RuntimeError):  # the loop has ended: nobody listens any more
            loop.call_soon_threadsafe(publish)  # in this thread's context

    async def _keep_looking(self, watch: Watch) -> None:
        failing: set[str | None] = set()  # told of once, not every second
        while tenants := [tenant for tenant, count in self._listening.items() if count > 0]:
            for tenant in tenants:
                CURRENT.set(Scope(tenant=tenant))  # this task's own context
                try:
                    events = await asyncio.to_thread(watch.look)
                except Exception as error:  # noqa: BLE001  # the next look may do better
                    if tenant not in failing:
                        log_failure("a look at what others changed", error)
                    failing.add(tenant)
                else:
                    failing.discard(tenant)
                    await self._publish_all(events)
            await asyncio.sleep(LOOK_EVERY_S)

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
