"""A server of the tools that write, to be called in memory or run over stdio."""

from __future__ import annotations

import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path

from mcp.server import MCPServer
from mcp_types import ToolAnnotations

from nearfield_mcp.catalog import Catalog
from nearfield_mcp.deleting import delete_tool
from nearfield_mcp.events import ScopedBus
from nearfield_mcp.older_clients import OlderClients
from nearfield_mcp.strict import StrictTool
from nearfield_mcp.writing import WritingTools

ANNOTATIONS = ToolAnnotations(read_only_hint=False)


class WritingServer:
    """The tools on a folder: ``data``, ``jobs``, and files from ``docs``."""

    def __init__(self, root, *, databases=None, read_only=False, allowed=True, **options):
        root = Path(root)
        (root / "docs").mkdir(exist_ok=True)
        databases = databases or {"default": str(root / "data")}
        self.catalog = Catalog(databases, read_only=read_only)
        bus = ScopedBus()
        self.tools = WritingTools(
            self.catalog,
            job_folder=root / "jobs",
            bus=bus,
            allowed_folders=(root / "docs",) if allowed else (),
            **options,
        )
        functions = (self.tools.ingest, self.tools.ingest_status, delete_tool(self.catalog, bus))
        self.server = MCPServer(
            "writing",
            tools=[
                StrictTool.made_of(function, title=function.__name__, annotations=ANNOTATIONS)
                for function in functions
            ],
            subscriptions=bus,
            log_level="WARNING",
        )
        OlderClients(bus).add_to(self.server)

    def close(self):
        self.tools.close()
        self.catalog.close()


def main():
    served = WritingServer(sys.argv[1])
    (Path(sys.argv[1]) / "pid").write_text(str(os.getpid()))

    @asynccontextmanager
    async def lifespan(_):
        served.tools.start()
        try:
            yield
        finally:
            served.close()

    served.server._lowlevel_server.lifespan = lifespan
    served.server.run("stdio")


if __name__ == "__main__":
    main()
