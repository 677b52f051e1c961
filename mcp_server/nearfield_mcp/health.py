"""Whether the databases can be reached."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nearfield import Database
    from nearfield_mcp.settings import Settings

__all__ = ["Health"]

_HOLDS_S = 1.0
"""How long an answer holds: whoever asks, the databases are not asked more often."""


class Health:
    """Lists the databases that are there for everybody, to see that they answer.

    Args:
        settings: Which they are. A database by tenant is opened for its tenants alone.
    """

    def __init__(self, settings: Settings) -> None:
        self._urls = [url for url in settings.urls.values() if "{tenant}" not in url]
        self._read_only = settings.read_only
        self._databases: dict[str, Database] = {}
        self._lock = threading.Lock()
        self._checked_at = float("-inf")
        self._problem: Exception | None = None

    def check(self) -> Exception | None:
        """List them; return what stands in the way."""
        with self._lock:
            if time.monotonic() >= self._checked_at + _HOLDS_S:
                self._problem = self._list()
                self._checked_at = time.monotonic()
            return self._problem

    def _list(self) -> Exception | None:
        import nearfield

        try:
            for url in self._urls:
                if url not in self._databases:
                    self._databases[url] = nearfield.connect(url, read_only=self._read_only)
                self._databases[url].names()
        except Exception as problem:  # noqa: BLE001  # whatever it is, it is told
            return problem
        return None
