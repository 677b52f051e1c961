"""The plots of the page, as values that plotly.js draws."""

from __future__ import annotations

import html
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.documents import Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.vectors.pca import PCA
    from nearfield.vectors.quality.clusters import Clusters
    from nearfield.vectors.quality.hubness import Hubness
    from nearfield.vectors.quality.space import Space

__all__ = [
    "Colouring",
    "distance_figure",
    "hubness_figure",
    "map_figure",
    "silhouette_figure",
    "variance_figure",
]

# Okabe and Ito's colours, which people with any colour vision can tell apart, and three more.
_COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#8C6D1F",
    "#6A51A3",
    "#66A61E",
    "#B2182B",
)
_OTHER, _NONE = "other", "none"
_GREYS = {_OTHER: "#9a9a9a", _NONE: "#cfcfcf"}
_LINE_CHARACTERS = 64
_LONGEST_LABEL = 32
_BINS = 60
_CURVE_POINTS = 200
_POINT_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Colouring:
    """One way to colour the points of the map.

    Attributes:
        name: What the colours are.
        groups: The group of each point.
    """

    name: str
    groups: list[str]

    @classmethod
    def of(cls, name: str, groups: Sequence[str | None]) -> Colouring:
        """Keep as many groups as there are colours, the largest; the others become one."""
        counts = Counter(group for group in groups if group is not None)
        kept = {group for group, _ in counts.most_common(len(_COLOURS))}
        return cls(
            name,
            [_NONE if group is None else group if group in kept else _OTHER for group in groups],
        )


def map_figure(
    pca: PCA, points: NDArray[np.float32], texts: Sequence[list[str]], colourings: list[Colouring]
) -> dict[str, Any]:
    """Draw rows along the two directions of the most variance, in one colouring after another.

    Args:
        pca: The directions.
        points: Shape (n, dimension).
        texts: The lines to show of each point under the pointer.
        colourings: Ways to colour the points; the first is shown at once.
    """
    colourings = colourings or [Colouring("", ["all"] * len(points))]
    places = np.round(pca.transform(points)[:, :2].astype(np.float64), _POINT_DIGITS)
    if places.shape[1] == 1:
        places = np.hstack([places, np.zeros_like(places)])
    shares = [f"{100 * share:.1f} %" for share in pca.variance_ratios[:2]]
    return {
        "x": places[:, 0].tolist(),
        "y": places[:, 1].tolist(),
        "hover": [_markup(lines) for lines in texts],
        "colourings": [_coloured(colouring) for colouring in colourings],
        "layout": {
            "xaxis": {"title": {"text": f"first principal component ({shares[0]})"}},
            "yaxis": {"title": {"text": f"second ({shares[-1]})"}, "scaleanchor": "x"},
            "legend": {"itemsizing": "constant"},
            "hovermode": "closest",
        },
    }


def _coloured(colouring: Colouring) -> dict[str, Any]:
    counts = Counter(colouring.groups)
    groups = sorted(counts, key=lambda group: (group in _GREYS, -counts[group], group))
    ranked = list(enumerate(groups, 1))
    drawn = sorted(ranked, key=lambda one: one[1] not in _GREYS)  # grey points lie below
    return {
        "name": colouring.name,
        "groups": [
            {
                "name": _escaped(_cut(group)),
                "rank": rank,
                "colour": _GREYS.get(group, _COLOURS[(rank - 1) % len(_COLOURS)]),
                "points": [at for at, other in enumerate(colouring.groups) if other == group],
            }
            for rank, group in drawn
        ],
    }


