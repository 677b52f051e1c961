"""One self-contained HTML page of a report: findings, plots and the table with its advice."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.vectors.quality.figures import (
    Colouring,
    distance_figure,
    hubness_figure,
    map_figure,
    silhouette_figure,
    variance_figure,
)
from nearfield.vectors.quality.packages import require_packages
from nearfield.vectors.quality.table import lines_of

if TYPE_CHECKING:
    from nearfield.vectors.quality.report import QualityReport
    from nearfield.vectors.quality.space import Space

__all__ = ["MAP_ROWS", "Source", "render_page", "shown_rows"]

MAP_ROWS = 2_000
"""Points of the map; half as many of another set."""
_SNIPPET_CHARACTERS = 160
_LISTED = 10
_GROUPS_LISTED = 6
_ROWS_OF_A_GROUP = 3


@dataclass(frozen=True, slots=True)
class Source:
    """What a page tells of the vectors besides the measures.

    Attributes:
        title: What they are.
        total: How many there are where they came from; more than were read, perhaps.
        model: The model they were made with, if it is known.
        ids: What to call each row; None where rows have no names.
        labels: What each row is; None without.
        field: What the labels are.
        texts: The texts of shown rows, by position.
        against_title: What the other set is, if there is one.
        against_ids: What to call each of its rows.
        against_texts: The texts of its shown rows.
    """

    title: str
    total: int
    model: str = ""
    ids: Sequence[str] | None = None
    labels: Sequence[str | None] | None = None
    field: str | None = None
    texts: Mapping[int, str] | None = None
    against_title: str = ""
    against_ids: Sequence[str] | None = None
    against_texts: Mapping[int, str] | None = None


def shown_rows(space: Space, mentioned: Iterable[int] = ()) -> list[int]:
    """Return the positions of the rows whose texts the page shows: the map's and the lists'."""
    shown = dict.fromkeys(space.sample_rows[:MAP_ROWS].tolist())
    return list(shown | dict.fromkeys(mentioned))


def render_page(
    space: Space, report: QualityReport, source: Source, *, against: Space | None = None
) -> str:
    """Write the page; it needs no network, and runs no script but its own.

    Args:
        space: What was measured.
        report: What :func:`assess` found in it.
        source: What is told of it. All of it is escaped.
        against: The other set that the report compares it with.

    Raises:
        MissingDependencyError: jinja2 or plotly is not installed.
    """
    require_packages("the HTML page", page=True)
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=PackageLoader("nearfield.vectors.quality", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}  # texts may be in Chinese
    plotly = get_plotlyjs()
    script = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")
    return environment.get_template("page.html.jinja").render(
        report=report,
        source=source,
        lines=lines_of(report),
        figures=_figures(space, report, source, against),
        lists=_lists(report, source),
        plotly=plotly,
        script=script,
        script_hashes=[_hash(plotly), _hash(script)],
        version=version("nearfield"),
    )


def _hash(script: str) -> str:
    """Name a script as a content security policy does, so that no other one runs."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _figures(
    space: Space, report: QualityReport, source: Source, against: Space | None
) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    if len(space.sample_rows) > 1:
        figures["map"] = _map(space, report, source, against)
        figures["distances"] = distance_figure(space)
    if report.dimension_efficiency is not None:
        figures["variance"] = variance_figure(space.pca.variance_ratios)
    if report.hubness is not None:
        figures["hubness"] = hubness_figure(space, report.hubness)
    if report.clusters is not None and len(report.clusters.tried) > 1:
        figures["silhouette"] = silhouette_figure(report.clusters)
    return figures


def _map(
    space: Space, report: QualityReport, source: Source, against: Space | None
) -> dict[str, Any]:
    rows = space.sample_rows[:MAP_ROWS]
    colourings = []
    texts = [_hover(row, source.ids, source.texts, source.labels) for row in rows.tolist()]
    points = space.sample[: len(rows)]
    groups: list[str | None]
    if source.labels is not None:
        groups = [source.labels[row] for row in rows]
        colourings.append(Colouring.of(source.field or "label", groups))
    if report.clusters is not None:
        groups = [f"cluster {n + 1}" for n in report.clusters.assignments[: len(rows)]]
        colourings.append(Colouring.of("cluster", groups))
    if against is not None:
        others = against.sample_rows[: MAP_ROWS // 2]
        points = np.vstack([points, against.sample[: len(others)]])
        texts += [_hover(row, source.against_ids, source.against_texts) for row in others.tolist()]
        colourings = [
            Colouring(one.name, [*one.groups, *[source.against_title] * len(others)])
            for one in colourings
        ]
        both = [source.title] * len(rows) + [source.against_title] * len(others)
        colourings.insert(0, Colouring.of("set", both))
    return map_figure(space.pca, points, texts, colourings)


def _hover(
    row: int,
    ids: Sequence[str] | None,
    texts: Mapping[int, str] | None,
    labels: Sequence[str | None] | None = None,
) -> list[str]:
    """Return the lines that describe a point: its name, its label and its text."""
    lines = [ids[row] if ids is not None else f"row {row}"]
    if labels is not None and labels[row] is not None:
        lines.append(str(labels[row]))
    return [*lines, _snippet(texts, row)]


def _snippet(texts: Mapping[int, str] | None, row: int) -> str:
    text = " ".join((texts or {}).get(row, "").split())
    if len(text) <= _SNIPPET_CHARACTERS:
        return text
    return f"{text[:_SNIPPET_CHARACTERS].rstrip()} …"


def _lists(report: QualityReport, source: Source) -> list[dict[str, Any]]:
    """Return tables of rows: a title, what the figure in front is, and figure, name and text."""
    lists: list[dict[str, Any]] = []

    def add(
        title: str, figure: str, rows: Sequence[tuple[str, int]], *, other: bool = False
    ) -> None:
        ids = source.against_ids if other else source.ids
        texts = source.against_texts if other else source.texts
        shown = [
            (number, ids[row] if ids is not None else f"row {row}", _snippet(texts, row))
            for number, row in rows
        ]
        if shown:
            lists.append({"title": title, "figure": figure, "rows": shown})

    if report.drift is not None:
        add(
            "Farthest rows of the other set",
            "rank",
            [(f"{rank}", row) for rank, row in enumerate(report.drift.far_rows, 1)],
            other=True,
        )
    for title, groups in (
        ("Exact duplicates", report.duplicates.exact_groups),
        ("Near-duplicates", report.duplicates.near_groups),
    ):
        add(
            title,
            "group",
            [
                (f"{number} ({group.size:,})", row)
                for number, group in enumerate(groups[:_GROUPS_LISTED], 1)
                for row in group.rows[:_ROWS_OF_A_GROUP]
            ],
        )
    if report.hubness is not None:
        add(
            "Largest hubs",
            f"lists of {report.hubness.k}",
            [(f"{hub.occurrences:,}", hub.row) for hub in report.hubness.hubs],
        )
    if report.outliers is not None:
        add(
            "Outliers",
            "score",
            [(f"{one.score:.1f}", one.row) for one in report.outliers.listed[:_LISTED]],
        )
    if report.clusters is not None:
        add(
            "Centres of the clusters",
            "share",
            [
                (f"{number}: {cluster.share:.0%}", cluster.centre_row)
                for number, cluster in enumerate(report.clusters.clusters[:_LISTED], 1)
            ],
        )
    return lists
