"""Chunkers: long texts into pieces that an embedder reads whole."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from nearfield.embedders.base import TokenCounter
from nearfield.errors import InvalidInputError
from nearfield.ingest.entries import Markup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nearfield.embedders.base import Embedder

__all__ = ["Chunker", "ChunkerSettings", "TextChunker", "TokenCounter"]

_VERSION = 1
"""Raised when the same text would be split otherwise, so that files are chunked anew."""
_DEFAULT_CHARACTERS = 1200
"""Some 250 tokens of English, the length that small embedding models are trained for."""
_CHARACTERS_PER_TOKEN = 16
"""The most characters that count as one token: WordPiece makes any word over 100 one token."""
_LONG_LINE_CHARACTERS = 20_000
"""The splitter's time grows with the square of a line's length, so longer lines are cut first."""
_LONG_LINE = re.compile(rf"[^\n]{{{_LONG_LINE_CHARACTERS}}}")

_WRAP = re.compile(r"(?<=[^\s.!?:;])\n(?=[a-z])")
"""A line break inside a sentence, as in PDFs and mail; the splitter would rather cut there than
between sentences, so it is shown a space in its place."""


@runtime_checkable
class Chunker(Protocol):
    """Splits texts into chunks."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the same text would be split otherwise."""
        ...

    def split(self, text: str, *, markup: Markup = Markup.PLAIN) -> list[str]:
        """Split a text into chunks, in order; none of them is blank."""
        ...


@dataclass(frozen=True, slots=True)
class ChunkerSettings:
    """What a :class:`TextChunker` can be made from again, in another process.

    Attributes:
        capacity: The most that a chunk holds.
        overlap: How much of the end of a chunk begins the next, at most.
        for_embedder: Whether both are in the embedder's unit, rather than in characters.
    """

    capacity: int
    overlap: int
    for_embedder: bool


class TextChunker:
    """Splits at headings, then blocks, paragraphs, sentences and words, whatever fits.

    A chunk is a verbatim stretch of the text, without the white space around it. The boundaries
    are Unicode's sentences and words (UAX #29) and CommonMark's blocks.

    Args:
        capacity: The most that a chunk holds, in the unit of ``size``.
        overlap: How much of the end of a chunk begins the next, at most, in whole sentences or
            words.
        size: Measures a text; None counts characters.
        unit: What ``size`` counts, and for which model: part of the fingerprint.

    Raises:
        InvalidInputError: The capacity is below 1, or the overlap not below the capacity.
    """

    def __init__(
        self,
        capacity: int = _DEFAULT_CHARACTERS,
        *,
        overlap: int = 0,
        size: Callable[[str], int] | None = None,
        unit: str = "characters",
    ) -> None:
        if capacity < 1 or not 0 <= overlap < capacity:
            raise InvalidInputError(
                f"a chunk's capacity is {capacity} and the overlap {overlap} {unit}; expected a "
                "capacity of at least 1 and an overlap from 0 to less than it"
            )
        self._capacity = capacity
        self._overlap = overlap
        self._size = size
        self._unit = unit
        self._for_embedder = False

    @classmethod
    def from_settings(cls, settings: ChunkerSettings, embedder: Embedder) -> TextChunker:
        """Make the chunker that had these settings, with the same embedder."""
        capacity, overlap = settings.capacity, settings.overlap
        if settings.for_embedder:
            return cls.for_embedder(embedder, capacity=capacity, overlap=overlap)
        return cls(capacity, overlap=overlap)

    @property
    def settings(self) -> ChunkerSettings | None:
        """What it can be made from again; None where ``size`` is a function of someone's own."""
        if self._size is not None and not self._for_embedder:
            return None
        return ChunkerSettings(self._capacity, self._overlap, self._for_embedder)

    @classmethod
    def for_embedder(
        cls, embedder: Embedder | None, *, capacity: int | None = None, overlap: int = 0
    ) -> TextChunker:
        """Make chunks that reach the vector whole.

        An embedder that counts tokens (:class:`TokenCounter`) has chunks of up to its
        ``max_tokens``, or of 1200 characters where it has no limit. One that has a limit but
        cannot count has them measured in bytes of UTF-8, of which each is one token at the worst:
        chunks are then shorter than they could be, and none is cut off.

        Args:
            embedder: Whom the chunks are for; None counts characters.
            capacity: A lower limit, in the same unit.
            overlap: As for the class, in the same unit.

        Raises:
            InvalidInputError: The capacity is more than the embedder reads.
        """
        limit = None if embedder is None else embedder.info.max_tokens
        if embedder is None or limit is None:
            return cls(_DEFAULT_CHARACTERS if capacity is None else capacity, overlap=overlap)
        model = embedder.info.fingerprint or embedder.info.model
        if isinstance(embedder, TokenCounter):
            size, unit, default = _token_size(embedder), f"tokens of {model}", limit
        else:
            limit = max(limit - _SPECIAL_TOKENS, 1)
            size, unit, default = _size_bytes, "bytes", min(limit, _DEFAULT_CHARACTERS)
        if capacity is not None and capacity > limit:
            raise InvalidInputError(
                f"a chunk's capacity is {capacity} {unit}, but the embedder "
                f"{embedder.info.model!r} reads {limit} and cuts off the rest; ask for less"
            )
        capacity = default if capacity is None else capacity
        chunker = cls(capacity, overlap=overlap, size=size, unit=unit)
        chunker._for_embedder = True
        return chunker

    @property
    def fingerprint(self) -> str:
        """The version of the way of splitting, and the settings."""
        return f"text/{_VERSION} {self._capacity}+{self._overlap} {self._unit}"

    def split(self, text: str, *, markup: Markup = Markup.PLAIN) -> list[str]:
        """Split a text into chunks, in order; none of them is blank."""
        from semantic_text_splitter import (  # loaded at the first split
            MarkdownSplitter,
            TextSplitter,
        )

        kind = MarkdownSplitter if markup is Markup.MARKDOWN else TextSplitter
        if self._size is None:
            splitter = kind(self._capacity, overlap=self._overlap)
        else:
            splitter = kind.from_callback(self._size, self._capacity, overlap=self._overlap)
        chunks = []
        for part in _parts(text):
            flowing = _WRAP.sub(" ", part) if markup is Markup.PLAIN else part
            for begin, chunk in splitter.chunk_indices(flowing):
                chunks.append(part[begin : begin + len(chunk)])
        return [chunk for chunk in chunks if chunk.strip()]


_SPECIAL_TOKENS = 8
"""Room for what tokenizers put around a text, with some to spare; most put two."""


def _size_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _token_size(counter: TokenCounter) -> Callable[[str], int]:
    def size(text: str) -> int:
        # Not by tokens alone, or a megabyte without spaces would be one chunk of one token.
        return max(counter.count_tokens(text), -(-len(text) // _CHARACTERS_PER_TOKEN))

    return size


def _parts(text: str) -> Iterator[str]:
    begin = 0
    for line in _LONG_LINE.finditer(text):
        space = text.rfind(" ", line.start() + 1, line.end())
        end = line.end() if space < 0 else space
        yield text[begin:end]
        begin = end
    yield text[begin:]
