"""Forks: SQLite's locks do not survive one, so it waits until no database is in use."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator
from typing import Protocol

from nearfield.errors import ForkedProcessError

__all__ = ["FORKS", "Forks"]

_WAIT_S = 5.0


class _Forkable(Protocol):
    """Something with connections that lie open between calls."""

    def before_fork(self) -> None:
        """Close them, and hold every lock until after the fork."""

    def after_fork_in_parent(self) -> None:
        """Release the locks."""

    def after_fork_in_child(self) -> None:
        """Make new locks: threads that held or awaited the old ones are gone."""


class Forks:
    """Knows which database files this process is using, and keeps a fork clear of them.

    A fork waits for the calls that are under way, holding off new ones, for at most five seconds.
    A file that is still in use then cannot be used by the child: SQLite keeps its view of the
    locks on a file in memory that the child inherits, and the kernel does not let it inherit the
    locks themselves.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()  # one fork at a time
        # Reentrant, as the garbage collector may end a scan, and so call leave, inside enter.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._in_use: dict[str, int] = {}  # by resolved path
        self._forking = False
        self._stranded = frozenset[str]()
        self._members = weakref.WeakSet[_Forkable]()
        self._held: list[_Forkable] = []
        self.in_child = False
        """Whether this process began as a fork of one that had imported nearfield."""

    def add(self, member: _Forkable) -> None:
        """Tell a member of every fork, for as long as it lives."""
        with self._lock:
            self._members.add(member)

    def enter(self, path: str) -> None:
        """Say that a file is in use, waiting while the process forks."""
        with self._lock:  # cheaper than the condition, which is for those who wait
            while self._forking:
                self._changed.wait()
            if path in self._stranded:
                raise ForkedProcessError(
                    f"this process was forked while {path} was in use, and it cannot be opened "
                    "safely here; fork when no call is under way, or start the process anew "
                    "(multiprocessing's start method 'spawn')"
                )
            self._in_use[path] = self._in_use.get(path, 0) + 1

    def leave(self, path: str) -> None:
        """Say that it no longer is."""
        with self._lock:
            count = self._in_use.pop(path, 0) - 1
            if count > 0:
                self._in_use[path] = count
            elif self._forking:
                self._changed.notify_all()

    @contextlib.contextmanager
    def using(self, path: str) -> Iterator[None]:
        """Enter and leave."""
        self.enter(path)
        try:
            yield
        finally:
            self.leave(path)

    def before_fork(self) -> None:
        """Wait until nothing is in use, and keep it so."""
        self._turn.acquire()
        self._changed.acquire()
        self._forking = True
        self._changed.wait_for(lambda: not self._in_use, timeout=_WAIT_S)
        for member in list(self._members):
            member.before_fork()
            self._held.append(member)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        for member in self._held:
            member.after_fork_in_parent()
        self._held = []
        self._forking = False
        self._changed.notify_all()
        self._changed.release()
        self._turn.release()

    def after_fork_in_child(self) -> None:
        """Start anew, but for the files that were in use."""
        self._turn = threading.Lock()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._stranded |= self._in_use.keys()
        self._in_use.clear()
        self._forking = False
        self.in_child = True
        for member in self._held:
            member.after_fork_in_child()
        self._held = []


FORKS = Forks()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=FORKS.before_fork,
        after_in_parent=FORKS.after_fork_in_parent,
        after_in_child=FORKS.after_fork_in_child,
    )
