"""Approximate indexes over a segment's vectors: FAISS does the comparing, and nothing else.

Two kinds. :class:`CodeIndex` keeps four-bit product-quantisation codes in one or more lists (Jégou
et al. 2011; André et al. 2015 for the kernel that scans them from registers). With one list it is
a scan. It takes any filter. :class:`GraphIndex` is a navigable small world over 8-bit codes (Malkov
and Yashunin 2016), the faster for unfiltered searches whose target is modest.

Both name candidates, the positions of rows; the caller compares their true vectors.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.documents import Metric
from nearfield.faiss_library import faiss_library

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]
    Rows = Callable[[int, int], FloatArray]
    """Returns the vectors of some rows, from one to before another, as they are stored."""

__all__ = ["CodeIndex", "GraphIndex", "one_thread", "worker_threads"]

_CHUNK_ROWS = 8192
_GRAPH_CHUNK_ROWS = 512
_RUN_ROWS = 64
_TRAINING_ROWS = 16_384
_TRAINING_ROWS_PER_LIST = 24
_ITERATIONS = 6
"""More rows or iterations raise no recall by more than its noise (docs/design.md)."""
_SEED = 1234
_CODE_BITS = 4
_SCANNED_BLOCK = 64
_LISTED_BLOCK = 32
"""Rows compared at once. Twice as many take a tenth less time, and leave short lists half empty."""
_LISTS_TO_ENCODE = 256
_CENTROID_CODE_DIMS = 2
_LINKS = 16
_CONSTRUCTION_DEPTH = 64


class CodeIndex:
    """Product-quantisation codes in inverted lists.

    Attributes:
        lists: How many lists there are.
    """

    def __init__(self, index: Any, metric: Metric) -> None:
        self._index = index
        self._metric = metric
        self.lists: int = index.nlist

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        rows: int = self._index.ntotal
        return rows

    @classmethod
    def build(
        cls,
        rows: Rows,
        count: int,
        *,
        dimension: int,
        metric: Metric,
        lists: int,
        code_dims: int,
        checkpoint: Callable[[], None],
    ) -> CodeIndex:
        """Train on a sample of the rows and encode them all.

        Args:
            rows: Where the vectors are.
            count: How many they are.
            dimension: Their dimension.
            metric: How they are compared.
            lists: How many lists to divide them among.
            code_dims: Dimensions to a code; fewer are more exact and larger.
            checkpoint: Called between steps; may raise to give up.
        """
        faiss = faiss_library()
        codes = -(-dimension // code_dims)
        block = _SCANNED_BLOCK if lists == 1 else _LISTED_BLOCK
        index = faiss.index_factory(
            codes * code_dims, f"IVF{lists},PQ{codes}x4fs_{block}", _measure(metric)
        )
        for clustering in (index.cp, index.pq.cp):
            clustering.niter = _ITERATIONS
            clustering.seed = _SEED
            clustering.min_points_per_centroid = 1
        index.cp.max_points_per_centroid = _TRAINING_ROWS_PER_LIST
        index.pq.cp.max_points_per_centroid = _TRAINING_ROWS
        built = cls(index, metric)
        sample = _sampled(rows, count, max(_TRAINING_ROWS, lists * _TRAINING_ROWS_PER_LIST))
        if len(sample) < 1 << _CODE_BITS:  # FAISS refuses fewer rows than centroids
            sample = np.resize(sample, (1 << _CODE_BITS, dimension))
        checkpoint()
        with one_thread():
            index.train(built._prepared(sample))
        del sample
        for start in range(0, count, _CHUNK_ROWS):
            checkpoint()
            with one_thread():
                index.add(built._prepared(rows(start, min(count, start + _CHUNK_ROWS))))
        if lists >= _LISTS_TO_ENCODE:
            built._encode_centroids()
        return built

    @classmethod
    def map(cls, path: Path, metric: Metric) -> CodeIndex:
        """Read a file that :meth:`write` wrote, and that was verified."""
        return cls(_map(path), metric)

    def write(self, path: Path) -> None:
        """Write the index to a file."""
        _write(self._index, path)

    def candidates(
        self, queries: FloatArray, count: int, probes: int, bits: NDArray[np.uint8] | None
    ) -> IntArray:
        """Name the rows whose codes compare best.

        Args:
            queries: Shape (queries, dimension), C-contiguous.
            count: How many candidates.
            probes: How many lists to look into.
            bits: The rows that may be named, eight to a byte; None for all.

        Returns:
            Positions of shape (queries, count), −1 where fewer were found.
        """
        if bits is None:
            parameters = _list_parameters(probes)
        else:
            faiss = faiss_library()
            selector = faiss.IDSelectorBitmap(8 * len(bits), faiss.swig_ptr(bits))
            parameters = faiss.SearchParametersIVF(nprobe=probes, sel=selector)
        return _search(self._index, self._padded(queries), count, parameters)

    def _encode_centroids(self) -> None:
        """Find the nearest lists by codes too, and compare only the best of them exactly."""
        faiss = faiss_library()
        dimension = self._index.d
        centroids = self._index.quantizer.reconstruct_n(0, self.lists)
        codes = faiss.IndexPQFastScan(
            dimension, -(-dimension // _CENTROID_CODE_DIMS), _CODE_BITS, _measure(self._metric)
        )
        codes.pq.cp.min_points_per_centroid = 1
        with one_thread():
            codes.train(centroids)
            codes.add(centroids)
        coarse = faiss.IndexRefineFlat(codes, faiss.swig_ptr(centroids))  # copies the centroids
        coarse.k_factor = 2.0
        codes.this.disown()
        coarse.own_fields = True
        old = faiss.downcast_index(self._index.quantizer)
        self._index.quantizer = coarse
        coarse.this.disown()
        self._index.own_fields = True
        old.this.own(True)  # noqa: FBT003 - swig's signature

    def _prepared(self, vectors: FloatArray) -> FloatArray:
        return self._padded(_normalised(vectors, self._metric))

    def _padded(self, vectors: FloatArray) -> FloatArray:
        missing = self._index.d - vectors.shape[1]
        if missing:
            vectors = np.pad(vectors, ((0, 0), (0, missing)))
        return np.ascontiguousarray(vectors, np.float32)


class GraphIndex:
    """A navigable small-world graph over 8-bit codes."""

    def __init__(self, index: Any, metric: Metric) -> None:
        self._index = index
        self._metric = metric

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        rows: int = self._index.ntotal
        return rows

    @classmethod
    def build(
        cls,
        rows: Rows,
        count: int,
        *,
        dimension: int,
        metric: Metric,
        checkpoint: Callable[[], None],
    ) -> GraphIndex:
        """Build the graph.

        Args:
            rows: Where the vectors are.
            count: How many they are.
            dimension: Their dimension.
            metric: How they are compared.
            checkpoint: Called between steps; may raise to give up.
        """
        faiss = faiss_library()
        index = faiss.IndexHNSWSQ(
            dimension, faiss.ScalarQuantizer.QT_8bit, _LINKS, _measure(metric)
        )
        index.hnsw.efConstruction = _CONSTRUCTION_DEPTH
        built = cls(index, metric)
        with one_thread():
            index.train(_normalised(_sampled(rows, count, _TRAINING_ROWS), metric))
        for start in range(0, count, _GRAPH_CHUNK_ROWS):
            checkpoint()
            with one_thread():
                chunk = rows(start, min(count, start + _GRAPH_CHUNK_ROWS))
                index.add(_normalised(chunk, metric))
        return built

    @classmethod
    def map(cls, path: Path, metric: Metric) -> GraphIndex:
        """Read a file that :meth:`write` wrote, and that was verified."""
        return cls(_map(path), metric)

    def write(self, path: Path) -> None:
        """Write the index to a file."""
        _write(self._index, path)

    def candidates(
        self, queries: FloatArray, count: int, depth: int, bits: NDArray[np.uint8] | None
    ) -> IntArray:
        """Name candidates as :meth:`CodeIndex.candidates` does; ``depth`` is ``efSearch``."""
        depth = max(depth, count)
        if bits is None:
            parameters = _graph_parameters(depth)
        else:
            faiss = faiss_library()
            selector = faiss.IDSelectorBitmap(8 * len(bits), faiss.swig_ptr(bits))
            parameters = faiss.SearchParametersHNSW(efSearch=depth, sel=selector)
        asked = np.ascontiguousarray(queries, np.float32)
        return _search(self._index, asked, count, parameters)


class one_thread:  # noqa: N801 - reads as a statement
    """Keep FAISS on the calling thread.

    Its teams of threads cost more than they bring for one query, and do not survive a fork.

    The number of OpenMP threads belongs to the thread that sets it, so others are not touched.
    """

    __slots__ = ("_threads",)

    def __enter__(self) -> None:
        faiss = faiss_library()
        self._threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)

    def __exit__(self, *exception: object) -> None:
        faiss_library().omp_set_num_threads(self._threads)


def _write(index: Any, path: Path) -> None:
    """Write an index by Python's own file: FAISS does not tell when the last of it fails."""
    faiss = faiss_library()
    with path.open("wb") as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))


