"""A Pinecone project as a database of collections.

A collection is a namespace, in the index that there is for its dimension and metric: an index takes
a minute to be made, and a project has few of them, while a namespace costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from pinecone.errors import ConflictError, NotFoundError

from nearfield.errors import (
    InvalidInputError,
    InvalidURLError,
    StoreBusyError,
)
from nearfield.stores.names import check_name
from nearfield.stores.pinecone.address import METRICS
from nearfield.stores.pinecone.catalog import Catalog, Entry, PineconeIndex
from nearfield.stores.pinecone.connections import Handle, attempts, connected, held_alone, together
from nearfield.stores.pinecone.store import PineconeStore
from nearfield.stores.refusals import missing, read_only, taken

if TYPE_CHECKING:
    from pinecone import Pinecone
    from pinecone.models.indexes.index import IndexModel

    from nearfield.documents import Metric
    from nearfield.stores.base import CollectionInfo
    from nearfield.stores.pinecone.address import Address

__all__ = ["PineconeDatabase"]

_MAX_DIMENSION = 20_000
_DENSE = "_values"
"""What Pinecone calls the vectors of an index that has no other fields."""
_MAKING_S = 180.0
"""Pinecone takes a minute or so to make an index."""
_LOOK_AGAIN_S = 0.2


class PineconeDatabase:
    """The collections of nearfield in one project, or one tenant's of them.

    Args:
        address: Where it is.
    """

    def __init__(self, address: Address) -> None:
        self._address = address

    def list(self) -> list[str]:
        """Name the collections, sorted."""
        return [*self._names(self._indexes())]

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
        indexes = self._indexes()
        if self._look_for(info.name, indexes) is not None:
            raise taken(self._address.shown, info.name)
        wanted = self._address.index_name(info.embedding.dimension, info.metric)
        index = next((each for each in indexes if each.name == wanted), None)
        if index is None:
            index = self._made(wanted, info.embedding.dimension, info.metric)
        with Catalog.of(self._address, index) as catalog:
            entry = catalog.add(info)
        return PineconeStore(self._handle(index, entry), info)

    def drop(self, name: str) -> None:
        """Delete a collection; see :class:`~nearfield.stores.base.StoreFactory`.

        The index stays, for others that may be there or come.
        """
        check_name(name)
        self._refuse_read_only()
        with (
            self._found(name) as (catalog, entry),
            held_alone(catalog.index.host, entry.namespace, self._address.shown),
            closing(self._handle(catalog.index, entry, collection=False)) as handle,
        ):
            # The documents first: those that are left would be a later collection's.
            handle.delete(deleteAll=True)
            catalog.remove(entry)

    def rename(self, name: str, new_name: str) -> None:
        """Give a collection another name; see :class:`~nearfield.stores.base.StoreFactory`."""
        check_name(name)
        check_name(new_name)
        self._refuse_read_only()
        with (
            self._found(name) as (catalog, entry),
            held_alone(catalog.index.host, entry.namespace, self._address.shown),
        ):
            if self._look_for(new_name, self._indexes()) is not None:
                raise taken(self._address.shown, new_name)
            catalog.rename(entry, new_name)

    def _handle(self, index: PineconeIndex, entry: Entry, *, collection: bool = True) -> Handle:
        return Handle(
            self._address, index.host, entry.namespace, index.dimension, collection=collection
        )

    @contextmanager
    def _found(self, name: str) -> Iterator[tuple[Catalog, Entry]]:
        """Lend the entry of a collection, and the catalog that it is in."""
        indexes = self._indexes()
        found = self._look_for(name, indexes)
        if found is None:
            raise missing(self._address.shown, name, self._names(indexes))
        index, entry = found
        with Catalog.of(self._address, index) as catalog:
            yield catalog, entry

    def _look_for(
        self, name: str, indexes: Sequence[PineconeIndex]
    ) -> tuple[PineconeIndex, Entry] | None:
        def look(index: PineconeIndex) -> Entry | None:
            with Catalog.of(self._address, index) as catalog:
                return catalog.get(name)

        entries = zip(indexes, together(look, indexes), strict=True)
        return next(((index, entry) for index, entry in entries if entry is not None), None)

    def _names(self, indexes: Sequence[PineconeIndex]) -> Sequence[str]:
        def names(index: PineconeIndex) -> Sequence[str]:
            with Catalog.of(self._address, index) as catalog:
                return [entry.name for entry in catalog.entries()]

        return sorted({name for several in together(names, indexes) for name in several})

    # ── indexes ──────────────────────────────────────────────────────────────────────────────

    def _indexes(self) -> Sequence[PineconeIndex]:
        with connected(self._address) as client:
            found = attempts(self._address, lambda _: client.indexes.list().to_list())
        return [
            _index(model)
            for model in found
            if self._address.is_index(model.name) and model.host and model.status.ready
        ]

    def _made(self, name: str, dimension: int, metric: Metric) -> PineconeIndex:
        """Make an index, if no one else does, and wait until it is ready."""
        with connected(self._address) as client:
            try:
                model = attempts(self._address, lambda _: client.indexes.describe(name))
            except NotFoundError:
                model = self._make(client, name, dimension, metric)
            until = time.monotonic() + max(self._address.timeout_s, _MAKING_S)
            while not (model.status.ready and model.host):
                if time.monotonic() > until:
                    raise StoreBusyError(
                        f"{self._address.shown} has not made its index {name!r} within "
                        f"{_MAKING_S:g} s (it is {model.status.state}); try again later"
                    )
                time.sleep(_LOOK_AGAIN_S)
                model = attempts(self._address, lambda _: client.indexes.describe(name))
        return _index(model)

    def _make(self, client: Pinecone, name: str, dimension: int, metric: Metric) -> IndexModel:
        field = {"type": "dense_vector", "dimension": dimension, "metric": METRICS[metric]}
        place = {"cloud": self._address.cloud, "region": self._address.region}

        def make(_: float) -> IndexModel:
            try:
                return client.indexes.create(
                    name=name,
                    schema={"fields": {_DENSE: field}},
                    deployment={"deployment_type": "managed", **place},
                    timeout=-1,
                )
            except ConflictError:  # another process was faster, or an answer was lost
                return client.indexes.describe(name)
            except NotFoundError as error:
                raise InvalidURLError(
                    f"{self._address.shown} makes no indexes in cloud={place['cloud']} and "
                    f"region={place['region']}: {error.message}; name others in the URL"
                ) from None

        return attempts(self._address, make)

    # ── refusals ─────────────────────────────────────────────────────────────────────────────

    def _refuse_read_only(self) -> None:
        if self._address.read_only:
            raise read_only(self._address.shown)


def _index(model: IndexModel) -> PineconeIndex:
    return PineconeIndex(model.name, model.host or "", model.dimension or 0)
