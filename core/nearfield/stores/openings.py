"""Which collections this process has open, where an engine does not tell who has."""

from __future__ import annotations

import os
import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from nearfield.errors import CollectionInUseError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Openings"]

_Key: TypeAlias = tuple[str, str]


class Openings:
    """Counts who has each collection open, and lets those who drop or rename one be alone with it.

    Collections go by keys: where they are, and the engine's name for them. Safe in threads, and in
    a child of a fork, which has open what its parent had.
    """

    def __init__(self) -> None:
        self._start()
        self._open: Counter[_Key] = Counter()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._start)

    def enter(self, key: _Key, shown: str) -> None:
        """Count one more who has a collection open; errors call it as it is shown.

        Raises:
            CollectionInUseError: Someone is alone with it.
        """
        with self._guard:
            if key in self._alone:
                raise CollectionInUseError(
                    f"{shown} is being dropped or renamed; open it again after that"
                )
            self._open[key] += 1

    def leave(self, key: _Key) -> None:
        """Count one less."""
        with self._guard:
            self._open[key] -= 1

    @contextmanager
    def alone(self, key: _Key, shown: str) -> Iterator[None]:
        """Keep everyone of this process from opening a collection that no one has open.

        Raises:
            CollectionInUseError: Someone has, or is alone with it.
        """
        with self._guard:
            if self._open[key] or key in self._alone:
                raise CollectionInUseError(f"{shown} is open; close it first")
            self._alone.add(key)
        try:
            yield
        finally:
            with self._guard:
                self._alone.discard(key)

    def _start(self) -> None:
        self._guard = threading.RLock()  # the garbage collector may close a collection inside it
        self._alone: set[_Key] = set()
