"""The vectors of a collection or of a file, in bounded memory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.errors import InvalidInputError
from nearfield.filters.evaluation import MISSING, lookup

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from nearfield.collection import Collection

__all__ = ["MAX_READ_BYTES", "VectorSet", "read_collection", "read_npy"]

MAX_READ_BYTES = 512 << 20
"""Vectors of a collection kept in memory: 350,000 of 384 dimensions."""


@dataclass(frozen=True, slots=True, eq=False)
class VectorSet:
    """Vectors, and what is known of each.

    Attributes:
        vectors: Shape (n, dimension).
        ids: One for each, or None where there are none.
        labels: The values of the metadata field that was asked for, one for each; None without.
        total: How many there are where they were read from.
    """

    vectors: NDArray[Any]
    ids: list[str] | None
    labels: list[str | None] | None
    total: int


def read_collection(
    collection: Collection,
    *,
    where: Mapping[str, Any] | None = None,
    field: str | None = None,
    max_bytes: int | None = None,
    seed: int = 0,
) -> VectorSet:
    """Read a collection's vectors, or of a larger collection as many, drawn at random.

    The sample is drawn in one pass (a reservoir; Vitter, 1985, ACM TOMS 11:37), so that memory
    stays within ``max_bytes`` and what the ids take.

    Args:
        collection: What to read.
        where: A filter: only documents that match.
        field: A metadata field to take labels from; a dotted path reaches into nested metadata.
            What is not text is spelled as JSON; missing and null are None.
        max_bytes: The most memory for vectors; None for 512 MiB.
        seed: What the sample is drawn by.

    Raises:
        InvalidInputError: No documents, none that match, or none with the field.
    """
    dimension = collection.info.embedding.dimension
    room = max(1, min((max_bytes or MAX_READ_BYTES) // (4 * dimension), collection.count(where)))
    vectors = np.empty((room, dimension), dtype=np.float32)
    ids: list[str] = []
    labels: list[str | None] = []
    rng = np.random.default_rng(seed)
    include = ("embedding",) if field is None else ("embedding", "metadata")
    total = 0
    for document in collection.scan(where=where, include=include):
        if document.embedding is None:
            continue
        place = total if total < room else int(rng.integers(total + 1))
        total += 1
        if place >= room:
            continue
        vectors[place] = document.embedding
        label = None if field is None else _label(document.metadata, field)
        if place == len(ids):
            ids.append(document.id)
            labels.append(label)
        else:
            ids[place], labels[place] = document.id, label
    if not total:
        raise InvalidInputError(
            f"collection {collection.info.name!r} holds no documents"
            + ("" if where is None else " that match")
        )
    if field is not None and not any(label is not None for label in labels):
        raise InvalidInputError(
            f"no document of collection {collection.info.name!r} has the metadata field {field!r}"
        )
    return VectorSet(vectors[: len(ids)], ids, None if field is None else labels, total)


def read_npy(path: Path) -> VectorSet:
    """Map a ``.npy`` file into memory.

    Raises:
        InvalidInputError: It is not one, or holds no matrix of numbers.
    """
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError):  # numpy's message advises to load it unsafely
        raise InvalidInputError(
            f"{path} is not a .npy file of numbers; write one with numpy.save"
        ) from None
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2:  # noqa: PLR2004
        shape = getattr(vectors, "shape", "several arrays")
        raise InvalidInputError(f"{path} holds {shape}; expected an array of shape (n, dimension)")
    return VectorSet(vectors, None, None, len(vectors))


def _label(metadata: Mapping[str, Any], field: str) -> str | None:
    value = lookup(metadata, field)
    if value is MISSING or value is None:
        return None
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
