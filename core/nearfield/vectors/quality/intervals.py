"""How sure a share is that was counted in a sample."""

from __future__ import annotations

import math

__all__ = ["wilson"]

_Z = 1.959964
"""The 97.5 % quantile of the standard normal."""


def wilson(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson, 1927, JASA 22:209)."""
    if count == 0:
        return 0.0, 1.0
    divisor = 1 + _Z**2 / count
    middle = (share + _Z**2 / (2 * count)) / divisor
    half = _Z / divisor * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)
