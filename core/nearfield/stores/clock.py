"""The order of writing, for engines that keep none themselves."""

from __future__ import annotations

import threading
import time

__all__ = ["WriteClock"]

_NS_PER_US = 1000


class WriteClock:
    """Numbers documents in the order in which they are written, as far as clocks agree.

    The numbers are microseconds since 1970, so that the writes of several processes sort by time;
    they stay below 2**53, which JSON keeps exactly.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._next = 0

    def take(self, count: int) -> range:
        """Return as many numbers as there are documents to write, above all it has returned."""
        with self._guard:
            start = max(self._next, time.time_ns() // _NS_PER_US)
            self._next = start + count
        return range(start, self._next)
