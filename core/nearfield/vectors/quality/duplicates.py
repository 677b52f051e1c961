"""Rows that are equal, and rows that are nearly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nearfield.errors import InvalidInputError
from nearfield.vectors.quality.intervals import wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.vectors.quality.space import Space

__all__ = ["DuplicateGroup", "Duplicates", "duplicates"]

_GROUPS_LISTED = 20
_ROWS_LISTED = 10
_NEAR = 0.98


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Rows that are equal or nearly.

    Attributes:
        rows: The positions of the first, at most ten.
        size: How many there are.
        similarity: The smallest between two rows that were found to be alike; 1 for equal rows.
    """

    rows: tuple[int, ...]
    size: int
    similarity: float


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Exact and near duplicates.

    Attributes:
        exact: How many rows repeat an earlier one, of all rows.
        exact_share: Their share.
        near_share: The share of rows with a row that is nearly but not exactly equal.
        near_low: The lower end of its 95 % interval; the share itself where every row was looked
            at.
        near_high: The upper end.
        near: The similarity from which rows are near-duplicates.
        probes: Rows for which near-duplicates were looked for, among all rows.
        exact_groups: The largest groups of equal rows, at most twenty.
        near_groups: The largest groups of near-duplicates that were found, at most twenty.
    """

    exact: int
    exact_share: float
    near_share: float
    near_low: float
    near_high: float
    near: float
    probes: int
    exact_groups: tuple[DuplicateGroup, ...]
    near_groups: tuple[DuplicateGroup, ...]


def duplicates(space: Space, *, near: float = _NEAR) -> Duplicates:
    """Find rows that are equal, among all, and near-duplicates of a sample, among all.

    Two rows are near-duplicates where their similarity is at least ``near``: their cosine, or
    1 − r²/m under the other metrics (:meth:`Space.similarity`). Only the k nearest of a row are
    looked at. The interval of the share is Wilson's (1927).

    Args:
        space: The vectors.
        near: The similarity from which rows are near-duplicates, in (0, 1).

    Raises:
        InvalidInputError: ``near`` is not between 0 and 1.
    """
    if not 0 < near < 1:
        raise InvalidInputError(f"near is {near}; expected a similarity between 0 and 1")
    originals = space.originals
    exact = int(np.count_nonzero(originals != np.arange(space.rows)))
    left, right, similarities, has_near = _near_pairs(space, near)
    probes = len(has_near)
    share = float(has_near.mean()) if probes else 0.0
    low, high = wilson(share, probes) if probes < len(space.usable) else (share, share)
    return Duplicates(
        exact=exact,
        exact_share=exact / space.rows,
        near_share=share,
        near_low=low,
        near_high=high,
        near=near,
        probes=probes,
        exact_groups=_exact_groups(originals),
        near_groups=_near_groups(left, right, similarities),
    )


def _near_pairs(
    space: Space, near: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return pairs of near-duplicates with their similarity, and which probes have one."""
    nothing = np.empty(0, dtype=np.int64)
    if len(space.sample_rows) < 2:  # noqa: PLR2004
        return nothing, nothing, np.empty(0), np.zeros(len(space.sample_rows), dtype=np.bool_)
    probes = space.probes
    similarities = space.similarity(probes.distances)
    own = space.originals[probes.rows][:, np.newaxis]
    theirs = space.originals[probes.indices]
    alike = (similarities >= near) & (own != theirs)
    row, column = np.nonzero(alike)
    return own[row, 0], theirs[row, column], similarities[row, column], alike.any(axis=1)


def _exact_groups(originals: NDArray[np.int64]) -> tuple[DuplicateGroup, ...]:
    sizes = np.bincount(originals)
    largest = np.argsort(-sizes, kind="stable")[:_GROUPS_LISTED]
    return tuple(
        DuplicateGroup(
            tuple(int(row) for row in np.flatnonzero(originals == first)[:_ROWS_LISTED]),
            int(sizes[first]),
            1.0,
        )
        for first in largest
        if sizes[first] > 1
    )


def _near_groups(
    left: NDArray[np.int64], right: NDArray[np.int64], similarities: NDArray[np.float64]
) -> tuple[DuplicateGroup, ...]:
    """Join pairs that share a row."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, places = np.unique(np.concatenate([left, right]), return_inverse=True)
    if not len(rows):
        return ()
    ours, theirs = places[: len(left)], places[len(left) :]
    graph = coo_array((np.ones(len(left)), (ours, theirs)), shape=(len(rows), len(rows)))
    _, groups = connected_components(graph, directed=False)
    sizes = np.bincount(groups)
    lowest = np.ones(len(sizes))
    np.minimum.at(lowest, groups[ours], similarities)
    largest = np.argsort(-sizes, kind="stable")[:_GROUPS_LISTED]
    return tuple(
        DuplicateGroup(
            tuple(int(row) for row in rows[groups == group][:_ROWS_LISTED]),
            int(sizes[group]),
            float(min(lowest[group], 1.0)),
        )
        for group in largest
    )
