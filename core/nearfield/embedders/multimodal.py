"""Two embedders, of texts and of images, as one for what has either or both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from nearfield.documents import EmbeddingInfo, EmbeddingKind
from nearfield.embedders import contract
from nearfield.embedders.base import Item
from nearfield.embedders.fingerprint import derived_fingerprint
from nearfield.embedders.images import check_image
from nearfield.embedders.unit import unit_vectors
from nearfield.errors import InvalidDocumentError, InvalidInputError
from nearfield.validation import check_member, check_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.embedders.base import Embedder, ImageEmbedder, ImageLike

    Vectors: TypeAlias = NDArray[np.float32]
    """Of shape (n, dimension)."""

__all__ = ["Fusion", "Missing", "MultimodalEmbedder"]


class Fusion(StrEnum):
    """How the vectors t of a text and i of an image, each of length 1, become one."""

    CONCATENATE = "concatenate"
    """(√w₁ t, √w₂ i): the cosine of two is the weighted mean of their texts' and their images'."""
    AVERAGE = "average"
    """w₁ t + w₂ i, which has a meaning only where both are of one space, as CLIP's are."""


class Missing(StrEnum):
    """What becomes of an item without a text, or without an image."""

    ALONE = "alone"
    """What is there counts alone: t or i, with zeros in the other's place in a concatenation."""
    REFUSE = "refuse"
    """It is not stored. Searching with a text alone, or an image alone, is always possible."""


class MultimodalEmbedder:
    """Embeds what has a text, an image, or both, into one space.

    A result is scaled to length 1. Fused by concatenation, texts are compared with texts and
    images with images, by a model for each; a text alone finds whatever has a like text, and never
    an image alone, which it has cosine 0 with. Of two whole items the cosine is
    w₁ cos(texts) + w₂ cos(images); of a whole one and a text alone it is √w₁ cos(texts). To find
    images by text, give a model that reads both, such as ``clip-ViT-B-32``, for ``text`` as well
    as for ``image``, and average; or have no need of this class, and give that model to the
    collection.

    Args:
        text: For texts.
        image: For images; may be the same.
        fusion: ``"concatenate"`` or ``"average"``.
        weights: Of the text and of the image, not negative; they are scaled to add up to 1.
        missing: What becomes of an item that lacks one: ``"alone"`` or ``"refuse"``.

    Raises:
        InvalidInputError: The dimensions differ and are to be averaged, an embedder can't do its
            part, or an option is out of range.
    """

    def __init__(
        self,
        *,
        text: Embedder,
        image: ImageEmbedder,
        fusion: Fusion | str = Fusion.CONCATENATE,
        weights: tuple[float, float] = (0.5, 0.5),
        missing: Missing | str = Missing.ALONE,
    ) -> None:
        _check_embedders(text, image)
        self._text = text
        self._image = image
        self._fusion = check_member(fusion, Fusion, "fusion")
        self._weights = _read_weights(weights)
        self._missing = check_member(missing, Missing, "missing")
        self.info = self._describe()
        # Not a method: what cannot count tokens must not seem to.
        count_tokens: Callable[[str], int] | None = getattr(text, "count_tokens", None)
        if count_tokens is not None:
            self.count_tokens = count_tokens

    def __repr__(self) -> str:
        return (
            f"MultimodalEmbedder(text={self._text!r}, image={self._image!r}, "
            f"fusion={self._fusion.value!r}, weights={self._weights})"
        )

    def embed_items(self, items: Sequence[Item]) -> Vectors:
        """Embed items to be stored.

        Returns:
            C-contiguous float32 array of shape (len(items), dimension).

        Raises:
            InvalidDocumentError: An item has neither a text nor an image, has one that cannot be
                read, or lacks one that it must have; the error has its place.
        """
        whole = self._missing is Missing.REFUSE
        checked = [_checked(item, place, whole=whole) for place, item in enumerate(items)]
        texts = {row: item.text for row, item in enumerate(checked) if item.text is not None}
        images = {row: item.image for row, item in enumerate(checked) if item.image is not None}
        with contract.placed(list(texts)):
            of_texts = contract.embed_documents(self._text, list(texts.values()))
        with contract.placed(list(images)):
            of_images = contract.embed_images(self._image, list(images.values()))
        return self._fused(len(checked), list(texts), of_texts, list(images), of_images)

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Embed texts to be stored, each without an image."""
        return self.embed_items([Item(text=text) for text in texts])

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed texts to search with."""
        vectors = contract.embed_queries(self._text, texts)
        return self._fused(len(texts), range(len(texts)), vectors, [], None)

    def embed_images(self, images: Sequence[ImageLike]) -> Vectors:
        """Embed images to search with, each without a text."""
        vectors = contract.embed_images(self._image, images)
        return self._fused(len(images), [], None, range(len(images)), vectors)

    def _fused(
        self,
        count: int,
        text_rows: Sequence[int],
        of_texts: Vectors | None,
        image_rows: Sequence[int],
        of_images: Vectors | None,
    ) -> Vectors:
        vectors = np.zeros((count, self.info.dimension), dtype=np.float32)
        apart = self._fusion is Fusion.CONCATENATE
        scales = [math.sqrt(weight) if apart else weight for weight in self._weights]
        both = np.intersect1d(text_rows, image_rows).astype(np.intp)
        width = self._text.info.dimension
        for rows, part, scale, place in (
            (text_rows, of_texts, scales[0], slice(None, width if apart else None)),
            (image_rows, of_images, scales[1], slice(width if apart else None, None)),
        ):
            if part is None or not len(rows):
                continue
            # Alone, a part counts fully, whatever its weight, which may be 0.
            factors = np.where(np.isin(rows, both), scale, 1.0).astype(np.float32)
            directions = unit_vectors(part, reason="leave it out", what="item", places=rows)
            vectors[np.asarray(rows), place] += factors[:, np.newaxis] * directions
        reason = "its text and its image cancel out; change the weights"
        return unit_vectors(vectors, reason=reason, what="item")

    def _describe(self) -> EmbeddingInfo:
        text, image = self._text.info, self._image.info
        if text.kind is EmbeddingKind.IMAGE or image.kind is EmbeddingKind.TEXT:
            raise InvalidInputError(
                f"text is {text.model!r}, which reads {text.kind}, and image is {image.model!r}, "
                f"which reads {image.kind}; give one for each"
            )
        if self._fusion is Fusion.AVERAGE and text.dimension != image.dimension:
            raise InvalidInputError(
                f"{text.model!r} has dimension {text.dimension} and {image.model!r} "
                f"{image.dimension}, and an average needs one space; concatenate them"
            )
        apart = self._fusion is Fusion.CONCATENATE
        return EmbeddingInfo(
            model=f"multimodal({text.model}, {image.model}, {self._fusion})",
            dimension=text.dimension + (image.dimension if apart else 0),
            kind=EmbeddingKind.MULTIMODAL,
            normalized=True,
            max_tokens=text.max_tokens,
            fingerprint=derived_fingerprint(
                "multimodal", [text, image], fusion=self._fusion.value, weights=self._weights
            ),
        )


