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
_FAR = 0.99
_NO_DIRECTION = 1e-12


@dataclass(frozen=True, slots=True)
class Drift:
    """How another set of vectors differs from this one.

    Attributes:
        differs: Whether ``p_value`` is at most ``alpha``.
        p_value: The probability of so large an energy distance between two samples of one
            distribution.
        alpha: The rate of false alarms that was accepted.
        energy: The energy distance over the mean distance of a row of one set to a row of the
            other, in [0, 1]: 0 for equal distributions.
        auc: How well a linear classifier tells the sets apart: .5 not at all, 1 always.
        auc_std: Its standard error.
        centroid_cosine: The cosine of the two mean rows, in [−1, 1]; None where one has no length.
        far_share: The share of the other rows that are farther from their nearest row here than 99
            % of the rows here are: about .01 without drift.
        far_rows: The positions in the other set of the farthest of them, at most ten.
        compared: How many rows of each set were compared: here, there.
    """

    differs: bool
    p_value: float
    alpha: float
    energy: float
    auc: float
    auc_std: float
    centroid_cosine: float | None
    far_share: float
    far_rows: tuple[int, ...]
    compared: tuple[int, int]


def drift(space: Space, other: Space, *, alpha: float = 0.01) -> Drift:
    """Compare two sets of vectors, such as documents and the queries that are asked of them.

    Energy distance: 2 E‖x − y‖ − E‖x − x′‖ − E‖y − y′‖ between up to 1,000 rows of each, divided by
    2 E‖x − y‖; its p-value from 999 random divisions of all these rows (Székely and Rizzo, 2013,
    Journal of Statistical Planning and Inference 143:1249). Classifier: logistic regression on
    standardised rows, the AUC of its answers on folds it was not fitted to, of five (Lopez-Paz and
    Oquab, 2017, ICLR); the standard error after Hanley and McNeil (1982). The test says whether
    there is a difference, the AUC and the share of far rows whether it matters.

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
    far = _far(space, other)
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
        far_share=float(np.mean(far > 1)),
        far_rows=tuple(
            int(other.sample_rows[at])
            for at in np.argsort(-far, kind="stable")[:_LISTED]
            if far[at] > 1
        ),
        compared=(len(ours), len(theirs)),
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
            expected=space.dimension, got=other.dimension, what="the set compared with"
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
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
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
        scores = cross_val_predict(model, rows, truth, cv=folds, method="decision_function")
    return float(roc_auc_score(truth, scores))


def _auc_std(auc: float, first: int, second: int) -> float:
    """Return the standard error after Hanley and McNeil (1982, Radiology 143:29)."""
    both = auc * (1 - auc)
    one = auc / (2 - auc) - auc**2
    two = 2 * auc**2 / (1 + auc) - auc**2
    return float(np.sqrt(max(both + (second - 1) * one + (first - 1) * two, 0) / (first * second)))


def _far(space: Space, other: Space) -> NDArray[np.float64]:
    """Return how far each other row is from its nearest here, in units of what is far here."""
    places = np.arange(len(space.sample))
    found = nearest(
        other.sample,
        [(places, space.sample)],
        1,
        own=np.full(len(other.sample), -1),
        take=space.sample.__getitem__,
    )
    usual = float(np.quantile(space.neighbours.distances[:, 0], _FAR))
    distances = found.distances[:, 0]
    return distances / usual if usual > 0 else np.where(distances > 0, np.inf, 0.0)


def _cosine(left: NDArray[np.float64], right: NDArray[np.float64]) -> float | None:
    lengths = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(left @ right / lengths) if lengths > _NO_DIRECTION else None
