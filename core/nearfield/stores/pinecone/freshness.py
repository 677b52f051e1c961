"""Reading one's own writes: Pinecone numbers them, and says up to which its index has come.

A write's answer names the write's number (LSN), a query's the largest number that is in the index;
see https://docs.pinecone.io/guides/index-data/check-data-freshness. What this process wrote to a
namespace is kept here for all its handles.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nearfield.stores.pinecone.indexes import PineconeIndex

__all__ = ["Freshness", "freshness_of"]

_WRITTEN = "x-pinecone-request-lsn"
_INDEXED = "x-pinecone-max-indexed-lsn"
_SILENCE_S = 10.0
_EMPTIED_S = 0.5
"""While there is nothing in an index it may name no number: so long after a write something has to
come, and so long after a deletion, which may have left nothing, something could."""
_FORGET_S = 300.0
"""What was written longer ago is in the index, or the wait for it is in vain."""


@dataclass(slots=True)
class Freshness:
    """How far a namespace's index has to be for this process to see what it wrote.

    Attributes:
        seen: The largest number that a query found in the index.
        signals: Whether the server numbers writes.
    """

    seen: int = 0
    signals: bool = True
    _written: int = 0
    _written_s: float = 0.0
    _silent_until_s: float = 0.0

    @property
    def needed(self) -> int:
        """The number of this process's last write; 0 where there is none to wait for."""
        recent = time.monotonic() - self._written_s < _FORGET_S
        return self._written if recent else 0

    def wrote(self, headers: Mapping[str, str], *, emptied: bool = False) -> None:
        """Take note of a write's answer, and whether the write may have left nothing."""
        number = _number(headers, _WRITTEN)
        if number is None:
            self.signals = False
            return
        with _GUARD:
            if self.needed:  # answers to writes at once come in any order
                number = max(self._written, number)
            else:  # others may have deleted the namespace meanwhile, and numbers begin anew
                self.seen = 0
            self._written = number
            self._written_s = time.monotonic()
            self._silent_until_s = self._written_s + (_EMPTIED_S if emptied else _SILENCE_S)

    def reflects(self, headers: Mapping[str, str], needed: int) -> bool:
        """Whether a query's answer has every write up to a number in it."""
        if not needed:
            return True
        number = _number(headers, _INDEXED)
        if number is None:
            if self.seen < needed and time.monotonic() < self._silent_until_s:
                return False
            number = needed  # there is nothing more to wait for
        with _GUARD:
            self.seen = max(self.seen, number)
        return number >= needed


_GUARD = threading.Lock()
_NAMESPACES: dict[tuple[PineconeIndex, str], Freshness] = {}


def freshness_of(index: PineconeIndex, namespace: str) -> Freshness:
    """Return what this process knows of a namespace."""
    with _GUARD:
        return _NAMESPACES.setdefault((index, namespace), Freshness())


def _after_fork_in_child() -> None:
    global _GUARD
    _GUARD = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _number(headers: Mapping[str, str], name: str) -> int | None:
    value = headers.get(name, "")
    return int(value) if value.isdecimal() else None
