"""Markdown: sections by heading, front matter as metadata."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nearfield.ingest.entries import Entry, Markup
from nearfield.ingest.readers.fields import metadata_fields
from nearfield.ingest.readers.outline import Outline

if TYPE_CHECKING:
    from collections.abc import Iterable

    from markdown_it.token import Token

__all__ = ["read_markdown"]

_FRONT_MATTER = re.compile(r"---[ \t]*\n((?:[^\n]*\n)*?)---[ \t]*(?:\n|\Z)")
_FIELD = re.compile(r"([A-Za-z_][\w-]*)[ \t]*:[ \t]*(.*?)[ \t]*")


def read_markdown(text: str, name: str) -> list[Entry]:  # noqa: ARG001  # a reader's signature
    """Read CommonMark; the sections keep their markup.

    A front matter block at the top is cut off, and its ``key: value`` lines become metadata, as
    strings; nested values in it are left out.
    """
    from markdown_it import MarkdownIt  # only when there is Markdown

    body, fields = _split_front_matter(text)
    lines = body.split("\n")
    outline = Outline()
    begin = 0
    # Only headings need their inline markup parsed.
    blocks, inlines = MarkdownIt("commonmark").disable("inline"), MarkdownIt("commonmark")
    tokens = blocks.parse(body)
    for position, token in enumerate(tokens):
        if token.type != "heading_open" or token.level != 0 or token.map is None:
            continue
        first, end = token.map
        outline.add("\n".join(lines[begin:first]))
        heading = _plain(inlines.parseInline(tokens[position + 1].content))
        outline.enter(int(token.tag[1:]), heading, text="\n".join(lines[first:end]).strip())
        begin = end
    outline.add("\n".join(lines[begin:]))
    title = fields.pop("title", "") or outline.title
    metadata = metadata_fields(fields)
    return [Entry(outline.sections(), title=title, markup=Markup.MARKDOWN, metadata=metadata)]


def _split_front_matter(text: str) -> tuple[str, dict[str, str]]:
    match = _FRONT_MATTER.match(text)
    if match is None:
        return text, {}
    lines = [line for line in match[1].split("\n") if line.strip() and line[0] != "#"]
    if not lines or _FIELD.fullmatch(lines[0]) is None:
        return text, {}  # a thematic break, not front matter
    found = (_FIELD.fullmatch(line) for line in lines)
    fields = {field[1]: _unquoted(field[2]) for field in found if field is not None}
    return text[match.end() :], {key: value for key, value in fields.items() if value}


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value


def _plain(tokens: Iterable[Token]) -> str:
    children = [child for token in tokens for child in token.children or ()]
    return "".join(
        " " if child.type in {"softbreak", "hardbreak"} else child.content
        for child in children
        if child.type != "html_inline"
    ).strip()
