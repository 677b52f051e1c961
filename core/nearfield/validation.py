"""What may enter a collection: documents and vectors are checked here, once, before any write."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from nearfield.documents import Metric
from nearfield.errors import (
    DimensionMismatchError,
    InvalidDocumentError,
    InvalidInputError,
    InvalidVectorError,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "check_groups",
    "check_id",
    "check_ids",
    "check_member",
    "check_metadata",
    "check_milliseconds",
    "check_positive",
    "check_seconds",
    "check_seed",
    "check_share",
    "check_text",
    "check_timestamp",
    "check_vectors",
]

Member = TypeVar("Member", bound=StrEnum)

MAX_METADATA_DEPTH = 32
MAX_ID_BYTES = 4096
MAX_NORM = 1e18
"""Two vectors of this length have an inner product that float32 still holds."""
MIN_COSINE_NORM = 1e-12
"""Shorter vectors lose their direction to float32 underflow."""
MAX_SECONDS = 2_000_000
"""SQLite counts its milliseconds in 32 bits."""
_INT64 = range(-(2**63), 2**63)


def check_text(text: object, *, what: str = "text", position: int | None = None) -> str:
    """Return the text, or raise ``InvalidDocumentError`` where it cannot be stored as UTF-8."""
    if not isinstance(text, str):
        raise InvalidDocumentError(
            f"{what} must be a str, got {type(text).__name__}{_at(position)}", position=position
        )
    if type(text) is not str:  # the member of an enum, say
        text = str.__str__(text)
    if text.isascii():  # Python knows, without reading the text
        return text
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidDocumentError(
            f"{what} has a lone surrogate ({error.object[error.start]!a}) at character "
            f"{error.start}{_at(position)}; decode the source with errors='replace'",
            position=position,
        ) from None
    return text


def check_texts(texts: object) -> list[str]:
    """Return several texts as a list, or raise where they are none, or one of them is no text.

    Raises:
        InvalidInputError: It is one text, which would be taken apart into its letters, or no list.
        InvalidDocumentError: One of them cannot be stored as UTF-8.
    """
    refuse_one_text(texts)
    try:
        several = list(texts)  # type: ignore[call-overload]  # whatever it is, it is tried
    except TypeError:
        raise InvalidInputError(f"expected a list of texts, got {type(texts).__name__}") from None
    return [check_text(text, position=position) for position, text in enumerate(several)]


def refuse_one_text(texts: object) -> None:
    """Raise ``InvalidInputError`` for a text where a list of them is expected."""
    if isinstance(texts, str | bytes):
        raise InvalidInputError(
            f"expected a list of texts, got one {type(texts).__name__}, of which each letter would "
            "be a text; put it into a list: [text]"
        )


def check_id(identifier: object, *, position: int | None = None) -> str:
    """Return the id, or raise ``InvalidDocumentError``."""
    identifier = check_text(identifier, what="id", position=position)
    if not identifier:
        raise InvalidDocumentError(
            f"id is empty{_at(position)}; leave it out and one is made", position=position
        )
    size = len(identifier) if identifier.isascii() else len(identifier.encode())
    if size > MAX_ID_BYTES:
        raise InvalidDocumentError(
            f"id has {size} bytes{_at(position)}, the most is {MAX_ID_BYTES}; "
            "put long text into metadata",
            position=position,
        )
    return identifier


def check_timestamp(value: object, *, position: int | None = None) -> datetime | None:
    """Return the creation time in UTC, or raise ``InvalidDocumentError``; a naive time is UTC."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise InvalidDocumentError(
            f"created_at must be a datetime, got {type(value).__name__}{_at(position)}",
            position=position,
        )
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise InvalidDocumentError(
            f"created_at is {value}{_at(position)}, which is beyond the years 1 to 9999 in UTC",
            position=position,
        ) from None


def check_metadata(metadata: object, *, position: int | None = None) -> dict[str, Any]:
    """Copy metadata into plain JSON values.

    Datetimes and dates become ISO 8601 text, tuples become lists, numpy scalars become Python's.

    Raises:
        InvalidDocumentError: Something in it is not JSON; the message names the path to it.
    """
    if not isinstance(metadata, Mapping):
        raise InvalidDocumentError(
            f"metadata must be a mapping, got {type(metadata).__name__}{_at(position)}",
            position=position,
        )
    try:
        return _plain_mapping(metadata, "metadata", 1)
    except InvalidDocumentError as error:
        raise InvalidDocumentError(f"{error}{_at(position)}", position=position) from None


