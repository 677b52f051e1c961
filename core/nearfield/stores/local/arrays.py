"""Arrays that grow at the end while others read what was there before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

__all__ = ["GrowingArray"]

_FIRST_CAPACITY = 1024
_GROWTH = 1.5


class GrowingArray:
    """Rows of one dtype, appended at amortised constant cost.

    A view taken earlier stays valid and unchanged: rows are only ever written beyond its end, and
    growing moves to a new block of memory.
    """

    def __init__(self, dtype: DTypeLike, *width: int) -> None:
        self._rows: NDArray[Any] = np.empty((0, *width), dtype)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def view(self) -> NDArray[Any]:
        """Return the rows so far, without copying."""
        return self._rows[: self._count]

    def reserve(self, capacity: int) -> None:
        """Make room, so that appending up to this many rows does not move them."""
        if capacity <= len(self._rows):
            return
        rows = np.empty((capacity, *self._rows.shape[1:]), self._rows.dtype)
        rows[: self._count] = self._rows[: self._count]
        self._rows = rows

    def extend(self, rows: NDArray[Any]) -> None:
        """Append rows."""
        needed = self._count + len(rows)
        if needed > len(self._rows):
            self.reserve(max(needed, _FIRST_CAPACITY, int(len(self._rows) * _GROWTH)))
        self._rows[self._count : needed] = rows
        self._count = needed

    def select(self, positions: NDArray[np.int64]) -> GrowingArray:
        """Return a new array of some of the rows."""
        selected = GrowingArray(self._rows.dtype, *self._rows.shape[1:])
        selected.extend(self.view()[positions])
        return selected
