"""Everything measured of an embedding space at once, and what of it matters."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from nearfield.documents import Metric
from nearfield.errors import InvalidInputError
from nearfield.vectors.quality.clusters import Clusters, clusters
from nearfield.vectors.quality.coherence import (
    Coherence,
    LabelCoherence,
    coherence,
    label_coherence,
)
from nearfield.vectors.quality.dimension_efficiency import DimensionEfficiency, dimension_efficiency
from nearfield.vectors.quality.distances import DistanceStatistics, distance_statistics
from nearfield.vectors.quality.drift import Drift, drift
from nearfield.vectors.quality.duplicates import Duplicates, duplicates
from nearfield.vectors.quality.findings import Context, Finding, findings_of
from nearfield.vectors.quality.hubness import Hubness, hubness
from nearfield.vectors.quality.intrinsic_dimension import IntrinsicDimension, intrinsic_dimension
from nearfield.vectors.quality.isotropy import Isotropy, isotropy
from nearfield.vectors.quality.outliers import OutlierStatistics, outliers
from nearfield.vectors.quality.space import DEFAULT_SAMPLE, NotMeasurableError, Space

__all__ = ["QualityReport", "assess"]

_ZERO_ROWS_NAMED = 10
_ROWS_NAMED = {"row": "id", "rows": "ids", "centre_row": "centre_id", "far_rows": "far_ids"}
"""What stands beside positions in the report, by the field that holds them."""


@dataclass(frozen=True, slots=True)
class QualityReport:
    """The quality of an embedding space.

    Attributes:
        rows: How many vectors there are.
        dimension: Of each.
        metric: What they are compared by.
        sample: How many of them were compared with each other.
        probes: How many of these were compared with all.
        neighbours: How many nearest rows were looked at.
        seed: What the samples were drawn by.
        zero_rows: How many rows have no length.
        duplicates: Equal and nearly equal rows.
        intrinsic_dimension: None where it is not defined, as all that follow; see ``skipped``.
        dimension_efficiency: How much of the dimension is used.
        isotropy: Whether rows point everywhere.
        hubness: Whether some rows are everyone's neighbours.
        coherence: Whether neighbours are alike.
        label_coherence: Whether neighbours have the same label, where there are labels.
        distances: Distances and density.
        outliers: Rows far from all others.
        clusters: Groups.
        drift: The difference to another set, where one was given.
        skipped: Why a measure is None.
        findings: What matters, in words: warnings first.
        ids: The ids of the rows that are mentioned, by position; empty where no ids were given.
        against_ids: The same for the other set.
    """

    rows: int
    dimension: int
    metric: Metric
    sample: int
    probes: int
    neighbours: int
    seed: int
    zero_rows: int
    duplicates: Duplicates
    intrinsic_dimension: IntrinsicDimension | None
    dimension_efficiency: DimensionEfficiency | None
    isotropy: Isotropy | None
    hubness: Hubness | None
    coherence: Coherence | None
    label_coherence: LabelCoherence | None
    distances: DistanceStatistics | None
    outliers: OutlierStatistics | None
    clusters: Clusters | None
    drift: Drift | None
    skipped: Mapping[str, str]
    findings: tuple[Finding, ...]
    ids: Mapping[int, str]
    against_ids: Mapping[int, str]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; beside positions stand the ids, where they are known."""
        values = {
            field.name: _plain(getattr(self, field.name), self.ids)
            for field in fields(self)
            if field.name not in {"ids", "against_ids", "drift"}
        }
        return {**values, "drift": _plain(self.drift, self.against_ids)}


