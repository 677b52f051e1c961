"""What an acknowledged write survives, on every store that lets one choose."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Durability"]


class Durability(StrEnum):
    """What an acknowledged write survives."""

    FULL = "full"
    """kill -9 and power loss: the log is flushed to the disk at every commit."""
    NORMAL = "normal"
    """kill -9; a power loss can take the last commits with it, but never half of one."""
