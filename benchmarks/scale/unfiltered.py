"""Unfiltered search, one by one and in batches, beside bare hnswlib."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from benchmarks.scale.parts import BareParts
from benchmarks.scale.race import COLUMNS, Timing, race
from benchmarks.scale.report import Bar, Result, Table
from benchmarks.scale.truth import K

if TYPE_CHECKING:
    from benchmarks.scale.catalog import Catalog, Loaded, Shelf
    from numpy.typing import NDArray

DEFAULT_TARGET = 0.99
_TARGETS = (0.99, 0.95)
_CURVE_TARGETS = (0.9, 0.995)
"""Measured for the figure alone."""
_DEPTHS = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_ROUNDS = 5
_BATCH = 256
_NEEDED = {"glosses": {0.99: 1.5, 0.95: 1.0}, "clusters": {0.99: 1.0, 0.95: 1.0}}
"""Times hnswlib's queries/s, by set and target."""
_NEEDED_BATCH = 2.0

_PARTS = "the bare parts"

Contenders: TypeAlias = dict[str, Callable[[], list[list[int]]]]
Points: TypeAlias = Sequence[tuple[float, float]]
"""Recall and microseconds a query."""


def run_search(catalog: Catalog) -> Result:
    """Measure ``search`` at several targets against hnswlib at several depths."""
    result = Result()
    for name in catalog.names:
        loaded = catalog.loaded(name)
        raw: dict[str, Any] = {"documents": len(loaded.shelf), "nearfield": {}, "parts": {}}
        for target in (*_TARGETS, *_CURVE_TARGETS):
            if target != DEFAULT_TARGET:
                loaded.collection.tune(target_recall=target)
            _measure_target(catalog, loaded, target, result, raw)
        loaded.collection.tune(target_recall=DEFAULT_TARGET)
        result.raw[name] = raw
    result.notes.append(
        "nearfield returns ten whole documents (text and metadata); hnswlib returns numbers. The "
        "bare parts are the same call into FAISS, the candidates' true vectors compared, and ten "
        "rows read and decoded, with nothing around them. "
        "hnswlib's time at equal recall is interpolated between the two depths around it; where "
        "nearfield's recall is below that of the least depth, it is the least depth's."
    )
    return result


def run_batch(catalog: Catalog) -> Result:
    """Measure ``search_many`` of 256 queries against hnswlib's batch, one thread each."""
    result = Result()
    for name in catalog.names:
        loaded = catalog.loaded(name)
        queries = loaded.shelf.queries[:_BATCH]
        graph = catalog.graph(name)
        parts = BareParts(loaded)
        contenders: Contenders = {
            "search_many": partial(_find_many, loaded, queries),
            _PARTS: partial(parts.find_together, queries),
        }
        for depth in _DEPTHS:
            contenders[_depth(depth)] = partial(graph.find_batch, queries, depth)
        timings, found = race(contenders, items=_BATCH, rounds=_ROUNDS)
        parts.close()
        recalls = _recalls(loaded.shelf, found)
        rows, ratio = _compare("search_many", timings, recalls)
        result.raw[name] = {
            name: {"recall": recalls[name], **timing.to_json()} for name, timing in timings.items()
        }
        columns = ["256 at once", "recall@10", *COLUMNS, "queries/s"]
        result.tables.append(Table(f"Batches, {loaded.shelf.title}, one thread", columns, rows))
        result.bars.append(
            Bar(
                f"search_many of 256, {name}, at recall {recalls['search_many']:.4f}",
                f"{ratio['wall']:.2f} × hnswlib's batch (CPU {ratio['cpu']:.2f} ×, the bare parts "
                f"{_alone('search_many', timings, ratio):.2f} ×)",
                f"≥ {_NEEDED_BATCH:g} ×",
                ratio["wall"] >= _NEEDED_BATCH,
            )
        )
    return result


def _find_many(loaded: Loaded, queries: NDArray[np.float32]) -> list[list[int]]:
    return [[int(hit.id) for hit in hits] for hits in loaded.collection.search_many(queries, k=K)]


