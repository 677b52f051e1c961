"""What wrappers of embedders share: what they do not change, they pass on."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from nearfield.embedders import contract
from nearfield.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from nearfield.documents import EmbeddingInfo
    from nearfield.embedders.base import Embedder, ImageLike, Item, ItemEmbedder

    Vectors: TypeAlias = NDArray[np.float32]
    """Of shape (n, dimension)."""

__all__ = ["Wrapper", "check_embedder"]


def check_embedder(given: object) -> Embedder:
    """Return what embeds texts or images, or raise ``InvalidInputError``."""
    # Not by isinstance, which reads `info` before Python 3.12, and some load a model for it.
    able = hasattr(given, "embed_documents") or hasattr(given, "embed_images")
    if able and not isinstance(given, type):
        return cast("Embedder", given)
    remedy = ", such as load('minilm')" if isinstance(given, str) else ""
    raise InvalidInputError(f"got a {type(given).__name__}, expected an embedder{remedy}")


class Wrapper:
    """An embedder around another; a subclass changes how it is called, or what it returns.

    Counting tokens, the sizes of slices and requests, and embedding images and items are passed on
    where the other has them.

    Args:
        embedder: Does the work, and stays open.

    Raises:
        InvalidInputError: It is no embedder.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = check_embedder(embedder)
        # Not methods: an embedder without an ability must not seem to have it.
        count_tokens: Callable[[str], int] | None = getattr(embedder, "count_tokens", None)
        if count_tokens is not None:
            self.count_tokens = count_tokens
        slice_size: int | None = getattr(embedder, "slice_size", None)
        if slice_size is not None:
            self.slice_size = slice_size
        request_size: int | None = getattr(embedder, "request_size", None)
        if request_size is not None:
            self.request_size = request_size
        if hasattr(embedder, "embed_images"):
            self.embed_images = self._embed_images
        if hasattr(embedder, "embed_items"):
            self.embed_items = self._embed_items

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._embedder!r})"

    @property
    def info(self) -> EmbeddingInfo:
        """The space the vectors live in."""
        return self._embedder.info

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Embed texts to be stored."""
        return self._run(partial(contract.embed_documents, self._embedder), texts)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed texts to search with."""
        return self._run(partial(contract.embed_queries, self._embedder), texts)

    async def aembed_documents(self, texts: Sequence[str]) -> Vectors:
        """Embed texts to be stored without blocking the event loop."""
        return await self._arun(partial(contract.aembed_documents, self._embedder), texts)

    async def aembed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed texts to search with, without blocking the event loop."""
        return await self._arun(partial(contract.aembed_queries, self._embedder), texts)

    def _embed_images(self, images: Sequence[ImageLike]) -> Vectors:
        return self._run(partial(contract.embed_images, self._embedder), images)

    def _embed_items(self, items: Sequence[Item]) -> Vectors:
        embedder = cast("ItemEmbedder", self._embedder)
        return self._run(partial(contract.embed_items, embedder), items)

    def _run(self, embed: Callable[[Sequence[Any]], Vectors], items: Sequence[Any]) -> Vectors:
        return embed(items)

    async def _arun(
        self, embed: Callable[[Sequence[Any]], Awaitable[Vectors]], items: Sequence[Any]
    ) -> Vectors:
        return await embed(items)
