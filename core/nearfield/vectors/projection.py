"""A matrix applied to vectors, block by block: what PCA and a random projection share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nearfield.vectors.arrays import Array, Rows, blocks, compute, compute_type

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["project"]

_BLOCK_ROWS = 2048


def project(
    rows: Rows,
    matrix: Array,
    *,
    origin: NDArray[np.float64] | None = None,
    target: NDArray[np.float64] | None = None,
) -> Array:
    """Return (x − origin) · matrix + target for each row x.

    The origin is taken off before the product: a float32 product of vectors far from zero would
    lose what tells them apart.

    Args:
        rows: Shape (n, dimension).
        matrix: Shape (dimension, components).
        origin: Shape (dimension,).
        target: Shape (components,).

    Returns:
        Shape (n, components).
    """
    dtype = compute_type(rows)

    def kernel(block: Array) -> Array:
        applied = matrix.astype(block.dtype, copy=False)
        if origin is None:
            products: Array = block @ applied
        else:
            rounded = origin.astype(block.dtype)
            products = (block - rounded) @ applied
            products -= ((origin - rounded) @ matrix).astype(block.dtype)
        if target is not None:
            products += target.astype(block.dtype)
        return products

    result = np.empty((len(rows), matrix.shape[1]), dtype)
    for part in blocks(len(rows), _BLOCK_ROWS):
        result[part] = compute(kernel, (rows, part), dtype=dtype)
    return result[0] if rows.single else result
