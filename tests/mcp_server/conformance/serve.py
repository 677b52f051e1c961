"""The real command line, but the server it starts has the fixtures too."""

from __future__ import annotations

import warnings

from mcp.shared.exceptions import MCPDeprecationWarning
from tests.mcp_server.conformance.fixtures import add_fixtures

import nearfield_mcp.server
from nearfield_mcp.cli import main

_create_server = nearfield_mcp.server.create_server


def create_with_fixtures(settings):
    server = _create_server(settings)
    add_fixtures(server)
    return server


if __name__ == "__main__":
    # The fixtures log as the older revisions do.
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    nearfield_mcp.server.create_server = create_with_fixtures
    main()
