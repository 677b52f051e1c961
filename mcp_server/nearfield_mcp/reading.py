"""The tools that read: search, fetch, find_similar, list_collections, describe_collection."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from anyio import to_thread
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult
from pydantic import Field

from nearfield_mcp import results
from nearfield_mcp.catalog import Catalog
from nearfield_mcp.excerpts import Wanted, excerpt
from nearfield_mcp.failures import UnknownCollectionError, told_of
from nearfield_mcp.fields import describe_fields
from nearfield_mcp.pages import Asked, digest_of, page, read_cursor, shortened
from nearfield_mcp.results import (
    CollectionDescription,
    CollectionList,
    CollectionSummary,
    Fence,
    FetchedDocument,
    SearchResults,
    answer,
)
from nearfield_mcp.uris import read_uri, uri_of

if TYPE_CHECKING:
    from nearfield import Collection, Document, Hit
    from nearfield.rerankers import Reranker

__all__ = ["ReadingTools"]

CollectionName = Annotated[
    str | None, Field(description="Its name; may be left out where there is only one")
]
Identifier = Annotated[
    str, Field(min_length=1, description="An id or a url that a search returned")
]
Count = Annotated[int, Field(ge=1, le=50, description="The most results")]
Where = Annotated[
    dict[str, Any] | None,
    Field(
        description="Only documents whose metadata match, such as "
        '{"year": {"$gte": 2020}, "tags": {"$contains": "care"}}; also $eq $ne $gt $lt $lte $in '
        "$nin $any $all $text_match $exists, joined by $and $or $not. describe_collection tells "
        "the fields"
    ),
]
LeastScore = Annotated[float | None, Field(description="Only results that score at least this")]
Detail = Annotated[
    Literal["concise", "full"],
    Field(description="concise: the beginning of each text; full: whole texts and metadata"),
]
MaxChars = Annotated[
    int, Field(ge=500, le=100_000, description="The answer is never longer than this")
]
Cursor = Annotated[
    str | None, Field(description="next_cursor of the answer before, with the same other arguments")
]
_MAX_CHARS = 12_000
_MODES = ("hybrid", "vector", "keyword")
_LISTED_FIELDS = 20
_NAMED_UNREADABLE = 20
_LISTED_NAME_CHARS = 100
_SAMPLE = 1_000
_RERANKED = 50
_FRAME = 600
"""Characters that an answer has besides its contents."""


class ReadingTools:
    """What agents read with.

    Args:
        catalog: The collections.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def search(
        self,
        query: Annotated[str, Field(min_length=1, description="What to look for, in any words")],
        collection: CollectionName = None,
        k: Count = 8,
        mode: Annotated[
            Literal["hybrid", "vector", "keyword"] | None,
            Field(
                description="hybrid: by meaning and by words; vector: by meaning; keyword: words. "
                "Left out: hybrid, where the collection has it"
            ),
        ] = None,
        filter: Where = None,
        min_score: LeastScore = None,
        detail: Detail = "concise",
        max_chars: MaxChars = _MAX_CHARS,
        cursor: Cursor = None,
    ) -> Annotated[CallToolResult, SearchResults]:
        """Search a collection of documents, best first. Use fetch to read a whole result."""

        def work() -> CallToolResult:
            name, opened = self._catalog.open(collection)
            chosen = mode or _modes(opened)[0]
            digest = digest_of(query, name, chosen, filter, min_score, detail)
            asked = Asked(
                name,
                f"{shortened(query)!r}, {chosen}",
                k,
                detail,
                max_chars,
                read_cursor(cursor, digest),
                digest,
            )
            options = {"mode": chosen, "where": filter, "min_score": min_score}
            return page(
                asked,
                lambda most: _ranked(opened, query, most, self._catalog.reranker(name), options),
            )

        return await to_thread.run_sync(work)

    async def find_similar(
        self,
        id: Identifier,
        collection: CollectionName = None,
        k: Count = 8,
        filter: Where = None,
        min_score: LeastScore = None,
        detail: Detail = "concise",
        max_chars: MaxChars = _MAX_CHARS,
        cursor: Cursor = None,
    ) -> Annotated[CallToolResult, SearchResults]:
        """Find the documents nearest in meaning to one that you have the id of."""

        def work() -> CallToolResult:
            name, opened, document, _ = self._find(id, collection)
            digest = digest_of(document.id, name, filter, min_score, detail)
            asked = Asked(
                name,
                f"documents like {shortened(uri_of(name, document.id))}",
                k,
                detail,
                max_chars,
                read_cursor(cursor, digest),
                digest,
            )
            return page(
                asked,
                lambda most: opened.search(
                    like=document.id, k=most, where=filter, min_score=min_score
                ),
            )

        return await to_thread.run_sync(work)

    async def fetch(
        self,
        id: Identifier,
        collection: CollectionName = None,
        neighbours: Annotated[
            int, Field(ge=0, le=5, description="How many chunks before and after it to add")
        ] = 0,
        offset: Annotated[
            int,
            Field(ge=0, description="From which character on; next_offset of the answer before"),
        ] = 0,
        max_chars: MaxChars = _MAX_CHARS,
    ) -> Annotated[CallToolResult, FetchedDocument]:
        """Read a document, or a chunk of one with the chunks around it."""

        def work() -> CallToolResult:
            name, opened, document, unreadable = self._find(id, collection)
            wanted = Wanted(document, neighbours, offset, max_chars, tuple(unreadable))
            return excerpt(name, opened, wanted)

        return await to_thread.run_sync(work)

    async def list_collections(self) -> Annotated[CallToolResult, CollectionList]:
        """List the collections there are, with their size and the fields to filter by."""
        return await to_thread.run_sync(self._list)

    async def describe_collection(
        self, collection: CollectionName = None, max_chars: MaxChars = _MAX_CHARS
    ) -> Annotated[CallToolResult, CollectionDescription]:
        """Tell what is in a collection: the fields to filter by, with types, examples, counts."""

        def work() -> CallToolResult:
            name, opened = self._catalog.open(collection)
            return _described(name, opened, max_chars)

        return await to_thread.run_sync(work)

    def _find(
        self, identifier: str, collection: str | None
    ) -> tuple[str, Collection, Document, list[str]]:
        """Return a document, where it is, and what could not be looked into.

        Args:
            identifier: An id, or a URI, which names the collection.
            collection: Where to look; None for everywhere.
        """
        named = read_uri(identifier)
        if named is not None:
            collection, identifier = named
        found: list[tuple[str, Collection, Document] | None]
        unreadable: list[str]
        if collection is not None:
            found, unreadable = [self._found(identifier, collection)], []
        else:
            found, unreadable = self._found_anywhere(identifier)
        there = [each for each in found if each is not None]
        if len(there) == 1:
            return *there[0], unreadable
        if there:
            where = ", ".join(name for name, _, _ in there)
            raise ToolError(
                f"several collections have a document {identifier!r}: {where}; name one"
            )
        where = f"the collection {collection!r}" if collection else "any collection"
        if unreadable:
            where += f" that can be read, and {', '.join(unreadable)} cannot"
        raise ToolError(
            f"there is no document {identifier!r} in {where}; search for it, and take its id"
        )

    def _found_anywhere(
        self, identifier: str
    ) -> tuple[list[tuple[str, Collection, Document] | None], list[str]]:
        """Look into every collection; what cannot be read does not hide what can."""
        from nearfield.errors import InvalidInputError, NearfieldError

        names, unreadable = self._catalog.look()
        found = []
        for name in names:
            try:
                found.append(self._found(identifier, name))
            except InvalidInputError:  # it is no id, wherever it is looked for
                raise
            except UnknownCollectionError:  # gone meanwhile
                continue
            except NearfieldError as error:
                told_of(error, name)  # it goes to the log
                unreadable.append(name)
        return found, unreadable[:_NAMED_UNREADABLE]

    def _found(self, identifier: str, name: str) -> tuple[str, Collection, Document] | None:
        full_name, opened = self._catalog.open(name)
        # A text that was ingested under an id is kept as chunks: the first begins it.
        documents = opened.get([identifier, f"{identifier}#0"])
        document = next((each for each in documents if each is not None), None)
        return None if document is None else (full_name, opened, document)

    def _list(self) -> CallToolResult:
        from nearfield.errors import NearfieldError

        names, unreadable = self._catalog.look()
        shape = CollectionList(collections=[])
        told: list[str] = []
        closed: list[str] = [*unreadable]
        room = _MAX_CHARS - _FRAME
        for name in names:
            try:
                found = self._summary(name)
            except (NearfieldError, UnknownCollectionError):  # one must not hide the others
                room -= len(name) + 4
                if room < 0:
                    break
                closed.append(name)
                continue
            line = f"{name}: {found.documents} documents"
            line += f"; fields: {', '.join(found.fields)}" if found.fields else ""
            room -= max(len(line), results.size_of(found)) + 2
            if room < 0:
                break
            shape.collections.append(found)
            told.append(line)
        left = len(names) + len(unreadable) - len(told) - len(closed)
        shape.truncated, shape.unreadable = left > 0, closed or None
        fence = Fence.new()
        body = [fence.explanation, fence.around(*told)] if told else []
        problem = f"Cannot be opened: {', '.join(closed)}." if closed else None
        more = f"There are {left} more." if shape.truncated else None
        text = results.lines([*body, problem, more]) or "There is no collection yet."
        return answer(text, shape)

    def _summary(self, name: str) -> CollectionSummary:
        _, opened = self._catalog.open(name)
        _, fields = describe_fields(opened, _SAMPLE // 10)
        return CollectionSummary(
            name=name,
            documents=opened.count(),
            model=results.model_of(opened.info),
            fields=[
                f"{field.name} ({', '.join(field.types)})"
                for field in fields[:_LISTED_FIELDS]
                if len(field.name) <= _LISTED_NAME_CHARS
            ],
        )


def _ranked(
    opened: Collection, query: str, most: int, reranker: Reranker | None, options: dict[str, Any]
) -> list[Hit]:
    """Return the best hits, the first of them in the order of a reranker.

    However many are asked for, it reads the same ones, so that a page goes on where the one before
    ended. What follows has scores of another kind, so that ``min_score`` leaves it out.
    """
    if reranker is None:
        return opened.search(query, k=most, **options)
    head = opened.search(query, k=_RERANKED, candidates=_RERANKED, rerank=reranker, **options)
    if most <= _RERANKED or options["min_score"] is not None:
        return head[:most]
    seen = {hit.id for hit in head}
    return head + [hit for hit in opened.search(query, k=most, **options) if hit.id not in seen]


def _modes(opened: Collection) -> list[str]:
    """Return the modes that a collection can be searched in, the best first."""
    return [mode for mode in _MODES if mode in opened.modes]


def _described(name: str, opened: Collection, max_chars: int) -> CallToolResult:
    looked_at, fields = describe_fields(opened, _SAMPLE)
    shape = CollectionDescription(
        name=name,
        documents=opened.count(),
        model=results.model_of(opened.info),
        metric=opened.info.metric.value,
        modes=_modes(opened),
        looked_at=looked_at,
        fields=[],
        filter_examples=[],
    )
    fence = Fence.new()
    told = []
    room = max_chars - _FRAME
    for field in fields:
        line = f"{field.name}: {', '.join(field.types)}, in {field.count} of {looked_at}, such as "
        line += json.dumps(field.examples, ensure_ascii=False)
        room -= max(len(line), results.size_of(field)) + 2
        if room < 0:
            shape.truncated = True
            break
        shape.fields.append(field)
        told.append(line)
    shape.filter_examples = [
        {field.name: {"$contains" if "list" in field.types else "$eq": example}}
        for field in shape.fields[:2]
        for example in _exact(field.examples)[:1]
    ]
    head = f"{name}: {shape.documents} documents, vectors by {shape.model}, {shape.metric}."
    examples = [f"filter: {json.dumps(each)}" for each in shape.filter_examples]
    body = [fence.explanation, fence.around(*told, *examples)] if told else []
    return answer(results.lines([head, *body]), shape)


def _exact(examples: list[str | int | float | bool]) -> list[str | int | float | bool]:
    """Return those that are not shortened, so that a filter finds them."""
    return [
        example for example in examples if not (isinstance(example, str) and example.endswith("…"))
    ]
