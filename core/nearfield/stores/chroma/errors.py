"""What goes wrong in Chroma and on the way to it, as nearfield's errors."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
from chromadb import errors as chroma_errors

from nearfield.errors import (
    ClosedError,
    CorruptionError,
    NearfieldError,
    ReadOnlyError,
    StorageFullError,
    StoreBusyError,
    StoreError,
    StoreUnavailableError,
    UnsupportedFilterError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nearfield.stores.chroma.address import Address

__all__ = ["AbsentDatabaseError", "passes", "translated"]

_LOST = (httpx.TransportError,)
_REFUSED = (chroma_errors.ChromaAuthError, chroma_errors.AuthorizationError)
_UNREACHABLE = "could not connect to a chroma server"
"""What the client says, in a ValueError, where it cannot."""


class AbsentDatabaseError(StoreError):
    """The server has no database, or no tenant, of the name in the URL."""


def passes(error: BaseException) -> bool:
    """Whether what failed may succeed a little later, and did nothing that hinders that."""
    if isinstance(error, httpx.TimeoutException):
        return isinstance(error, httpx.ConnectTimeout)
    return isinstance(error, (*_LOST, chroma_errors.RateLimitError)) or _is_unreachable(error)


@contextmanager
def translated(address: Address) -> Iterator[None]:
    """Turn the client's errors into nearfield's."""
    try:
        yield
    except NearfieldError:
        raise
    except (httpx.HTTPError, chroma_errors.ChromaError) as error:
        raise _meaning(error, address) from error
    except Exception as error:
        # The client raises bare ValueError and Exception, too, and the embedded one RuntimeError.
        if type(error) not in {ValueError, Exception, RuntimeError}:
            raise
        raise _meaning(error, address) from error


def _is_unreachable(error: BaseException) -> bool:
    return type(error) is ValueError and _UNREACHABLE in str(error).lower()


def _meaning(error: Exception, address: Address) -> NearfieldError:
    where, said = address.shown, str(error).strip() or type(error).__name__
    if isinstance(error, httpx.TimeoutException | chroma_errors.RateLimitError):
        return StoreBusyError(
            f"{where} gave no answer within timeout_s={address.timeout_s:g}; try again, or allow "
            "more time"
        )
    if isinstance(error, _LOST) or _is_unreachable(error):
        return StoreUnavailableError(
            f"{where} cannot be reached ({type(error).__name__}); is the server running, and are "
            "host and port right?"
        )
    if isinstance(error, _REFUSED):
        return ReadOnlyError(
            f"{where} refused the token, or its owner may not do this; give one by the "
            "environment variable CHROMA_API_KEY"
        )
    if isinstance(error, chroma_errors.NotFoundError):
        return ClosedError(
            "the collection was dropped, or made anew, since it was opened; open it again"
        )
    return _from_words(said, where)


def _from_words(said: str, where: str) -> NearfieldError:
    """Read the messages of Chroma's errors that have no class of their own."""
    low = said.lower()
    if "invalid where clause" in low:
        return UnsupportedFilterError(
            f"{where} does not take a filter that is nested so deeply; flatten it"
        )
    if "disk is full" in low or "no space left" in low:
        return StorageFullError(f"the disk of {where} is full; not all was written")
    if "database is locked" in low:
        return StoreBusyError(f"{where} is in use by someone else; try again")
    if "malformed" in low or "not a database" in low:
        return CorruptionError(f"{where} reports damage: {said}")
    if "readonly database" in low:
        return ReadOnlyError(f"{where} cannot be written to: {said}")
    return StoreError(f"{where} refused: {said}")
