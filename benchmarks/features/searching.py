"""Rows about searches that hold for both frameworks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from benchmarks.features.verdict import Verdict, no, partly, probe, yes
from benchmarks.features.words import vector_of

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.features.door import Door

_SECTION = "Search and scores"
_COUNT = 3_000
_QUERIES = 20
_K = 10
_COSINES = (1.0, 0.8, 0.3, -0.5)


def _at(cosine: float) -> str:
    """A text whose vector has this cosine with that of ``[1]``."""
    return json.dumps([cosine, (1 - cosine**2) ** 0.5])


@probe(_SECTION, "scores as returned: higher is better")
def direction(door: Door, folder: Path) -> Verdict:
    store = door.open(folder)
    door.put(store, {f"n{i}": _at(cosine) for i, cosine in enumerate(_COSINES)})
    scores = [score for _, score in door.nearest(store, "[1]", len(_COSINES))]
    shown = ", ".join(f"{score:.2f}" for score in scores)
    if scores == sorted(scores, reverse=True):
        return yes(shown)
    return no(f"lower is better: {shown}")


@probe(_SECTION, "scores are exact similarities or distances")
def exactness(door: Door, folder: Path) -> Verdict:
    store = door.open(folder)
    door.put(store, {f"n{i}": _at(cosine) for i, cosine in enumerate(_COSINES)})
    scores = np.array([score for _, score in door.nearest(store, "[1]", len(_COSINES))])
    if len(scores) != len(_COSINES):
        return no(f"{len(scores)} of {len(_COSINES)} hits")
    cosines = np.array(_COSINES)
    kinds = {
        "the cosine": cosines,
        "1 − cosine": 1 - cosines,
        "the squared distance": 2 - 2 * cosines,
        "the distance": np.sqrt(2 - 2 * cosines),
        "exp(− squared distance)": np.exp(-(2 - 2 * cosines)),
    }
    for name, values in kinds.items():
        error = float(np.abs(scores - values).max())
        if error < 1e-4:
            return yes(f"{name}, within {max(error, 1e-7):.0e}")
    return no(", ".join(f"{score:.3f}" for score in scores))


@probe(_SECTION, "recall@10 at the defaults, 3,000 vectors without structure", limit_s=180)
def recall(door: Door, folder: Path) -> Verdict:
    random = np.random.default_rng(4)
    points = random.normal(size=(_COUNT + _QUERIES, 16)).round(3)
    texts = [json.dumps(point.tolist()) for point in points]
    vectors = np.array([vector_of(text) for text in texts])
    store = door.open(folder)
    door.put(store, {f"n{i}": text for i, text in enumerate(texts[:_COUNT])})
    hits = 0
    for text, vector in zip(texts[_COUNT:], vectors[_COUNT:], strict=True):
        best = np.argsort(-(vectors[:_COUNT] @ vector))[:_K]
        found = {name for name, _ in door.nearest(store, text, _K)}
        hits += len(found & {door.id(f"n{i}") for i in best})
    share = hits / (_QUERIES * _K)
    if share == 1:
        return yes("1.0")
    return partly(f"{share:.3f}") if share >= 0.9 else no(f"{share:.3f}")
