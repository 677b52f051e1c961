"""The tool that deletes, which asks the user where the client can."""

# No `from __future__ import annotations`: the tool's hints name what is made for one catalog.

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from anyio import to_thread
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.resolve import AcceptedElicitation, Elicit, ElicitationResult, Resolve
from mcp_types import CallToolResult
from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from nearfield_mcp.calls import Place
from nearfield_mcp.catalog import Catalog
from nearfield_mcp.events import ScopedBus
from nearfield_mcp.reading import CollectionName
from nearfield_mcp.results import Missing, Shape, answer, lines
from nearfield_mcp.uris import read_uri, uri_of
from nearfield_mcp.writing import demand_write

if TYPE_CHECKING:
    from nearfield.filters import Filter

__all__ = ["Confirmation", "Deleted", "delete_tool"]

_Identifier = Annotated[str, Field(min_length=1, max_length=8_192)]
Identifiers = Annotated[
    Annotated[list[_Identifier], Field(min_length=1, max_length=1_000)] | SkipJsonSchema[None],
    Field(
        description="Ids or urls of documents, or sources, which stand for all their chunks",
    ),
]
Where = Annotated[
    dict[str, Any] | SkipJsonSchema[None],
    Field(description="Instead of ids: a filter as search takes it; all that match are deleted"),
]
ExpectedCount = Annotated[
    Annotated[int, Field(ge=0)] | SkipJsonSchema[None],
    Field(description="How many documents this should delete; otherwise nothing is deleted"),
]
_SHOWN_IDS = 20
_SAID_CHARS = 300
_NOTIFIED = 100


class Confirmation(BaseModel):
    """What the user is asked."""

    delete: bool = Field(title="Delete", description="Delete these documents for good")


class Deleted(Shape):
    """What a deletion did."""

    collection: str
    deleted: int
    not_found: list[str] | Missing = Field(default=None, description="Ids that nothing had")


@dataclass(frozen=True, slots=True)
class _Target:
    """What a call means to delete."""

    collection: str
    count: int
    of: int
    ids: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    where: Any = None
    said: str = ""


def delete_tool(catalog: Catalog, bus: ScopedBus) -> Callable[..., Awaitable[CallToolResult]]:
    """Make the tool for a catalog; changes are published on the bus."""

    async def target(
        ids: Identifiers, filter: Where, collection: CollectionName, expected_count: ExpectedCount
    ) -> _Target:
        return await to_thread.run_sync(_find, catalog, ids, filter, collection, expected_count)

    async def question(
        ctx: Context,
        found: Annotated[_Target, Resolve(target)],
        filter: Where,
        expected_count: ExpectedCount,
    ) -> Elicit[Confirmation] | Confirmation:
        if found.count == 0:
            return Confirmation(delete=True)
        if _can_ask(ctx):
            Place.leave()  # an older client is waited for within the call
            return Elicit(_worded(found), Confirmation)
        if filter is not None and expected_count is None:
            raise ToolError(
                f"this filter matches {found.count} of the {found.of} documents in "
                f"{found.collection}; if that is meant, call again with "
                f"expected_count={found.count}"
            )
        return Confirmation(delete=True)

    async def delete(
        found: Annotated[_Target, Resolve(target)],
        confirmed: Annotated[ElicitationResult[Confirmation], Resolve(question)],
        ids: Identifiers = None,  # noqa: ARG001  # these are read by `target` and `question`
        filter: Where = None,  # noqa: ARG001
        collection: CollectionName = None,  # noqa: ARG001
        expected_count: ExpectedCount = None,  # noqa: ARG001
    ) -> Annotated[CallToolResult, Deleted]:
        """Delete documents for good, by their ids or by a filter. Search first to see which."""
        await Place.take_again()
        if not isinstance(confirmed, AcceptedElicitation) or not confirmed.data.delete:
            raise ToolError("the user did not agree; nothing was deleted, and do not try again")
        shape = await to_thread.run_sync(_delete, catalog, found)
        if shape.deleted:
            uris = [uri_of(found.collection, each) for each in found.ids[:_NOTIFIED]]
            await to_thread.run_sync(bus.publish_soon, found.collection, uris)
        missing = f"Not found: {', '.join(shape.not_found)}." if shape.not_found else None
        head = f"{shape.deleted} documents were deleted from {shape.collection}."
        return answer(lines([head, missing]), shape)

    return delete