def distance_figure(space: Space) -> dict[str, Any]:
    """Draw how similar random pairs and nearest neighbours are."""
    cosine = space.metric is Metric.COSINE
    series = {
        "random pairs": space.pair_distances,
        "nearest neighbour": space.probes.distances[:, 0],
    }
    values = {
        name: space.similarity(distances) if cosine else distances
        for name, distances in series.items()
    }
    low = min(float(np.quantile(held, 0.0005)) for held in values.values())
    high = max(float(np.quantile(held, 0.9995)) for held in values.values())
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    return {
        "data": [
            _histogram(held, edges, name, _COLOURS[number])
            for number, (name, held) in enumerate(values.items())
        ],
        "layout": {
            "xaxis": {"title": {"text": "cosine" if cosine else "euclidean distance"}},
            "yaxis": {"title": {"text": "share"}, "tickformat": ".0%"},
            "barmode": "overlay",
            "bargap": 0,
            "legend": {"orientation": "h", "y": 1.12},
        },
    }


def _histogram(
    values: NDArray[np.float64], edges: NDArray[np.float64], name: str, colour: str
) -> dict[str, Any]:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return {
        "type": "bar",
        "name": name,
        "x": ((edges[1:] + edges[:-1]) / 2).tolist(),
        "y": (counts / len(values)).tolist(),
        "width": float(edges[1] - edges[0]),
        "marker": {"color": colour, "opacity": 0.6},
        "hovertemplate": "%{x:.3f}: %{y:.2%}<extra></extra>",
    }


def variance_figure(shares: NDArray[np.float64]) -> dict[str, Any]:
    """Draw how much of the variance the strongest directions hold together."""
    cumulative = np.minimum(np.cumsum(shares), 1)
    shown = np.unique(np.linspace(0, len(shares) - 1, _CURVE_POINTS).astype(np.int64))
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "lines",
                "x": (shown + 1).tolist(),
                "y": cumulative[shown].tolist(),
                "line": {"color": _COLOURS[0], "width": 2},
                "hovertemplate": "%{x} components: %{y:.1%}<extra></extra>",
            }
        ],
        "layout": {
            "xaxis": {"title": {"text": "principal components"}, "rangemode": "tozero"},
            "yaxis": {"title": {"text": "variance"}, "tickformat": ".0%", "range": [0, 1.02]},
            "showlegend": False,
        },
    }


def hubness_figure(space: Space, found: Hubness) -> dict[str, Any]:
    """Draw how many rows are how often among the nearest of others."""
    from nearfield.vectors.quality.hubness import occurrences

    counts = np.bincount(occurrences(space))
    held = np.flatnonzero(counts)
    return {
        "data": [
            {
                "type": "bar",
                "x": held.tolist(),
                "y": counts[held].tolist(),
                "marker": {"color": _COLOURS[2]},
                "hovertemplate": "%{x} times: %{y} rows<extra></extra>",
            }
        ],
        "layout": {
            "xaxis": {"title": {"text": f"times among the {found.k} nearest of another"}},
            "yaxis": {
                "title": {"text": "rows"},
                "type": "log",
                "dtick": 1,
                "range": [-0.2, float(np.log10(counts.max())) + 0.1],  # a bar of 1 has a height
            },
            "showlegend": False,
        },
    }


def silhouette_figure(found: Clusters) -> dict[str, Any]:
    """Draw the silhouette for each number of clusters that was tried."""
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": [k for k, _ in found.tried],
                "y": [silhouette for _, silhouette in found.tried],
                "line": {"color": _COLOURS[3], "width": 2},
                "hovertemplate": "%{x} clusters: %{y:.3f}<extra></extra>",
            }
        ],
        "layout": {
            "xaxis": {"title": {"text": "clusters"}},
            "yaxis": {"title": {"text": "mean silhouette"}},
            "showlegend": False,
        },
    }


def _markup(lines: list[str]) -> str:
    """Wrap lines as plotly.js reads them: a subset of HTML, so that all of theirs is escaped."""
    name, *rest = (_escaped(line) for line in _wrapped(lines))
    return "<br>".join([f"<b>{name}</b>", *rest])


def _wrapped(lines: list[str]) -> list[str]:
    wrapped: list[str] = []
    for line in lines:
        wrapped += textwrap.wrap(line, _LINE_CHARACTERS) if line else []
    return wrapped or [""]


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 1]}…"


def _escaped(text: str) -> str:
    return html.escape(text, quote=False)
