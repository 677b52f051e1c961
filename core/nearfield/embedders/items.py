"""Documents with and without images: each is embedded by what reads it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.embedders import contract
from nearfield.embedders.base import Item

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.embedders.base import Embedder

    Progress = Callable[[int, int], None] | None

__all__ = ["aembed", "embed"]


@dataclass(frozen=True, slots=True)
class _Share:
    """The items that are embedded in one way."""

    rows: list[int]
    inputs: list[Any]
    embed: Callable[..., NDArray[np.float32]]
    aembed: Callable[..., Awaitable[NDArray[np.float32]]]


def embed(
    embedder: Embedder, items: Sequence[Item], *, progress: Progress = None
) -> NDArray[np.float32]:
    """Embed items to be stored: texts as documents, the others by their images.

    An embedder that reads both at once, a ``MultimodalEmbedder``, gets both; any other leaves the
    text of an item with an image unread.

    Returns:
        C-contiguous, finite float32 array of shape (len(items), dimension).

    Raises:
        UnsupportedOperationError: The embedder reads no images, or no texts.
        InvalidDocumentError: A text or an image cannot be read; the error has its place.
    """
    parts, done = [], 0
    for share in _shares(embedder, items):
        with contract.placed(share.rows):
            told = _told(progress, done, len(items))
            parts.append((share.rows, share.embed(embedder, share.inputs, progress=told)))
        done += len(share.rows)
    return _gathered(parts, len(items))


async def aembed(
    embedder: Embedder, items: Sequence[Item], *, progress: Progress = None
) -> NDArray[np.float32]:
    """Embed items without blocking the event loop; as :func:`embed`."""
    parts, done = [], 0
    for share in _shares(embedder, items):
        with contract.placed(share.rows):
            told = _told(progress, done, len(items))
            parts.append((share.rows, await share.aembed(embedder, share.inputs, progress=told)))
        done += len(share.rows)
    return _gathered(parts, len(items))


def _shares(embedder: Embedder, items: Sequence[Item]) -> list[_Share]:
    pictured = [row for row, item in enumerate(items) if item.image is not None]
    written = [row for row, item in enumerate(items) if item.image is None]
    shares = []
    if pictured and hasattr(embedder, "embed_items"):
        both = [Item(items[row].text or None, items[row].image) for row in pictured]
        shares.append(_Share(pictured, both, contract.embed_items, contract.aembed_items))
    elif pictured:
        images = [items[row].image for row in pictured]
        shares.append(_Share(pictured, images, contract.embed_images, contract.aembed_images))
    if written:
        texts = [items[row].text for row in written]
        shares.append(_Share(written, texts, contract.embed_documents, contract.aembed_documents))
    return shares


def _told(progress: Progress, done: int, total: int) -> Progress:
    if progress is None:
        return None
    return lambda count, _: progress(done + count, total)


def _gathered(
    parts: list[tuple[list[int], NDArray[np.float32]]], count: int
) -> NDArray[np.float32]:
    if len(parts) == 1:
        return parts[0][1]
    vectors = np.empty((count, parts[0][1].shape[1]), dtype=np.float32)
    for rows, part in parts:
        vectors[rows] = part
    return vectors