@cache
def _list_parameters(probes: int) -> Any:
    return faiss_library().SearchParametersIVF(nprobe=probes)


@cache
def _graph_parameters(depth: int) -> Any:
    return faiss_library().SearchParametersHNSW(efSearch=depth)


def worker_threads() -> int:
    """Return how many threads a batch of queries may use: OpenMP's number."""
    threads: int = faiss_library().omp_get_max_threads()
    return threads


def _search(index: Any, queries: FloatArray, count: int, parameters: Any) -> IntArray:
    # Past the wrapper, which checks and converts what has been checked and is of the right type.
    faiss = faiss_library()
    rows = len(queries)
    scores = np.empty((rows, count), np.float32)
    found = np.empty((rows, count), np.int64)
    to, best, asked = faiss.swig_ptr(scores), faiss.swig_ptr(found), faiss.swig_ptr(queries)
    with one_thread():
        index.search_c(rows, asked, count, to, best, parameters)
    return found


def _map(path: Path) -> Any:
    faiss = faiss_library()
    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)


def _measure(metric: Metric) -> int:
    faiss = faiss_library()
    measure: int = faiss.METRIC_L2 if metric is Metric.EUCLIDEAN else faiss.METRIC_INNER_PRODUCT
    return measure


def _normalised(vectors: FloatArray, metric: Metric) -> FloatArray:
    """Return vectors as they are encoded: of length 1 under cosine."""
    if metric is Metric.COSINE:
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors)


def _sampled(rows: Rows, count: int, wanted: int) -> FloatArray:
    """Take rows evenly from everywhere, in short runs, so that a mapped file is read in order."""
    runs = -(-count // _RUN_ROWS)
    taken = min(runs, -(-wanted // _RUN_ROWS))
    return np.concatenate(
        [
            rows(number * _RUN_ROWS, min(count, (number + 1) * _RUN_ROWS))
            for number in np.linspace(0, runs - 1, taken).astype(int).tolist()
        ]
    )
