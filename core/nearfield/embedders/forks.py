"""What a forked child must not share with its parent is begun anew there."""

from __future__ import annotations

import os
import weakref
from functools import cache
from typing import Protocol

__all__ = ["Forkable", "begin_anew_after_fork"]


class Forkable(Protocol):
    """Something with locks or connections."""

    def begin_anew(self) -> None:
        """Forget the parent's, without touching them: a thread of the parent may be using them."""


_alive: weakref.WeakSet[Forkable] = weakref.WeakSet()


def begin_anew_after_fork(owner: Forkable) -> None:
    """Call the owner's ``begin_anew`` in children that are forked from now on."""
    _alive.add(owner)
    _register()


@cache
def _register() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_begin_all_anew)


def _begin_all_anew() -> None:
    for owner in _alive:
        owner.begin_anew()
