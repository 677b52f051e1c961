"""What one upsert writes: documents checked before anything is embedded or stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.documents import Document, make_document
from nearfield.embedders.base import Item
from nearfield.embedders.images import check_image
from nearfield.errors import InvalidDocumentError, InvalidInputError, InvalidVectorError
from nearfield.validation import (
    check_id,
    check_metadata,
    check_text,
    check_timestamp,
    check_vectors,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from nearfield.embedders.base import ImageLike
    from nearfield.stores.base import CollectionInfo

    Vector = NDArray[np.float32]

__all__ = ["Batch"]

_CHECKED_AT_ONCE = 1024
"""Embeddings that are looked at together, which is a copy of so many."""


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Documents to write in one step.

    Attributes:
        ids: One per document that was given.
        documents: Checked, of each id the last.
        images: The image to embed instead of a document's text, or with it, by the document's id.
    """

    ids: list[str]
    documents: list[Document]
    images: Mapping[str, ImageLike]

    @classmethod
    def checked(
        cls,
        documents: Document | str | Iterable[Document | str],
        vectors: ArrayLike | None,
        info: CollectionInfo,
        images: Iterable[ImageLike | None] | None = None,
    ) -> Batch:
        """Check documents, and the vectors or images given with them, for a collection."""
        given = _listed(documents)
        if vectors is not None and images is not None:
            raise InvalidInputError("vectors= and images= were given; pass one of them")
        rows: Iterable[Vector | None] = repeat(None, len(given))
        if vectors is not None:
            rows = array = _vectors(vectors, info, "vector")
            if len(array) != len(given):
                raise InvalidInputError(
                    f"{len(array)} vectors were given for {len(given)} documents"
                )
        checked = [
            _checked(document, position, row)
            for position, (document, row) in enumerate(zip(given, rows, strict=True))
        ]
        if vectors is None:
            checked = _with_own_embeddings(checked, info)
        unique = {document.id: document for document in checked}
        pictures = {} if images is None else _pictures(images, checked)
        return cls([document.id for document in checked], list(unique.values()), pictures)

    @property
    def texts(self) -> list[str]:
        """The texts of the documents that still need an embedding."""
        return [document.text for document in self.documents if document.embedding is None]

    @property
    def items(self) -> list[Item]:
        """The texts and images of the documents that still need an embedding."""
        return [
            Item(document.text, self.images.get(document.id))
            for document in self.documents
            if document.embedding is None
        ]

    @property
    def places(self) -> list[int]:
        """Where the documents that still need an embedding were given."""
        last = {identifier: place for place, identifier in enumerate(self.ids)}
        return [last[document.id] for document in self.documents if document.embedding is None]

    def embedded(self, vectors: Iterable[Vector]) -> list[Document]:
        """Return the documents, with these vectors for those that had none."""
        rows = iter(vectors)
        return [
            document
            if document.embedding is not None
            else dataclasses.replace(document, embedding=next(rows))
            for document in self.documents
        ]


def _vectors(values: ArrayLike, info: CollectionInfo, what: str) -> Vector:
    return check_vectors(values, dimension=info.embedding.dimension, metric=info.metric, what=what)


def _pictures(
    images: Iterable[ImageLike | None], documents: list[Document]
) -> dict[str, ImageLike]:
    """Return the image of each id's last document, where it has one."""
    if isinstance(images, str | bytes | Mapping) or not isinstance(images, Iterable):
        raise InvalidInputError(
            f"images is a {type(images).__name__}, expected a list with one for each document, or "
            "None where there is none"
        )
    given = list(images)
    if len(given) != len(documents):
        raise InvalidInputError(f"{len(given)} images were given for {len(documents)} documents")
    pictures: dict[str, ImageLike] = {}
    for position, (document, image) in enumerate(zip(documents, given, strict=True)):
        pictures.pop(document.id, None)
        if image is None:
            continue
        if document.embedding is not None:
            raise InvalidDocumentError(
                f"document {document.id!r} has an embedding, and images= an image for it; leave "
                "one of them out",
                position=position,
            )
        pictures[document.id] = check_image(image, position=position)
    return pictures


def _listed(documents: object) -> list[Any]:
    if isinstance(documents, Document | str):
        return [documents]
    # A mapping and bytes can be iterated over too, but what comes out is no document.
    if isinstance(documents, Mapping | bytes) or not isinstance(documents, Iterable):
        raise InvalidDocumentError(
            f"expected documents or texts, or an iterable of them, got {type(documents).__name__}"
        )
    return list(documents)


def _checked(document: object, position: int, embedding: Vector | None) -> Document:
    if isinstance(document, str):
        return Document(check_text(document, position=position), embedding=embedding)
    if not isinstance(document, Document):
        raise InvalidDocumentError(
            f"expected a Document or a str, got {type(document).__name__} (document {position} of "
            "the batch)",
            position=position,
        )
    return make_document(
        check_text(document.text, position=position),
        check_id(document.id, position=position),
        check_metadata(document.metadata, position=position),
        document.embedding if embedding is None else embedding,
        check_timestamp(document.created_at, position=position),
    )


def _with_own_embeddings(documents: list[Document], info: CollectionInfo) -> list[Document]:
    checked: list[Document] = []
    for start in range(0, len(documents), _CHECKED_AT_ONCE):
        some = documents[start : start + _CHECKED_AT_ONCE]
        checked += some if _fit(some, info) else [_with_own_embedding(each, info) for each in some]
    return checked


def _fit(documents: list[Document], info: CollectionInfo) -> bool:
    """Whether the collection takes the documents' own embeddings just as they are."""
    rows = [document.embedding for document in documents]
    shape = (info.embedding.dimension,)
    if not all(
        type(row) is np.ndarray
        and row.dtype == np.float32
        and row.shape == shape
        and row.flags.c_contiguous
        for row in rows
    ):
        return False
    try:
        _vectors(np.stack(rows), info, "embedding")  # type: ignore[arg-type]  # no None is left
    except InvalidVectorError:
        return False  # whose it is, is found out one by one
    return True


def _with_own_embedding(document: Document, info: CollectionInfo) -> Document:
    if document.embedding is None:
        return document
    rows = _vectors(document.embedding, info, f"embedding of {document.id!r}")
    if len(rows) != 1:
        raise InvalidVectorError(
            f"document {document.id!r} has {len(rows)} embeddings, expected one, of shape "
            f"({info.embedding.dimension},)"
        )
    return dataclasses.replace(document, embedding=rows[0])
