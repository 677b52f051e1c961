"""A Milvus database of collections."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pymilvus.exceptions import MilvusException

from nearfield.stores.milvus import schema
from nearfield.stores.milvus.address import Index
from nearfield.stores.milvus.connections import Handle, connected, held_alone, tried
from nearfield.stores.milvus.errors import AbsentDatabaseError, is_absent_collection
from nearfield.stores.milvus.store import MilvusStore
from nearfield.stores.names import check_name, is_name
from nearfield.stores.refusals import missing, read_only, taken

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pymilvus import MilvusClient

    from nearfield.errors import CollectionNotFoundError
    from nearfield.stores.base import CollectionInfo
    from nearfield.stores.milvus.address import Address

__all__ = ["MilvusDatabase"]


class MilvusDatabase:
    """The collections of nearfield in one database of Milvus.

    Args:
        address: Where it is.
    """

    def __init__(self, address: Address) -> None:
        self._address = address

    def list(self) -> list[str]:
        """Name the collections, sorted."""
        if self._is_absent():
            return []
        try:
            with connected(self._address) as client:
                return [*self._names(client)]
        except AbsentDatabaseError:
            return []

    def open(self, name: str) -> MilvusStore:
        """Open a collection; see :class:`~nearfield.stores.base.StoreFactory`."""
        check_name(name)
        with self._existing(name) as client:
            birth = tried(self._address, lambda within_s: self._read(client, name, within_s))
            handle = Handle(self._address, schema.encoded(name))
        return MilvusStore(handle, birth)

    def create(self, info: CollectionInfo) -> MilvusStore:
        """Make a collection; see :class:`~nearfield.stores.base.StoreFactory`."""
        check_name(info.name)
        self._refuse_read_only()
        self._make_database()
        index = self._address.index or Index.FLAT
        with connected(self._address) as client:
            if info.name in self._names(client):
                raise taken(self._address.shown, info.name)
            tried(self._address, lambda within_s: schema.create(client, info, index, within_s))
        return self.open(info.name)

    def drop(self, name: str) -> None:
        """Delete a collection; see :class:`~nearfield.stores.base.StoreFactory`."""
        check_name(name)
        self._refuse_read_only()
        with self._alone(name) as client:
            client.drop_collection(schema.encoded(name), timeout=self._address.timeout_s)

    def rename(self, name: str, new_name: str) -> None:
        """Give a collection another name; see :class:`~nearfield.stores.base.StoreFactory`."""
        check_name(name)
        check_name(new_name)
        self._refuse_read_only()
        with self._alone(name) as client:
            if new_name in self._names(client):
                raise taken(self._address.shown, new_name)
            client.rename_collection(
                schema.encoded(name), schema.encoded(new_name), timeout=self._address.timeout_s
            )

    def _read(self, client: MilvusClient, name: str, within_s: float) -> schema.Birth:
        birth = schema.read(client, self._address, name, within_s)
        if not self._address.read_only:  # who made it may have been broken off
            schema.finish(client, birth, within_s)
        return birth

    @contextmanager
    def _existing(self, name: str) -> Iterator[MilvusClient]:
        """Lend a client of a database that has a collection."""
        if self._is_absent():
            raise self._missing(name)
        try:
            with connected(self._address) as client:
                try:
                    yield client
                except MilvusException as error:
                    if is_absent_collection(error):
                        raise self._missing(name) from None
                    raise
        except AbsentDatabaseError:
            raise self._missing(name) from None

    @contextmanager
    def _alone(self, name: str) -> Iterator[MilvusClient]:
        """Lend a client, and keep this process from opening a collection that it does not have."""
        with self._existing(name) as client:
            schema.read(client, self._address, name, self._address.timeout_s)
            with held_alone(self._address, schema.encoded(name), name):
                yield client

    def _names(self, client: MilvusClient) -> Sequence[str]:
        listed: Any = tried(
            self._address, lambda within_s: client.list_collections(timeout=within_s)
        )
        names = (schema.decoded(name) for name in listed)
        return sorted(name for name in names if name is not None and is_name(name))

    def _make_database(self) -> None:
        """Make the database where there is none of its name."""
        if self._address.is_default_database:
            return
        name = self._address.database
        with connected(dataclasses.replace(self._address, database="default")) as client:
            there: Any = tried(
                self._address, lambda within_s: client.list_databases(timeout=within_s)
            )
            if name in there:
                return
            try:
                client.create_database(name, timeout=self._address.timeout_s)
            except MilvusException:
                # Another was faster, or there are as many as the server allows.
                there = tried(
                    self._address, lambda within_s: client.list_databases(timeout=within_s)
                )
                if name not in there:
                    raise

    def _is_absent(self) -> bool:
        """Whether there is no database yet; to look into a folder must not make one."""
        folder = self._address.folder
        return folder is not None and not folder.exists()

    def _refuse_read_only(self) -> None:
        if self._address.read_only:
            raise read_only(self._address.shown)

    def _missing(self, name: str) -> CollectionNotFoundError:
        return missing(self._address.shown, name, self.list())
