"""Approximate indexes over a segment's vectors: FAISS does the comparing, and nothing else.

Two kinds. :class:`CodeIndex` keeps four-bit product-quantisation codes in one or more lists (Jégou
et al. 2011; André et al. 2015 for the kernel that scans them from registers). With one list it is
a scan. It takes any filter. :class:`GraphIndex` is a navigable small world over 8-bit codes (Malkov
and Yashunin 2016), the faster for unfiltered searches whose target is modest.

Both name candidates, the positions of rows; the caller compares their true vectors.
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.documents import Metric

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]
    Rows = Callable[[int, int], FloatArray]
    """Returns the vectors of some rows, from one to before another, as they are stored."""

__all__ = ["CodeIndex", "GraphIndex", "one_thread"]

_CHUNK_ROWS = 8192
_TRAINING_ROWS = 65_536
_TRAINING_ROWS_PER_LIST = 48
_ITERATIONS = 8
_SEED = 1234
_CODE_BITS = 4


class CodeIndex:
    """Product-quantisation codes in inverted lists.

    Attributes:
        lists: How many lists there are.
        code_dims: How many dimensions one four-bit code stands for.
    """

    def __init__(self, index: Any, dimension: int, metric: Metric) -> None:
        self._index = index
        self._dimension = dimension
        self._metric = metric
        self.lists: int = index.nlist
        self.code_dims: int = index.pq.dsub

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
        faiss = _faiss()
        codes = -(-dimension // code_dims)
        padded = codes * code_dims
        measure = faiss.METRIC_L2 if metric is Metric.EUCLIDEAN else faiss.METRIC_INNER_PRODUCT
        with one_thread():
            quantizer = (
                faiss.IndexFlatL2(padded)
                if metric is Metric.EUCLIDEAN
                else faiss.IndexFlatIP(padded)
            )
            index = faiss.IndexIVFPQFastScan(quantizer, padded, lists, codes, _CODE_BITS, measure)
            index.own_fields = True
            quantizer.this.disown()
            for clustering in (index.cp, index.pq.cp):
                clustering.niter = _ITERATIONS
                clustering.seed = _SEED
                clustering.max_points_per_centroid = max(_TRAINING_ROWS_PER_LIST, 256)
            index.cp.max_points_per_centroid = _TRAINING_ROWS_PER_LIST
            index.cp.min_points_per_centroid = 1
            index.pq.cp.max_points_per_centroid = _TRAINING_ROWS
            built = cls(index, dimension, metric)
            wanted = max(_TRAINING_ROWS, lists * _TRAINING_ROWS_PER_LIST)
            sample = np.concatenate(list(_sampled(rows, count, wanted)))
            checkpoint()
            index.train(built._prepared(sample))
            del sample
            for start in range(0, count, _CHUNK_ROWS):
                checkpoint()
                index.add(built._prepared(rows(start, min(count, start + _CHUNK_ROWS))))
        return built

    @classmethod
    def from_bytes(cls, data: NDArray[np.uint8], dimension: int, metric: Metric) -> CodeIndex:
        """Read what :meth:`to_bytes` returned."""
        return cls(_faiss().deserialize_index(data), dimension, metric)

    def to_bytes(self) -> NDArray[np.uint8]:
        """Return the index as FAISS serialises it."""
        data: NDArray[np.uint8] = _faiss().serialize_index(self._index)
        return data

    def candidates(
        self, queries: FloatArray, count: int, probes: int, bits: NDArray[np.uint8] | None
    ) -> IntArray:
        """Name the rows whose codes compare best.

        Args:
            queries: Shape (queries, dimension).
            count: How many candidates.
            probes: How many lists to look into.
            bits: The rows that may be named, eight to a byte; None for all.

        Returns:
            Positions of shape (queries, count), −1 where fewer were found.
        """
        faiss = _faiss()
        prepared = self._padded(queries)
        if bits is None:
            parameters = _list_parameters(probes)
        else:
            selector = faiss.IDSelectorBitmap(8 * len(bits), faiss.swig_ptr(bits))
            parameters = faiss.SearchParametersIVF(nprobe=probes, sel=selector)
        if len(queries) > 1:
            return self._search(prepared, count, parameters)
        with one_thread():
            return self._search(prepared, count, parameters)

    def nearest_lists(self, queries: FloatArray) -> IntArray:
        """Return all lists, nearest first, shape (queries, lists)."""
        centroids = self._centroids
        products = self._padded(queries) @ centroids.T
        if self._metric is Metric.EUCLIDEAN:
            products = 2 * products - np.einsum("ij,ij->i", centroids, centroids)
        return np.argsort(-products, axis=1)

    @cached_property
    def list_of(self) -> NDArray[np.int32]:
        """Each row's list, shape (n,)."""
        faiss = _faiss()
        inverted = self._index.invlists
        owners = np.empty(self._index.ntotal, np.int32)
        for number in range(self.lists):
            size = inverted.list_size(number)
            if size:
                owners[faiss.rev_swig_ptr(inverted.get_ids(number), size)] = number
        return owners

    def _search(self, queries: FloatArray, count: int, parameters: Any) -> IntArray:
        found: IntArray = self._index.search(queries, count, params=parameters)[1]
        return found

    @cached_property
    def _centroids(self) -> FloatArray:
        centroids: FloatArray = self._index.quantizer.reconstruct_n(0, self.lists)
        return centroids

    def _prepared(self, vectors: FloatArray) -> FloatArray:
        """Return vectors as they are encoded: of length 1 under cosine."""
        if self._metric is Metric.COSINE:
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return self._padded(vectors)

    def _padded(self, vectors: FloatArray) -> FloatArray:
        missing = self._index.d - vectors.shape[1]
        if missing:
            vectors = np.pad(vectors, ((0, 0), (0, missing)))
        return np.ascontiguousarray(vectors)


