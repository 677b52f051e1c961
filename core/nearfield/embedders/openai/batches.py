"""Texts put together to requests, within the limits that a server sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["pack"]


def pack(sizes: Sequence[int], *, max_inputs: int, max_size: int) -> Iterator[range]:
    """Split a row of items into runs of at most so many items and so much size.

    Args:
        sizes: The size of each item.
        max_inputs: Items in a run.
        max_size: Sum of the sizes in a run; a single item above it has a run of its own.

    Yields:
        The runs, in order; together they are all items, each once.
    """
    start, total = 0, 0
    for position, size in enumerate(sizes):
        if position > start and (position - start == max_inputs or total + size > max_size):
            yield range(start, position)
            start, total = position, 0
        total += size
    if sizes:
        yield range(start, len(sizes))
