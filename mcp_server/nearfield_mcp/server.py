"""The server: one factory for every transport."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.tools import Tool
from mcp_types import ToolAnnotations

from nearfield_mcp.catalog import Catalog
from nearfield_mcp.deleting import delete_tool
from nearfield_mcp.events import ScopedBus
from nearfield_mcp.jobs import default_job_folder
from nearfield_mcp.older_clients import OlderClients
from nearfield_mcp.prompts import add_prompts
from nearfield_mcp.reading import ReadingTools
from nearfield_mcp.resources import Resources
from nearfield_mcp.settings import Settings
from nearfield_mcp.strict import StrictTool
from nearfield_mcp.watching import Watch
from nearfield_mcp.writing import WritingTools

__all__ = ["NearfieldServer", "create_server"]

_READING = (
    "Documents to look things up in. search finds passages, fetch reads one whole with what stands "
    "around it, describe_collection tells what to filter by. Name the url of what you rely on."
)
_WAITED_SHARE = 0.75
"""Of a call's time, for waiting until an ingest ends; the rest is for making it."""
_WRITING = " ingest takes in texts, files and pages; ingest_status tells how far that is."


class NearfieldServer(MCPServer[None]):
    """An MCP server over some databases.

    Nothing heavy is imported and no database opened before the first call. Sessions come and go;
    :meth:`resume` and :meth:`close` are called once in a process.

    Args:
        settings: Which databases to serve, and how.
    """

    def __init__(self, settings: Settings) -> None:
        self._catalog = Catalog(
            settings.urls,
            embedder_of=settings.embedder_of,
            reranker_of=settings.reranker_of,
            read_only=bool(settings.read_only),
        )
        reading = ReadingTools(self._catalog)
        tools = [
            _tool(reading.search, "Search"),
            _tool(reading.fetch, "Fetch a document"),
            _tool(reading.find_similar, "Find similar"),
            _tool(reading.list_collections, "List collections"),
            _tool(reading.describe_collection, "Describe a collection"),
        ]
        bus = ScopedBus(Watch(self._catalog))
        self._writing: WritingTools | None = None
        if not settings.read_only:
            self._writing = writing = _writing_tools(self._catalog, settings, bus)
            tools += [
                _tool(writing.ingest, "Ingest", writes=True, open_world=settings.allow_urls),
                _tool(writing.ingest_status, "Status of an ingest", writes=True),
                _tool(delete_tool(self._catalog, bus), "Delete", writes=True, destroys=True),
            ]
        super().__init__(
            "nearfield",
            title="nearfield",
            version=version("nearfield"),
            instructions=_READING if settings.read_only else _READING + _WRITING,
            tools=tools,
            subscriptions=bus,
            log_level=settings.log_level,
        )
        Resources(self._catalog, reading).add_to(self)
        OlderClients(bus).add_to(self)
        add_prompts(self)

    def resume(self) -> None:
        """Go on with the ingests of servers that are gone; heavy, so not before the handshake."""
        if self._writing is not None:
            self._writing.start()

    def close(self) -> None:
        """Stop ingests at their next step, and close every collection. Idempotent."""
        if self._writing is not None:
            self._writing.close()
        self._catalog.close()


def create_server(settings: Settings) -> NearfieldServer:
    """Make a server; see :class:`NearfieldServer`."""
    return NearfieldServer(settings)


def _writing_tools(catalog: Catalog, settings: Settings, bus: ScopedBus) -> WritingTools:
    fetcher = None
    if settings.allow_urls:
        from nearfield_mcp.urls import Fetcher  # brings an HTTP client

        fetcher = Fetcher()
    return WritingTools(
        catalog,
        job_folder=settings.job_dir or default_job_folder(settings.urls),
        bus=bus,
        allowed_folders=tuple(settings.allow_dir),
        fetcher=fetcher,
        longest_wait_s=settings.call_timeout_s * _WAITED_SHARE,
    )


def _tool(
    function: Callable[..., Awaitable[Any]],
    title: str,
    *,
    writes: bool = False,
    destroys: bool = False,
    open_world: bool = False,
) -> Tool:
    annotations = ToolAnnotations(
        read_only_hint=not writes,
        destructive_hint=destroys,
        idempotent_hint=not destroys,
        open_world_hint=open_world,
    )
    return StrictTool.made_of(function, title=title, annotations=annotations)
