"""How documents are named outside: ``nearfield://collection/id``, each part percent-encoded."""

from __future__ import annotations

from urllib.parse import quote, unquote

__all__ = ["ROOT", "SCHEME", "collection_of", "read_uri", "uri_of", "uri_of_collection"]

SCHEME = "nearfield://"
ROOT = f"{SCHEME}/"
"""All collections."""


def uri_of(collection: str, identifier: str) -> str:
    """Return a document's URI."""
    return f"{uri_of_collection(collection)}/{quote(identifier, safe='')}"


def uri_of_collection(collection: str) -> str:
    """Return a collection's URI."""
    return f"{SCHEME}{quote(collection, safe='')}"


def read_uri(text: str) -> tuple[str, str] | None:
    """Return the collection and the id that a URI names; None for what is no such URI."""
    if not text.startswith(SCHEME):
        return None
    collection, slash, identifier = text.removeprefix(SCHEME).partition("/")
    return (unquote(collection), unquote(identifier)) if slash and identifier else None


def collection_of(text: str) -> str | None:
    """Return the collection that the URI of one, or of a document in one, names."""
    if not text.startswith(SCHEME):
        return None
    return unquote(text.removeprefix(SCHEME).partition("/")[0]) or None