def _check_embedders(text: object, image: object) -> None:
    if not (hasattr(text, "embed_documents") and hasattr(text, "embed_queries")):
        raise InvalidInputError(
            f"text is a {type(text).__name__}, expected an embedder of texts, an object with the "
            "methods of nearfield.embedders.Embedder"
        )
    if not hasattr(image, "embed_images"):
        raise InvalidInputError(
            f"image is a {type(image).__name__}, expected an embedder of images, an object with "
            "the methods of nearfield.embedders.ImageEmbedder"
        )


def _read_weights(weights: object) -> tuple[float, float]:
    try:
        text, image = (float(weight) for weight in weights)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise InvalidInputError(
            f"weights is {weights!r}, expected two numbers, of the text and of the image"
        ) from None
    total = text + image
    if not (text >= 0 and image >= 0 and 0 < total < math.inf):
        raise InvalidInputError(
            f"weights is {weights!r}, expected numbers of which none is negative and one is not 0"
        )
    return text / total, image / total


def _checked(item: object, position: int, *, whole: bool) -> Item:
    place = f" (document {position} of the batch)"
    if not isinstance(item, Item):
        raise InvalidDocumentError(
            f"expected an Item, got {type(item).__name__}{place}", position=position
        )
    if item.text is None and item.image is None:
        raise InvalidDocumentError(
            f"there is neither a text nor an image{place}; give one", position=position
        )
    if item.text is not None:
        check_text(item.text, position=position)
    if item.image is not None:
        check_image(item.image, position=position)
    if whole and (item.text is None or item.image is None):
        lacking = "text" if item.text is None else "image"
        raise InvalidDocumentError(
            f"there is no {lacking}{place}; give one, or make the embedder with missing='alone'",
            position=position,
        )
    return item
