"""What the default plan costs: building, memory, opening, and how all of it grows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks.scale.race import COLUMNS, race
from benchmarks.scale.report import Bar, Result, Table

if TYPE_CHECKING:
    from benchmarks.scale.catalog import Catalog, Loaded

_BUILD_SHARE = 0.2
_BYTES_A_VECTOR = 250.0
_OPEN_MS = 100.0
_STARTS = 7
_SIZES = (10_000, 50_000, 200_000)
_MILLION = 1_000_000
_ROUNDS = 5
_QUERIES = 200
_LINEAR = 1.1
"""The largest exponent that is called linear: n·log n has 1.08 over this range."""


def run_build(catalog: Catalog) -> Result:
    """Compare the CPU time of all building with hnswlib's."""
    result = Result()
    columns = ["", "CPU", "of hnswlib's", "wall, writing included"]
    for name in catalog.names:
        shelf = catalog.shelf(name)
        graph = catalog.graph(name)
        in_batches = catalog.loaded(name)
        at_once = catalog.load(shelf, batch=len(shelf))
        catalog.drop(at_once)
        rows = [["hnswlib, M = 32, efConstruction = 200", f"{graph.cpu_s:.1f} s", "1",
                 f"{graph.wall_s:.0f} s"]]  # fmt: skip
        result.raw[name] = {"hnswlib": {"cpu_s": graph.cpu_s, "wall_s": graph.wall_s}}
        for how, loaded in (("1,000 at a time", in_batches), ("in one call", at_once)):
            share = loaded.build_cpu_s / graph.cpu_s
            rows.append(
                [
                    f"nearfield, written {how}",
                    f"{loaded.build_cpu_s:.1f} s (and {loaded.upsert_cpu_s:.1f} s writing)",
                    f"{share:.2f}",
                    f"{loaded.wall_s:.0f} s",
                ]
            )
            result.raw[name][how] = {
                "build_cpu_s": loaded.build_cpu_s,
                "upsert_cpu_s": loaded.upsert_cpu_s,
                "wall_s": loaded.wall_s,
            }
            result.bars.append(
                Bar(
                    f"build CPU, {shelf.title}, written {how}",
                    f"{share:.2f} of hnswlib's",
                    f"≤ {_BUILD_SHARE:g}",
                    share <= _BUILD_SHARE,
                )
            )
        result.tables.append(Table(f"Build, {shelf.title}", columns, rows))
    result.notes.append(
        "nearfield's build is all CPU time of the process but the writing thread's: sealing, "
        "merging, indexing and tuning, from the first upsert to the end of maintain()."
    )
    return result


def run_opening(catalog: Catalog) -> Result:
    """Open in fresh processes: the time to the first hit, and the memory held after searches."""
    result = Result()
    rows = []
    for name in catalog.names:
        loaded = catalog.loaded(name)
        queries = loaded.folder.with_suffix(".queries.npy")
        np.save(queries, loaded.shelf.queries[:_QUERIES])
        starts = [_start(loaded, queries) for _ in range(_STARTS)]
        result.raw[name] = starts
        opened_ms = [start["first_hit_s"] * 1e3 for start in starts]
        anonymous = float(np.median([start["anonymous_bytes"] for start in starts]))
        mapped = float(np.median([start["file_bytes"] for start in starts]))
        count, title = len(loaded.shelf), loaded.shelf.title
        rows.append(
            [
                title,
                f"{min(opened_ms):.0f} ms",
                f"{np.median(opened_ms):.0f} ms",
                f"{max(opened_ms):.0f} ms",
                f"{anonymous / 2**20:.1f} MiB",
                f"{anonymous / count:.0f} bytes",
                f"{mapped / 2**20:.1f} MiB",
            ]
        )
        result.bars += [
            Bar(
                f"open {title} to the first hit, after imports",
                f"{np.median(opened_ms):.0f} ms",
                f"≤ {_OPEN_MS:g} ms",
                float(np.median(opened_ms)) <= _OPEN_MS,
            ),
            Bar(
                f"resident anonymous memory, {title}",
                f"{anonymous / count:.0f} bytes a vector",
                f"≤ {_BYTES_A_VECTOR:g}",
                anonymous / count <= _BYTES_A_VECTOR,
            ),
        ]
    columns = ["", "first hit, best", "median", "longest", "anonymous memory", "a vector",
               "mapped from files"]  # fmt: skip
    result.tables.append(Table(f"{_STARTS} fresh processes", columns, rows))
    result.notes.append(
        f"Memory after {_QUERIES} searches, beyond the process's own before it opened the "
        "collection, imports done. Mapped pages belong to the system's cache, which takes them "
        "back when it needs them. The files are in that cache already."
    )
    return result


def run_growth(catalog: Catalog, *, million: bool) -> Result:
    """Measure search time and build CPU at growing sizes."""
    result = Result()
    sizes = (*_SIZES, _MILLION) if million else _SIZES
    for name in catalog.names:
        points = []
        for size in sizes if name == "clusters" else _SIZES[:2]:
            whole = size == len(catalog.shelf(name))
            points.append(_grown(catalog.loaded(name, None if whole else size)))
        if name != "clusters":
            points.append(_grown(catalog.loaded(name)))
        result.raw[name] = points
        _tabulate_growth(result, name, points)
    result.notes.append(
        "Below 20,000 documents there is no index and every vector is compared; the exponents are "
        "those of the larger sizes."
    )
    return result


def _start(loaded: Loaded, queries: Path) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.startup",
        "search",
        str(loaded.folder),
        str(queries),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _grown(loaded: Loaded) -> dict[str, Any]:
    queries = loaded.shelf.queries[:_QUERIES]
    timings, found = race({"": lambda: loaded.find(queries)}, items=_QUERIES, rounds=_ROUNDS)
    plan = " + ".join(step.plan for step in loaded.collection.explain(queries[0]).steps)
    return {
        "documents": len(loaded.shelf),
        "recall": float(loaded.shelf.truth.recalls(found[""]).mean()),
        "build_cpu_s": loaded.build_cpu_s,
        "upsert_cpu_s": loaded.upsert_cpu_s,
        "plan": plan,
        "cells": timings[""].cells(),
        "best_us": timings[""].best_us,
        "timings": timings[""].to_json(),
    }


def _tabulate_growth(result: Result, name: str, points: list[dict[str, Any]]) -> None:
    rows = [
        [
            f"{point['documents']:,}",
            f"{point['recall']:.4f}",
            *point["cells"],
            f"{point['build_cpu_s']:.1f} s",
            f"{point['build_cpu_s'] / point['documents'] * 1e6:.0f} µs",
            point["plan"],
        ]
        for point in points
    ]
    columns = ["documents", "recall@10", *COLUMNS, "build CPU", "a document", "plan"]
    result.tables.append(Table(f"Growth, {name}", columns, rows))
    indexed = points[1:]
    search, build = _exponent(indexed, "best_us"), _exponent(indexed, "build_cpu_s")
    result.bars += [
        Bar(f"growth of search time, {name}", f"n^{search:.2f}", "< n^1", search < 1),
        Bar(f"growth of build CPU, {name}", f"n^{build:.2f}", f"≤ n^{_LINEAR:g}", build <= _LINEAR),
    ]


def _exponent(points: list[dict[str, Any]], what: str) -> float:
    """Return b of a·n^b through the first and the last point."""
    first, last = points[0], points[-1]
    grown = np.log(last[what] / first[what]) / np.log(last["documents"] / first["documents"])
    return float(grown)
