"""What a reader hands on: entries of sections, before they are split into chunks."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Entry", "Markup", "Section"]


class Markup(StrEnum):
    """How a text is written, which decides where it may be split."""

    PLAIN = "plain"
    MARKDOWN = "markdown"


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of text that no chunk reaches beyond.

    Attributes:
        text: The text, its own heading included.
        headings: The headings it stands under, outermost first, its own last.
        page: The page it is on, from 1, where the format has pages.
    """

    text: str
    headings: tuple[str, ...] = ()
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One document as it was read: a whole file, or one record of a file.

    Attributes:
        sections: The text, in reading order.
        title: The document's own title; empty where it has none.
        record: Which record of its file this is, unique in the file; None for a whole file.
        markup: How the sections' text is written.
        metadata: What else the file says about it; JSON values with string keys.
    """

    sections: tuple[Section, ...]
    title: str = ""
    record: str | None = None
    markup: Markup = Markup.PLAIN
    metadata: Mapping[str, Any] = field(default_factory=dict)
