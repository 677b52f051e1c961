"""Names of collections: the same on every store, so that each can be moved to any other."""

from __future__ import annotations

import re

from nearfield.errors import InvalidNameError

__all__ = ["check_name", "is_name"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_TAKEN = "nearfield.lock"
"""A file in every folder of collections."""


def is_name(name: object) -> bool:
    """Whether this can name a collection."""
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        return False
    return not name.endswith(".") and name != _TAKEN


def check_name(name: object) -> str:
    """Return a collection's name, or raise ``InvalidNameError``."""
    if not isinstance(name, str) or not is_name(name):
        raise InvalidNameError(
            f"{name!r} cannot name a collection: use 1 to 100 letters, digits, '.', '_' or "
            "'-', starting with a letter or digit and not ending with '.'"
        )
    return name
