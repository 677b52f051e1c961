"""Vector operations beside plain calls: run as ``python -m benchmarks.vector_operations``.

Each operation of ``nearfield.vectors`` on 100,000 float32 vectors of 384 dimensions, and the plain
call of BLAS or numpy that does the arithmetic alone: no check for NaN, no rule for zeros, nothing
done about overflow or cancellation. Both in one process, on one thread, in turn, round by round, so
that a busy machine slows both alike. Times are CPU time, of which one thread has as much as of wall
time when it runs alone. The bar is 1.5 times the plain call, medians compared.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nearfield import vectors

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
COUNT, DIMENSION = 100_000, 384
QUERIES = 100
LABELS = 100
COMPONENTS = 64
REFERENCES = 1_000
BAR = 1.5
WARMUP_ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Duel:
    """An operation and the plain call beside it.

    Attributes:
        name: The operation.
        plain: The plain call, as code.
        ours: Does the operation once.
        theirs: Does the plain call once.
    """

    name: str
    plain: str
    ours: Callable[[], object]
    theirs: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Result:
    """What a duel took: the CPU time of every round in milliseconds."""

    name: str
    plain: str
    ours_ms: list[float]
    theirs_ms: list[float]

    @property
    def ratio_of_best(self) -> float:
        return min(self.ours_ms) / min(self.theirs_ms)

    @property
    def ratio_of_medians(self) -> float:
        return float(np.median(self.ours_ms) / np.median(self.theirs_ms))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="keep every round in this file")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="*", default=[], help="operations whose names begin so")
    options = parser.parse_args()
    if any(os.environ.get(name) != "1" for name in THREADS):
        # These are read when numpy and faiss are loaded, so they are set for a new process.
        os.environ.update(dict.fromkeys(THREADS, "1"))
        os.execv(sys.executable, sys.orig_argv)
    print(f"{COUNT:,} x {DIMENSION} float32, {QUERIES} queries, one thread, numpy {np.__version__}")
    titles = "".join(f"{title:>18}" for title in ("nearfield, ms", "plain, ms", "ratio"))
    print(f"{'':32}{titles}\n{'':32}" + f"{'best':>9}{'median':>9}" * 3)
    results = []
    for duel in duels():
        if options.only and not duel.name.startswith(tuple(options.only)):
            continue
        results.append(fight(duel, options.rounds))
        print(row(results[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=2))


def duels() -> list[Duel]:
    rng = np.random.default_rng(0)
    spread = np.linspace(1, 0.3, DIMENSION, dtype=np.float32)
    x = rng.standard_normal((COUNT, DIMENSION), dtype=np.float32) * spread + 0.1
    y = rng.standard_normal((COUNT, DIMENSION), dtype=np.float32) * spread + 0.1
    queries = rng.standard_normal((QUERIES, DIMENSION), dtype=np.float32) * spread
    return [
        *pairwise_duels(queries, x),
        *batched_duels(queries[0], x, y),
        *single_set_duels(x, rng),
        *projection_duels(x),
    ]


def pairwise_duels(queries: NDArray[np.float32], x: NDArray[np.float32]) -> list[Duel]:
    import faiss

    def product() -> object:
        return queries @ x.T

    sides = np.where(np.arange(COUNT) % 2, 30, -30).astype(np.float32)
    near = x / 10 + sides[:, np.newaxis]  # of half the pairs the squared distance cancels
    near_queries = near[:QUERIES].copy()
    return [
        Duel("pairwise_dot", "q @ x.T", lambda: vectors.pairwise_dot(queries, x), product),
        Duel("pairwise_cosine", "q @ x.T", lambda: vectors.pairwise_cosine(queries, x), product),
        Duel(
            "pairwise_euclidean",
            "q @ x.T",
            lambda: vectors.pairwise_euclidean(queries, x),
            product,
        ),
        Duel(
            "pairwise_euclidean, half near",
            "q @ x.T",
            lambda: vectors.pairwise_euclidean(near_queries, near),
            product,
        ),
        Duel(
            "pairwise_manhattan",
            "faiss, METRIC_L1",
            lambda: vectors.pairwise_manhattan(queries, x),
            lambda: faiss.pairwise_distances(queries, x, faiss.METRIC_L1),
        ),
    ]


def batched_duels(
    query: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32]
) -> list[Duel]:
    def products() -> object:
        return np.einsum("ij,ij->i", x, y)

    def three_products() -> object:
        squares = [np.einsum("ij,ij->i", several, several) for several in (x, y)]
        return products() / np.sqrt(squares[0] * squares[1])

    def magnitudes() -> object:
        return np.abs(x - y) @ np.ones(DIMENSION, np.float32)

    plain = {
        vectors.dot: ("einsum(ij,ij->i)", products),
        vectors.cosine: ("three einsums", three_products),
        vectors.euclidean: ("einsum(ij,ij->i)", products),
        vectors.manhattan: ("abs(x - y) @ ones", magnitudes),  # BLAS sums magnitudes, no more
    }
    by_row = [
        Duel(f"{function.__name__}, row by row", name, partial(function, x, y), theirs)
        for function, (name, theirs) in plain.items()
    ]
    one_to_many = [
        Duel(
            f"{function.__name__}, one to many",
            "x @ q",
            lambda function=function: function(query, x),
            lambda: x @ query,
        )
        for function in plain
    ]
    return by_row + one_to_many


def single_set_duels(x: NDArray[np.float32], rng: np.random.Generator) -> list[Duel]:
    labels = rng.integers(0, LABELS, COUNT)
    members = np.zeros((LABELS, COUNT), np.float32)
    members[labels, np.arange(COUNT)] = 1
    weights = rng.random(COUNT)
    light = weights.astype(np.float32)
    ones = np.ones(COUNT, np.float32)
    references = x[:REFERENCES]
    return [
        Duel(
            "normalize, l2",
            "x / sqrt(einsum)",
            lambda: vectors.normalize(x),
            lambda: x / np.sqrt(np.einsum("ij,ij->i", x, x))[:, None],
        ),
        Duel(
            "normalize, l1",
            "x / abs(x).sum",
            lambda: vectors.normalize(x, norm="l1"),
            lambda: x / np.abs(x).sum(axis=1, keepdims=True),
        ),
        Duel(
            "normalize, max",
            "x / abs(x).max",
            lambda: vectors.normalize(x, norm="max"),
            lambda: x / np.abs(x).max(axis=1, keepdims=True),
        ),
        Duel("centroid", "ones @ x", lambda: vectors.centroid(x), lambda: ones @ x),
        Duel(
            "centroid, weighted",
            "w @ x",
            lambda: vectors.centroid(x, weights=weights),
            lambda: light @ x,
        ),
        Duel(
            f"centroids, {LABELS} labels",
            "members @ x",
            lambda: vectors.centroids(x, labels),
            lambda: members @ x,
        ),
        Duel(
            "find_outliers, centroid",
            "norm(x - mean)",
            lambda: vectors.find_outliers(x, rule="centroid"),
            lambda: np.linalg.norm(x - x.mean(axis=0), axis=1),
        ),
        Duel(
            f"find_outliers, among {REFERENCES:,}",
            "x @ sample.T",
            lambda: vectors.find_outliers(x, sample=REFERENCES),
            lambda: x @ references.T,
        ),
    ]


def projection_duels(x: NDArray[np.float32]) -> list[Duel]:
    pca = vectors.PCA.fit(x, COMPONENTS)
    coordinates = pca.transform(x)
    axes = pca.components.astype(np.float32)
    projection = vectors.RandomProjection.draw(DIMENSION, COMPONENTS, seed=0)
    matrix = projection.matrix.astype(np.float32)
    return [
        Duel("PCA.fit", "x.T @ x", lambda: vectors.PCA.fit(x, COMPONENTS), lambda: x.T @ x),
        Duel("PCA.transform", "x @ axes.T", lambda: pca.transform(x), lambda: x @ axes.T),
        Duel(
            "PCA.inverse", "z @ axes", lambda: pca.inverse(coordinates), lambda: coordinates @ axes
        ),
        Duel(
            "RandomProjection.transform",
            "x @ matrix",
            lambda: projection.transform(x),
            lambda: x @ matrix,
        ),
    ]


def fight(duel: Duel, rounds: int) -> Result:
    ours_ms, theirs_ms = [], []
    gc.collect()
    for number in range(rounds + WARMUP_ROUNDS):
        theirs, ours = elapsed_ms(duel.theirs), elapsed_ms(duel.ours)
        if number >= WARMUP_ROUNDS:
            ours_ms.append(ours)
            theirs_ms.append(theirs)
    return Result(duel.name, duel.plain, ours_ms, theirs_ms)


def elapsed_ms(work: Callable[[], object]) -> float:
    start = time.process_time_ns()
    work()
    return (time.process_time_ns() - start) / 1e6


def row(result: Result) -> str:
    times = "".join(
        f"{min(several):9.1f}{np.median(several):9.1f}"
        for several in (result.ours_ms, result.theirs_ms)
    )
    verdict = "PASS" if result.ratio_of_medians <= BAR else "MISS"
    ratios = f"{result.ratio_of_best:9.2f}{result.ratio_of_medians:9.2f}"
    return f"{result.name:32}{times}{ratios}  {verdict}  {result.plain}"


if __name__ == "__main__":
    main()
