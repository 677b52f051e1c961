"""What goes wrong in Milvus and on the way to it, as nearfield's errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
from pymilvus.exceptions import MilvusException

from nearfield.errors import (
    ClosedError,
    InvalidInputError,
    NearfieldError,
    ReadOnlyError,
    StorageFullError,
    StoreBusyError,
    StoreError,
    StoreUnavailableError,
    UnsupportedFilterError,
)

if TYPE_CHECKING:
    from nearfield.stores.milvus.address import Address

__all__ = [
    "AbsentDatabaseError",
    "is_absent_collection",
    "is_not_loaded",
    "passes",
    "translated",
]

# Milvus's codes, as its servers from 2.3 on and Milvus Lite send them.
_CANNOT_CONNECT, _RATE_LIMIT = 2, 8
_COLLECTION_ABSENT, _NOT_LOADED, _PARTLY_LOADED = 100, 101, 103
_COMING_AND_GOING = (range(400, 700), range(900, 1000))
"""Replicas, channels, segments and nodes."""
_DATABASE_ABSENT = 800
_PARAMETER_INVALID = 1100
_PRIVILEGES = range(1400, 1500)
_PASSING_WORDS = (
    "not ready", "not healthy", "recovering", "no available", "node not", "not match",
    "channel not", "not loaded", "not fully loaded", "connection refused", "server unavailable",
    "context canceled",
    "incomplete query result",  # a row was written anew between its being found and fetched
)  # fmt: skip
"""In errors without a code of their own, while servers come and go."""
_LATE_WORDS = ("context done", "deadline exceeded", "timeout")
_LOST = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN}
_REFUSED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
_FULL = {grpc.StatusCode.RESOURCE_EXHAUSTED}


class AbsentDatabaseError(StoreError):
    """The server has no database of the name in the URL."""


def passes(error: BaseException) -> bool:
    """Whether what failed may succeed a little later, and can be done again."""
    if isinstance(error, grpc.RpcError):
        return _status(error) in _LOST
    if not isinstance(error, MilvusException):
        return False
    code = _code(error)
    return (
        getattr(error, "retriable", False)  # newer servers say so
        or code in {_CANNOT_CONNECT, _RATE_LIMIT, _NOT_LOADED, _PARTLY_LOADED}
        or any(code in codes for codes in _COMING_AND_GOING)
        or _has(_said(error).lower(), _PASSING_WORDS)
    )


def is_not_loaded(error: BaseException) -> bool:
    """Whether the server has a collection, but not in memory, where it is searched."""
    return bool(_code(error) == _NOT_LOADED)


def is_absent_collection(error: BaseException) -> bool:
    """Whether there is no collection of the name that was asked for."""
    return bool(_code(error) == _COLLECTION_ABSENT)


@contextmanager
def translated(address: Address) -> Iterator[None]:
    """Turn the client's errors into nearfield's."""
    try:
        yield
    except NearfieldError:
        raise
    except grpc.RpcError as error:
        raise _of_network(error, address) from error
    except MilvusException as error:
        raise _of_server(error, address) from error


def _of_network(error: grpc.RpcError, address: Address) -> NearfieldError:
    status = _status(error)
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return _late(address, "")
    if status in _REFUSED:
        return _refused(address, "")
    if status in _FULL:
        return InvalidInputError(
            f"{address.shown} takes no message as large as this one; write fewer documents at once"
        )
    return _unreachable(address, status.name if status else type(error).__name__)


def _of_server(error: MilvusException, address: Address) -> NearfieldError:
    said = _said(error)
    for means, made in _MEANINGS:
        if means(error, said.lower()):
            return made(address, said)
    return StoreError(f"{address.shown} refused ({error.code}): {said}")


def _late(address: Address, _: str) -> NearfieldError:
    return StoreBusyError(
        f"{address.shown} gave no answer within timeout_s={address.timeout_s:g}; try again, or "
        "allow more time"
    )


def _unreachable(address: Address, why: str) -> NearfieldError:
    return StoreUnavailableError(
        f"{address.shown} cannot be reached ({why}); is the server running, and are host, port and "
        "ssl right?"
    )


def _refused(address: Address, _: str) -> NearfieldError:
    return ReadOnlyError(
        f"{address.shown} refused the token, or its owner may not do this; give one by the "
        "environment variable MILVUS_TOKEN, as user:password"
    )


def _dropped(_: Address, __: str) -> NearfieldError:
    return ClosedError("the collection was dropped since it was opened; open it again")


def _without_database(address: Address, _: str) -> NearfieldError:
    return AbsentDatabaseError(
        f"the server of {address.shown} has no such database; it is made with the first collection"
    )


def _full(address: Address, said: str) -> NearfieldError:
    return StorageFullError(f"{address.shown} takes no more: {said}")


def _too_complicated(address: Address, _: str) -> NearfieldError:
    return UnsupportedFilterError(f"{address.shown} does not take this filter; make it simpler")


def _invalid(address: Address, said: str) -> NearfieldError:
    return InvalidInputError(f"{address.shown} refused: {said}")


_MEANINGS: tuple[
    tuple[
        Callable[[MilvusException, str], bool],
        Callable[[Address, str], NearfieldError],
    ],
    ...,
] = (
    (
        lambda error, _: error.code == _CANNOT_CONNECT or isinstance(error.code, grpc.StatusCode),
        lambda address, _: _unreachable(address, "no connection"),
    ),
    (lambda error, _: error.code == _COLLECTION_ABSENT, _dropped),
    (
        lambda error, said: error.code == _DATABASE_ABSENT or "database not found" in said,
        _without_database,
    ),
    (
        lambda error, said: (
            error.code in _PRIVILEGES or "auth check failure" in said or "permission deny" in said
        ),
        _refused,
    ),
    (lambda _, said: "quota" in said, _full),
    (
        lambda error, said: (
            error.code in {_NOT_LOADED, _PARTLY_LOADED, _RATE_LIMIT} or _has(said, _LATE_WORDS)
        ),
        _late,
    ),
    (lambda error, _: passes(error), _unreachable),
    (
        lambda _, said: "cannot parse expression" in said or "recursion" in said,
        _too_complicated,
    ),
    (lambda error, _: error.code == _PARAMETER_INVALID, _invalid),
)
"""What errors of the server mean, the first that fits."""


def _status(error: Any) -> grpc.StatusCode | None:
    return error.code() if hasattr(error, "code") else None


def _code(error: Any) -> Any:
    return error.code if isinstance(error, MilvusException) else None


def _said(error: Any) -> str:
    """Return what a server says, without the stack trace and the attempts before it."""
    lines = str(error.message).strip().splitlines()
    return re.sub(r"^.*(?:attempt #\d+: |\.func\d+: )", "", lines[-1]) if lines else "no reason"


def _has(said: str, some: Iterable[str]) -> bool:
    return any(words in said for words in some)
