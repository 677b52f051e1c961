"""The peers' table: search and filtered search that return documents."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks.scale.engines import ENGINES, FIELD, Engine
from benchmarks.scale.race import COLUMNS, race
from benchmarks.scale.report import Bar, Result, Table

from nearfield.filters import F

if TYPE_CHECKING:
    from benchmarks.scale.catalog import Catalog, Loaded

COUNT = 50_000
_BELOW = 100
"""A tenth of the documents."""
_MOST_QUERIES = 200
_FEWEST_QUERIES = 20
_ROUND_S = 3.0
_ROUNDS = 3
_ENOUGH = 0.99
_KINDS = {"search": None, "filtered 10 %": _BELOW}


def run(catalog: Catalog, work: Path, count: int | None) -> Result:
    """Measure each peer in turn with nearfield beside it."""
    result = Result()
    for name in catalog.names:
        ours = catalog.loaded(name, count)
        result.raw[name] = {"documents": len(ours.shelf), "peers": []}
        rows = []
        for engine_class in ENGINES:
            folder = work / f"peer-{time.monotonic_ns()}"
            folder.mkdir()
            try:
                engine = engine_class(folder)
            except ImportError as error:
                result.notes.append(f"SKIPPED {engine_class.title}: {error}")
                print(f"SKIPPED {engine_class.title}: {error}", file=sys.stderr)
                continue
            cpu, wall = time.process_time(), time.perf_counter()
            engine.fill(ours.shelf)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            load = {"wall_s": wall, "cpu_s": cpu}
            for kind, below in _KINDS.items():
                measured = _measure(ours, engine, below)
                result.raw[name]["peers"].append(
                    {"peer": engine.title, "kind": kind, "load": load, "settings": measured}
                )
                rows += _tabulate(engine.title, kind, measured, result, ours)
            engine.close()
            shutil.rmtree(folder, ignore_errors=True)
            loads = f"{engine.title}: {wall:.0f} s of wall time, {cpu:.0f} s of CPU"
            result.notes.append(f"Loading {ours.shelf.title} into {loads}.")
        mine = f"{ours.wall_s:.0f} s, {ours.upsert_cpu_s + ours.build_cpu_s:.0f} s of CPU"
        result.notes.append(f"Loading {ours.shelf.title} into nearfield: {mine}.")
        columns = ["", "", "recall@10", "fewest hits", *COLUMNS, "× nearfield, wall", "CPU", ""]
        result.tables.append(Table(f"Peers, {ours.shelf.title}", columns, rows))
    result.notes.append(
        "Peers at their defaults, and at the cheapest setting that was tried and reaches "
        f"nearfield's recall or {_ENOUGH:g}, or else the best. All return text and metadata. Peers "
        "use as many threads of their own as they like; nearfield uses one."
    )
    return result


def _measure(ours: Loaded, engine: Engine, below: int | None) -> dict[str, Any]:
    """Time nearfield, the peer's defaults, and the peer at equal recall, in turn."""
    shelf = ours.shelf
    where = None if below is None else getattr(F, FIELD) < below
    allowed = None if below is None else shelf.fields[FIELD] < below
    first = next(iter(engine.defaults.values()))
    engine.find(shelf.queries[0], first, below)
    start = time.perf_counter()
    for query in shelf.queries[1:6]:
        engine.find(query, first, below)
    query_s = (time.perf_counter() - start) / 5
    count = int(np.clip(_ROUND_S / query_s, _FEWEST_QUERIES, _MOST_QUERIES))
    queries = shelf.queries[:count]

    def peer(setting: Any) -> Callable[[], list[list[int]]]:
        return lambda: [engine.find(query, setting, below) for query in queries]

    def recall(found: list[list[int]]) -> float:
        return float(shelf.truth.recalls(found, allowed).mean())

    ours.find(queries[:2], where)
    wanted = min(_ENOUGH, recall(ours.find(queries, where)))
    settings = dict(engine.defaults)
    *_, last = settings.values()
    if recall(peer(last)()) < wanted:
        settings |= _finer(engine.finer, lambda setting: recall(peer(setting)()) >= wanted)
    contenders = {"nearfield": lambda: ours.find(queries, where)}
    contenders |= {name: peer(setting) for name, setting in settings.items()}
    timings, found = race(contenders, items=count, rounds=_ROUNDS)
    return {
        name: {
            "recall": recall(found[name]),
            "fewest": min(len(hits) for hits in found[name]),
            "cells": timing.cells(),
            "best_us": timing.best_us,
            "cpu_us": timing.cpu_best_us,
            "queries": count,
            "timings": timing.to_json(),
        }
        for name, timing in timings.items()
    }


def _finer(settings: Mapping[str, Any], enough: Callable[[Any], bool]) -> dict[str, Any]:
    """Return the first setting that is enough, or the last; none if there are none."""
    chosen: dict[str, Any] = {}
    for name, setting in settings.items():
        chosen = {name: setting}
        if enough(setting):
            break
    return chosen


def _tabulate(
    title: str, kind: str, measured: dict[str, Any], result: Result, ours: Loaded
) -> list[list[str]]:
    mine = measured["nearfield"]
    rows, losses, least = [], [], float("inf")
    for setting, cell in measured.items():
        ratio = cell["best_us"] / mine["best_us"]
        lost = setting != "nearfield" and ratio <= 1
        least = min(least, ratio) if setting != "nearfield" else least
        losses += [f"{setting} {ratio:.2f} ×"] * lost
        rows.append(
            [
                kind,
                setting if setting == "nearfield" else f"{title}, {setting}",
                f"{cell['recall']:.4f}",
                str(cell["fewest"]),
                *cell["cells"],
                f"{ratio:.2f}",
                f"{cell['cpu_us'] / mine['cpu_us']:.2f}",
                "**loss**" if lost else "",
            ]
        )
    result.bars.append(
        Bar(
            f"{kind}, {ours.shelf.title}, against {title}",
            "; ".join(losses) or f"{least:.1f} × as fast, at least",
            "faster",
            not losses,
        )
    )
    return rows