class GraphIndex:
    """A navigable small-world graph over 8-bit codes."""

    def __init__(self, index: Any, dimension: int, metric: Metric) -> None:
        self._index = index
        self._dimension = dimension
        self._metric = metric

    @classmethod
    def build(
        cls,
        rows: Rows,
        count: int,
        *,
        dimension: int,
        metric: Metric,
        links: int,
        construction_depth: int,
        checkpoint: Callable[[], None],
    ) -> GraphIndex:
        """Build the graph; arguments as of :meth:`CodeIndex.build`.

        Args:
            links: Neighbours of each row.
            construction_depth: Candidates looked at for each row (``efConstruction``).
        """
        faiss = _faiss()
        measure = faiss.METRIC_L2 if metric is Metric.EUCLIDEAN else faiss.METRIC_INNER_PRODUCT
        with one_thread():
            index = faiss.IndexHNSWSQ(
                dimension, faiss.ScalarQuantizer.QT_8bit_uniform, links, measure
            )
            index.hnsw.efConstruction = construction_depth
            built = cls(index, dimension, metric)
            index.train(built._prepared(np.concatenate(list(_sampled(rows, count, 16_384)))))
            for start in range(0, count, _CHUNK_ROWS // 16):
                checkpoint()
                index.add(built._prepared(rows(start, min(count, start + _CHUNK_ROWS // 16))))
        return built

    @classmethod
    def from_bytes(cls, data: NDArray[np.uint8], dimension: int, metric: Metric) -> GraphIndex:
        """Read what :meth:`to_bytes` returned."""
        return cls(_faiss().deserialize_index(data), dimension, metric)

    def to_bytes(self) -> NDArray[np.uint8]:
        """Return the index as FAISS serialises it."""
        data: NDArray[np.uint8] = _faiss().serialize_index(self._index)
        return data

    def candidates(
        self, queries: FloatArray, count: int, depth: int, bits: NDArray[np.uint8] | None
    ) -> IntArray:
        """Name candidates as :meth:`CodeIndex.candidates` does; ``depth`` is ``efSearch``."""
        faiss = _faiss()
        if bits is None:
            parameters = _graph_parameters(max(depth, count))
        else:
            selector = faiss.IDSelectorBitmap(8 * len(bits), faiss.swig_ptr(bits))
            parameters = faiss.SearchParametersHNSW(efSearch=max(depth, count), sel=selector)
        prepared = np.ascontiguousarray(queries)
        if len(queries) > 1:
            found: IntArray = self._index.search(prepared, count, params=parameters)[1]
        else:
            with one_thread():
                found = self._index.search(prepared, count, params=parameters)[1]
        return found

    def _prepared(self, vectors: FloatArray) -> FloatArray:
        if self._metric is Metric.COSINE:
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.ascontiguousarray(vectors)


class one_thread:  # noqa: N801 - reads as a statement
    """Keep FAISS on the calling thread: its teams cost more than they bring for one query.

    The number of OpenMP threads belongs to the thread that sets it, so others are not touched.
    """

    __slots__ = ("_threads",)

    def __enter__(self) -> None:
        faiss = _faiss()
        self._threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)

    def __exit__(self, *exception: object) -> None:
        _faiss().omp_set_num_threads(self._threads)


@cache
def _faiss() -> Any:
    """Import faiss at first use: it is heavy, and carries no types."""
    import faiss

    return faiss


@cache
def _list_parameters(probes: int) -> Any:
    return _faiss().SearchParametersIVF(nprobe=probes)


@cache
def _graph_parameters(depth: int) -> Any:
    return _faiss().SearchParametersHNSW(efSearch=depth)


def _sampled(rows: Rows, count: int, wanted: int) -> Iterator[FloatArray]:
    """Take rows evenly from everywhere, in short runs, so that a mapped file is read in order."""
    run = 64
    runs = -(-count // run)
    taken = min(runs, -(-wanted // run))
    for number in np.linspace(0, runs - 1, taken).astype(int).tolist():
        yield rows(number * run, min(count, (number + 1) * run))
