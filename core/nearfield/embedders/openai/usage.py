"""What was asked of a server so far, and what it charged."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from nearfield.embedders.forks import begin_anew_after_fork

__all__ = ["Usage", "UsageCounter"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Totals since the embedder was made.

    Attributes:
        requests: Requests sent, repeated ones included.
        retries: How many of them repeated one that had failed.
        tokens: Tokens that the server says it read; 0 where it does not say.
    """

    requests: int = 0
    retries: int = 0
    tokens: int = 0


class UsageCounter:
    """Adds up from any thread."""

    def __init__(self) -> None:
        self.begin_anew()
        self._usage = Usage()
        begin_anew_after_fork(self)

    @property
    def total(self) -> Usage:
        """The totals at this moment."""
        return self._usage

    def add(self, *, requests: int = 0, retries: int = 0, tokens: int = 0) -> None:
        """Add to the totals."""
        with self._lock:
            self._usage = replace(
                self._usage,
                requests=self._usage.requests + requests,
                retries=self._usage.retries + retries,
                tokens=self._usage.tokens + tokens,
            )

    def begin_anew(self) -> None:
        """Forget, in a forked child, a thread of the parent that was adding."""
        self._lock = threading.Lock()
