"""Whether two sets of vectors come from the same place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nearfield.errors import DimensionMismatchError, InvalidInputError
from nearfield.vectors.quality.neighbours import nearest
from nearfield.vectors.quality.pairs import distance_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.vectors.quality.space import Space

__all__ = ["Drift", "drift"]

_TESTED_ROWS = 1_000
_PERMUTATIONS = 999
_FOLDS = 5
_FEWEST_ROWS = 10
_REGULARISATION = 0.01
_LISTED = 10
_WORK = 1e11
"""Multiplications for comparing the other rows with all here: about 2 s of one core."""
_FAR = 0.99
_UNRELATED = 0.1
_COPIES = 0.98
"""The similarity of rows that say the same: how far they are is not usual."""
_NO_DIRECTION = 1e-12


@dataclass(frozen=True, slots=True)
class Drift:
    """How another set of vectors differs from this one.

    Attributes:
        differs: Whether ``p_value`` is at most ``alpha``.
        p_value: The probability of so large an energy distance between two samples of one
            distribution.
        alpha: The rate of false alarms that was accepted.
        energy: The energy distance over twice the mean distance of a row of one set to a row of
            the other, in [0, 1]: 0 for equal distributions.
        auc: How well a linear classifier tells the sets apart: .5 not at all, 1 always.
        auc_std: Its standard error for the classifiers as they are; fitting them anew adds some.
        centroid_cosine: The cosine of the two mean rows, in [−1, 1]; None where one has no length.
        far_share: The share of the other rows that are farther from their nearest row here than 99
            % of the rows here are, near-duplicates aside: about .01 without drift.
        unrelated_share: The share of those that are no nearer to any row here than the nearest
            tenth of random pairs here are to each other: about 0 without drift.
        far_rows: The positions in the other set of the farthest, at most ten.
        compared: How many rows of each set the test and the classifier took: here, there.
        looked_up: For how many of the other rows the nearest of all here was looked for.
    """

    differs: bool
    p_value: float
    alpha: float
    energy: float
    auc: float
    auc_std: float
    centroid_cosine: float | None
    far_share: float
    unrelated_share: float
    far_rows: tuple[int, ...]
    compared: tuple[int, int]
    looked_up: int


def drift(space: Space, other: Space, *, alpha: float = 0.01) -> Drift:
    """Compare two sets of vectors, such as documents and the queries that are asked of them.

    Energy distance: 2 E‖x − y‖ − E‖x − x′‖ − E‖y − y′‖ between up to 1,000 rows of each, divided by
    2 E‖x − y‖; its p-value from 999 random divisions of all these rows (Székely and Rizzo, 2013,
    Journal of Statistical Planning and Inference 143:1249). Classifier: logistic regression on
    standardised rows, the mean AUC of its answers on each of five folds it was not fitted to
    (Lopez-Paz and Oquab, 2017, ICLR); the standard error after Hanley and McNeil (1982). The test
    says whether there is a difference, the AUC and the share of far rows whether it matters.

    Two shares, as documents and questions differ: a document of a new topic is far, and so are many
    questions, which are short; what nothing here is about is unrelated. (Measured with the built-in
    model: of questions that are answered 2 to 11 % are far, 0 to 3 % unrelated; of others, 73 to
    100 % are unrelated.)

    Args:
        space: The reference.
        other: What is compared with it, under the same metric.
        alpha: The rate of false alarms to accept.

    Raises:
        InvalidInputError: The metrics differ, or ``alpha`` is not between 0 and 1.
        DimensionMismatchError: The dimensions differ.
        NotMeasurableError: Fewer than 10 rows in one of the sets.
    """
    _check(space, other, alpha)
    ours, theirs = space.sample[:_TESTED_ROWS], other.sample[:_TESTED_ROWS]
    energy, p_value = _energy(ours, theirs, space.random(3))
    auc = _auc(ours, theirs, space.seed)
    distances, far, unrelated = _distances(space, other)
    order = np.argsort(-distances, kind="stable")[:_LISTED]
    return Drift(
        differs=p_value <= alpha,
        p_value=p_value,
        alpha=alpha,
        energy=energy,
        auc=auc,
        auc_std=_auc_std(auc, len(ours), len(theirs)),
        centroid_cosine=_cosine(
            space.sample.mean(axis=0, dtype=np.float64), other.sample.mean(axis=0, dtype=np.float64)
        ),
        far_share=float(np.mean(distances > far)),
        unrelated_share=float(np.mean(distances > unrelated)),
        far_rows=tuple(int(other.sample_rows[at]) for at in order if distances[at] > far),
        compared=(len(ours), len(theirs)),
        looked_up=len(distances),
    )


def _check(space: Space, other: Space, alpha: float) -> None:
    if not 0 < alpha < 1:
        raise InvalidInputError(f"alpha is {alpha}; expected a rate between 0 and 1")
    if space.metric is not other.metric:
        raise InvalidInputError(
            f"the sets are compared by {space.metric.value} and {other.metric.value}; give both "
            "the same metric"
        )
    if space.dimension != other.dimension:
        raise DimensionMismatchError(
            expected=space.dimension,
            got=other.dimension,
            what="the other set",
            other="the reference rows",
        )
    for one in (space, other):
        one.require(_FEWEST_ROWS, "drift")


def _energy(
    ours: NDArray[np.float32], theirs: NDArray[np.float32], rng: np.random.Generator
) -> tuple[float, float]:
    """Return the energy distance as a share, and its p-value by permutation."""
    rows = np.vstack([ours, theirs])
    table = distance_table(rows, rows).astype(np.float32)
    first, second = len(ours), len(theirs)
    members = np.zeros((len(rows), _PERMUTATIONS + 1), dtype=np.float32)
    members[:first, 0] = 1  # the division as it is
    for column in range(1, _PERMUTATIONS + 1):
        members[rng.permutation(len(rows))[:first], column] = 1
    sums = table @ members
    inside = np.einsum("ij,ij->j", members, sums, dtype=np.float64)
    across = sums.sum(axis=0, dtype=np.float64) - inside
    outside = float(table.sum(dtype=np.float64)) - inside - 2 * across
    distances = 2 * across / (first * second) - inside / first**2 - outside / second**2
    larger = np.count_nonzero(distances[1:] >= distances[0] * (1 - 1e-6))
    scale = 2 * across[0] / (first * second)
    energy = float(max(distances[0], 0) / scale) if scale > 0 else 0.0
    return energy, float((1 + larger) / (1 + _PERMUTATIONS))


def _auc(ours: NDArray[np.float32], theirs: NDArray[np.float32], seed: int) -> float:
    """Return the area under the ROC curve of rows classified by a model that did not see them."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    rows = np.vstack([ours, theirs]).astype(np.float64)
    truth = np.repeat([0, 1], [len(ours), len(theirs)])
    model = make_pipeline(
        StandardScaler(),
        LogisticRegression(C=_REGULARISATION, class_weight="balanced", max_iter=300, tol=1e-3),
    )
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed % 2**32)
    with threadpool_limits(1):
        by_fold = cross_val_score(model, rows, truth, cv=folds, scoring="roc_auc")
    return float(by_fold.mean())  # answers of different models are on different scales


