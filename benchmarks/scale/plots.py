"""The figures, drawn from the recorded measurements."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "nearfield"  # the same figures give the same file
mpl.rcParams["svg.fonttype"] = "none"

from matplotlib import pyplot as plt  # noqa: E402 - the backend comes first

if TYPE_CHECKING:
    from benchmarks.scale.report import Record
    from matplotlib.axes import Axes

_OURS, _THEIRS = "#0b6e4f", "#888888"
_KINDS = {"random": "at random", "slope": "half-space", "axis": "half-space, main direction"}


def draw(record: Record, folder: Path) -> list[Path]:
    """Draw every figure whose measurements there are; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    peers = record.raw("peers")
    for name, raw in record.raw("search").items():
        figure, axes = plt.subplots(figsize=(7, 4.5))
        _draw_recall(axes, name, raw, peers.get(name))
        files.append(_save(figure, folder / f"recall-{name}.svg"))
    for name, raw in record.raw("filters").items():
        figure, axes = plt.subplots(figsize=(7, 4.5))
        _draw_selectivity(axes, name, raw["0.99"])
        files.append(_save(figure, folder / f"selectivity-{name}.svg"))
    if growth := record.raw("growth"):
        figure, panels = plt.subplots(1, 2, figsize=(9, 4))
        _draw_growth(panels, growth)
        files.append(_save(figure, folder / "growth.svg"))
    return files


def _draw_recall(
    axes: Axes, name: str, raw: Mapping[str, Any], peers: Mapping[str, Any] | None
) -> None:
    count = raw["documents"]
    curve = [(cell["recall"], min(cell["wall_us"])) for cell in raw["hnswlib"].values()]
    _line(axes, curve, "s-", _THEIRS, "hnswlib, M = 32, numbers only")
    ours = [(cell["recall"], min(cell["wall_us"])) for cell in raw["nearfield"].values()]
    _line(axes, ours, "o-", _OURS, "nearfield, whole documents")
    for number, peer in enumerate(_searches(peers)):
        points = [(cell["recall"], cell["best_us"]) for cell in peer["points"]]
        label = f"{peer['peer']}, of {peers['documents']:,}" if peers else ""
        _line(axes, points, "*", f"C{number + 1}", label)
    axes.set(
        yscale="log", xlabel="recall@10", ylabel="queries/s, one thread",
        title=f"{name}, {count:,} × 384", xlim=(0.85, 1.002),
    )  # fmt: skip
    axes.legend(fontsize=8)


def _searches(peers: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    found = []
    for peer in peers["peers"] if peers else []:
        points = [cell for name, cell in peer["settings"].items() if name != "nearfield"]
        if peer["kind"] == "search":
            found.append({"peer": peer["peer"], "points": points})
    return found


def _line(
    axes: Axes, points: list[tuple[float, float]], style: str, color: str, label: str
) -> None:
    ordered = sorted(points)
    recalls, rates = [recall for recall, _ in ordered], [1e6 / time_us for _, time_us in ordered]
    axes.plot(recalls, rates, style, color=color, label=label, markersize=6)


def _draw_selectivity(axes: Axes, name: str, raw: Mapping[str, Any]) -> None:
    for number, (field, label) in enumerate(_KINDS.items()):
        cells = [cell for key, cell in raw.items() if key.split()[0] == field]
        shares = [100 * cell["share"] for cell in cells]
        axes.plot(shares, [cell["wall_us"] / 1e3 for cell in cells], "o-", color=f"C{number}",
                  label=label)  # fmt: skip
        axes.plot(shares, [cell["exact_us"] / 1e3 for cell in cells], ":", color=f"C{number}",
                  label=f"exact scan, {label}")  # fmt: skip
    unfiltered = min(cell["unfiltered_us"] for cell in raw.values()) / 1e3
    axes.axhline(unfiltered, color=_OURS, label="unfiltered")
    axes.axhline(4 * unfiltered, color=_OURS, linestyle="--", label="4 × unfiltered")
    axes.set(
        xscale="log", yscale="log", xlabel="documents that match, %", ylabel="ms a query",
        title=f"{name}, filtered, target .99",
    )  # fmt: skip
    axes.legend(fontsize=7)


def _draw_growth(panels: Any, growth: Mapping[str, Any]) -> None:
    search, build = panels
    for number, (name, points) in enumerate(growth.items()):
        sizes = [point["documents"] for point in points]
        style = {"color": f"C{number}", "label": name}
        search.plot(sizes, [point["best_us"] / 1e3 for point in points], "o-", **style)
        built = [(n, point["build_cpu_s"]) for n, point in zip(sizes, points, strict=True)]
        built = [(n, seconds) for n, seconds in built if seconds > 1]
        build.plot([n for n, _ in built], [seconds for _, seconds in built], "o-", **style)
    search.set(xlabel="documents", ylabel="ms a query", title="search, target .99")
    build.set(xlabel="documents", ylabel="CPU seconds", title="build")
    for axes in panels:
        axes.set(xlim=0, ylim=0)
    search.legend()


def _save(figure: Any, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path
