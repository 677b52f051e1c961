"""A Pinecone project as a database of collections.

A collection is a namespace, in the index that there is for its dimension and metric: an index takes
a minute to be made, and a project has few of them, while a namespace costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

from nearfield.errors import ClosedError, InvalidInputError, StoreBusyError
from nearfield.stores.names import check_name
from nearfield.stores.pinecone.catalog import Catalog, Entry
from nearfield.stores.pinecone.connections import Handle, held_alone, together
from nearfield.stores.pinecone.indexes import Indexes, PineconeIndex
from nearfield.stores.pinecone.store import PineconeStore
from nearfield.stores.refusals import missing, read_only, taken

if TYPE_CHECKING:
    from nearfield.stores.base import CollectionInfo
    from nearfield.stores.pinecone.address import Address

__all__ = ["PineconeDatabase"]

_MAX_DIMENSION = 20_000
_TRIES = 3


class PineconeDatabase:
    """The collections of nearfield in one project, or one tenant's of them.

    Args:
        address: Where it is.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._indexes = Indexes(address)

    def list(self) -> list[str]:
        """Name the collections, sorted."""
        return [*self._names(self._indexes.list())]

    def open(self, name: str) -> PineconeStore:
        """Open a collection; see :class:`~nearfield.stores.base.StoreFactory`."""
        check_name(name)
        with self._found(name) as (catalog, entry):
            info = entry.read(self._address.shown)
            return PineconeStore(self._handle(catalog.index, entry), info)

    def create(self, info: CollectionInfo) -> PineconeStore:
        """Make a collection; see :class:`~nearfield.stores.base.StoreFactory`."""
        check_name(info.name)
        self._refuse_read_only()
        if info.embedding.dimension > _MAX_DIMENSION:
            raise InvalidInputError(
                f"Pinecone holds vectors of dimension 1 to {_MAX_DIMENSION:,}, got "
                f"{info.embedding.dimension:,}; use another embedder"
            )
        if self._look_for(info.name, self._indexes.list()) is not None:
            raise taken(self._address.shown, info.name)
        for _ in range(_TRIES):
            index = self._indexes.make(info.embedding.dimension, info.metric)
            try:
                with Catalog.of(self._address, index) as catalog:
                    entry = catalog.add(info)
            except ClosedError:
                continue  # with its last collection, another process dropped the index
            if self._indexes.keep(index):
                return PineconeStore(self._handle(index, entry), info)
        raise StoreBusyError(
            f"others delete the index of {self._address.shown} that the collection {info.name!r} "
            "belongs into, again and again; try again later"
        )

    def drop(self, name: str) -> None:
        """Delete a collection; see :class:`~nearfield.stores.base.StoreFactory`.

        The index goes with its last collection, if nearfield made it and no one else uses it.
        """
        check_name(name)
        self._refuse_read_only()
        with (
            self._found(name) as (catalog, entry),
            held_alone(catalog.index.host, entry.namespace, self._address.shown),
            closing(self._handle(catalog.index, entry, collection=False)) as handle,
        ):
            is_last = not catalog.has_others(entry)
            # The documents first: those that are left would be a later collection's.
            handle.delete(deleteAll=True)
            catalog.remove(entry)
            if is_last:
                self._indexes.discard(catalog.index, catalog.is_unused)

    def rename(self, name: str, new_name: str) -> None:
        """Give a collection another name; see :class:`~nearfield.stores.base.StoreFactory`."""
        check_name(name)
        check_name(new_name)
        self._refuse_read_only()
        with (
            self._found(name) as (catalog, entry),
            held_alone(catalog.index.host, entry.namespace, self._address.shown),
        ):
            if self._look_for(new_name, self._indexes.list()) is not None:
                raise taken(self._address.shown, new_name)
            catalog.rename(entry, new_name)

    def _handle(self, index: PineconeIndex, entry: Entry, *, collection: bool = True) -> Handle:
        return Handle(self._address, index, entry.namespace, collection=collection)

    @contextmanager
    def _found(self, name: str) -> Iterator[tuple[Catalog, Entry]]:
        """Lend the entry of a collection, and the catalog that it is in."""
        indexes = self._indexes.list()
        found = self._look_for(name, indexes)
        if found is None:
            raise missing(self._address.shown, name, self._names(indexes))
        index, entry = found
        with Catalog.of(self._address, index) as catalog:
            yield catalog, entry

    def _look_for(
        self, name: str, indexes: Sequence[PineconeIndex]
    ) -> tuple[PineconeIndex, Entry] | None:
        # An index may have been deleted, with its last collection, since it was listed.
        def look(index: PineconeIndex) -> Entry | None:
            with suppress(ClosedError), Catalog.of(self._address, index) as catalog:
                return catalog.get(name)
            return None

        entries = zip(indexes, together(look, indexes), strict=True)
        return next(((index, entry) for index, entry in entries if entry is not None), None)

    def _names(self, indexes: Sequence[PineconeIndex]) -> Sequence[str]:
        def names(index: PineconeIndex) -> Sequence[str]:
            with suppress(ClosedError), Catalog.of(self._address, index) as catalog:
                return [entry.name for entry in catalog.entries()]
            return []

        return sorted({name for several in together(names, indexes) for name in several})

    def _refuse_read_only(self) -> None:
        if self._address.read_only:
            raise read_only(self._address.shown)
