"""Copying collections between databases, whatever engines are behind them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import numpy as np

from nearfield.errors import (
    CollectionNotFoundError,
    EmbedderMismatchError,
    StoreError,
)
from nearfield.validation import check_positive

if TYPE_CHECKING:
    from nearfield.collection import Collection
    from nearfield.connect import Database
    from nearfield.documents import Document
    from nearfield.embedders import Embedder

__all__ = ["CopyReport", "Progress", "copy"]

Progress: TypeAlias = Callable[[int, int], None]
"""Called with how many documents are done, and how many there are."""

_PARTS = ("text", "metadata", "embedding")
_BATCH = 500
_SAMPLE = 200
_TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True, slots=True)
class CopyReport:
    """What a copy did.

    Attributes:
        name: The collection's name in the target.
        documents: How many documents both hold now.
        written: How many of them had to be written; the others were there from an earlier try.
        compared: How many were read back and compared with the source, component by component.
    """

    name: str
    documents: int
    written: int
    compared: int


def copy(
    source: Database,
    target: Database,
    name: str = "default",
    *,
    new_name: str | None = None,
    embedder: Embedder | str | None = None,
    batch_size: int = _BATCH,
    progress: Progress | None = None,
) -> CopyReport:
    """Copy a collection to another database, and verify the copy.

    It can be run again after it was broken off, at whatever moment: documents that are there
    already, as they are in the source, are not written again. Memory is bounded by a batch. The
    source is read as of one moment.

    Args:
        source: Where the collection is.
        target: Where it is to be; the collection is made there unless it was begun before.
        name: The collection.
        new_name: What to call it in the target, if not the same.
        embedder: Embed the texts anew with this one; otherwise vectors are copied as they are.
        batch_size: Documents that are read and written together.
        progress: Called after each batch.

    Raises:
        CollectionNotFoundError: The source has none of this name.
        EmbedderMismatchError: The target has one of this name with another embedding space or
            metric.
        StoreError: The target holds documents that the source does not, or the copy differs.
    """
    size = check_positive(batch_size, "batch_size")
    with source.open(name) as original, _opened(original, target, new_name, embedder) as copied:
        if embedder is None and copied.info.embedding != original.info.embedding:
            raise EmbedderMismatchError(
                f"the target's collection {copied.info.name!r} has embeddings of "
                f"{copied.info.embedding.model!r}, the source's {original.info.embedding.model!r}; "
                "choose another name, or name the embedder to embed with"
            )
        _refuse_other_metric(original, copied)
        total = original.count()
        done = written = 0
        sample: list[Document] = []
        draw = np.random.default_rng(0)
        for batch in _batches(original.scan(include=_PARTS), size):
            missing = _missing(batch, copied, with_vectors=embedder is None)
            if missing:
                copied.upsert(
                    missing
                    if embedder is None
                    else [dataclasses.replace(document, embedding=None) for document in missing]
                )
            done += len(batch)
            written += len(missing)
            _draw(sample, batch, done, draw)
            if progress is not None:
                progress(done, max(total, done))
        _verify(copied, done, sample, with_vectors=embedder is None)
        copied.maintain()  # an index, where one is due, before the first search
        return CopyReport(copied.info.name, done, written, len(sample))


def _opened(
    original: Collection,
    target: Database,
    new_name: str | None,
    embedder: Embedder | str | None,
) -> Collection:
    name = new_name or original.info.name
    try:
        return target.open(name, embedder=embedder)
    except CollectionNotFoundError:
        pass
    if embedder is not None:
        return target.create(name, embedder=embedder, metric=original.info.metric)
    return target.create_like(original, name)


def _refuse_other_metric(original: Collection, copied: Collection) -> None:
    here, there = original.info.metric, copied.info.metric
    if here is not there:
        raise EmbedderMismatchError(
            f"the target's collection {copied.info.name!r} compares vectors by {there.value}, the "
            f"source's by {here.value}, so that the same query would find others; choose another "
            "name"
        )


def _batches(documents: Iterator[Document], size: int) -> Iterator[list[Document]]:
    while batch := list(islice(documents, size)):
        yield batch


def _missing(batch: list[Document], copied: Collection, *, with_vectors: bool) -> list[Document]:
    """Return the documents that the target lacks, or has otherwise."""
    parts = _PARTS if with_vectors else _PARTS[:2]
    found = copied.get([document.id for document in batch], include=parts)
    return [
        document
        for document, there in zip(batch, found, strict=True)
        if there is None or not _same(document, there, with_vectors=with_vectors)
    ]


def _same(document: Document, there: Document, *, with_vectors: bool) -> bool:
    if document != there or document.created_at != there.created_at:
        return False
    # As JSON, since Python takes 1, 1.0 and True for one value.
    if _as_json(document.metadata) != _as_json(there.metadata):
        return False
    if not with_vectors:
        return True
    if document.embedding is None or there.embedding is None:
        return False
    return bool(np.allclose(document.embedding, there.embedding, rtol=_TOLERANCE, atol=0))


def _as_json(metadata: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(metadata, order="deterministic")


def _draw(
    sample: list[Document], batch: list[Document], done: int, draw: np.random.Generator
) -> None:
    """Keep a sample in which each document so far is as likely as any other (Vitter 1985)."""
    for place, document in enumerate(batch, start=done - len(batch)):
        if len(sample) < _SAMPLE:
            sample.append(document)
        elif (index := int(draw.integers(0, place + 1))) < _SAMPLE:
            sample[index] = document


def _verify(
    copied: Collection, documents: int, sample: list[Document], *, with_vectors: bool
) -> None:
    name = copied.info.name
    if (count := copied.count()) != documents:
        raise StoreError(
            f"the copy of {name!r} holds {count:,} documents, the source {documents:,}: it held "
            "others before, or someone else writes to it; copy to another name, or delete those"
        )
    differing = _missing(sample, copied, with_vectors=with_vectors)
    if differing:
        raise StoreError(
            f"{len(differing)} of {len(sample)} documents that were read back from the copy of "
            f"{name!r} differ from the source, such as {differing[0].id!r}; run the copy again"
        )
