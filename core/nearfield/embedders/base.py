"""What an embedder is: the one contract between models and collections."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from nearfield.documents import EmbeddingInfo

    ImageLike: TypeAlias = bytes | str | os.PathLike[str] | Image
    """The bytes of an image file, the path of one, or a Pillow image."""

__all__ = [
    "AsyncEmbedder",
    "Embedder",
    "ImageEmbedder",
    "Item",
    "ItemEmbedder",
    "Sliced",
    "TokenCounter",
]


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors. Safe to call from several threads at once.

    Documents and queries are embedded by separate methods, since many models are trained with a
    different prompt for each.
    """

    @property
    def info(self) -> EmbeddingInfo:
        """The space the vectors live in. Cheap: no model is loaded to answer."""
        ...

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to be stored.

        Returns:
            C-contiguous float32 array of shape (len(texts), dimension), in the order given;
            shape (0, dimension) for no texts. A text's vector does not depend on its neighbours
            in the batch.
        """
        ...

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to search with; shapes as in :meth:`embed_documents`."""
        ...


@runtime_checkable
class AsyncEmbedder(Embedder, Protocol):
    """An embedder whose work is awaited natively, such as one behind a network service.

    Any other embedder is run on a worker thread by the collection's ``a…`` methods.
    """

    async def aembed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to be stored without blocking the event loop."""
        ...

    async def aembed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to search with, without blocking the event loop."""
        ...


@runtime_checkable
class TokenCounter(Protocol):
    """An embedder that can say how long a text is to it."""

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text, the special ones included, before anything is cut off."""
        ...


@runtime_checkable
class Sliced(Protocol):
    """An embedder that says how many texts it embeds at its best pace in one call.

    Between slices of that size the progress is told and a cancelled task stops; of any other
    embedder the slices have 256 texts.
    """

    @property
    def slice_size(self) -> int:
        """Texts in a slice, at least 1."""
        ...


@runtime_checkable
class ImageEmbedder(Protocol):
    """Turns images into vectors. Safe to call from several threads at once.

    ``info.kind`` is ``image``, or ``multimodal`` where texts come to the same space: such a model
    is an :class:`Embedder` as well, and finds images by text. With any other kind images are
    refused.
    """

    @property
    def info(self) -> EmbeddingInfo:
        """The space the vectors live in."""
        ...

    def embed_images(self, images: Sequence[ImageLike]) -> NDArray[np.float32]:
        """Embed images, to be stored or to search with.

        Returns:
            C-contiguous float32 array of shape (len(images), dimension), in the order given. An
            image's vector does not depend on its neighbours in the batch, nor on whether it came
            as bytes, as a path or as a Pillow image.
        """
        ...


@dataclass(frozen=True, slots=True)
class Item:
    """What has a text, an image, or both.

    Attributes:
        text: None where there is none; an empty text is one.
        image: The bytes of an image file, the path of one, or a Pillow image; None where there is
            none.
    """

    text: str | None = None
    image: ImageLike | None = None


@runtime_checkable
class ItemEmbedder(Protocol):
    """Turns a text and an image into one vector. Safe to call from several threads at once."""

    @property
    def info(self) -> EmbeddingInfo:
        """The space the vectors live in."""
        ...

    def embed_items(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """Embed items to be stored; shapes as in :meth:`Embedder.embed_documents`."""
        ...
