"""A report as a table: what was measured, how sure it is, and what it means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nearfield.vectors.quality.meanings import MEANINGS, Meaning

if TYPE_CHECKING:
    from nearfield.vectors.quality.findings import Level
    from nearfield.vectors.quality.report import QualityReport

__all__ = ["Line", "lines_of"]


@dataclass(frozen=True, slots=True)
class Line:
    """One measure of a report.

    Attributes:
        measure: Its place in the report.
        meaning: What it is.
        value: Its value in words, with the standard error or interval where it was sampled.
        level: How much the finding about it matters; None where there is none.
    """

    measure: str
    meaning: Meaning
    value: str
    level: Level | None


def lines_of(report: QualityReport) -> list[Line]:
    """List the measures that a report has, in the order of :data:`MEANINGS`."""
    levels: dict[str, Level] = {}
    for finding in report.findings:
        levels.setdefault(finding.measure, finding.level)
    lines = []
    for measure, meaning in MEANINGS.items():
        part = getattr(report, measure.partition(".")[0])
        if part is None:
            continue
        value = _VALUES[measure](part)
        if value is not None:
            lines.append(Line(measure, meaning, value, levels.get(measure)))
    return lines


def _share(value: float) -> str:
    return f"{100 * value:.2f} %"


def _near(found: Any) -> str:
    share = _share(found.near_share)
    if found.near_low == found.near_high:
        return share
    return f"{share} ({_share(found.near_low)} to {_share(found.near_high)})"


def _sure(value: float, error: float, digits: int = 3) -> str:
    return f"{round(value, digits) + 0:.{digits}f} ± {error:.{digits}f}"


_VALUES: dict[str, Callable[[Any], str | None]] = {
    "duplicates.exact_share": lambda found: f"{_share(found.exact_share)} ({found.exact:,})",
    "duplicates.near_share": _near,
    "intrinsic_dimension.two_nn": lambda found: _sure(found.two_nn, found.two_nn_std, 1),
    "intrinsic_dimension.correlation": lambda found: _sure(
        found.correlation, found.correlation_std, 1
    ),
    "dimension_efficiency.efficiency": lambda found: (
        f"{_sure(found.efficiency, found.efficiency_std)}, effective rank "
        f"{found.effective_rank:.0f}; 99 % of the variance in {found.components_99}"
    ),
    "isotropy.mean_cosine": lambda found: _sure(found.mean_cosine, found.mean_cosine_std),
    "isotropy.iso_score": lambda found: f"{found.iso_score:.3f}",
    "hubness.skewness": lambda found: _sure(found.skewness, found.skewness_std, 2),
    "hubness.anti_hubs": lambda found: _share(found.anti_hubs),
    "coherence.score": lambda found: (
        f"{_sure(found.score, found.score_std)}: {found.nearest:.3f} with neighbours, "
        f"{round(found.random, 3) + 0:.3f} at random"
    ),
    "label_coherence.adjusted": lambda found: (
        f"{found.adjusted:.3f}: {_share(found.agreement)} ± {_share(found.agreement_std)} agree, "
        f"{_share(found.chance)} by chance"
    ),
    "distances.relative_contrast": lambda found: (
        None
        if found.relative_contrast is None
        else _sure(found.relative_contrast, found.relative_contrast_std)
    ),
    "distances.density_ratio": lambda found: (
        None if found.density_ratio is None else f"{found.density_ratio:.2f}"
    ),
    "outliers.share": lambda found: (
        _share(found.share) + (f" ± {_share(found.share_std)}" if found.count else "")
    ),
    "clusters.silhouette": lambda found: (
        f"{_sure(found.silhouette, found.silhouette_std)}, {found.k} clusters"
    ),
    "drift.auc": lambda found: _sure(found.auc, found.auc_std),
    "drift.energy": lambda found: f"{found.energy:.4f}, p = {found.p_value:.3f}",
    "drift.far_share": lambda found: _share(found.far_share),
    "drift.unrelated_share": lambda found: _share(found.unrelated_share),
}
