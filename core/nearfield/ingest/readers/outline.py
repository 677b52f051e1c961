"""Headings and text in reading order, gathered into sections."""

from __future__ import annotations

from nearfield.ingest.entries import Section
from nearfield.ingest.readers.fields import shortened

__all__ = ["Outline"]


class Outline:
    """Collects a document's sections while a reader walks through it.

    Attributes:
        title: The first heading of the highest rank there is.
    """

    def __init__(self) -> None:
        self.title = ""
        self._title_level = 0
        self._path: list[tuple[int, str]] = []
        self._parts: list[str] = []
        self._sections: list[Section] = []
        self._has_body = False

    def enter(self, level: int, heading: str, *, text: str | None = None) -> None:
        """Begin a section.

        A heading without any text of its own stays with the section after it, so that no chunk is
        a lone heading.

        Args:
            level: The heading's depth, from 1.
            heading: What it says, without markup.
            text: How it is written in the section; None where it is as ``heading``.
        """
        heading = " ".join(heading.split())
        written = heading if text is None else text
        heading = shortened(heading)
        if self._has_body:
            self._close()
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        if not heading:
            return
        self._path.append((level, heading))
        self._parts.append(written)
        if not self.title or level < self._title_level:
            self.title, self._title_level = heading, level

    def add(self, text: str) -> None:
        """Append a block of text to the current section."""
        if text.strip():
            self._parts.append(text.strip("\n"))
            self._has_body = True

    def sections(self) -> tuple[Section, ...]:
        """Close the last section and return them all."""
        self._close()
        return tuple(self._sections)

    def _close(self) -> None:
        text = "\n\n".join(self._parts).rstrip()
        if text:
            headings = tuple(heading for _, heading in self._path)
            self._sections.append(Section(text, headings))
        self._parts = []
        self._has_body = False
