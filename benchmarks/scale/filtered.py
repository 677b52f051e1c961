"""Filtered search: recall, the number of hits, and time, at several selectivities."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
from benchmarks.scale.catalog import FIELDS, PER_MILLE
from benchmarks.scale.race import duration, race
from benchmarks.scale.report import Bar, Result, Table
from benchmarks.scale.truth import K
from benchmarks.scale.unfiltered import DEFAULT_TARGET

from nearfield.filters import F

if TYPE_CHECKING:
    from benchmarks.scale.catalog import Catalog, Loaded, Shelf
    from numpy.typing import NDArray

_TARGETS = (0.99, 0.95)
_SHARES = (1, 10, 100, 500)
_QUERIES = 200
_ROUNDS = 3
_NEW_FILTERS = 20
_EXACT_QUERIES = 20
_MOST = 4.0
_NUMBERS = itertools.count(1)


def run(catalog: Catalog) -> Result:
    """Measure every kind of filter at every selectivity, at both targets."""
    result = Result()
    for name in catalog.names:
        loaded = catalog.loaded(name)
        result.raw[name] = {}
        for target in _TARGETS:
            if target != DEFAULT_TARGET:
                loaded.collection.tune(target_recall=target)
            result.raw[name][str(target)] = _measure(loaded, target, result)
        loaded.collection.tune(target_recall=DEFAULT_TARGET)
    result.notes.append(
        "Wall time, best of interleaved rounds, ten whole documents returned. 'New filter' is the "
        "median search with a filter that was never asked before. 'Exact' compares the true "
        "vectors of all matches, with FAISS's kernel over positions made in advance, and returns "
        "no documents. A half-space takes the documents furthest in one direction: any, or that "
        "in which the vectors differ most."
    )
    return result


def _measure(loaded: Loaded, target: float, result: Result) -> dict[str, Any]:
    shelf = loaded.shelf
    queries = shelf.queries[:_QUERIES]
    rows: list[list[str]] = []
    raw: dict[str, Any] = {}
    misses: dict[str, list[str]] = {"recall": [], "hits": [], "time": []}
    for field, kind in FIELDS.items():
        for share in _SHARES:
            cell = _measure_cell(loaded, field, share, queries)
            raw[f"{field} {share}"] = cell
            label = f"{share / 10:g} % {kind}"
            slow = cell["wall_us"] > _MOST * cell["unfiltered_us"]
            slow = slow and cell["wall_us"] > cell["exact_us"]
            if cell["recall"] < target:
                misses["recall"].append(f"{label} {cell['recall']:.4f}")
            if cell["short"]:
                misses["hits"].append(f"{label} ({cell['short']} queries)")
            if slow:
                misses["time"].append(f"{label} {cell['wall_us'] / cell['unfiltered_us']:.1f} ×")
            rows.append(_row(label, cell, target, slow=slow))
    columns = ["matching", "plan", "recall@10", "fewest hits", "wall", "CPU", "× unfiltered",
               "exact", "new filter", ""]  # fmt: skip
    result.tables.append(Table(f"Filtered, {shelf.title}, target {target:g}", columns, rows))
    where = f"filtered, {shelf.name}, target {target:g}"
    result.bars += [
        _bar(f"{where}: recall", f"≥ {target:g} at all", misses["recall"]),
        _bar(f"{where}: hits", "min(k, matches) at all", misses["hits"]),
        _bar(f"{where}: time", "≤ 4 × unfiltered or below the exact scan", misses["time"]),
    ]
    return raw


def _measure_cell(
    loaded: Loaded, field: str, share: int, queries: NDArray[np.float32]
) -> dict[str, Any]:
    shelf = loaded.shelf
    floor = PER_MILLE - share
    where = getattr(F, field) >= floor
    allowed = shelf.fields[field] >= floor
    exact = _Exact(shelf, np.flatnonzero(allowed))
    loaded.find(queries[:3], where)  # the first filter on a field reads the field
    contenders = {
        "filtered": lambda: loaded.find(queries, where),
        "unfiltered": lambda: loaded.find(queries),
    }
    timings, found = race(contenders, items=len(queries), rounds=_ROUNDS)
    few = queries[:_EXACT_QUERIES]
    scanned, _ = race(
        {"exact": lambda: [exact.find(query) for query in few]}, items=len(few), rounds=_ROUNDS
    )
    timings |= scanned
    wanted = min(K, int(allowed.sum()))
    counts = [len(rows) for rows in found["filtered"]]
    recalls = shelf.truth.recalls(found["filtered"], allowed)
    explanation = loaded.collection.explain(queries[0], k=K, where=where)
    return {
        "share": share / PER_MILLE,
        "recall": float(recalls.mean()),
        "recall_p5": float(np.percentile(recalls, 5)),
        "fewest": min(counts),
        "short": sum(count < wanted for count in counts),
        "wall_us": timings["filtered"].best_us,
        "cpu_us": timings["filtered"].cpu_best_us,
        "unfiltered_us": timings["unfiltered"].best_us,
        "exact_us": timings["exact"].best_us,
        "new_us": _new_filter_us(loaded, field, share, queries),
        "plan": " + ".join(step.plan for step in explanation.steps),
        "timings": {name: timing.to_json() for name, timing in timings.items()},
    }


def _new_filter_us(loaded: Loaded, field: str, share: int, queries: NDArray[np.float32]) -> float:
    """Return the median time of a search with a filter that was never asked before."""
    laps = []
    floor = PER_MILLE - share
    for number in range(_NEW_FILTERS):
        # It takes the same documents, and is another filter.
        where = (getattr(F, field) >= floor) & (getattr(F, field) < PER_MILLE + next(_NUMBERS))
        start = time.perf_counter()
        loaded.find(queries[number : number + 1], where)
        laps.append(time.perf_counter() - start)
    return float(np.median(laps)) * 1e6


def _row(label: str, cell: dict[str, Any], target: float, *, slow: bool) -> list[str]:
    verdicts = ["recall"] * (cell["recall"] < target) + ["hits"] * bool(cell["short"])
    verdicts += ["time"] * slow
    return [
        label,
        cell["plan"],
        f"{cell['recall']:.4f}",
        str(cell["fewest"]),
        duration(cell["wall_us"]),
        duration(cell["cpu_us"]),
        f"{cell['wall_us'] / cell['unfiltered_us']:.1f}",
        duration(cell["exact_us"]),
        duration(cell["new_us"]),
        f"**MISSED**: {', '.join(verdicts)}" if verdicts else "met",
    ]


def _bar(what: str, bar: str, misses: list[str]) -> Bar:
    return Bar(what, "; ".join(misses) or "all", bar, not misses)


class _Exact:
    """Compares the vectors of some rows, all of them."""

    def __init__(self, shelf: Shelf, rows: NDArray[np.int64]) -> None:
        self._base = shelf.base
        self._rows = rows
        self._scores = np.empty(len(rows), np.float32)

    def find(self, query: NDArray[np.float32]) -> list[int]:
        """Return the K best."""
        pointer = faiss.swig_ptr
        scores, rows, count = self._scores, self._rows, len(self._rows)
        faiss.fvec_inner_products_by_idx(  # type: ignore[attr-defined]  # made at import
            pointer(scores), pointer(query), pointer(self._base), pointer(rows),
            self._base.shape[1], 1, count,
        )  # fmt: skip
        best = np.argpartition(scores, count - K)[count - K :] if count > K else np.arange(count)
        found: list[int] = rows[best].tolist()
        return found
