"""What a caller may see and do. It comes from the caller's token, never from an argument."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["CURRENT", "Right", "Scope"]


class Right(StrEnum):
    """What may be done; also the OAuth scope that allows it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"
    """Make collections."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What one caller may see and do.

    Attributes:
        tenant: What ``{tenant}`` in a database's URL stands for; None where there is no such.
        collections: The names of those it may use; None for all.
        rights: What it may do.
        subject: Whom the audit log names.
    """

    tenant: str | None = None
    collections: frozenset[str] | None = None
    rights: frozenset[Right] = frozenset(Right)
    subject: str = "local"

    def may_use(self, name: str) -> bool:
        """Whether a collection of this name is the caller's to use."""
        return self.collections is None or name in self.collections


CURRENT: ContextVar[Scope] = ContextVar("scope", default=Scope())  # noqa: B039  # it is frozen
"""The scope of the request at hand; over stdio, that of whoever started the server."""
