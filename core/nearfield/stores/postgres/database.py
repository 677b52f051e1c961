"""A PostgreSQL database of collections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfield.stores.names import check_name
from nearfield.stores.postgres import schema
from nearfield.stores.postgres.connections import Server, connected
from nearfield.stores.postgres.store import PostgresStore
from nearfield.stores.refusals import read_only

if TYPE_CHECKING:
    from nearfield.stores.base import CollectionInfo

__all__ = ["PostgresDatabase"]


class PostgresDatabase:
    """The collections in one schema of a database.

    Args:
        server: Where it is.
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    def list(self) -> list[str]:
        """Name the collections, sorted."""
        with connected(self._server) as connection:
            return schema.names(connection, self._server)

    def open(self, name: str) -> PostgresStore:
        """Open a collection; see :class:`~nearfield.stores.base.StoreFactory`."""
        check_name(name)
        with connected(self._server) as connection:
            birth = schema.read(connection, self._server, name)
        return PostgresStore(self._server, birth)

    def create(self, info: CollectionInfo) -> PostgresStore:
        """Make a collection; see :class:`~nearfield.stores.base.StoreFactory`."""
        check_name(info.name)
        self._refuse_read_only()
        with connected(self._server) as connection:
            schema.create(connection, self._server, info)
        return self.open(info.name)

    def drop(self, name: str) -> None:
        """Delete a collection; see :class:`~nearfield.stores.base.StoreFactory`."""
        check_name(name)
        self._refuse_read_only()
        with connected(self._server) as connection:
            schema.drop(connection, self._server, schema.read(connection, self._server, name))

    def rename(self, name: str, new_name: str) -> None:
        """Give a collection another name; see :class:`~nearfield.stores.base.StoreFactory`."""
        check_name(name)
        check_name(new_name)
        self._refuse_read_only()
        with connected(self._server) as connection:
            birth = schema.read(connection, self._server, name)
            schema.rename(connection, self._server, birth, new_name)

    def _refuse_read_only(self) -> None:
        if self._server.read_only:
            raise read_only(self._server.shown)
