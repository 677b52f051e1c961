"""Pages of results: as many as fit into a budget, and a cursor to go on from."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult

from nearfield_mcp import results
from nearfield_mcp.results import Fence, SearchResults, answer

if TYPE_CHECKING:
    from nearfield import Hit

__all__ = ["Asked", "digest_of", "page", "read_cursor", "shortened"]

_SPARE = 8
_LAST_RANK = 10_000
"""No rank takes more digits, as no cursor leads further."""
_SHOWN_QUERY = 60


@dataclass(frozen=True, slots=True)
class Asked:
    """What a page of results is about."""

    collection: str
    what: str
    k: int
    detail: str
    max_chars: int
    offset: int
    digest: str


def page(asked: Asked, search: Callable[[int], list[Hit]]) -> CallToolResult:
    """Answer with the results from an offset on that fit."""
    hits = search(asked.offset + asked.k + 1)[asked.offset :]
    cursor = _cursor(asked.offset + asked.k, asked.digest)
    shape = SearchResults(
        collection=asked.collection, results=[], truncated=True, next_cursor=cursor
    )
    fence = Fence.new()
    head = f"{asked.what} in {asked.collection}: {asked.k} results."
    tail = f"There is more: cursor={cursor}"
    frame = len(results.lines([head, fence.explanation, tail]))
    room = asked.max_chars - max(frame, results.size_of(shape)) - _SPARE
    blocks: list[str] = []
    for hit in hits[: asked.k]:
        found = _fitting(asked, hit, fence, room, shorten=not blocks)
        if found is None:
            break
        blocks.append(_block(asked.offset + len(blocks) + 1, found, fence))
        shape.results.append(found)
        room -= _cost(found, fence)
    if hits and not blocks:
        raise ToolError(
            f"the next result does not fit into {asked.max_chars} characters; raise max_chars"
        )
    count = len(blocks)
    shape.truncated = count < len(hits)
    shape.next_cursor = _cursor(asked.offset + count, asked.digest) if shape.truncated else None
    told = f"{count} results." if count else "nothing found."
    return answer(
        results.lines(
            [
                f"{asked.what} in {asked.collection}: {told}",
                fence.explanation if blocks else None,
                *blocks,
                f"There is more: cursor={shape.next_cursor}" if shape.truncated else None,
            ]
        ),
        shape,
    )


def _fitting(
    asked: Asked, hit: Hit, fence: Fence, room: int, *, shorten: bool
) -> results.Passage | None:
    """Return a passage that fits; None where it cannot, or only shortened where it must not."""
    whole = asked.detail == "full"
    found = results.passage(asked.collection, hit.document, hit.score, whole=whole)
    if _cost(found, fence) <= room:
        return found
    if not shorten:
        return None
    for with_metadata in (whole, False):
        fits, too_many = 0, len(found.text)
        best = None
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            shorter = results.passage(
                asked.collection, hit.document, hit.score, whole=with_metadata, most=middle
            )
            if _cost(shorter, fence) <= room:
                fits, best = middle, shorter
            else:
                too_many = middle
        if best is not None:
            return best
    return None


def _cost(found: results.Passage, fence: Fence) -> int:
    return max(len(_block(_LAST_RANK, found, fence)), results.size_of(found)) + 2


def _block(rank: int, found: results.Passage, fence: Fence) -> str:
    facts = [
        f"id {found.id}",
        f"source {found.source}" if found.source and found.source != found.id else "",
        f"chunk {found.chunk}" if found.chunk else "",
        results.shown(found.metadata),
    ]
    more = "\n(the beginning; fetch it for the rest)" if found.cut else ""
    told = "; ".join(fact for fact in facts if fact)
    return f"{rank}. {found.url} (score {found.score})\n{fence.around(told, found.text)}{more}"


def shortened(text: str) -> str:
    """Cut what a caller wrote to a length that an answer can repeat."""
    return text if len(text) <= _SHOWN_QUERY else f"{text[:_SHOWN_QUERY]}…"


def digest_of(*arguments: Any) -> str:
    """Tell one search from another, so that a cursor is only taken for its own."""
    text = json.dumps(arguments, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _cursor(offset: int, digest: str) -> str:
    return base64.urlsafe_b64encode(f"{offset}.{digest}".encode()).decode().rstrip("=")


def read_cursor(cursor: str | None, digest: str) -> int:
    """Return how many results were seen before; 0 without a cursor.

    Raises:
        ToolError: It is no cursor, or of another search.
    """
    if cursor is None:
        return 0
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        offset, _, made_for = text.partition(".")
        number = int(offset)
    except (binascii.Error, ValueError, UnicodeError):
        number, made_for = -1, ""
    if number < 0 or number > _LAST_RANK or made_for != digest:
        raise ToolError("this cursor is not of this search; leave it out to begin anew")
    return number
