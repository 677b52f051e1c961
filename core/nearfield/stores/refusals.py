"""Refusals that all engines word alike. A place is what the database is called in messages."""

from __future__ import annotations

from collections.abc import Iterable

from nearfield.errors import CollectionExistsError, CollectionNotFoundError, ReadOnlyError

__all__ = ["missing", "read_only", "taken"]


def missing(place: object, name: str, known: Iterable[str]) -> CollectionNotFoundError:
    """Return the error that there is no such collection, but the known ones."""
    return CollectionNotFoundError(
        f"{place} has no collection {name!r}; it has: {', '.join(known) or 'none'}", name=name
    )


def taken(place: object, name: str) -> CollectionExistsError:
    """Return the error that there is such a collection already."""
    return CollectionExistsError(
        f"{place} already has a collection {name!r}; open it, or choose another name", name=name
    )


def read_only(place: object) -> ReadOnlyError:
    """Return the error that a write was asked for where none may be."""
    return ReadOnlyError(f"{place} was opened with read_only=True; open it without to write")
