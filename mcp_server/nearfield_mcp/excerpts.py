"""A document, or as much of one as fits into a budget, with the chunks around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult

from nearfield_mcp import results
from nearfield_mcp.results import Fence, FetchedDocument, Neighbour, answer
from nearfield_mcp.uris import uri_of

if TYPE_CHECKING:
    from nearfield import Collection, Document

__all__ = ["Wanted", "excerpt"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be shown.

    Attributes:
        document: The document.
        neighbours: The most chunks before it, and after it.
        offset: From which character on.
        max_chars: What neither form of the answer is longer than.
        unreadable: The collections that were to be looked into as well, and could not be.
    """

    document: Document
    neighbours: int
    offset: int
    max_chars: int
    unreadable: tuple[str, ...]


def excerpt(name: str, opened: Collection, wanted: Wanted) -> CallToolResult:
    """Answer with a document from a character on, and with the chunks next to it that fit too.

    Args:
        name: The collection's name.
        opened: The collection.
        wanted: One of its documents, and how much.

    Raises:
        ToolError: Not even a part of it fits.
    """
    document, offset, max_chars = wanted.document, wanted.offset, wanted.max_chars
    fence = Fence.new()
    whole = _shape(name, document, offset)
    whole.unreadable = list(wanted.unreadable) or None
    if len(results.shown(whole.metadata)) > max_chars // 2:
        whole.metadata, whole.metadata_cut = None, True
    shape = _longest(whole, fence, offset, max_chars)
    around: list[Neighbour] = []
    for position, other in _around(opened, document, wanted.neighbours):
        more = [*around, Neighbour(id=other.id, position=position, text=other.text)]
        shape.neighbours = sorted(more, key=lambda neighbour: neighbour.position)
        if _size(shape, fence) > max_chars:
            break
        around = more
    shape.neighbours = sorted(around, key=lambda neighbour: neighbour.position) or None
    return answer(_text(shape, fence), shape)


def _shape(name: str, document: Document, offset: int) -> FetchedDocument:
    return FetchedDocument(
        id=document.id,
        title=results.title_of(document),
        url=uri_of(name, document.id),
        text=document.text[offset:],
        collection=name,
        source=results.source_of(document),
        chunk=results.chunk_of(document),
        metadata=results.metadata_of(document) or None,
        truncated=False,
    )


def _longest(whole: FetchedDocument, fence: Fence, offset: int, max_chars: int) -> FetchedDocument:
    """Return as much of a text as fits: the most characters, found by halving."""
    if _size(whole, fence) <= max_chars:
        return whole
    fits, too_many = 0, min(len(whole.text), max_chars)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if _size(_cut(whole, middle, offset), fence) <= max_chars:
            fits = middle
        else:
            too_many = middle
    if fits == 0:
        raise ToolError(f"the document does not fit into {max_chars} characters; raise max_chars")
    return _cut(whole, fits, offset)


def _cut(whole: FetchedDocument, length: int, offset: int) -> FetchedDocument:
    changes = {"text": whole.text[:length], "truncated": True, "next_offset": offset + length}
    return whole.model_copy(update=changes)


def _size(shape: FetchedDocument, fence: Fence) -> int:
    return max(len(_text(shape, fence)), results.size_of(shape))


def _text(shape: FetchedDocument, fence: Fence) -> str:
    facts = [
        f"source {shape.source}" if shape.source else "",
        f"chunk {shape.chunk}" if shape.chunk else "",
        results.shown(shape.metadata),
    ]
    own = fence.around("; ".join(fact for fact in facts if fact), shape.text)
    around = shape.neighbours or []
    others = {
        chunk.position: f"{chunk.position:+d}:\n{fence.around(f'id {chunk.id}', chunk.text)}"
        for chunk in around
    }
    return results.lines(
        [
            shape.url,
            fence.explanation,
            *(text for position, text in others.items() if position < 0),
            f"The document:\n{own}" if around else own,
            *(text for position, text in others.items() if position > 0),
            "Its metadata are too long to show." if shape.metadata_cut else None,
            f"The text goes on: offset={shape.next_offset}" if shape.truncated else None,
            f"Could not be looked into: {', '.join(shape.unreadable)}."
            if shape.unreadable
            else None,
        ]
    )


def _around(opened: Collection, document: Document, count: int) -> list[tuple[int, Document]]:
    """Return the chunks next to a chunk, the nearest first."""
    found: list[tuple[int, Document]] = []
    for step, link in ((-1, "previous"), (1, "next")):
        at = document
        for distance in range(1, count + 1):
            identifier = at.metadata.get(link)
            following = opened.get(identifier) if isinstance(identifier, str) else None
            if following is None:
                break
            found.append((step * distance, following))
            at = following
    return sorted(found, key=lambda pair: abs(pair[0]))
