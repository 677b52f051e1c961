"""Any Python function that reads images as an embedder of images."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from nearfield.documents import EmbeddingInfo, EmbeddingKind, Metric
from nearfield.embedders.callable import filled
from nearfield.embedders.contract import check_embeddings
from nearfield.embedders.fingerprint import derived_fingerprint
from nearfield.embedders.images import check_pillow, read_batches
from nearfield.embedders.unit import unit_vectors
from nearfield.errors import InvalidInputError
from nearfield.validation import check_member, check_positive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray
    from PIL.Image import Image

    from nearfield.embedders.base import ImageLike

    ImageFunction: TypeAlias = Callable[[list[Image]], ArrayLike]
    """Takes Pillow images of mode RGB and returns an array of shape (n, dimension)."""

__all__ = ["CallableImageEmbedder"]


class CallableImageEmbedder:
    """Embeds images with a function of yours, such as the features of a network.

    It finds images by image; texts it does not read. Files are opened, turned upright and brought
    to RGB before the function is called: see :func:`nearfield.embedders.images.read_image`.

    Args:
        function: Takes a list of Pillow images of mode RGB and of any size, never an empty list,
            and returns their vectors in the same order.
        name: What errors and a collection's record call it.
        dimension: The number of components of each vector.
        fingerprint: Change it whenever the same image gets another vector. When left out, the name
            stands for it.
        normalize: Scale vectors to length 1.
        metric: How the vectors are to be compared.
        batch_size: The most images in one call of the function; fewer where they are large.
        concurrent: Whether the function may be called from several threads at once. Otherwise
            calls take turns.

    Raises:
        InvalidInputError: The name is empty, or an option is out of range.
        MissingDependencyError: Pillow is not installed.
    """

    def __init__(
        self,
        function: ImageFunction,
        *,
        name: str,
        dimension: int,
        fingerprint: str | None = None,
        normalize: bool = False,
        metric: Metric | str = Metric.COSINE,
        batch_size: int = 32,
        concurrent: bool = False,
    ) -> None:
        check_pillow()
        if not callable(function):
            raise InvalidInputError(f"function is a {type(function).__name__}, expected a function")
        identity = filled(name, "name")
        if fingerprint is not None:
            identity = filled(fingerprint, "fingerprint")
        self.info = EmbeddingInfo(
            model=f"callable:{name}",
            dimension=check_positive(dimension, "dimension"),
            kind=EmbeddingKind.IMAGE,
            normalized=bool(normalize),
            metric=check_member(metric, Metric, "metric"),
            fingerprint=derived_fingerprint(
                "callable-images",
                [],
                identity=identity,
                named=fingerprint is None,
                dimension=dimension,
                normalize=bool(normalize),
            ),
        )
        self._function = function
        self.slice_size = check_positive(batch_size, "batch_size")
        self._turns: AbstractContextManager[object] = (
            nullcontext() if concurrent else threading.Lock()
        )

    def __repr__(self) -> str:
        return f"CallableImageEmbedder({self.info.model.partition(':')[2]!r})"

    def embed_images(self, images: Sequence[ImageLike]) -> NDArray[np.float32]:
        """Embed images, to be stored or to search with.

        Raises:
            InvalidDocumentError: Something is no image that can be read; the error has its place.
            EmbeddingError: The function returned what is no embedding for each image, or, to be
                normalised, a vector that is zero.
        """
        as_returned = replace(self.info, normalized=False)
        parts = [np.empty((0, self.info.dimension), np.float32)]
        done = 0
        for batch in read_batches(images, self.slice_size):
            with self._turns:
                returned = self._function(batch)
            parts.append(
                check_embeddings(
                    returned, count=len(batch), info=as_returned, start=done, what="image"
                )
            )
            done += len(batch)
        vectors = np.concatenate(parts)
        if not self.info.normalized:
            return vectors
        reason = "let the function return another, or normalize=False"
        return unit_vectors(vectors, reason=reason, what="image")
