"""What the first call needs, imported once the handshake is answered."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

__all__ = ["WarmUp"]

_AFTER_S = 0.05
"""By then the answer is written: the imports would take the processor from it."""


class WarmUp:
    """Middleware: starts the slow imports after the first answer.

    Args:
        then: Called when they are done.
    """

    def __init__(self, then: Callable[[], None]) -> None:
        self._then = then
        self._begun = False

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Answer a request, and get ready for the next."""
        result = await call_next(ctx)
        if not self._begun:
            self._begun = True
            timer = threading.Timer(_AFTER_S, warm_up, (self._then,))
            timer.name, timer.daemon = "nearfield-warm-up", True
            timer.start()
        return result


def warm_up(then: Callable[[], None]) -> None:
    """Import what the first call will need, and go on from there."""
    import faiss  # noqa: F401

    import nearfield.stores.local.database  # noqa: F401

    then()
