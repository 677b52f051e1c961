"""The files of a sealed segment: how they are written, and verified when they are opened."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.errors import CorruptionError
from nearfield.stores.local.files import sync_file, sync_folder
from nearfield.stores.local.plans import PlanKind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]

__all__ = [
    "BLOCKS",
    "BLOCK_ROWS",
    "INDEXES",
    "NORMS",
    "SLOTS",
    "VECTORS",
    "DamagedSegmentError",
    "FileSeal",
    "SegmentWriter",
    "map_vectors",
    "read_array",
    "verify_file",
]

SLOTS = "slots.npy"
NORMS = "norms.npy"
BLOCKS = "blocks.npy"
VECTORS = "vectors.npy"
INDEXES = {
    PlanKind.SCAN: "scan.faiss",
    PlanKind.LISTS: "lists.faiss",
    PlanKind.GRAPH: "graph.faiss",
}
"""The file of each kind of index."""

BLOCK_ROWS = 64
"""Vectors under one checksum. A search verifies the blocks that it touches for the first time."""
_HEADER_BYTES = 128
_SYNC_BYTES = 4 << 20
"""Flushed to the disk at a time, so that no other file's flush waits long for this one's."""


class DamagedSegmentError(CorruptionError):
    """A segment's files are missing or not as they were written; the database has its rows.

    Attributes:
        segment_id: Which one.
    """

    def __init__(self, message: str, *, segment_id: int) -> None:
        super().__init__(message)
        self.segment_id = segment_id


@dataclass(frozen=True, slots=True)
class FileSeal:
    """What a file was when it was written.

    Attributes:
        size_bytes: How long.
        checksum: CRC-32 of all of it.
    """

    size_bytes: int
    checksum: int


class SegmentWriter:
    """Writes a segment's files into a folder of its own, which no one reads before it is moved.

    Args:
        folder: Made here.
        dimension: Of the vectors.
    """

    def __init__(self, folder: Path, dimension: int) -> None:
        self.folder = folder
        self.rows = 0
        self._dimension = dimension
        self._slots: list[NDArray[np.int64]] = []
        self._norms: list[FloatArray] = []
        self._blocks: list[int] = []
        self._pending = np.empty((0, dimension), np.float32)
        self._unsynced = 0
        folder.parent.mkdir(exist_ok=True)
        folder.mkdir()
        self._file = (folder / VECTORS).open("wb")
        self._file.write(b"\0" * _HEADER_BYTES)

    def append(self, slots: NDArray[np.int64], vectors: FloatArray) -> None:
        """Add rows, by ascending slot."""
        self._slots.append(slots)
        self._norms.append(
            np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)).astype(np.float32)
        )
        self.rows += len(slots)
        pending = np.concatenate([self._pending, vectors])
        whole = len(pending) // BLOCK_ROWS * BLOCK_ROWS
        self._write_blocks(pending[:whole])
        self._pending = pending[whole:]

    def finish_rows(self) -> dict[str, FileSeal]:
        """Write what is left of the rows; vectors can be mapped from now on."""
        self._write_blocks(self._pending)
        header = io.BytesIO()
        shape = (self.rows, self._dimension)
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )
        if len(header.getvalue()) != _HEADER_BYTES:
            raise CorruptionError(f"an array of shape {shape} has no header of the usual length")
        self._file.seek(0)
        self._file.write(header.getvalue())
        self._close(self._file)
        return {
            SLOTS: self._write_array(SLOTS, self.slots()),
            NORMS: self._write_array(NORMS, self.norms()),
            BLOCKS: self._write_array(BLOCKS, np.array(self._blocks, np.uint32)),
        }

    def vectors(self) -> FloatArray:
        """Map the finished vectors."""
        return map_vectors(self.folder, self.rows, self._dimension)

    def slots(self) -> NDArray[np.int64]:
        """Return the slots of the rows."""
        return np.concatenate([np.empty(0, np.int64), *self._slots])

    def norms(self) -> FloatArray:
        """Return the lengths of the vectors."""
        return np.concatenate([np.empty(0, np.float32), *self._norms])

    def write(self, name: str, data: memoryview) -> FileSeal:
        """Write a whole file, flushed to the disk."""
        view = data.cast("B")
        with (self.folder / name).open("wb") as file:
            for start in range(0, len(view), _SYNC_BYTES):
                file.write(view[start : start + _SYNC_BYTES])
                file.flush()
                os.fsync(file.fileno())
        return FileSeal(len(view), zlib.crc32(view))

    def seal(self, name: str) -> FileSeal:
        """Flush a file that was written into the folder to the disk, and seal it."""
        path = self.folder / name
        sync_file(path)
        data = np.memmap(path, np.uint8, mode="r")
        return FileSeal(len(data), zlib.crc32(data.data))

    def move(self, folder: Path) -> None:
        """Put the complete segment in its place."""
        sync_folder(self.folder)
        self.folder.rename(folder)
        sync_folder(folder.parent)

    def discard(self) -> None:
        """Throw away what was written, unless it was moved."""
        with contextlib.suppress(OSError):  # a full disk refuses what is left in the buffer
            self._file.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write_blocks(self, vectors: FloatArray) -> None:
        for start in range(0, len(vectors), BLOCK_ROWS):
            data = np.ascontiguousarray(vectors[start : start + BLOCK_ROWS], "<f4").data.cast("B")
            self._blocks.append(zlib.crc32(data))
            self._file.write(data)
            self._unsynced += len(data)
        if self._unsynced >= _SYNC_BYTES:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._unsynced = 0

    def _write_array(self, name: str, array: NDArray[Any]) -> FileSeal:
        data = io.BytesIO()
        np.lib.format.write_array(data, array, allow_pickle=False)
        return self.write(name, data.getbuffer())

    def _close(self, file: io.BufferedWriter) -> None:
        file.flush()
        os.fsync(file.fileno())
        file.close()


def verify_file(folder: Path, name: str, seals: Mapping[str, FileSeal]) -> Path:
    """Return the path of a file that is as it was written, or raise ``CorruptionError``."""
    path, seal = folder / name, seals.get(name)
    size = path.stat().st_size
    if seal is None or not size or size != seal.size_bytes:
        raise CorruptionError(f"{path} has {size} bytes, expected another number", path=str(path))
    if zlib.crc32(np.memmap(path, np.uint8, mode="r").data) != seal.checksum:
        raise CorruptionError(f"{path} is not as it was written", path=str(path))
    return path


def read_array(folder: Path, name: str, seals: Mapping[str, FileSeal]) -> NDArray[Any]:
    """Verify and map a sealed ``.npy`` file."""
    path = verify_file(folder, name, seals)
    mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped.view(np.ndarray)  # a memmap is slower to index


def map_vectors(folder: Path, rows: int, dimension: int) -> FloatArray:
    """Map the vectors; they are verified block by block, when they are used."""
    path = folder / VECTORS
    expected = _HEADER_BYTES + 4 * rows * dimension
    if path.stat().st_size != expected:
        raise CorruptionError(
            f"{path} has {path.stat().st_size} bytes, expected {expected}", path=str(path)
        )
    if not rows:
        return np.empty((0, dimension), np.float32)
    mapped = np.memmap(path, "<f4", mode="r", offset=_HEADER_BYTES, shape=(rows, dimension))
    return mapped.view(np.ndarray)
