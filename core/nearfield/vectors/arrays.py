"""What the operations read: matrices of real numbers, checked, and taken block by block.

Nothing scans a whole input for NaN beforehand. A component that is not finite makes every result
it enters not finite, so results are looked at instead, which are far fewer; only where one is not
finite are its rows read again, to tell bad input from an overflow on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nearfield.errors import DimensionMismatchError, InvalidVectorError

__all__ = [
    "Array",
    "Part",
    "Rows",
    "as_rows",
    "as_two",
    "blocks",
    "compute",
    "compute_type",
    "fit",
]

Array: TypeAlias = NDArray[np.floating[Any]]
"""float32 or float64."""

_MATRIX = 2


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """A matrix of real numbers, one vector a row, which may hold NaN until it is read.

    Attributes:
        values: Shape (n, dimension), any real dtype, any strides; the caller's own memory.
        single: Whether one vector of shape (dimension,) was given.
        what: How to call them in an error.
    """

    values: NDArray[Any]
    single: bool
    what: str

    def __len__(self) -> int:
        return len(self.values)

    @property
    def dimension(self) -> int:
        """How many components a row has."""
        return int(self.values.shape[1])

    def block(self, rows: slice, dtype: np.dtype[Any]) -> Array:
        """Return some rows, C-contiguous; it may be the caller's memory, so don't write to it."""
        values = self.values[rows]
        if values.dtype == dtype and values.flags.c_contiguous:
            return values
        with np.errstate(over="ignore"):  # a longdouble beyond float64: infinite, and refused
            return np.ascontiguousarray(values, dtype)

    def refuse_not_finite(self, rows: slice = slice(None)) -> None:
        """Raise ``InvalidVectorError`` where a component of some rows is not finite."""
        finite = np.isfinite(self.values[rows])
        if finite.all():
            return
        row, component = (int(i) for i in np.argwhere(~finite)[0])
        place = self.what if self.single else f"{self.what} {row + (rows.start or 0)}"
        raise InvalidVectorError(
            f"{place} has {self.values[rows][row, component]} at component {component}, expected "
            "finite numbers; check the model that made it, or leave it out"
        )


Part: TypeAlias = tuple[Rows, slice]
"""Some rows of a matrix."""


def as_rows(
    values: object,
    what: str = "vector",
    *,
    dimension: int | None = None,
    other: str = "the other vectors",
) -> Rows:
    """Read vectors.

    Args:
        values: Anything that numpy reads as real numbers of shape (n, dimension), or of shape
            (dimension,) for one vector. An empty list is no vectors.
        what: How to call one of them in an error.
        dimension: What is expected.
        other: What has that dimension.

    Raises:
        InvalidVectorError: Ragged, not real numbers, another rank, no components.
        DimensionMismatchError: Another dimension than the expected one.
    """
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidVectorError(f"{what}s do not form an array: {error}") from None
    if array.dtype.kind not in "fiu":
        raise InvalidVectorError(
            f"{what}s have dtype {array.dtype}, expected real numbers (float32 is best)"
        )
    single = array.ndim == 1 and array.size > 0
    if array.ndim == 1:
        array = array[np.newaxis, :] if single else np.empty((0, dimension or 0), np.float32)
    if array.ndim != _MATRIX or (len(array) and not array.shape[1]):
        raise InvalidVectorError(
            f"{what}s have shape {array.shape}, expected (n, dimension) or (dimension,), the "
            "dimension at least 1"
        )
    if dimension is not None and array.shape[1] != dimension:
        raise DimensionMismatchError(expected=dimension, got=array.shape[1], what=what, other=other)
    return Rows(array, single, what)


def as_two(a: object, b: object) -> tuple[Rows, Rows]:
    """Read two sets of vectors of one dimension; an empty list goes with any."""
    left = as_rows(a)
    right = as_rows(b, "other vector", dimension=left.dimension or None, other="the first")
    return left, right


def compute_type(*several: Rows) -> np.dtype[Any]:
    """Return float32 where it holds all of the inputs exactly, otherwise float64."""
    narrow = np.result_type(np.float32, *(rows.values.dtype for rows in several))
    return np.dtype(np.float32 if narrow == np.float32 else np.float64)


def blocks(count: int, size: int) -> Iterator[slice]:
    """Yield slices of at most ``size`` that together cover ``count``."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def compute(
    kernel: Callable[..., Array],
    *parts: Part,
    dtype: np.dtype[Any],
    result_type: np.dtype[Any] | None = None,
) -> Array:
    """Call a kernel on blocks; where its result is not finite, find out why.

    Args:
        kernel: Takes one array for each part. Works in float32 and in float64.
        *parts: What it takes.
        dtype: What it computes in.
        result_type: What is returned; the same when left out.

    Returns:
        Its finite result, which after an overflow of float32 was computed in float64.

    Raises:
        InvalidVectorError: The input is not finite, or the result does not fit its type.
    """
    target = dtype if result_type is None else result_type
    with np.errstate(all="ignore"):
        result = kernel(*(rows.block(part, dtype) for rows, part in parts))
        if not np.isfinite(result).all():
            for rows, part in parts:
                rows.refuse_not_finite(part)
            wide = np.dtype(np.float64)
            result = kernel(*(rows.block(part, wide) for rows, part in parts))
        elif result.dtype == target:
            return result
    return fit(result, target)


def fit(result: Array, dtype: np.dtype[Any]) -> Array:
    """Return a result in a dtype, or raise ``InvalidVectorError`` where it is too large for it."""
    if result.dtype == dtype and np.isfinite(result).all():
        return result
    with np.errstate(all="ignore"):
        narrow = result.astype(dtype)
    if not np.isfinite(narrow).all():
        remedy = "give float64 arrays, or " if dtype == np.float32 else ""
        raise InvalidVectorError(
            f"a result is too large for {dtype}; {remedy}scale the vectors down"
        )
    return narrow
