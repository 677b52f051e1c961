"""Where embedders are called: slice by slice, and what they return is checked, once for all."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, TypeVar

import numpy as np

from nearfield.documents import EmbeddingKind
from nearfield.embedders.base import Sliced
from nearfield.errors import (
    EmbeddingError,
    InvalidDocumentError,
    NearfieldError,
    UnsupportedOperationError,
)
from nearfield.validation import refuse_one_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from nearfield.documents import EmbeddingInfo
    from nearfield.embedders.base import (
        AsyncEmbedder,
        Embedder,
        ImageEmbedder,
        ImageLike,
        Item,
        ItemEmbedder,
    )

    AnyEmbedder: TypeAlias = Embedder | ImageEmbedder | ItemEmbedder

__all__ = [
    "aembed_documents",
    "aembed_images",
    "aembed_items",
    "aembed_queries",
    "check_embeddings",
    "embed_documents",
    "embed_images",
    "embed_items",
    "embed_queries",
    "named_as_queries",
    "placed",
    "slice_size",
    "slices",
]

Part = TypeVar("Part")

_SLICE_SIZE = 256
_PLACE = "(document {} of the batch)"
"""How an error says which one it is about."""
_LENGTH_TOLERANCE = 1e-2
"""How far from 1 a normalised vector's length may be; half precision comes to 1e-3."""


