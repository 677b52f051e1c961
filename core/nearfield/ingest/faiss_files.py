"""Read the vectors in a file that ``faiss.write_index`` wrote, without faiss.

Faiss trusts its files: one that was made to harm can write where it likes in memory. The indexes
that keep vectors as they are have a simple layout, which is read here, each length checked against
what is left of the file. Source of the layouts: faiss/impl/index_write.cpp (faiss 1.7 to 1.15).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.documents import Metric
from nearfield.errors import IngestError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["FaissVectors", "read_faiss_vectors"]

_METRICS = {0: Metric.DOT, 1: Metric.EUCLIDEAN}
_MAX_DIMENSION = 1 << 20
_MAX_NESTING = 4
_READABLE = "flat indexes, HNSW and IVF over flat vectors, and id maps of these"


@dataclass(frozen=True, slots=True)
class FaissVectors:
    """The vectors of an index.

    Attributes:
        metric: How the index compares them.
        vectors: float32 of shape (n, dimension); those of a flat index are mapped, not loaded.
        labels: int64 of shape (n,): what the index calls each.
    """

    metric: Metric
    vectors: NDArray[np.float32]
    labels: NDArray[np.int64]


def read_faiss_vectors(path: Path) -> FaissVectors:
    """Read an index file.

    Raises:
        IngestError: It is damaged, or of a kind that does not keep vectors as they are.
    """
    if not path.stat().st_size:
        raise _refusal(path, "it is empty")
    reader = _Reader(path)
    found = reader.index(0)
    reader.expect_end()
    return found


def _refusal(path: Path, detail: str) -> IngestError:
    return IngestError(
        f"{path} was refused: {detail}. What can be read is {_READABLE}; for anything else, embed "
        "the texts anew",
        source=str(path),
    )


class _Reader:
    """Goes through the file once; no length in it is believed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes = np.memmap(path, dtype=np.uint8, mode="r")
        self._at = 0

    def index(self, nesting: int) -> FaissVectors:
        """Read an index and those within it."""
        if nesting > _MAX_NESTING:
            raise _refusal(self._path, "its indexes are nested too deep")
        kind = self._take(4).tobytes()
        match kind:
            case b"IxFI" | b"IxF2" | b"IxFl":
                return self._flat()
            case b"IHNf":
                return self._graph(nesting)
            case b"IxMp" | b"IxM2":
                return self._id_map(nesting)
            case b"IwFl":
                return self._inverted_lists(nesting)
        raise _refusal(self._path, f"it is an index of the kind {kind!r}")

    def expect_end(self) -> None:
        """Refuse what lies behind the index."""
        if self._at != len(self._bytes):
            raise _refusal(self._path, f"{len(self._bytes) - self._at} bytes are left over")

    def _flat(self) -> FaissVectors:
        dimension, count, metric = self._header()
        vectors = self._array("<f4", self._number())
        if vectors.size != count * dimension:
            raise _refusal(self._path, f"it has {vectors.size} numbers for {count} × {dimension}")
        labels = np.arange(count, dtype=np.int64)
        return FaissVectors(metric, vectors.reshape(count, dimension), labels)

    def _graph(self, nesting: int) -> FaissVectors:
        dimension, count, metric = self._header()
        for item_bytes in (8, 4, 4, 8, 4):  # level probabilities, sizes, levels, offsets, links
            self._take(self._number() * item_bytes)
        self._take(5 * 4)  # entry point, highest level, search parameters
        stored = self.index(nesting + 1)
        return FaissVectors(metric, self._fitting(stored, dimension, count).vectors, stored.labels)

    def _id_map(self, nesting: int) -> FaissVectors:
        dimension, count, metric = self._header()
        stored = self._fitting(self.index(nesting + 1), dimension, count)
        labels = self._array("<i8", self._number())
        if len(labels) != count:
            raise _refusal(self._path, f"{len(labels)} ids are mapped to {count} vectors")
        positions = stored.labels
        if len(positions) and (positions.min() < 0 or positions.max() >= count):
            raise _refusal(self._path, "an id is mapped to no vector")
        return FaissVectors(metric, stored.vectors, labels[positions].astype(np.int64))

    def _inverted_lists(self, nesting: int) -> FaissVectors:
        dimension, count, metric = self._header()
        self._numbers(2)  # how many lists, and how many to search
        self.index(nesting + 1)  # of the centroids
        by_hash = self._take(1)[0] == 2  # noqa: PLR2004 - how labels are found: none, array, hash
        self._take(self._number() * 8)
        if by_hash:
            self._take(self._number() * 16)
        sizes = self._list_sizes(dimension)
        parts, labels = [], []
        for size in sizes:
            parts.append(self._array("<f4", size * dimension).reshape(size, dimension))
            labels.append(self._array("<i8", size))
        if sum(sizes) != count:
            raise _refusal(self._path, f"its lists hold {sum(sizes)} vectors of {count}")
        vectors = np.concatenate([np.empty((0, dimension), dtype=np.float32), *parts])
        return FaissVectors(metric, vectors, np.concatenate([np.empty(0, np.int64), *labels]))

    def _list_sizes(self, dimension: int) -> list[int]:
        """Read the head of inverted lists; return the lengths of those that hold something."""
        if self._take(4).tobytes() != b"ilar":
            raise _refusal(self._path, "its inverted lists are in another file")
        _, code_bytes = self._numbers(2)
        if code_bytes != 4 * dimension:
            raise _refusal(
                self._path, f"its vectors have {code_bytes} bytes for {dimension} numbers"
            )
        form = self._take(4).tobytes()
        numbers = self._array("<u8", self._number())
        if form == b"sprs":  # pairs of a list's number and its length
            numbers = numbers[1::2]
        elif form != b"full":
            raise _refusal(self._path, f"its inverted lists have the form {form!r}")
        return [int(size) for size in numbers if size]

    def _fitting(self, stored: FaissVectors, dimension: int, count: int) -> FaissVectors:
        if stored.vectors.shape != (count, dimension):
            raise _refusal(
                self._path, f"vectors of shape {stored.vectors.shape} for {count} × {dimension}"
            )
        return stored

    def _header(self) -> tuple[int, int, Metric]:
        dimension, count, _, _, _, metric = struct.unpack("<iqqqBi", self._take(33).tobytes())
        if not 1 <= dimension <= _MAX_DIMENSION or count < 0:
            raise _refusal(self._path, f"it speaks of {count} vectors of dimension {dimension}")
        if metric not in _METRICS:
            raise _refusal(self._path, f"its metric has the number {metric}")
        return dimension, count, _METRICS[metric]

    def _number(self) -> int:
        return self._numbers(1)[0]

    def _numbers(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}Q", self._take(8 * count).tobytes())

    def _array(self, kind: str, count: int) -> NDArray[Any]:
        return self._take(count * np.dtype(kind).itemsize).view(kind)

    def _take(self, size_bytes: int) -> NDArray[np.uint8]:
        if size_bytes > len(self._bytes) - self._at:
            raise _refusal(
                self._path,
                f"{size_bytes} bytes should follow byte {self._at}, and the file has "
                f"{len(self._bytes)}",
            )
        taken = self._bytes[self._at : self._at + size_bytes]
        self._at += size_bytes
        return taken
