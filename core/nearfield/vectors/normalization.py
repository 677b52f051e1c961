"""Vectors brought to length 1, in one of three norms; neither overflow nor underflow shows."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.validation import check_member
from nearfield.vectors.arrays import Array, as_rows, blocks, compute_type

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Norm", "lengths", "normalize", "squares", "units", "usual"]

_BLOCK_ROWS = 512
_EXTREME = {np.dtype(np.float32): 2.0**60, np.dtype(np.float64): 2.0**900}
"""Squares between 1 / this and this are as good as the dtype gives; beyond, some of their terms
may have been lost."""


class Norm(StrEnum):
    """What counts as the length of a vector."""

    L1 = "l1"
    """Σ|xᵢ|."""
    L2 = "l2"
    """√Σxᵢ²."""
    MAX = "max"
    """max |xᵢ|."""


def normalize(vectors: object, *, norm: Norm | str = Norm.L2) -> Array:
    """Divide each vector by its norm; a zero vector stays zero.

    Args:
        vectors: Shape (n, dimension), or (dimension,) for one.
        norm: ``"l2"``, ``"l1"`` or ``"max"``.

    Returns:
        A new array of the same shape.

    Raises:
        InvalidVectorError: Not finite, or not a matrix of real numbers.
        InvalidInputError: Another norm.
    """
    kind = check_member(norm, Norm, "norm")
    rows = as_rows(vectors)
    dtype = compute_type(rows)
    result = np.empty(rows.values.shape, dtype)
    with np.errstate(all="ignore"):
        for part in blocks(len(rows), _BLOCK_ROWS):
            units(rows.block(part, dtype), kind, out=result[part])
            if not np.isfinite(result[part, 0]).all():
                rows.refuse_not_finite(part)
    return result[0] if rows.single else result


def units(block: Array, norm: Norm = Norm.L2, *, out: Array | None = None) -> Array:
    """Divide rows by their norms; zeros stay zero, and a row that is not finite becomes NaN."""
    sizes = _sizes(block, norm)
    scaled: Array = np.divide(block, sizes[:, np.newaxis], out=out)
    odd = ~_within(sizes, _EXTREME[block.dtype] ** 0.5)
    if odd.any():
        rows, _ = _by_peak(block[odd])
        sizes = _sizes(rows, norm)
        scaled[odd] = rows / np.where(sizes == 0, 1, sizes)[:, np.newaxis]
    return scaled


def lengths(block: Array) -> Array:
    """Return the Euclidean length of each row, in the block's dtype."""
    totals = squares(block)
    found: Array = np.sqrt(totals)
    odd = ~usual(totals)
    if odd.any():
        rows, peaks = _by_peak(block[odd])
        found[odd] = peaks * np.sqrt(squares(rows))
    return found


def squares(block: Array) -> Array:
    """Return the squared length of each row, which may overflow or underflow."""
    total: Array = np.einsum("ij,ij->i", block, block)
    return total


def usual(totals: Array) -> NDArray[np.bool_]:
    """Tell which squared lengths are far from overflow and underflow; NaN is not."""
    return _within(totals, _EXTREME[totals.dtype])


def _within(values: Array, limit: float) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (values > 1 / limit) & (values < limit)
    return inside


def _sizes(block: Array, norm: Norm) -> Array:
    sizes: Array
    if norm is Norm.L2:
        sizes = np.sqrt(squares(block))
    elif norm is Norm.L1:
        sizes = np.abs(block) @ np.ones(block.shape[1], block.dtype)
    else:
        sizes = np.maximum(block.max(axis=1), -block.min(axis=1))
    return sizes


def _by_peak(rows: Array) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Divide rows by their largest magnitude, which is returned as well; infinity gives NaN."""
    wide = rows.astype(np.float64)
    peaks = np.abs(wide).max(axis=1)
    wide /= np.where(peaks == 0, 1, peaks)[:, np.newaxis]
    return wide, peaks
