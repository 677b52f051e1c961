"""Bare hnswlib: a graph over the vectors, that knows nothing of documents."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from benchmarks.scale.truth import K
from benchmarks.vectors import DIMENSION

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from benchmarks.scale.catalog import Shelf
    from numpy.typing import NDArray

_LINKS = 32
_CONSTRUCTION_DEPTH = 200
_SEED = 7


class Graph:
    """hnswlib's index of a shelf, M = 32, efConstruction = 200; built once and kept in a file.

    Attributes:
        cpu_s: What building it cost on one thread.
        wall_s: How long that took.
    """

    def __init__(self, shelf: Shelf, cache: Path) -> None:
        import hnswlib

        self._index = hnswlib.Index(space="ip", dim=DIMENSION)
        path = cache / f"{shelf.name}-{len(shelf)}.hnsw"
        record = path.with_suffix(".hnsw.json")
        if record.exists():
            self._index.load_index(str(path))
        else:
            cost = self._build(shelf)
            self._index.save_index(str(path))
            record.write_text(json.dumps(cost), "utf-8")
        cost = json.loads(record.read_bytes())
        self.cpu_s, self.wall_s = cost["cpu_s"], cost["wall_s"]
        self._index.set_num_threads(1)

    def find(self, queries: NDArray[np.float32], depth: int) -> list[list[int]]:
        """Return the rows of the K best for each query, asked one by one."""
        self._index.set_ef(depth)
        search = self._index.knn_query
        return [search(query, k=K)[0][0].tolist() for query in queries]

    def find_batch(self, queries: NDArray[np.float32], depth: int) -> list[list[int]]:
        """Return the rows of the K best for each query, asked in one call."""
        self._index.set_ef(depth)
        found: list[list[int]] = self._index.knn_query(queries, k=K, num_threads=1)[0].tolist()
        return found

    def _build(self, shelf: Shelf) -> dict[str, float]:
        index = self._index
        index.init_index(
            len(shelf), M=_LINKS, ef_construction=_CONSTRUCTION_DEPTH, random_seed=_SEED
        )
        index.set_num_threads(1)
        cpu, wall = time.process_time(), time.perf_counter()
        index.add_items(shelf.base, num_threads=1)
        return {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