def _find(
    catalog: Catalog,
    ids: list[str] | None,
    where: dict[str, Any] | None,
    collection: str | None,
    expected_count: int | None,
) -> _Target:
    demand_write(catalog)
    if (ids is None) == (where is None):
        raise ToolError("give either ids or a filter")
    if ids is not None:
        found = _find_ids(catalog, ids, collection)
    else:
        from nearfield.filters import parse

        name, opened = catalog.open(collection)
        condition = parse(where)
        if condition is None:
            raise ToolError("this filter says nothing; nothing is deleted by omission")
        said = json.dumps(where, ensure_ascii=False)
        found = _Target(name, opened.count(condition), opened.count(), where=condition, said=said)
    if expected_count is not None and expected_count != found.count:
        raise ToolError(
            f"this would delete {found.count} documents, not {expected_count}; nothing was "
            "deleted. Search to see which they are, and call again with the right expected_count"
        )
    return found


def _find_ids(catalog: Catalog, given: list[str], collection: str | None) -> _Target:
    named = [read_uri(each) for each in given]
    collections = {uri[0] for uri in named if uri is not None}
    if collection is not None:
        collections.add(collection)
    if len(collections) > 1:
        raise ToolError("these ids are of several collections; delete from one at a time")
    name, opened = catalog.open(collections.pop() if collections else None)
    plain = [each if uri is None else uri[1] for each, uri in zip(given, named, strict=True)]
    wanted = list(dict.fromkeys(plain))
    there = opened.get(wanted, include=())
    ids = tuple(each for each, document in zip(wanted, there, strict=True) if document is not None)
    rest = [each for each, document in zip(wanted, there, strict=True) if document is None]
    chunks = Counter(
        chunk.metadata["source"]
        for chunk in (opened.scan(where=_chunks_of(rest), include=("metadata",)) if rest else ())
    )
    sources = tuple(each for each in rest if each in chunks)
    missing = tuple(each for each in rest if each not in chunks)
    if not ids and not sources:
        raise ToolError(f"{name} has no such document or source; search for it, and take its id")
    count = len(ids) + chunks.total()
    said = ", ".join((*ids, *sources))
    return _Target(name, count, opened.count(), ids, sources, missing, said=said)


def _delete(catalog: Catalog, found: _Target) -> Deleted:
    name, opened = catalog.open(found.collection)
    if found.where is not None:
        now = opened.count(found.where)
        if now != found.count:  # the user was asked about another number
            raise ToolError(f"now {now} documents match, not {found.count}; call again")
        deleted = opened.delete(where=found.where)
    else:
        deleted = opened.delete(found.ids) if found.ids else 0
        deleted += opened.delete(where=_chunks_of(found.sources)) if found.sources else 0
    missing = list(found.missing[:_SHOWN_IDS]) or None
    return Deleted(collection=name, deleted=deleted, not_found=missing)


def _chunks_of(sources: "list[str] | tuple[str, ...]") -> "Filter":
    """Match what ingestion wrote for some sources, never a document that only has such a field."""
    from nearfield.filters import F

    return F.content_hash.exists() & F.source.in_(list(sources))


def _can_ask(ctx: Context) -> bool:
    capabilities = ctx.client_capabilities
    elicitation = capabilities.elicitation if capabilities is not None else None
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


def _worded(found: _Target) -> str:
    how = "that match" if found.where is not None else "with these ids:"
    # In one line: an id with line ends in it could word a question of its own.
    said = "".join(char if char.isprintable() else " " for char in found.said[: _SAID_CHARS + 1])
    said = said if len(said) <= _SAID_CHARS else f"{said[:_SAID_CHARS]}…"
    return (
        f"Delete {found.count} of the {found.of} documents in {found.collection!r} for good, those "
        f"{how} {said}"
    )
