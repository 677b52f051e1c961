"""What callers are told of failures: what to do next, and nothing of the machine.

Messages of nearfield's own name files, folders and models, for whoever runs the server: they go to
the log. A caller may be anybody.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from nearfield_mcp.uris import read_uri

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from nearfield.errors import NearfieldError

__all__ = ["UnknownCollectionError", "log_failure", "named_in", "told_of"]

_OPERATOR = "whoever runs this server"
_logger = logging.getLogger(__name__)


class UnknownCollectionError(LookupError):
    """There is no such collection for this caller; the message names those there are."""


def told_of(error: NearfieldError, collection: str | None) -> str:
    """Return what a caller is told; what the caller cannot mend is logged in full.

    Args:
        error: Of a call that reads or writes a collection.
        collection: Its name, where that is known.
    """
    from nearfield import errors

    if isinstance(error, errors.InvalidURLError):  # it quotes the URL, which may hold a password
        return f"this cannot be opened; {_OPERATOR} has to correct its settings"
    # These are about what the caller gave, and quote no more than that.
    if isinstance(
        error,
        errors.InvalidInputError
        | errors.DocumentNotFoundError
        | errors.IngestError
        | errors.UnsupportedOperationError,
    ):
        return str(error)
    what = "the collection" if collection is None else f"the collection {collection!r}"
    if isinstance(error, errors.MissingDependencyError):
        return (
            f"{what} needs a package that the server does not have; {_OPERATOR} can install it: "
            f'pip install "nearfield[{error.extra}]"'
        )
    log_failure(what, error)
    for kind, told in _TOLD.items():
        if isinstance(error, getattr(errors, kind)):
            return f"{what} {told}"
    return f"{what} cannot be used now; {_OPERATOR} finds the reason in its log"


def log_failure(what: str, error: Exception) -> None:
    """Tell whoever runs the server what is wrong."""
    _logger.error("%s: %s: %s", what, type(error).__name__, error)


def named_in(arguments: Mapping[str, Any]) -> str | None:
    """Return the collection that a call names; None where it leaves that open."""
    named = arguments.get("collection")
    if isinstance(named, str):
        return named
    identifier = arguments.get("id")
    found = read_uri(identifier) if isinstance(identifier, str) else None
    return found[0] if found is not None else None


_TOLD = {
    "CorruptionError": f"is damaged; {_OPERATOR} can mend it with `nearfield check` and "
    "`nearfield repair`, or restore a backup",
    "StoreBusyError": "is busy with another writer; call again in a few seconds",
    "CollectionInUseError": "is in use elsewhere; call again later",
    "StorageFullError": f"is on a full disk; nothing was written, and {_OPERATOR} has to make room",
    "ReadOnlyError": f"cannot be written here; {_OPERATOR} can change that",
    "FormatVersionError": f"was written by a newer nearfield; {_OPERATOR} has to upgrade",
    "ClosedError": "was closed or replaced meanwhile; call again",
    "CollectionNotFoundError": "is gone; list_collections tells what there is",
    "CollectionExistsError": "was made by somebody else meanwhile; call again",
    "EmbedderMismatchError": f"was built with another model than the server has for it; "
    f"{_OPERATOR} can name the right one with --embedder-for; search with mode='keyword' meanwhile",
    "EmbedderRequiredError": f"was built with vectors of its owner's, not of a model that the "
    f"server can load; {_OPERATOR} can name one with --embedder-for; search with mode='keyword'",
    "EmbeddingError": f"has a model that failed; call again, or search with mode='keyword'; "
    f"{_OPERATOR} finds the reason in its log",
}
"""By class, the special before the general."""
