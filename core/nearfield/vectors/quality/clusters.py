"""The groups that the rows fall into, if they do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.vectors.outliers import OUTLIER_SCORE
from nearfield.vectors.quality.pairs import distance_table
from nearfield.vectors.quality.space import NotMeasurableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.vectors.quality.space import Space

__all__ = ["Cluster", "Clusters", "clusters"]

_TRIED = (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50)
_FEWEST_ROWS = 10
_FEWEST_PER_CLUSTER = 3
_FITTED_ROWS = 4_000
_SILHOUETTE_ROWS = 1_500
_STARTS = 3
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Cluster:
    """One group.

    Attributes:
        share: Its share of the sampled rows.
        centre_row: The position of the row nearest to its centre.
        silhouette: The mean silhouette of its rows; None where none of them was measured.
    """

    share: float
    centre_row: int
    silhouette: float | None


@dataclass(frozen=True, slots=True)
class Clusters:
    """A clustering by k-means.

    Attributes:
        k: The number of clusters: what was asked for, or that with the largest silhouette.
        silhouette: The mean silhouette, in [−1, 1]. Above .5 groups are clear, below .25 there are
            hardly any (Kaufman and Rousseeuw, 1990); embeddings of text are seldom above .2.
        silhouette_std: Its standard error, for the clusters as they are.
        tried: Pairs of k and its silhouette.
        clusters: The groups, the largest first.
        assignments: The cluster of each sampled row, shape (sample,).
    """

    k: int
    silhouette: float
    silhouette_std: float
    tried: tuple[tuple[int, float], ...]
    clusters: tuple[Cluster, ...]
    assignments: NDArray[np.int64] = field(repr=False, compare=False)


def clusters(space: Space, *, k: int | None = None) -> Clusters:
    """Cluster the sampled rows by k-means, and say how clear the clusters are.

    k-means++ from three starts on up to 4,000 rows, outliers left out, which would make clusters of
    their own. A row's silhouette is (b − a) / max(a, b), where a is its mean distance to the other
    rows of its cluster and b that to the rows of the next nearest cluster (Rousseeuw, 1987, Journal
    of Computational and Applied Mathematics 20:53); its mean is taken over up to 1,500 rows.

    Args:
        space: The vectors.
        k: How many clusters; None tries 2 to 50 and keeps that with the largest silhouette.

    Raises:
        NotMeasurableError: Fewer than 10 rows or not three for each cluster, or all equal.
    """
    space.require(_FEWEST_ROWS, "clusters")
    space.require_spread("clusters")
    rows = _typical(space)[:_FITTED_ROWS]
    vectors = space.sample[rows]
    different = len(np.unique(vectors.round(_DIGITS), axis=0))
    most = min(len(rows) // _FEWEST_PER_CLUSTER, different - 1)
    candidates = [k] if k is not None else [tried for tried in _TRIED if tried <= most]
    if not candidates or not 1 < candidates[0] <= most:
        raise NotMeasurableError(
            f"clusters: {k or 2} clusters of {different} different rows cannot be judged"
        )
    table = distance_table(vectors[:_SILHOUETTE_ROWS], vectors[:_SILHOUETTE_ROWS])
    fitted = [_fit(vectors, table, candidate, space.seed) for candidate in candidates]
    best = max(fitted, key=lambda fit: fit.silhouettes.mean())
    return _describe(space, best, [(fit.k, float(fit.silhouettes.mean())) for fit in fitted])


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    k: int
    centres: NDArray[np.float32]
    labels: NDArray[np.int64]
    silhouettes: NDArray[np.float64]


def _fit(vectors: NDArray[np.float32], table: NDArray[np.float64], k: int, seed: int) -> _Fit:
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # sums of several threads depend on which is first
        kmeans: Any = KMeans  # its types take n_init for text
        model = kmeans(k, n_init=_STARTS, random_state=seed % 2**32).fit(vectors)
    labels = model.labels_.astype(np.int64)
    return _Fit(k, model.cluster_centers_, labels, _silhouettes(table, labels[: len(table)], k))


def _silhouettes(
    table: NDArray[np.float64], labels: NDArray[np.int64], k: int
) -> NDArray[np.float64]:
    """Return the silhouette of each row; 0 where it is alone in its cluster."""
    members = np.eye(k)[labels]
    sizes = members.sum(axis=0)
    sums = table @ members  # of the distances to the rows of each cluster
    own = np.arange(len(labels)), labels
    alone = sizes[labels] <= 1
    inner = sums[own] / np.maximum(sizes[labels] - 1, 1)
    means = np.where(sizes > 0, sums / np.maximum(sizes, 1), np.inf)
    means[own] = np.inf
    outer = means.min(axis=1)
    largest = np.maximum(inner, outer)
    valid = ~alone & np.isfinite(outer) & (largest > 0)
    found = np.zeros(len(labels))
    found[valid] = (outer[valid] - inner[valid]) / largest[valid]
    return found


def _typical(space: Space) -> NDArray[np.int64]:
    """Return the places in the sample of the rows that are no outliers."""
    return np.flatnonzero(space.isolation_scores <= OUTLIER_SCORE)


def _describe(space: Space, best: _Fit, tried: list[tuple[int, float]]) -> Clusters:
    distances = distance_table(space.sample, best.centres.astype(np.float32))
    nearest = distances.argmin(axis=1)
    order = np.argsort(-np.bincount(nearest, minlength=best.k), kind="stable")
    rank = np.argsort(order)
    measured = best.labels[: len(best.silhouettes)]
    return Clusters(
        k=best.k,
        silhouette=float(best.silhouettes.mean()),
        silhouette_std=float(best.silhouettes.std() / np.sqrt(len(best.silhouettes))),
        tried=tuple(tried),
        clusters=tuple(
            Cluster(
                share=float(np.mean(nearest == cluster)),
                centre_row=int(space.sample_rows[distances[:, cluster].argmin()]),
                silhouette=float(best.silhouettes[measured == cluster].mean())
                if (measured == cluster).any()
                else None,
            )
            for cluster in order
        ),
        assignments=rank[nearest],
    )
