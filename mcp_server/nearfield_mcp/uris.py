"""How documents are named outside: ``nearfield://collection/id``, each part percent-encoded."""

from __future__ import annotations

from urllib.parse import quote, unquote

__all__ = ["SCHEME", "read_uri", "uri_of"]

SCHEME = "nearfield://"


def uri_of(collection: str, identifier: str) -> str:
    """Return a document's URI."""
    return f"{SCHEME}{quote(collection, safe='')}/{quote(identifier, safe='')}"


def read_uri(text: str) -> tuple[str, str] | None:
    """Return the collection and the id that a URI names; None for what is no such URI."""
    if not text.startswith(SCHEME):
        return None
    collection, slash, identifier = text.removeprefix(SCHEME).partition("/")
    return (unquote(collection), unquote(identifier)) if slash and identifier else None