def _plain_mapping(values: Mapping[Any, Any], path: str, depth: int) -> dict[str, Any]:
    if depth > MAX_METADATA_DEPTH:
        raise InvalidDocumentError(
            f"metadata is nested deeper than {MAX_METADATA_DEPTH} levels; flatten it"
        )
    plain = {}
    for key, value in values.items():
        if type(key) is str and key.isascii():
            name = key
        elif isinstance(key, str):
            name = check_text(key, what=f"a key of {path}")
        else:
            raise InvalidDocumentError(
                f"{path} has the key {key!r} of type {type(key).__name__}; keys must be str"
            )
        plain[name] = _plain(value, path, name, depth)
    return plain


def _plain(value: object, path: str, key: str, depth: int) -> Any:
    # Exact types first: they are nearly all there is.
    if type(value) is str:
        return value if value.isascii() else check_text(value, what=f"{path}[{key!r}]")
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        if value not in _INT64:
            raise InvalidDocumentError(
                f"{path}[{key!r}] is an integer beyond 64 bits; store it as text"
            )
        return value
    if kind is float:
        if not math.isfinite(value):  # type: ignore[arg-type]  # narrowed by `kind`
            raise InvalidDocumentError(
                f"{path}[{key!r}] is {value}, which JSON cannot hold; use None or leave it out"
            )
        return value
    return _plain_other(value, path, key, depth)


def _plain_other(value: object, path: str, key: str, depth: int) -> Any:
    here = f"{path}[{key!r}]"
    if isinstance(value, Mapping):
        return _plain_mapping(value, here, depth + 1)
    if isinstance(value, list | tuple):
        if depth >= MAX_METADATA_DEPTH:
            raise InvalidDocumentError(
                f"metadata is nested deeper than {MAX_METADATA_DEPTH} levels; flatten it"
            )
        return [_plain(item, here, str(i), depth + 1) for i, item in enumerate(value)]
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, np.generic) and not isinstance(value, np.void | np.timedelta64):
        # Finer than microseconds, .item() of a time is the integer of its nanoseconds.
        exact = value.astype("datetime64[us]") if isinstance(value, np.datetime64) else value
        item = exact.item()
        if item is not None and not isinstance(item, np.generic):  # not a time, longdouble
            return _plain(item, path, key, depth)
    if isinstance(value, str):  # the member of an enum, say
        return _plain(str.__str__(value), path, key, depth)
    if isinstance(value, int | float):
        base = int if isinstance(value, int) else float
        return _plain(base(value), path, key, depth)
    raise InvalidDocumentError(
        f"{here} is a {type(value).__name__}, which is not JSON; expected str, int, float, bool, "
        "None, datetime, list or dict"
    )


def check_vectors(
    values: object, *, dimension: int, metric: Metric, what: str = "vector"
) -> NDArray[np.float32]:
    """Check vectors for a collection.

    Args:
        values: Anything numpy reads as a real array of shape (dimension,) or (n, dimension).
        dimension: The collection's.
        metric: The collection's; cosine refuses vectors without a direction.
        what: How to call them in an error.

    Returns:
        C-contiguous float32 array of shape (n, dimension), sharing memory with the input only
        where that is already such an array.

    Raises:
        InvalidVectorError: NaN, infinity, zero under cosine, out of float32's range, wrong rank.
        DimensionMismatchError: Another dimension.
    """
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidVectorError(f"{what}s do not form an array: {error}") from None
    if array.dtype.kind not in "fiu":
        raise InvalidVectorError(
            f"{what} has dtype {array.dtype}, expected real numbers (float32 is best)"
        )
    if array.ndim == 1:  # one vector, or an empty list of them
        array = array[np.newaxis, :] if array.size else np.empty((0, dimension), np.float32)
    if array.ndim != 2:  # noqa: PLR2004
        raise InvalidVectorError(
            f"{what} has {array.ndim} axes (shape {array.shape}), expected ({dimension},) or "
            f"(n, {dimension})"
        )
    if array.shape[1] != dimension:
        raise DimensionMismatchError(expected=dimension, got=array.shape[1], what=what)
    if array.dtype == np.float32:
        array = np.ascontiguousarray(array)
    else:
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(array, dtype=np.float32)
    lower = MIN_COSINE_NORM if metric is Metric.COSINE else 0.0
    if len(array):
        # Sums in float32 err by far less than the factor that they are kept away from the limits
        # by, and take a third of the time.
        rough = np.einsum("ij,ij->i", array, array)
        if 4 * lower**2 < rough.min() and rough.max() < MAX_NORM**2 / 4:  # false for NaN
            return array
    squares = np.einsum("ij,ij->i", array, array, dtype=np.float64)
    good = (squares >= lower**2) & (squares <= MAX_NORM**2)  # false for NaN and infinity
    if not good.all():
        raise _bad_vector(array, int(np.argmin(good)), what)
    return array


