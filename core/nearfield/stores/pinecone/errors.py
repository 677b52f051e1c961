"""What goes wrong in Pinecone and on the way to it, as nearfield's errors."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
from pinecone import errors as pinecone_errors

from nearfield.errors import (
    ClosedError,
    InvalidInputError,
    NearfieldError,
    ReadOnlyError,
    StorageFullError,
    StoreBusyError,
    StoreError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nearfield.stores.pinecone.address import Address

__all__ = ["is_too_large", "passes", "translated"]

_BAD_REQUEST = 400
_TOO_LARGE = 413
_FAULTS = (
    pinecone_errors.RateLimitError,
    pinecone_errors.ServiceError,
    pinecone_errors.PineconeConnectionError,
)


def passes(error: BaseException) -> bool:
    """Whether what failed may succeed a little later."""
    return isinstance(error, _FAULTS)


def is_too_large(error: pinecone_errors.ApiError) -> bool:
    """Whether an answer may have been refused for its size; Pinecone documents no code for it."""
    return error.status_code in {_BAD_REQUEST, _TOO_LARGE}


@contextmanager
def translated(address: Address) -> Iterator[None]:
    """Turn the client's errors into nearfield's."""
    try:
        yield
    except NearfieldError:
        raise
    except (pinecone_errors.PineconeError, httpx.HTTPError) as error:
        raise _meaning(error, address) from error


def _meaning(error: Exception, address: Address) -> NearfieldError:
    where, waited = address.shown, f"timeout_s={address.timeout_s:g}"
    if isinstance(error, pinecone_errors.PineconeTimeoutError):
        return StoreBusyError(
            f"{where} gave no answer within {waited}; try again, or allow more time"
        )
    if isinstance(error, pinecone_errors.RateLimitError):
        return StoreBusyError(
            f"{where} limits the rate of calls, and did so for {waited}; write and ask more "
            "slowly, allow more time, or have the limit raised"
        )
    if isinstance(error, pinecone_errors.ServiceError):
        return StoreUnavailableError(
            f"{where} fails (HTTP {error.status_code}), and did so for {waited}; try again later"
        )
    if isinstance(error, pinecone_errors.PineconeConnectionError | httpx.HTTPError):
        return StoreUnavailableError(
            f"{where} cannot be reached ({type(error.__cause__ or error).__name__}); is the "
            "service up, and are host, port and ssl right?"
        )
    return _refusal(error, where)


def _refusal(error: Exception, where: str) -> NearfieldError:
    if isinstance(error, pinecone_errors.PineconeValueError | pinecone_errors.PineconeTypeError):
        return InvalidInputError(f"the client of {where} refused: {error}")
    if isinstance(error, pinecone_errors.UnauthorizedError):
        return ReadOnlyError(
            f"{where} refused the key; give one of this project by the environment variable "
            "PINECONE_API_KEY"
        )
    if isinstance(error, pinecone_errors.NotFoundError):
        return ClosedError(
            f"the index or namespace of the collection is not at {where} any more; open it again"
        )
    if isinstance(error, pinecone_errors.ApiError):
        return _refused(error, where)
    return StoreError(f"{where} gave an answer that cannot be read: {error}")


def _refused(error: pinecone_errors.ApiError, where: str) -> NearfieldError:
    said = error.message or f"HTTP {error.status_code}"
    if isinstance(error, pinecone_errors.ForbiddenError | pinecone_errors.PaymentRequiredError):
        if "quota" in f"{error.error_code} {said}".lower():
            return StorageFullError(
                f"{where} has reached a limit of its plan: {said}; delete what is not needed, or "
                "raise the limit"
            )
        return ReadOnlyError(f"{where} does not allow this to the owner of the key: {said}")
    if error.status_code == _BAD_REQUEST:
        return InvalidInputError(f"{where} refused: {said}")
    return StoreError(f"{where} refused: {said}")
