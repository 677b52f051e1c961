"""Move a LangChain FAISS store, as ``FAISS.save_local`` wrote it, into a collection."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nearfield.documents import Metric
from nearfield.errors import IngestError, InvalidInputError
from nearfield.ingest.faiss_files import read_faiss_vectors
from nearfield.ingest.langchain_docstore import read_docstore
from nearfield.ingest.report import Progress
from nearfield.validation import check_vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from nearfield.collection import Collection
    from nearfield.documents import Document
    from nearfield.embedders import Embedder

__all__ = ["FaissImport", "SavedFaiss", "import_langchain_faiss", "read_langchain_faiss"]

_BATCH = 1000
_LENGTH_TOLERANCE = 1e-3
"""How far from 1 rounding may leave the length of a normalised vector, half precision included."""


@dataclass(frozen=True, slots=True)
class SavedFaiss:
    """A LangChain FAISS store on the disk.

    Attributes:
        documents: Those that have a vector, in the order of their positions.
        vectors: float32 of shape (n, dimension), those of a flat index mapped, not loaded.
        rows: int64: for each document, the row of its vector.
        metric: How the index compares vectors.
        unit_length: Whether all vectors have length 1, so that every metric ranks alike.
        vectors_without_document: Vectors that no document belongs to; LangChain cannot return them.
        documents_without_vector: Documents that no vector leads to, likewise.
    """

    documents: Sequence[Document]
    vectors: NDArray[np.float32]
    rows: NDArray[np.int64]
    metric: Metric
    unit_length: bool
    vectors_without_document: int
    documents_without_vector: int

    @property
    def dimension(self) -> int:
        """The dimension of the vectors."""
        return int(self.vectors.shape[1])


@dataclass(frozen=True, slots=True)
class FaissImport:
    """What an import did.

    Attributes:
        documents: How many the store has.
        written: How many of them were written now.
        unchanged: How many were in the collection already, just as they are.
        dimension: Of the vectors.
        metric: Of the collection.
        unit_length: Whether all vectors have length 1.
        vectors_without_document: Left out, as no document belongs to them.
        documents_without_vector: Left out, as no vector leads to them.
    """

    documents: int
    written: int
    unchanged: int
    dimension: int
    metric: Metric
    unit_length: bool
    vectors_without_document: int
    documents_without_vector: int


def read_langchain_faiss(folder: str | Path, *, index_name: str = "index") -> SavedFaiss:
    """Read what LangChain's ``FAISS.save_local`` wrote, without LangChain or faiss.

    Nothing in the files is run: a pickle that would call or import anything is refused.

    Args:
        folder: The folder that it was saved to.
        index_name: The name that it was saved under.

    Raises:
        InvalidInputError: The files are not there.
        IngestError: They are damaged, unsafe, or do not keep vectors as they are.
    """
    index, pickled = (_existing(folder, index_name, suffix) for suffix in ("faiss", "pkl"))
    stored, positions = read_docstore(pickled)
    found = read_faiss_vectors(index)
    row_of = {label: row for row, label in enumerate(found.labels.tolist())}
    lost = next((position for position in sorted(positions) if position not in row_of), None)
    if lost is not None:
        raise IngestError(
            f"{pickled} speaks of position {lost}, and {index} has {len(row_of)} vectors: the two "
            "files do not belong together; save the store again",
            source=str(pickled),
        )
    placed = {positions[each]: row_of[each] for each in sorted(positions)}  # an id's last counts
    kept = {identifier: row for identifier, row in placed.items() if identifier in stored}
    return SavedFaiss(
        documents=[stored[identifier] for identifier in kept],
        vectors=found.vectors,
        rows=np.fromiter(kept.values(), np.int64, len(kept)),
        metric=found.metric,
        unit_length=_unit_length(found.vectors),
        vectors_without_document=len(found.vectors) - len(kept),
        documents_without_vector=len(stored) - len(kept),
    )


def import_langchain_faiss(
    folder: str | Path,
    url: str | Path,
    name: str = "default",
    *,
    index_name: str = "index",
    embedder: Embedder | str | None = None,
    metric: Metric | str | None = None,
    on_progress: Callable[[Progress], object] | None = None,
) -> FaissImport:
    """Copy a LangChain FAISS store into a collection: ids, texts, metadata and vectors, exactly.

    Documents are written in batches. If it is interrupted, the same call goes on: what is in the
    collection already, just as it is in the store, is not written again. Documents of the
    collection under other ids stay.

    Args:
        folder: What LangChain's ``FAISS.save_local`` wrote to.
        url: The database; see :func:`nearfield.connect`.
        name: The collection, made if need be.
        index_name: The name that the store was saved under.
        embedder: The model that the store was built with, so that texts can be searched for; no
            document is embedded. Without it, vectors are given with every query.
        metric: How the collection compares vectors. When left out, as the index does: euclidean
            distance, or the inner product, which for vectors of length 1 is the cosine.
        on_progress: Called after each batch.

    Raises:
        InvalidInputError: The files are not there, or the embedder makes vectors of another
            dimension.
        InvalidVectorError: A vector has no direction, and the metric is cosine; nothing was
            written.
        IngestError: The files are damaged, unsafe, or do not keep vectors as they are.
        EmbedderMismatchError: The collection was built with another embedder or metric.
    """
    from nearfield.connect import open as open_collection  # it imports collections

    saved = read_langchain_faiss(folder, index_name=index_name)
    by_default = saved.metric
    if by_default is Metric.DOT and saved.unit_length:
        by_default = Metric.COSINE
    model = None if embedder is None else _fitting(embedder, saved.dimension)
    with open_collection(
        url,
        name,
        embedder=model,
        dimension=saved.dimension if model is None else None,
        metric=metric or by_default,
    ) as collection:
        compared_by = collection.info.metric
        for start in range(0, len(saved.vectors), _BATCH):  # all, before the first is written
            part = saved.vectors[start : start + _BATCH]
            check_vectors(part, dimension=saved.dimension, metric=compared_by, what="vector")
        written = _write(collection, saved, on_progress)
    return FaissImport(
        documents=len(saved.documents),
        written=written,
        unchanged=len(saved.documents) - written,
        dimension=saved.dimension,
        metric=compared_by,
        unit_length=saved.unit_length,
        vectors_without_document=saved.vectors_without_document,
        documents_without_vector=saved.documents_without_vector,
    )


def _write(
    collection: Collection,
    saved: SavedFaiss,
    on_progress: Callable[[Progress], object] | None,
) -> int:
    """Write the documents that are not there just as they are; return how many."""
    written = 0
    total = len(saved.documents)
    for start in range(0, total, _BATCH):
        documents = saved.documents[start : start + _BATCH]
        vectors = np.asarray(saved.vectors[saved.rows[start : start + _BATCH]])
        there = collection.get(
            [document.id for document in documents], include=("text", "metadata", "embedding")
        )
        missing = [
            row
            for row, (document, found) in enumerate(zip(documents, there, strict=True))
            if not _same(found, document, vectors[row])
        ]
        if missing:
            collection.upsert([documents[row] for row in missing], vectors=vectors[missing])
            written += len(missing)
        if on_progress is not None:
            done = start + len(documents)
            on_progress(Progress(done, total, written, 0, None, documents[-1].id))
    return written


def _same(found: Document | None, document: Document, vector: NDArray[np.float32]) -> bool:
    return (
        found is not None
        and found == document
        and found.embedding is not None
        and np.array_equal(found.embedding, vector)
    )


def _existing(folder: str | Path, index_name: str, suffix: str) -> Path:
    path = Path(folder).expanduser() / f"{index_name}.{suffix}"
    if not path.is_file():
        raise InvalidInputError(
            f"there is no file {path}; expected the folder that LangChain's FAISS.save_local wrote "
            "to, and the index_name it was saved under"
        )
    return path


def _fitting(embedder: Embedder | str, dimension: int) -> Embedder:
    from nearfield.embedders import load  # models are heavy

    model = load(embedder)
    if model.info.dimension != dimension:
        raise InvalidInputError(
            f"the store's vectors have dimension {dimension}, and those of {model.info.model!r} "
            f"{model.info.dimension}; name the embedder that the store was built with, or leave it "
            "out and give vectors with every query"
        )
    return model


def _unit_length(vectors: NDArray[np.float32]) -> bool:
    if not len(vectors):
        return False
    return all(
        bool(
            (
                np.abs(np.linalg.norm(vectors[start : start + _BATCH], axis=1) - 1.0)
                <= _LENGTH_TOLERANCE
            ).all()
        )
        for start in range(0, len(vectors), _BATCH)
    )