def _bad_vector(array: NDArray[np.float32], row: int, what: str) -> InvalidVectorError:
    place = f"{what} {row}" if len(array) > 1 else what
    finite = np.isfinite(array[row])
    if not finite.all():
        component = int(np.argmin(finite))
        return InvalidVectorError(
            f"{place} has {array[row, component]} at component {component}, expected finite "
            "float32 numbers; check the model that made it"
        )
    norm = float(np.linalg.norm(array[row].astype(np.float64)))
    if norm > MAX_NORM:
        return InvalidVectorError(f"{place} has length {norm:.3g}, the most is {MAX_NORM:g}")
    return InvalidVectorError(
        f"{place} has length {norm:.3g}, and cosine compares directions, which it does not have; "
        "leave the document out or use the metric 'dot' or 'euclidean'"
    )


def check_positive(value: object, name: str) -> int:
    """Return a count of at least 1, or raise ``InvalidInputError``."""
    if type(value) is int and value > 0:
        return value
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InvalidInputError(f"{name} must be an int, got {type(value).__name__}")
    if value < 1:
        raise InvalidInputError(f"{name} must be at least 1, got {value}")
    return int(value)


def check_seed(value: object) -> int:
    """Return what random numbers are drawn by, or raise ``InvalidInputError``."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise InvalidInputError(f"seed is {value!r}, expected an int of at least 0")
    return int(value)


def check_member(value: object, kind: type[Member], name: str) -> Member:
    """Return the member of an enum that a value names, or raise ``InvalidInputError``."""
    try:
        return kind(value)  # type: ignore[arg-type]  # whatever it is, it is looked up
    except ValueError:
        raise InvalidInputError(
            f"{name} is {value!r}, expected one of: {', '.join(kind)}"
        ) from None


def check_seconds(value: object, name: str) -> float:
    """Return a time to wait, or raise ``InvalidInputError``."""
    is_real = isinstance(value, int | float | np.integer | np.floating)
    if not is_real or isinstance(value, bool) or not 0 <= value <= MAX_SECONDS:  # type: ignore[operator]
        raise InvalidInputError(f"{name} is {value!r}, expected seconds, from 0 to {MAX_SECONDS:,}")
    return float(value)  # type: ignore[arg-type]  # narrowed by `is_real`


def check_share(value: object, name: str) -> float:
    """Return a share from 0 to 1, or raise ``InvalidInputError``."""
    is_real = isinstance(value, int | float | np.integer | np.floating)
    if not is_real or isinstance(value, bool) or not 0 <= value <= 1:  # type: ignore[operator]
        raise InvalidInputError(f"{name} is {value!r}, expected a number from 0 to 1")
    return float(value)  # type: ignore[arg-type]  # narrowed by `is_real`


def check_milliseconds(value: object, name: str) -> float:
    """Return a duration, or raise ``InvalidInputError``."""
    is_real = isinstance(value, int | float | np.integer | np.floating)
    if not is_real or isinstance(value, bool) or not 0 < value < math.inf:  # type: ignore[operator]
        raise InvalidInputError(f"{name} is {value!r}, expected milliseconds, more than 0")
    return float(value)  # type: ignore[arg-type]  # narrowed by `is_real`


def check_ids(ids: str | Sequence[str]) -> list[str]:
    """Return a list of valid ids from one or several."""
    if isinstance(ids, str):
        return [check_id(ids)]
    try:
        several = list(ids)
    except TypeError:
        raise InvalidDocumentError(
            f"expected an id or a list of them, got {type(ids).__name__}"
        ) from None
    return [check_id(identifier) for identifier in several]


def check_groups(groups: object) -> list[str | None]:
    """Return the groups of a ledger's records as a list, or raise ``InvalidInputError``."""
    if isinstance(groups, str) or not isinstance(groups, Iterable):
        raise InvalidInputError(f"groups is {groups!a}, expected a list of texts")
    return [None if group is None else check_text(group, what="a group") for group in groups]


def _at(position: int | None) -> str:
    return "" if position is None else f" (document {position} of the batch)"
