"""``python -m nearfield_mcp``."""

from nearfield_mcp.cli import main

main()
