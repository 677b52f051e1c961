"""The vectors that the measures look at: checked once, sampled once, neighbours found once."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.documents import Metric
from nearfield.errors import InvalidInputError, InvalidVectorError
from nearfield.validation import (
    MAX_NORM,
    MIN_COSINE_NORM,
    check_member,
    check_positive,
    check_seed,
)
from nearfield.vectors.arrays import as_rows
from nearfield.vectors.normalization import lengths, units
from nearfield.vectors.outliers import robust_z_scores
from nearfield.vectors.pca import PCA
from nearfield.vectors.quality.neighbours import Neighbours, nearest
from nearfield.vectors.quality.packages import require_packages
from nearfield.vectors.quality.pairs import pair_distances

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["DEFAULT_SAMPLE", "NotMeasurableError", "Space"]

DEFAULT_SAMPLE = 10_000
"""Rows that are compared with each other: 10⁸ comparisons, about a second of one core at 384
dimensions."""
_BLOCK_VALUES = 1 << 23
"""Values read at a time: 32 MiB of float32."""
_PROBE_WORK = 3e11
"""Multiplications for comparing some rows with all: about 7 s of one core."""
_FEWEST_PROBES = 400
"""FAISS compares 300 rows with others more slowly than 400: another kernel, six times slower."""
_PAIR_ROWS = 3_000
"""Rows whose pairs are all measured: 4.5 million distances, 36 MB."""


class NotMeasurableError(InvalidInputError):
    """A measure is not defined for these vectors: too few rows, or all alike."""


class Space:
    """A set of vectors, prepared for the measures of :mod:`nearfield.vectors.quality`.

    Under the cosine metric, rows are scaled to length 1 and distances are those between the scaled
    rows, so that ‖a − b‖² = 2 − 2 cos(a, b); rows of length 0 have no direction and are left out.
    Under the other two, rows are taken as they are. What is drawn at random depends on the seed
    alone.

    Args:
        vectors: Numbers of shape (n, dimension), n at least 1. A memory-mapped array is read in
            blocks, and never as a whole.
        metric: How the vectors are compared in a search.
        sample: Rows that are compared with each other; of fewer rows, all are.
        neighbours: Nearest rows that are looked at from each row.
        seed: Where the drawing of samples starts.

    Raises:
        InvalidVectorError: Not a matrix of finite real numbers, or a row longer than 10¹⁸.
        InvalidInputError: No rows or no columns, or a number below 1.
        MissingDependencyError: scikit-learn or scipy is not installed.

    Attributes:
        rows: How many rows there are.
        dimension: How many columns there are.
        usable: The positions of the rows that are measured, ascending.
    """

    def __init__(
        self,
        vectors: object,
        *,
        metric: Metric | str = Metric.COSINE,
        sample: int = DEFAULT_SAMPLE,
        neighbours: int = 10,
        seed: int = 0,
    ) -> None:
        require_packages("measuring the quality of vectors")
        self._vectors = _matrix(vectors)
        self.metric = check_member(metric, Metric, "metric")
        self.sample_size = check_positive(sample, "sample")
        self.k = check_positive(neighbours, "neighbours")
        self.seed = check_seed(seed)
        self.rows, self.dimension = self._vectors.shape
        self._norms, self._hashes = self._inspect()
        shortest = MIN_COSINE_NORM if self.metric is Metric.COSINE else -1.0
        self.usable: NDArray[np.int64] = np.flatnonzero(self._norms > shortest)

    # ── what is in it ────────────────────────────────────────────────────────────────────────

    @property
    def zero_rows(self) -> NDArray[np.int64]:
        """The positions of the rows whose components are all zero, or nearly."""
        return np.flatnonzero(self._norms <= MIN_COSINE_NORM)

    @property
    def norms(self) -> NDArray[np.float64]:
        """The euclidean length of each row."""
        return self._norms

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return some rows as they are compared: scaled to length 1 under the cosine."""
        return self._prepared(self._raw(positions))

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Iterate over all usable rows in blocks: their positions, and the rows as compared."""
        for start, block in self._raw_blocks():
            positions = np.arange(start, start + len(block))
            if len(self.usable) < self.rows:
                kept = self._norms[positions] > MIN_COSINE_NORM
                positions, block = positions[kept], block[kept]  # noqa: PLW2901
            if len(positions):
                yield positions, self._prepared(block)

    @cached_property
    def originals(self) -> NDArray[np.int64]:
        """The position of the first row equal to each row; its own, mostly. Exact, of all rows."""
        order = np.argsort(self._hashes, kind="stable")
        hashes = self._hashes[order]
        is_first = np.ones(self.rows, dtype=np.bool_)
        is_first[1:] = hashes[1:] != hashes[:-1]
        # The sort is stable, so the first of equal hashes is the first in position as well.
        firsts = order[np.maximum.accumulate(np.where(is_first, np.arange(self.rows), 0))]
        repeats, originals = np.flatnonzero(~is_first), np.arange(self.rows)
        step = max(1, _BLOCK_VALUES // self.dimension)
        for start in range(0, len(repeats), step):
            places = repeats[start : start + step]
            rows, first = order[places], firsts[places]
            equal = (self._raw(rows) == self._raw(first)).all(axis=1)
            originals[rows[equal]] = first[equal]
        return originals

    # ── samples ──────────────────────────────────────────────────────────────────────────────

    @cached_property
    def sample_rows(self) -> NDArray[np.int64]:
        """The positions of the sampled rows, in random order, so that a part is a sample too."""
        rng = np.random.default_rng([self.seed, 1])
        size = min(self.sample_size, len(self.usable))
        return rng.choice(self.usable, size, replace=False)

    @cached_property
    def sample(self) -> NDArray[np.float32]:
        """The sampled rows as they are compared."""
        return self.take(self.sample_rows)

    @property
    def is_whole(self) -> bool:
        """Whether the sample holds every usable row."""
        return len(self.sample_rows) == len(self.usable)

    @cached_property
    def neighbours(self) -> Neighbours:
        """The nearest rows of each sampled row, within the sample; by position in the sample."""
        self.require(2, "neighbours")
        places = np.arange(len(self.sample))
        return nearest(
            self.sample, [(places, self.sample)], self.k, own=places, take=self.sample.__getitem__
        )

    @cached_property
    def probes(self) -> Neighbours:
        """The nearest rows of some sampled rows, among all usable rows; by position in all.

        As many rows of the sample as a fixed amount of work allows: all, up to some 30,000 rows of
        384 dimensions; 780 of a million.
        """
        self.require(2, "neighbours")
        if self.is_whole:
            return self.neighbours.renamed(self.sample_rows)
        size = self.affordable(_PROBE_WORK)
        rows = self.sample_rows[:size]
        return nearest(self.sample[:size], self.blocks(), self.k, own=rows, take=self.take)

    def affordable(self, work: float) -> int:
        """Return how many rows so many multiplications compare with all; 400 in any case."""
        return max(_FEWEST_PROBES, int(work / (len(self.usable) * self.dimension)))

    @property
    def pair_sample(self) -> NDArray[np.float32]:
        """Up to 3,000 sampled rows, those whose pairs are all measured."""
        return self.sample[:_PAIR_ROWS]

    @cached_property
    def pair_distances(self) -> NDArray[np.float64]:
        """The distances of all pairs of up to 3,000 sampled rows, ascending."""
        self.require(2, "distances")
        distances = pair_distances(self.pair_sample)
        distances.sort()
        return distances

    @cached_property
    def mean_square_distance(self) -> float:
        """The mean squared distance of two different sampled rows: twice the total variance."""
        return float(2 * self.pca.total_variance)

    @cached_property
    def pca(self) -> PCA:
        """All principal components of the sampled rows."""
        self.require(2, "principal components")
        return PCA.fit(self.sample)

    @cached_property
    def isolation(self) -> NDArray[np.float64]:
        """The mean distance of each sampled row to its neighbours in the sample."""
        means: NDArray[np.float64] = self.neighbours.distances.mean(axis=1)
        return means

    @cached_property
    def isolation_scores(self) -> NDArray[np.float64]:
        """The same as robust z-scores, those of :func:`nearfield.vectors.find_outliers`."""
        return robust_z_scores(self.isolation)

    def similarity(self, distances: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn distances into similarities, 1 for equal rows.

        The cosine 1 − r²/2 under the cosine metric; otherwise 1 − r²/m, where m is the mean squared
        distance of two rows, so that two random rows have 0 on average.
        """
        scale = 2.0 if self.metric is Metric.COSINE else self.mean_square_distance
        return 1 - np.square(distances) / scale if scale > 0 else np.ones_like(distances)

    def random(self, *stream: int) -> np.random.Generator:
        """Return a generator of this space's seed; another for every ``stream``."""
        return np.random.default_rng([self.seed, *stream])

    def require(self, rows: int, what: str) -> None:
        """Raise ``NotMeasurableError`` unless so many rows were sampled."""
        if len(self.sample_rows) < rows:
            zeros = self.rows - len(self.usable)
            besides = f" beside {zeros:,} without a direction" if zeros else ""
            raise NotMeasurableError(
                f"{what}: needs at least {rows} rows, got {len(self.sample_rows)}{besides}"
            )

    def require_spread(self, what: str) -> None:
        """Raise ``NotMeasurableError`` where all sampled rows are equal."""
        self.require(2, what)
        if not (np.ptp(self.sample, axis=0) > 0).any():
            raise NotMeasurableError(f"{what}: all {len(self.sample):,} sampled rows are equal")

    # ── one reading of everything ────────────────────────────────────────────────────────────

    def _raw(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.asarray(self._vectors[positions], dtype=np.float32)

    def _raw_blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        rows = max(1, _BLOCK_VALUES // self.dimension)
        for start in range(0, self.rows, rows):
            with np.errstate(over="ignore"):  # found out by the norms
                block = np.ascontiguousarray(self._vectors[start : start + rows], dtype=np.float32)
            yield start, block

    def _inspect(self) -> tuple[NDArray[np.float64], NDArray[np.uint64]]:
        """Return the length and a hash of each row; refuse what is not finite."""
        norms = np.empty(self.rows)
        hashes = np.empty(self.rows, dtype=np.uint64)
        words = -(-self.dimension // 2)
        rng = np.random.default_rng(20261)  # equality does not depend on it
        factors = rng.integers(0, 1 << 63, size=words, dtype=np.uint64) * 2 + 1
        for start, block in self._raw_blocks():
            rows = slice(start, start + len(block))
            norms[rows] = _checked_lengths(block, start)
            padded = np.zeros((len(block), 2 * words), dtype=np.float32)
            padded[:, : self.dimension] = block + np.float32(0)  # −0 becomes 0, which it equals
            hashes[rows] = padded.view(np.uint64) @ factors
        return norms, hashes

    def _prepared(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.metric is not Metric.COSINE:
            return rows
        prepared: NDArray[np.float32] = units(rows)
        return prepared


def _checked_lengths(block: NDArray[np.float32], start: int) -> NDArray[np.float64]:
    with np.errstate(all="ignore"):  # what is not finite is refused below
        found = lengths(block).astype(np.float64)
    bad = np.flatnonzero(~(found <= MAX_NORM))
    if len(bad):
        row = int(bad[0])
        problem = (
            f"has a length of {found[row]:.3g}, the most is {MAX_NORM:.0e}"
            if np.isfinite(found[row])
            else "holds NaN or infinity"
        )
        raise InvalidVectorError(f"row {start + row} {problem}; leave it out or embed it again")
    return found


def _matrix(vectors: object) -> NDArray[Any]:
    rows = as_rows(vectors)
    if rows.single or not len(rows):
        shape = (rows.dimension,) if rows.single else rows.values.shape
        raise InvalidInputError(
            f"vectors have shape {shape}; expected (n, dimension) with at least one row"
        )
    return rows.values