def _auc_std(auc: float, first: int, second: int) -> float:
    """Return the standard error after Hanley and McNeil (1982, Radiology 143:29)."""
    both = auc * (1 - auc)
    one = auc / (2 - auc) - auc**2
    two = 2 * auc**2 / (1 + auc) - auc**2
    return float(np.sqrt(max(both + (second - 1) * one + (first - 1) * two, 0) / (first * second)))


def _distances(space: Space, other: Space) -> tuple[NDArray[np.float64], float, float]:
    """Return other rows' distances to the nearest of all here, and which are far and unrelated."""
    rows = other.sample[: space.affordable(_WORK)]
    nobody = np.full(len(rows), -1)
    found = nearest(rows, space.blocks(), 1, own=nobody, take=space.take)
    near = space.probes.distances
    is_other = space.similarity(near) < _COPIES
    usual = near[np.arange(len(near)), is_other.argmax(axis=1)][is_other.any(axis=1)]
    far = float(np.quantile(usual, _FAR)) if len(usual) else 0.0
    return found.distances[:, 0], far, max(far, _quantile(space.pair_distances, _UNRELATED))


def _quantile(ascending: NDArray[np.float64], share: float) -> float:
    return float(ascending[int(share * (len(ascending) - 1))])


def _cosine(left: NDArray[np.float64], right: NDArray[np.float64]) -> float | None:
    lengths = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(left @ right / lengths) if lengths > _NO_DIRECTION else None