def embed_documents(
    embedder: Embedder,
    texts: Sequence[str],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Embed texts to be stored.

    Args:
        embedder: Turns them into vectors.
        texts: To embed.
        progress: Called with how many texts are done, and of how many, after each slice of them.
            An exception from it ends the work and is passed on as it is.

    Returns:
        C-contiguous, finite float32 array of shape (len(texts), dimension).

    Raises:
        InvalidInputError: ``texts`` is one text.
        EmbeddingError: The embedder failed, or broke its contract.
        NearfieldError: What else the embedder raised of nearfield's own.
    """
    refuse_one_text(texts)
    embed = _text_reader(embedder, "embed_documents")
    if progress is None:
        return _embed(embedder, embed, texts, range(len(texts)))
    return _embed_slices(embedder, embed, texts, "text", progress)


def embed_queries(embedder: Embedder, texts: Sequence[str]) -> NDArray[np.float32]:
    """Embed texts to search with; as :func:`embed_documents`."""
    refuse_one_text(texts)
    embed = _text_reader(embedder, "embed_queries")
    return _embed(embedder, embed, texts, range(len(texts)))


async def aembed_documents(
    embedder: Embedder,
    texts: Sequence[str],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Embed texts to be stored without blocking the event loop; as :func:`embed_documents`.

    It works slice by slice, so that a cancelled task begins no other. An embedder that cannot be
    awaited works on a thread, where the slice in hand is finished after a cancellation; its
    vectors are dropped. ``progress`` is called on the event loop's thread.
    """
    refuse_one_text(texts)
    awaited = embedder.aembed_documents if _can_be_awaited(embedder) else None
    embed = _text_reader(embedder, "embed_documents")
    return await _aembed_slices(embedder, embed, texts, "text", progress, awaited=awaited)


async def aembed_queries(embedder: Embedder, texts: Sequence[str]) -> NDArray[np.float32]:
    """Embed texts to search with without blocking the event loop, slice by slice."""
    refuse_one_text(texts)
    awaited = embedder.aembed_queries if _can_be_awaited(embedder) else None
    embed = _text_reader(embedder, "embed_queries")
    return await _aembed_slices(embedder, embed, texts, "text", None, awaited=awaited)


def embed_images(
    embedder: ImageEmbedder | Embedder,
    images: Sequence[ImageLike],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Embed images, to be stored or to search with; as :func:`embed_documents`.

    Raises:
        UnsupportedOperationError: The embedder reads no images.
        InvalidDocumentError: Something is no image that can be read; the error has its place.
    """
    return _embed_slices(embedder, _image_reader(embedder), images, "image", progress)


async def aembed_images(
    embedder: ImageEmbedder | Embedder,
    images: Sequence[ImageLike],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Embed images on a thread, slice by slice; as :func:`embed_images`."""
    reader = await asyncio.to_thread(_image_reader, embedder)
    return await _aembed_slices(embedder, reader, images, "image", progress)


def embed_items(
    embedder: ItemEmbedder,
    items: Sequence[Item],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Embed what has a text, an image or both; as :func:`embed_documents`."""
    return _embed_slices(embedder, embedder.embed_items, items, "item", progress)


async def aembed_items(
    embedder: ItemEmbedder,
    items: Sequence[Item],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Embed items on a thread, slice by slice; as :func:`embed_items`."""
    return await _aembed_slices(embedder, embedder.embed_items, items, "item", progress)


def slice_size(embedder: object) -> int:
    """Return how many texts, or images, the embedder takes in one call at its best pace."""
    return embedder.slice_size if isinstance(embedder, Sliced) else _SLICE_SIZE


def slices(items: Sequence[Part], size: int) -> Iterator[tuple[range, Sequence[Part]]]:
    """Split a sequence, each part with the places of its items; an empty one is one empty part."""
    for start in range(0, max(len(items), 1), size):
        part = items[start : start + size]
        yield range(start, start + len(part)), part


@contextmanager
def placed(places: Sequence[int]) -> Iterator[None]:
    """Let an error that names a text by its place in a part name its place in the whole.

    Args:
        places: Where the texts of the part stand in the whole.
    """
    try:
        yield
    except InvalidDocumentError as error:
        if error.position is None or error.position >= len(places):  # of no text in this part
            raise
        if places[error.position] == error.position:
            raise
        place = places[error.position]
        message = str(error).replace(_PLACE.format(error.position), _PLACE.format(place))
        raise InvalidDocumentError(message, position=place) from None


@contextmanager
def named_as_queries(count: int) -> Iterator[None]:
    """Let an error that names a document by its place in a batch speak of the query it was."""
    try:
        yield
    except InvalidDocumentError as error:
        if error.position is None:
            raise
        name = "the query" if count == 1 else f"query {error.position} of {count}, from 0"
        message = str(error).replace(_PLACE.format(error.position), f"({name})")
        raise InvalidDocumentError(message, position=error.position) from None


def check_embeddings(
    vectors: object, *, count: int, info: EmbeddingInfo, start: int = 0, what: str = "text"
) -> NDArray[np.float32]:
    """Return an embedder's vectors as C-contiguous float32, or raise ``EmbeddingError``.

    Args:
        vectors: What the embedder returned.
        count: For how many texts.
        info: What it says its vectors are.
        start: The place of the first of these texts among all of them.
        what: How to call them in an error.
    """
    expected = f"a float32 array of shape ({count}, {info.dimension})"
    try:
        given = np.asarray(vectors)
    except ValueError:  # ragged
        raise _breach(info, f"returned a {type(vectors).__name__}", expected) from None
    if given.shape != (count, info.dimension) or given.dtype.kind not in "fiu":
        got = f"returned a {given.dtype} array of shape {given.shape} for {count} {what}s"
        raise _breach(info, got, expected)
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused
        checked = np.ascontiguousarray(given, dtype=np.float32)
    squares = np.einsum("ij,ij->i", checked, checked, dtype=np.float64)
    if not np.isfinite(squares).all():
        row = start + int(np.argmin(np.isfinite(squares)))
        raise _breach(info, f"returned NaN or infinity for {what} {row}", expected)
    if info.normalized and (abs(squares - 1) > 2 * _LENGTH_TOLERANCE).any():
        row = int(np.argmax(abs(squares - 1)))
        length = squares[row] ** 0.5
        place = f"{what} {start + row}"
        got = f"says it is normalised, but {place} has a vector of length {length}"
        raise _breach(info, got, "length 1")
    return checked


def _embed(
    embedder: AnyEmbedder,
    embed: Callable[[Sequence[Part]], NDArray[np.float32]],
    part: Sequence[Part],
    places: range,
    what: str = "text",
) -> NDArray[np.float32]:
    with placed(places), _failures(embedder, f"{len(part)} {what}s"):
        vectors = embed(part)
    return _checked(embedder, vectors, places, what)


async def _aembed(
    embedder: AnyEmbedder,
    embed: Callable[[Sequence[Part]], Awaitable[NDArray[np.float32]]],
    part: Sequence[Part],
    places: range,
    what: str,
) -> NDArray[np.float32]:
    with placed(places), _failures(embedder, f"{len(part)} {what}s"):
        vectors = await embed(part)
    return _checked(embedder, vectors, places, what)


def _checked(
    embedder: AnyEmbedder, vectors: object, places: range, what: str
) -> NDArray[np.float32]:
    return check_embeddings(
        vectors, count=len(places), info=embedder.info, start=places.start, what=what
    )


def _embed_slices(
    embedder: AnyEmbedder,
    embed: Callable[[Sequence[Part]], NDArray[np.float32]],
    items: Sequence[Part],
    what: str,
    progress: Callable[[int, int], None] | None,
) -> NDArray[np.float32]:
    vectors = []
    for places, part in slices(items, slice_size(embedder)):
        vectors.append(_embed(embedder, embed, part, places, what))
        _tell(progress, places, len(items))
    return np.concatenate(vectors)


async def _aembed_slices(
    embedder: AnyEmbedder,
    embed: Callable[[Sequence[Part]], NDArray[np.float32]],
    items: Sequence[Part],
    what: str,
    progress: Callable[[int, int], None] | None,
    *,
    awaited: Callable[[Sequence[Part]], Awaitable[NDArray[np.float32]]] | None = None,
) -> NDArray[np.float32]:
    vectors = []
    for places, part in slices(items, slice_size(embedder)):
        if awaited is None:
            done = await asyncio.to_thread(_embed, embedder, embed, part, places, what)
        else:
            done = await _aembed(embedder, awaited, part, places, what)
        vectors.append(done)
        _tell(progress, places, len(items))
    return np.concatenate(vectors)


def _text_reader(embedder: Embedder, name: str) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    embed: Callable[[Sequence[str]], NDArray[np.float32]] | None = getattr(embedder, name, None)
    if embed is None:
        raise UnsupportedOperationError(
            f"the embedder {embedder.info.model!r} reads images, not texts; pass an image or a "
            "vector, or take an embedder that reads both"
        )
    return embed


def _image_reader(
    embedder: ImageEmbedder | Embedder,
) -> Callable[[Sequence[ImageLike]], NDArray[np.float32]]:
    embed: Callable[[Sequence[ImageLike]], Any] | None = getattr(embedder, "embed_images", None)
    if embed is None or embedder.info.kind not in {EmbeddingKind.IMAGE, EmbeddingKind.MULTIMODAL}:
        raise UnsupportedOperationError(
            f"the embedder {embedder.info.model!r} reads no images; take one that does, such as "
            "'sentence-transformers:clip-ViT-B-32', or pass vectors"
        )
    return embed


def _can_be_awaited(embedder: Embedder) -> TypeGuard[AsyncEmbedder]:
    # Before Python 3.12 isinstance reads `info`, for which some load a model.
    return hasattr(embedder, "aembed_documents") and hasattr(embedder, "aembed_queries")


def _tell(progress: Callable[[int, int], None] | None, places: range, total: int) -> None:
    if progress is not None and places:
        progress(places.stop, total)


def _breach(info: EmbeddingInfo, got: str, expected: str) -> EmbeddingError:
    return EmbeddingError(
        f"the embedder {info.model!r} {got}, expected {expected}; this is a bug in the embedder"
    )


@contextmanager
def _failures(embedder: AnyEmbedder, what: str) -> Iterator[None]:
    try:
        yield
    except NearfieldError:
        raise
    except Exception as error:
        raise EmbeddingError(
            f"the embedder {embedder.info.model!r} failed on {what}: "
            f"{type(error).__name__}: {error}"
        ) from error
