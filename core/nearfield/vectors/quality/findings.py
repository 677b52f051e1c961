"""What of the measures matters, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from nearfield.vectors.quality.meanings import MEANINGS

if TYPE_CHECKING:
    from nearfield.vectors.quality.clusters import Clusters
    from nearfield.vectors.quality.coherence import Coherence, LabelCoherence
    from nearfield.vectors.quality.dimension_efficiency import DimensionEfficiency
    from nearfield.vectors.quality.distances import DistanceStatistics
    from nearfield.vectors.quality.drift import Drift
    from nearfield.vectors.quality.duplicates import Duplicates
    from nearfield.vectors.quality.hubness import Hubness
    from nearfield.vectors.quality.intrinsic_dimension import IntrinsicDimension
    from nearfield.vectors.quality.isotropy import Isotropy
    from nearfield.vectors.quality.outliers import OutlierStatistics

__all__ = ["Context", "Finding", "Level", "findings_of"]

_NAMED = 3
_LONGEST_NAME = 60
_FEWEST_ROWS = 50
_UNIQUE = 0.3
"""Of the labelled rows: with more labels, neighbours can hardly agree."""
_JUDGED_OF_FEW = frozenset({"duplicates", "drift", "outliers"})


class Level(StrEnum):
    """How much a finding matters."""

    WARNING = "warning"
    """Searches suffer; something should be done."""
    NOTE = "note"
    """Worth knowing."""
    GOOD = "good"
    """As it should be."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that the measures say.

    Attributes:
        level: How much it matters.
        measure: The measure's place in the report, such as ``"hubness.skewness"``.
        text: What is the case.
        advice: What to do; empty for what is good.
    """

    level: Level
    measure: str
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """What findings are worded with.

    Attributes:
        rows: How many rows there are.
        ids: What the mentioned rows are called.
        against_ids: What those of the other set are called.
    """

    rows: int
    ids: Mapping[int, str]
    against_ids: Mapping[int, str]

    @property
    def noun(self) -> str:
        """What a row is called."""
        return "documents" if self.ids else "rows"

    def named(self, rows: Iterable[int]) -> str:
        """Name the first of some rows."""
        return _listed(rows, self.ids)


def _listed(rows: Iterable[int], ids: Mapping[int, str]) -> str:
    names = [ids.get(row, f"row {row}") for row in rows]
    short = [
        name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…" for name in names
    ]
    return ", ".join(short[:_NAMED]) + (" and others" if len(short) > _NAMED else "")


def findings_of(
    parts: Mapping[str, Any], zero_rows: Sequence[int], context: Context
) -> tuple[Finding, ...]:
    """Word what the measures say, warnings first; measures that are None say nothing."""
    found = list(_zeros(zero_rows, context))
    few = context.rows < _FEWEST_ROWS
    for name, judge in _JUDGES.items():
        if parts.get(name) is not None and not (few and name not in _JUDGED_OF_FEW):
            found += judge(parts[name], context)
    if few:
        text = f"{context.rows} {context.noun}: too few to judge the space; {_FEWEST_ROWS} will do."
        found.append(Finding(Level.NOTE, "rows", text))
    order = list(Level)
    return tuple(sorted(found, key=lambda finding: order.index(finding.level)))


def _finding(level: Level, measure: str, text: str) -> Finding:
    advice = "" if level is Level.GOOD else MEANINGS[measure].advice
    return Finding(level, measure, text, advice)


def _zeros(rows: Sequence[int], context: Context) -> Iterator[Finding]:
    if rows:
        yield Finding(
            Level.WARNING,
            "zero_rows",
            f"Vectors of zeros ({len(rows):,}): {context.named(rows)}.",
            "No search by cosine finds them. Embed them again, or delete them if they are empty.",
        )


def _duplicates(found: Duplicates, context: Context) -> Iterator[Finding]:
    if found.exact:
        level = Level.WARNING if found.exact_share >= 0.02 else Level.NOTE  # noqa: PLR2004
        yield _finding(
            level,
            "duplicates.exact_share",
            f"{_percent(found.exact_share)} of the {context.noun} ({found.exact:,}) repeat another "
            f"exactly: {context.named(found.exact_groups[0].rows)}.",
        )
    if found.near_share > 0:
        level = Level.WARNING if found.near_low >= 0.05 else Level.NOTE  # noqa: PLR2004
        sure = (
            ""
            if found.near_low == found.near_high
            else f" (95 % interval {_percent(found.near_low)} to {_percent(found.near_high)})"
        )
        yield _finding(
            level,
            "duplicates.near_share",
            f"{_percent(found.near_share)} of the {context.noun}{sure} have a near-duplicate, of "
            f"similarity {found.near:g} or more: {context.named(found.near_groups[0].rows)}.",
        )
    if not found.exact and found.near_share == 0:
        yield _finding(Level.GOOD, "duplicates.exact_share", "No duplicates were found.")


def _intrinsic_dimension(found: IntrinsicDimension, context: Context) -> Iterator[Finding]:
    if found.two_nn < 5 and context.rows >= 1_000:  # noqa: PLR2004
        yield _finding(
            Level.NOTE,
            "intrinsic_dimension.two_nn",
            f"Near each other, {context.noun} vary in about {found.two_nn:.1f} directions only.",
        )


def _efficiency(found: DimensionEfficiency, context: Context) -> Iterator[Finding]:
    dimension = round(found.effective_rank / found.efficiency)
    if found.efficiency < 0.1 and context.rows > dimension:  # noqa: PLR2004
        yield _finding(
            Level.NOTE,
            "dimension_efficiency.efficiency",
            f"Of {dimension:,} dimensions, {found.effective_rank:.0f} are effectively used; "
            f"{found.components_99:,} principal components hold 99 % of the variance.",
        )


def _isotropy(found: Isotropy, context: Context) -> Iterator[Finding]:
    if found.mean_cosine > 0.5:  # noqa: PLR2004
        yield _finding(
            Level.WARNING,
            "isotropy.mean_cosine",
            f"All {context.noun} point the same way: two random ones have a cosine of "
            f"{found.mean_cosine:.2f} on average.",
        )
    elif abs(found.mean_cosine) < 0.1:  # noqa: PLR2004
        yield _finding(
            Level.GOOD,
            "isotropy.mean_cosine",
            f"Directions are even: two random {context.noun} have a cosine of "
            f"{_number(found.mean_cosine)} on average.",
        )
    if found.iso_score < 0.02:  # noqa: PLR2004
        yield _finding(
            Level.NOTE,
            "isotropy.iso_score",
            f"A few directions hold most of the variance (IsoScore {found.iso_score:.3f}).",
        )


def _hubness(found: Hubness, context: Context) -> Iterator[Finding]:
    if found.skewness > 2.5:  # noqa: PLR2004
        largest = found.hubs[0]
        yield _finding(
            Level.WARNING,
            "hubness.skewness",
            f"A few {context.noun} are near very many others (skewness {found.skewness:.1f}): "
            f"{context.named([largest.row])} is among the {found.k} nearest of "
            f"{largest.occurrences:,} of {found.rows:,}.",
        )
    elif found.skewness < 1:
        yield _finding(
            Level.GOOD,
            "hubness.skewness",
            f"No hubs were found (skewness {_number(found.skewness)}).",
        )
    if found.anti_hubs > 0.2:  # noqa: PLR2004
        yield _finding(
            Level.NOTE,
            "hubness.anti_hubs",
            f"{_percent(found.anti_hubs)} of the {context.noun} are among the {found.k} nearest of "
            "no other.",
        )


def _coherence(found: Coherence, context: Context) -> Iterator[Finding]:
    compared = f"{_number(found.nearest)} with neighbours, {_number(found.random)} at random"
    if found.score < 0.15:  # noqa: PLR2004
        yield _finding(
            Level.WARNING,
            "coherence.score",
            f"Neighbours are hardly more alike than random {context.noun} (similarity {compared}).",
        )
    elif found.score > 0.3:  # noqa: PLR2004
        yield _finding(
            Level.GOOD, "coherence.score", f"Neighbours are alike (similarity {compared})."
        )


def _labels(found: LabelCoherence, context: Context) -> Iterator[Finding]:
    if found.labels > _UNIQUE * found.labelled * context.rows:
        yield _finding(
            Level.NOTE,
            "label_coherence.adjusted",
            f"The label has {found.labels:,} values, nearly one for each of the {context.noun}: "
            "too many for neighbours to share.",
        )
        return
    said = (
        f"{_percent(found.agreement)} of the neighbours of labelled {context.noun} have the same "
        f"label, {_percent(found.chance)} would by chance"
    )
    if found.adjusted >= 0.5:  # noqa: PLR2004
        yield _finding(Level.GOOD, "label_coherence.adjusted", f"{said}.")
        return
    weakest = ", ".join(_label(one.label) for one in found.weakest[:_NAMED])
    level = Level.WARNING if found.adjusted < 0.1 else Level.NOTE  # noqa: PLR2004
    yield _finding(
        level, "label_coherence.adjusted", said + (f"; least: {weakest}." if weakest else ".")
    )


def _label(label: object) -> str:
    text = str(label)
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"


def _distances(found: DistanceStatistics, context: Context) -> Iterator[Finding]:
    if found.relative_contrast is not None and found.relative_contrast < 1.15:  # noqa: PLR2004
        yield _finding(
            Level.WARNING,
            "distances.relative_contrast",
            f"The nearest of all {context.noun} is hardly nearer than a random one (relative "
            f"contrast {found.relative_contrast:.2f}).",
        )
    if found.density_ratio is not None and found.density_ratio > 3:  # noqa: PLR2004
        yield _finding(
            Level.NOTE,
            "distances.density_ratio",
            f"Density differs much: the neighbours of the loneliest twentieth are "
            f"{found.density_ratio:.1f} times as far as those of the most crowded.",
        )


def _outliers(found: OutlierStatistics, context: Context) -> Iterator[Finding]:
    if found.count:
        level = Level.WARNING if found.share > 0.03 else Level.NOTE  # noqa: PLR2004
        yield _finding(
            level,
            "outliers.share",
            f"{_percent(found.share)} of the {context.noun} looked at ({found.count:,}) are far "
            f"from all others: {context.named(one.row for one in found.listed)}.",
        )
    else:
        yield _finding(Level.GOOD, "outliers.share", "No outliers were found.")


def _clusters(found: Clusters, context: Context) -> Iterator[Finding]:
    more = len(found.tried) > 1 and found.k == max(k for k, _ in found.tried)
    count = f"{found.k} or more" if more else str(found.k)
    if found.silhouette > 0.1:  # noqa: PLR2004
        how = "clearly" if found.silhouette > 0.5 else "loosely"  # noqa: PLR2004
        said = f"fall {how} into {count} groups (silhouette {found.silhouette:.2f})"
    else:
        said = f"fall into no clear groups (silhouette {found.silhouette:.2f}, of {count} groups)"
    yield _finding(Level.NOTE, "clusters.silhouette", f"The {context.noun} {said}.")


def _drift(found: Drift, context: Context) -> Iterator[Finding]:
    p_value = f"p = {found.p_value:.3f}"
    if not found.differs:
        text = f"The other set is not found to differ ({p_value})."
        yield _finding(Level.GOOD, "drift.energy", text)
    else:
        yield _finding(
            Level.NOTE,
            "drift.auc",
            f"The other set differs ({p_value}); a classifier tells the two apart with an AUC of "
            f"{found.auc:.2f}.",
        )
    farthest = _listed(found.far_rows, context.against_ids)
    if found.unrelated_share > 0.05:  # noqa: PLR2004
        yield _finding(
            Level.WARNING,
            "drift.unrelated_share",
            f"{_percent(found.unrelated_share)} of the other set are as far from all "
            f"{context.noun} as random ones are from each other: {farthest}.",
        )
    elif found.far_share > 0.05:  # noqa: PLR2004
        yield _finding(
            Level.NOTE,
            "drift.far_share",
            f"{_percent(found.far_share)} of the other set are farther from all {context.noun} "
            f"than 99 % of these are from their nearest: {farthest}.",
        )


def _number(value: float) -> str:
    return f"{round(value, 2) + 0:.2f}"  # no −0


def _percent(share: float) -> str:
    percent = 100 * share
    digits = 0 if percent >= 10 or percent == 0 else 1 if percent >= 1 else 2  # noqa: PLR2004
    return f"{percent:.{digits}f} %" if percent >= 0.01 or percent == 0 else "under 0.01 %"  # noqa: PLR2004


_JUDGES: dict[str, Callable[[Any, Context], Iterator[Finding]]] = {
    "duplicates": _duplicates,
    "drift": _drift,
    "isotropy": _isotropy,
    "coherence": _coherence,
    "label_coherence": _labels,
    "distances": _distances,
    "hubness": _hubness,
    "outliers": _outliers,
    "intrinsic_dimension": _intrinsic_dimension,
    "dimension_efficiency": _efficiency,
    "clusters": _clusters,
}
