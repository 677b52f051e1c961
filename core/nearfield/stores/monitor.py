"""Watching recall while a collection is used, on every store that has an approximate index."""

from __future__ import annotations

import os
import random
import threading
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from nearfield.errors import NearfieldError
from nearfield.stores.recall import estimate

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearfield.stores.base import RecallEstimate

__all__ = ["RecallMonitor"]

_REMEMBERED = 1000


class RecallMonitor:
    """Repeats a small share of the searches exactly, in the background, one at a time."""

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=_REMEMBERED)
        self._closed = False
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def offer(self, share: float, repeat: Callable[[], float]) -> None:
        """Perhaps repeat a search, unless another is being repeated; return at once.

        Args:
            share: Of the searches that are offered, the share to repeat, from 0 to 1.
            repeat: Compares every vector, and returns the recall of what the search found.
        """
        if random.random() >= share:  # noqa: S311
            return
        with self._guarded():
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=self._repeat, args=(repeat,), name="nearfield-recall"
                )
                try:
                    self._thread.start()
                except RuntimeError:  # too many threads, or the interpreter is ending
                    self._thread = None

    def estimate(self) -> RecallEstimate | None:
        """Return recall@k over the searches repeated last; None before the first."""
        values = list(self._values)
        return estimate(np.array(values)) if values else None

    def close(self) -> None:
        """Wait for what is under way. Idempotent."""
        with self._guarded():
            self._closed = True
            thread = self._thread
        if thread is not None:
            thread.join()

    def _guarded(self) -> threading.Lock:
        if self._process != os.getpid():  # a fork's child: the lock and the thread are the parent's
            self._process = os.getpid()
            self._lock = threading.Lock()
            self._thread = None
        return self._lock

    def _repeat(self, repeat: Callable[[], float]) -> None:
        try:
            self._values.append(repeat())
        except NearfieldError:
            pass  # damage, and servers that went away, are for the searches themselves to find
        finally:
            self._thread = None
