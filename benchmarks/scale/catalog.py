"""What is searched: documents with fields to filter by, collections of them, and bare hnswlib."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks.scale.graph import Graph
from benchmarks.scale.truth import K, Truth
from benchmarks.vectors import DIMENSION, VectorSet, load_clusters, load_glosses

import nearfield

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH = 1_000
TIMEOUT_S = 600.0
"""Longer than any build, which a caller of ``maintain`` or ``tune`` may have to wait for."""
PER_MILLE = 1_000
FIELDS = {
    "random": "at random",
    "slope": "half-space, any direction",
    "axis": "half-space, main direction",
}
_SEED = 7


@dataclass(frozen=True)
class Shelf:
    """Documents of one set, all or some, and queries that are not among them.

    Attributes:
        name: Of the set.
        base: float32 of shape (n, DIMENSION).
        queries: float32 of shape (m, DIMENSION).
        texts: One for each document.
    """

    name: str
    base: NDArray[np.float32]
    queries: NDArray[np.float32]
    texts: list[str]

    def __len__(self) -> int:
        return len(self.base)

    @property
    def title(self) -> str:
        """The name and the size."""
        return f"{self.name} {len(self):,}"

    @cached_property
    def truth(self) -> Truth:
        """The exact answers."""
        return Truth(self.base, self.queries)

    @cached_property
    def fields(self) -> dict[str, NDArray[np.int64]]:
        """From 0 to 999 for each document: below x are x per mille of them.

        ``random`` has nothing to do with the vector. ``slope`` is the rank of its product with a
        random direction, ``axis`` with the direction in which the vectors differ most.
        """
        generator = np.random.default_rng(_SEED)
        sample = self.base[generator.choice(len(self), min(len(self), 20_000), replace=False)]
        _, directions = np.linalg.eigh(np.cov(sample, rowvar=False))
        along: dict[str, NDArray[Any]] = {
            "random": generator.random(len(self)),
            "slope": self.base @ generator.standard_normal(DIMENSION).astype(np.float32),
            "axis": self.base @ directions[:, -1].astype(np.float32),
        }
        return {
            name: np.argsort(np.argsort(values)) * PER_MILLE // len(self)
            for name, values in along.items()
        }

    def document(self, row: int, *, vector_of: int | None = None) -> nearfield.Document:
        """Return a document, or its new version whose fields are those of another."""
        source = row if vector_of is None else vector_of
        metadata = {name: int(values[source]) for name, values in self.fields.items()}
        return nearfield.Document(self.texts[source], id=str(row), metadata=metadata)

    def documents(self) -> Iterator[tuple[list[nearfield.Document], NDArray[np.float32]]]:
        """Iterate over all documents in batches, with their vectors."""
        for start in range(0, len(self), BATCH):
            rows = range(start, min(len(self), start + BATCH))
            yield [self.document(row) for row in rows], self.base[start : start + BATCH]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A collection that holds a shelf, with its maintenance done.

    Attributes:
        shelf: What it holds.
        folder: Where it is.
        collection: Open.
        upsert_cpu_s: CPU time of the thread that wrote.
        build_cpu_s: CPU time of all threads beyond that: segments and their indexes.
        wall_s: From the first upsert to the end of ``maintain``.
    """

    shelf: Shelf
    folder: Path
    collection: nearfield.Collection
    upsert_cpu_s: float
    build_cpu_s: float
    wall_s: float

    def find(self, queries: NDArray[np.float32], where: Any = None) -> list[list[int]]:
        """Search for each query, ten whole documents each; return their rows."""
        search = self.collection.search
        return [[int(hit.id) for hit in search(query, k=K, where=where)] for query in queries]


class Catalog:
    """Makes what the experiments search, each thing once.

    Args:
        cache: Holds the vectors and hnswlib's graphs from run to run.
        work: For collections; cleared by the caller.
        names: Of the sets to measure on.
    """

    def __init__(self, cache: Path, work: Path, names: list[str]) -> None:
        self._cache = cache
        self._work = work
        self.names = names
        self._sets: dict[str, VectorSet] = {}
        self._shelves: dict[tuple[str, int | None], Shelf] = {}
        self._loaded: dict[tuple[str, int | None], Loaded] = {}
        self._graphs: dict[str, Graph] = {}

    def shelf(self, name: str, count: int | None = None) -> Shelf:
        """Return a set's documents, or an even sample of so many of them, in their order."""
        key = (name, count)
        if key not in self._shelves:
            self._shelves[key] = self._make_shelf(name, count)
        return self._shelves[key]

    def loaded(self, name: str, count: int | None = None) -> Loaded:
        """Return an open collection of a shelf; callers leave it as they found it."""
        key = (name, count)
        if key not in self._loaded:
            self._loaded[key] = self.load(self.shelf(name, count))
        return self._loaded[key]

    def load(self, shelf: Shelf, *, batch: int = BATCH) -> Loaded:
        """Fill a new collection, in batches, and wait until its maintenance is done."""
        folder = self._work / f"{shelf.name}-{len(shelf)}-{time.monotonic_ns()}"
        collection = nearfield.open(folder, dimension=DIMENSION, timeout_s=TIMEOUT_S)
        _ = shelf.fields  # made once, and not to be counted
        cpu, wall, own = time.process_time(), time.perf_counter(), time.thread_time()
        pending: list[nearfield.Document] = []
        first = 0
        for documents, _ in shelf.documents():
            pending += documents
            if len(pending) >= batch or first + len(pending) == len(shelf):
                collection.upsert(pending, vectors=shelf.base[first : first + len(pending)])
                first += len(pending)
                pending = []
        upsert_cpu_s = time.thread_time() - own
        collection.maintain()
        return Loaded(
            shelf,
            folder,
            collection,
            upsert_cpu_s,
            build_cpu_s=time.process_time() - cpu - upsert_cpu_s,
            wall_s=time.perf_counter() - wall,
        )

    def drop(self, loaded: Loaded) -> None:
        """Close a collection that :meth:`load` made and delete its files."""
        loaded.collection.close()
        shutil.rmtree(loaded.folder)

    def close(self) -> None:
        """Close all collections."""
        for loaded in self._loaded.values():
            loaded.collection.close()

    def graph(self, name: str) -> Graph:
        """Return hnswlib's index of a whole set."""
        if name not in self._graphs:
            self._graphs[name] = Graph(self.shelf(name), self._cache)
        return self._graphs[name]

    def _make_shelf(self, name: str, count: int | None) -> Shelf:
        vectors = self._vectors(name, count)
        total = len(vectors.base)
        rows = np.arange(total)
        if count is not None and count < total:
            rows = np.sort(np.random.default_rng(_SEED).choice(total, count, replace=False))
        base = vectors.base[rows]
        return Shelf(name, base, vectors.queries[:500], self._texts(name, rows))

    def _vectors(self, name: str, count: int | None) -> VectorSet:
        if name == "clusters" and count is not None and count > 200_000:
            return load_clusters(self._cache, count=count)
        if name not in self._sets:
            load = load_clusters if name == "clusters" else load_glosses
            self._sets[name] = load(self._cache)
        return self._sets[name]

    def _texts(self, name: str, rows: NDArray[np.int64]) -> list[str]:
        if name == "clusters":
            return [f"Entry {row} of a synthetic catalogue." for row in rows.tolist()]
        texts = json.loads((self._cache / "glosses.json").read_bytes())["texts"]
        return [texts[row] for row in rows.tolist()]
