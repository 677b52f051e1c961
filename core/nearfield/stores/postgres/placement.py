"""Which of several servers a document is on: by its id alone, whatever order they are named in."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Placement"]


class Placement:
    """Rendezvous hashing: each id belongs to the part whose key, hashed with it, is the largest.

    Thaler and Ravishankar, Using name-based mappings to increase hit rates, 1998.

    Args:
        keys: Of the parts.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = [key.encode() for key in keys]

    def of(self, name: str) -> int:
        """Return the place, among the keys, of the one that an id belongs to."""
        encoded = name.encode()
        hashes = [blake2b(encoded, digest_size=8, key=key).digest() for key in self._keys]
        return hashes.index(max(hashes))

    def split(self, names: Iterable[str]) -> dict[int, list[int]]:
        """Return for each part that ids belong to where they stand among the ids."""
        places: dict[int, list[int]] = {}
        for position, name in enumerate(names):
            places.setdefault(self.of(name), []).append(position)
        return places
