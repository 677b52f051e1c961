"""Recall after many deletes and updates, and the time of writes while segments are built."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import TYPE_CHECKING, Any

import filelock
import numpy as np
from benchmarks.scale.catalog import BATCH
from benchmarks.scale.race import duration, race
from benchmarks.scale.report import Bar, Result, Table
from benchmarks.scale.truth import Truth
from benchmarks.scale.unfiltered import DEFAULT_TARGET

import nearfield.stores.local.files

if TYPE_CHECKING:
    from benchmarks.scale.catalog import Catalog, Loaded
    from numpy.typing import NDArray

_DELETED = 0.3
_UPDATED = 0.3
_QUERIES = 200
_ROUNDS = 3
_WRITES = 150
"""So few that they are never enough, in themselves, to be sealed."""
_WRITTEN = 100
_WRITE_PAUSE_S = 0.05
_WRITE_ROWS = 100_000
_MOST = 3.0


def run_churn(catalog: Catalog) -> Result:
    """Delete and update at random; measure recall before and after maintenance."""
    result = Result()
    for name in catalog.names:
        loaded = catalog.load(catalog.shelf(name))
        shelf = loaded.shelf
        generator = np.random.default_rng(1)
        order = generator.permutation(len(shelf))
        deleted = order[: int(_DELETED * len(shelf))]
        updated = order[len(deleted) : len(deleted) + int(_UPDATED * len(shelf))]
        current = shelf.base.copy()
        alive = np.ones(len(shelf), np.bool_)
        stages = [_stage(loaded, "as built", current, alive)]
        with _no_maintenance(loaded):
            for start in range(0, len(deleted), BATCH):
                loaded.collection.delete([str(row) for row in deleted[start : start + BATCH]])
            alive[deleted] = False
            stages.append(_stage(loaded, "30 % deleted", current, alive))
            sources = generator.permutation(updated)
            for start in range(0, len(updated), BATCH):
                rows, of = updated[start : start + BATCH], sources[start : start + BATCH]
                documents = [
                    shelf.document(row, vector_of=source)
                    for row, source in zip(rows.tolist(), of.tolist(), strict=True)
                ]
                loaded.collection.upsert(documents, vectors=shelf.base[of])
            current[updated] = shelf.base[sources]
            stages.append(_stage(loaded, "and 30 % updated", current, alive))
        built = loaded.collection.maintain()
        stages.append(_stage(loaded, f"after maintain() ({built} segments built)", current, alive))
        catalog.drop(loaded)
        result.raw[name] = stages
        columns = ["state", "documents", "recall@10", "wall best", "CPU best", "plan"]
        cells = [
            [
                stage["state"],
                f"{stage['documents']:,}",
                f"{stage['recall']:.4f}",
                duration(stage["wall_us"]),
                duration(stage["cpu_us"]),
                stage["plan"],
            ]
            for stage in stages
        ]
        result.tables.append(Table(f"Deletes and updates, {shelf.title}", columns, cells))
        result.bars += [
            Bar(
                f"{name}: recall, {stage['state']}",
                f"{stage['recall']:.4f}",
                f"≥ {DEFAULT_TARGET:g}",
                stage["recall"] >= DEFAULT_TARGET,
            )
            for stage in stages[1:]
        ]
    result.notes.append(
        "Until maintain(), this process holds the maintenance lease, so that nothing is rebuilt in "
        "the background. An update gives a document the text and vector of another."
    )
    return result


def run_writes(catalog: Catalog) -> Result:
    """Time durable upserts of 100 documents, and searches, idle and while a build runs."""
    result = Result()
    for name in catalog.names:
        loaded = catalog.load(catalog.shelf(name, _WRITE_ROWS))
        idle = _write_and_search(loaded, None, first=0)
        loaded.collection.maintain()
        # A third of dead rows makes maintenance build all of it anew.
        dead = np.random.default_rng(2).permutation(len(loaded.shelf))[: len(loaded.shelf) // 3]
        for start in range(0, len(dead), BATCH):
            loaded.collection.delete([str(row) for row in dead[start : start + BATCH]])
        build = threading.Thread(target=loaded.collection.maintain)
        began = time.perf_counter()
        build.start()
        during = _write_and_search(loaded, build, first=_WRITES)
        build.join()
        build_s = time.perf_counter() - began
        catalog.drop(loaded)
        _tabulate_writes(result, loaded.shelf.title, idle, during, build_s)
        result.raw[name] = {"idle": idle, "during": during, "build_s": build_s}
    result.notes.append(
        f"{_WRITES} upserts of {_WRITTEN} new documents, every {_WRITE_PAUSE_S * 1e3:.0f} ms, a "
        "search between; durability full. Upserts after the build's end are not counted."
    )
    return result


def _stage(
    loaded: Loaded, state: str, current: NDArray[np.float32], alive: NDArray[np.bool_]
) -> dict[str, Any]:
    queries = loaded.shelf.queries[:_QUERIES]
    timings, found = race(
        {"nearfield": lambda: loaded.find(queries)}, items=len(queries), rounds=_ROUNDS
    )
    recalls = Truth(current, queries).recalls(found["nearfield"], alive)
    steps = loaded.collection.explain(queries[0]).steps
    return {
        "state": state,
        "documents": int(alive.sum()),
        "recall": float(recalls.mean()),
        "wall_us": timings["nearfield"].best_us,
        "cpu_us": timings["nearfield"].cpu_best_us,
        "plan": " + ".join(step.plan for step in steps),
        "timings": timings["nearfield"].to_json(),
    }


def _no_maintenance(loaded: Loaded) -> filelock.BaseFileLock:
    folder = nearfield.stores.local.files.DatabaseFolder(loaded.folder)
    return filelock.FileLock(folder.collection(loaded.collection.info.name).lease)


def _write_and_search(
    loaded: Loaded, build: threading.Thread | None, *, first: int
) -> dict[str, list[float]]:
    """Write and search in turn; while a build runs, if one is given. Return milliseconds."""
    shelf = loaded.shelf
    laps: dict[str, list[float]] = {"upsert": [], "search": []}
    for number in range(first, first + _WRITES):
        rows = [(number * _WRITTEN + place) % len(shelf) for place in range(_WRITTEN)]
        documents = [
            dataclasses.replace(shelf.document(row), id=f"new {number} {place}")
            for place, row in enumerate(rows)
        ]
        vectors = shelf.base[rows]
        start = time.perf_counter()
        loaded.collection.upsert(documents, vectors=vectors)
        upsert_ms = (time.perf_counter() - start) * 1e3
        start = time.perf_counter()
        loaded.collection.search(shelf.queries[number % len(shelf.queries)])
        search_ms = (time.perf_counter() - start) * 1e3
        if build is not None and not build.is_alive():
            break
        laps["upsert"].append(upsert_ms)
        laps["search"].append(search_ms)
        time.sleep(_WRITE_PAUSE_S)
    return laps


def _tabulate_writes(
    result: Result,
    title: str,
    idle: dict[str, list[float]],
    during: dict[str, list[float]],
    build_s: float,
) -> None:
    rows, ratios = [], {}
    for what in ("upsert", "search"):
        for state, laps in (("idle", idle[what]), ("while a build runs", during[what])):
            values = [f"{np.percentile(laps, place):.2f} ms" for place in (50, 90, 99, 100)]
            rows.append([f"{what}, {state}", str(len(laps)), *values])
        ratios[what] = float(np.percentile(during[what], 99) / np.percentile(idle[what], 99))
    columns = ["", "times", "median", "p90", "p99", "longest"]
    heading = f"Writes while a build of {build_s:.0f} s runs, {title}"
    result.tables.append(Table(heading, columns, rows))
    result.bars.append(
        Bar(
            f"p99 of a durable upsert of {_WRITTEN} while a build runs, {title}",
            f"{ratios['upsert']:.1f} × idle (search {ratios['search']:.1f} ×)",
            f"≤ {_MOST:g} ×",
            ratios["upsert"] <= _MOST,
        )
    )