def assess(
    vectors: object,
    *,
    labels: Sequence[Hashable | None] | None = None,
    ids: Sequence[str] | None = None,
    against: object | None = None,
    against_ids: Sequence[str] | None = None,
    metric: Metric | str = Metric.COSINE,
    sample: int = DEFAULT_SAMPLE,
    neighbours: int = 10,
    clusters_wanted: int | None = None,
    near: float = 0.98,
    alpha: float = 0.01,
    seed: int = 0,
) -> QualityReport:
    """Measure an embedding space: all measures, and findings in words.

    Exact duplicates are looked for among all rows; what needs neighbours, for some rows among all;
    the rest within a sample. A million rows of 384 dimensions take about 20 s of one core and,
    beside the vectors, 250 MB.

    Args:
        vectors: Numbers of shape (n, dimension), n at least 1; or a :class:`Space`, whose metric,
            sample, neighbours and seed are then taken.
        labels: What each row is, for the agreement of neighbours; None where a row has none.
        ids: What to call each row.
        against: Another set to compare with, such as queries: numbers of shape (m, dimension), or a
            :class:`Space`.
        against_ids: What to call each row of it.
        metric: How the vectors are compared in a search.
        sample: Rows that are compared with each other.
        neighbours: Nearest rows that are looked at from each row.
        clusters_wanted: How many clusters; None chooses by silhouette.
        near: The similarity from which rows are near-duplicates.
        alpha: The rate of false alarms of drift to accept.
        seed: What samples are drawn by; the same seed gives the same report.

    Raises:
        InvalidVectorError: Not a matrix of finite numbers.
        InvalidInputError: No rows, a bad option, or labels or ids that are not one for each row.
        DimensionMismatchError: The other set has another dimension.
        MissingDependencyError: scikit-learn or scipy is not installed.
    """
    options: Any = {"metric": metric, "sample": sample, "neighbours": neighbours, "seed": seed}
    space = vectors if isinstance(vectors, Space) else Space(vectors, **options)
    other = against
    if against is not None and not isinstance(against, Space):
        options = {**options, "metric": space.metric, "seed": space.seed}
        other = Space(against, **options)
    for given, of, what in (
        (ids, space, "ids"),
        (labels, space, "labels"),
        (against_ids, other, "against_ids"),
    ):
        if given is not None and (not isinstance(of, Space) or len(given) != of.rows):
            rows = of.rows if isinstance(of, Space) else 0
            raise InvalidInputError(f"{len(given):,} {what} for {rows:,} rows; give one for each")
    skipped: dict[str, str] = {}
    wanted = _Wanted(labels, clusters_wanted, near, alpha)
    parts = _measure(space, other, wanted, skipped)
    far = parts["drift"].far_rows if parts["drift"] else ()
    context = Context(
        space.rows,
        _names(ids, [*_mentioned(parts), *space.zero_rows[:_ZERO_ROWS_NAMED].tolist()]),
        _names(against_ids, far),
    )
    return QualityReport(
        rows=space.rows,
        dimension=space.dimension,
        metric=space.metric,
        sample=len(space.sample_rows),
        probes=parts["duplicates"].probes,
        neighbours=space.k,
        seed=space.seed,
        zero_rows=len(space.zero_rows),
        **parts,
        skipped=skipped,
        findings=findings_of(parts, space.zero_rows.tolist(), context),
        ids=context.ids,
        against_ids=context.against_ids,
    )


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The options of single measures."""

    labels: Sequence[Hashable | None] | None
    clusters: int | None
    near: float
    alpha: float


def _measure(
    space: Space, other: object, wanted: _Wanted, skipped: dict[str, str]
) -> dict[str, Any]:
    """Measure everything by the report's names; why something cannot be goes into ``skipped``."""
    measures: dict[str, Callable[[], Any]] = {
        "duplicates": lambda: duplicates(space, near=wanted.near),
        "intrinsic_dimension": lambda: intrinsic_dimension(space),
        "dimension_efficiency": lambda: dimension_efficiency(space),
        "isotropy": lambda: isotropy(space),
        "hubness": lambda: hubness(space),
        "coherence": lambda: coherence(space),
        "label_coherence": lambda: (
            None if wanted.labels is None else label_coherence(space, wanted.labels)
        ),
        "distances": lambda: distance_statistics(space),
        "outliers": lambda: outliers(space),
        "clusters": lambda: clusters(space, k=wanted.clusters),
        "drift": lambda: (
            drift(space, other, alpha=wanted.alpha) if isinstance(other, Space) else None
        ),
    }
    parts: dict[str, Any] = {}
    for name, measure in measures.items():
        try:
            parts[name] = measure()
        except NotMeasurableError as error:
            parts[name] = None
            skipped[name] = str(error)
    return parts


def _mentioned(parts: Mapping[str, Any]) -> list[int]:
    """Return the positions of the rows that some measure names."""
    rows: list[int] = []
    for group in (*parts["duplicates"].exact_groups, *parts["duplicates"].near_groups):
        rows += group.rows
    if parts["hubness"] is not None:
        rows += [hub.row for hub in parts["hubness"].hubs]
    if parts["outliers"] is not None:
        rows += [outlier.row for outlier in parts["outliers"].listed]
    if parts["clusters"] is not None:
        rows += [cluster.centre_row for cluster in parts["clusters"].clusters]
    return rows


def _names(ids: Sequence[str] | None, rows: Iterable[int]) -> dict[int, str]:
    return {} if ids is None else {row: str(ids[row]) for row in rows}


def _plain(value: Any, ids: Mapping[int, str]) -> Any:
    """Turn a value into what JSON holds; arrays, which are as long as the sample, are left out."""
    if is_dataclass(value) and not isinstance(value, type):
        plain: dict[str, Any] = {}
        for field in fields(value):
            held = getattr(value, field.name)
            if isinstance(held, np.ndarray):
                continue
            plain[field.name] = _plain(held, ids)
            named = _ROWS_NAMED.get(field.name)
            if named and ids:
                plain[named] = (
                    [ids[row] for row in held] if isinstance(held, tuple) else ids.get(held)
                )
        return plain
    if isinstance(value, Mapping):
        return {str(key): _plain(held, ids) for key, held in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(held, ids) for held in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value)
