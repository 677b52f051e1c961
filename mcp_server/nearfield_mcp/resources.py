"""Resources: collections and documents by their URI, with completion of both parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

from anyio import to_thread
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.server.mcpserver.resources.templates import ResourceSecurity
from mcp_types import (
    CallToolResult,
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    ResourceTemplateReference,
    TextContent,
)

from nearfield_mcp.catalog import Catalog
from nearfield_mcp.failures import UnknownCollectionError, told_of
from nearfield_mcp.reading import ReadingTools
from nearfield_mcp.uris import ROOT, SCHEME

if TYPE_CHECKING:
    from mcp.server import MCPServer

__all__ = ["Resources"]

_DOCUMENT = f"{SCHEME}{{collection}}/{{id}}"
_COLLECTION = f"{SCHEME}{{collection}}"
_COMPLETIONS = 100
_LOOKED_AT = 5_000
_MOST_CHARS = 100_000
"""Of a document that is read as a resource, as of what a tool answers."""
# Ids name rows, never files: what looks like a path in one leads nowhere.
_ANY_NAME = ResourceSecurity(exempt_params=frozenset({"collection", "id"}))


class Resources:
    """What can be read by URI.

    Args:
        catalog: The collections.
        reading: The tools that answer alike.
    """

    def __init__(self, catalog: Catalog, reading: ReadingTools) -> None:
        self._catalog = catalog
        self._reading = reading

    def add_to(self, server: MCPServer[None]) -> None:
        """Register resources, and the completion of collections and ids."""
        text, read = "text/plain", server.resource
        read(ROOT, name="collections", title="Collections", mime_type=text)(self.collections)
        read(
            _COLLECTION, name="collection", title="A collection", mime_type=text, security=_ANY_NAME
        )(self.collection)
        read(_DOCUMENT, name="document", title="A document", mime_type=text, security=_ANY_NAME)(
            self.document
        )
        server.completion()(self.complete)  # type: ignore[no-untyped-call]  # of the SDK's

    async def collections(self) -> str:
        """The collections there are, with their size and fields."""
        with _told(None):
            return _text(await self._reading.list_collections())

    async def collection(self, collection: str) -> str:
        """What is in a collection: fields, their types, examples and counts."""
        with _told(collection):
            return _text(await self._reading.describe_collection(collection))

    async def document(self, collection: str, id: str) -> str:
        """The whole text of a document, or of a chunk of one."""

        def read() -> str:
            with _told(collection):
                name, opened = self._catalog.open(collection)
                found = opened.get(id)
            if found is None:
                raise ResourceNotFoundError(f"there is no document {id!r} in {name}")
            if len(found.text) > _MOST_CHARS:
                raise ResourceError(
                    f"the document has {len(found.text)} characters, and a resource is whole: read "
                    "it in parts with the tool fetch"
                )
            return found.text

        return await to_thread.run_sync(read)

    async def complete(
        self,
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion:
        """Complete the name of a collection or the id of a document."""
        del ref  # prompts and resources name both alike
        given = (context.arguments if context else None) or {}
        values = await to_thread.run_sync(
            self._completions, argument.name, argument.value, given.get("collection")
        )
        shown = values[:_COMPLETIONS]
        return Completion(values=shown, total=len(values), has_more=len(shown) < len(values))

    def _completions(self, name: str, beginning: str, collection: str | None) -> list[str]:
        if name not in {"collection", "id"}:
            return []
        try:
            with _told(collection):
                if name == "collection":
                    return [found for found in self._catalog.names() if found.startswith(beginning)]
                _, opened = self._catalog.open(collection)
                ids = (found.id for found in islice(opened.scan(include=()), _LOOKED_AT))
                return [found for found in ids if found.startswith(beginning)]
        except ResourceError:
            return []


@contextmanager
def _told(collection: str | None) -> Iterator[None]:
    """Say what to do about a failure, and nothing of the machine."""
    from nearfield.errors import InvalidDocumentError, NearfieldError

    try:
        yield
    except (UnknownCollectionError, InvalidDocumentError) as error:
        raise ResourceNotFoundError(str(error)) from error
    except NearfieldError as error:
        raise ResourceError(told_of(error, collection)) from error


def _text(result: CallToolResult) -> str:
    return "".join(block.text for block in result.content if isinstance(block, TextContent))