def _measure_target(
    catalog: Catalog, loaded: Loaded, target: float, result: Result, raw: dict[str, Any]
) -> None:
    name, queries = loaded.shelf.name, loaded.shelf.queries
    subject = f"nearfield, target {target:g}"
    contenders: Contenders = {subject: partial(loaded.find, queries)}
    parts = BareParts(loaded)
    if target in _TARGETS:
        contenders[_PARTS] = partial(parts.find, queries)
        graph = catalog.graph(name)
        for depth in _DEPTHS:
            contenders[_depth(depth)] = partial(graph.find, queries, depth)
    timings, found = race(contenders, items=len(queries), rounds=_ROUNDS)
    parts.close()
    recalls = _recalls(loaded.shelf, found)
    plan = ", ".join(step.plan for step in loaded.collection.explain(queries[0]).steps)
    measured = {
        name: {"recall": recalls[name], **timing.to_json()} for name, timing in timings.items()
    }
    raw["nearfield"][str(target)] = {**measured.pop(subject), "plan": plan}
    if target not in _TARGETS:
        return
    raw["parts"][str(target)] = measured.pop(_PARTS)
    raw["hnswlib"] = measured
    rows, ratio = _compare(subject, timings, recalls)
    title = f"Unfiltered, {loaded.shelf.title}, target {target:g}: {plan}"
    columns = ["one query at a time", "recall@10", *COLUMNS, "queries/s"]
    result.tables.append(Table(title, columns, rows))
    needed = _NEEDED[name][target]
    result.bars += [
        Bar(
            f"search, {name}, target {target:g}, at recall {recalls[subject]:.4f}",
            f"{ratio['wall']:.2f} × hnswlib's queries/s (CPU {ratio['cpu']:.2f} ×, the bare parts "
            f"{_alone(subject, timings, ratio):.2f} ×)",
            f"≥ {needed:g} ×",
            ratio["wall"] >= needed,
        ),
        Bar(
            f"recall@10 of held-out queries, {name}, target {target:g}",
            f"{recalls[subject]:.4f}",
            f"≥ {target:g}",
            recalls[subject] >= target,
        ),
    ]


def _compare(
    subject: str, timings: Mapping[str, Timing], recalls: Mapping[str, float]
) -> tuple[list[list[str]], dict[str, float]]:
    """Return table rows, and nearfield's speed over hnswlib's at the same recall."""
    rows = []
    for name, timing in timings.items():
        cells = [name, f"{recalls[name]:.4f}", *timing.cells(), f"{1e6 / timing.best_us:,.0f}"]
        rows.append(cells)
    rivals = [name for name in timings if name not in {subject, _PARTS}]
    ratio = {}
    for clock in ("wall", "cpu"):
        times = {name: _best(timing, clock) for name, timing in timings.items()}
        points = [(recalls[name], times[name]) for name in rivals]
        equal_us = interpolated_us(points, recalls[subject])
        ratio[clock] = equal_us / times[subject]
        if clock == "wall":
            label = "hnswlib, at equal recall (interpolated)"
            blank = ["", "", ""]
            rows.append(
                [label, f"{recalls[subject]:.4f}", f"{equal_us:.0f} µs", *blank,
                 f"{1e6 / equal_us:,.0f}"]
            )  # fmt: skip
    return rows, ratio


def _alone(subject: str, timings: Mapping[str, Timing], ratio: Mapping[str, float]) -> float:
    """Return what the ratio would be of the bare parts."""
    return ratio["wall"] * timings[subject].best_us / timings[_PARTS].best_us


def interpolated_us(points: Points, recall: float) -> float:
    """Return the time at a recall; at the nearest point, where it is beyond all of them."""
    ordered = sorted(points)
    return float(
        np.interp(recall, [point[0] for point in ordered], [point[1] for point in ordered])
    )


def _recalls(shelf: Shelf, found: Mapping[str, list[list[int]]]) -> dict[str, float]:
    return {name: float(shelf.truth.recalls(rows).mean()) for name, rows in found.items()}


def _best(timing: Timing, clock: str) -> float:
    return timing.best_us if clock == "wall" else timing.cpu_best_us


def _depth(depth: int) -> str:
    return f"hnswlib, ef {depth}"
