"""A Chroma database of collections."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from chromadb.errors import ChromaError, NotFoundError

from nearfield.documents import EmbeddingInfo, Metric
from nearfield.errors import (
    CollectionNotFoundError,
    FormatVersionError,
    StoreError,
)
from nearfield.stores.base import CollectionInfo
from nearfield.stores.chroma.connections import (
    DATA_FILE,
    Handle,
    connected,
    held_alone,
    make_database,
)
from nearfield.stores.chroma.errors import AbsentDatabaseError, translated
from nearfield.stores.chroma.store import ChromaStore
from nearfield.stores.names import check_name
from nearfield.stores.refusals import missing, read_only, taken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

    from nearfield.stores.chroma.address import Address

__all__ = ["FORMAT_VERSION", "INDEX", "ChromaDatabase"]

FORMAT_VERSION = 1
_PREFIX, _SUFFIX = "nearfield-", "-0"
"""Chroma's names begin and end with a letter or digit; others' collections are left alone."""
_RECORD = "nearfield"
_SPACES = {Metric.COSINE: "cosine", Metric.DOT: "ip", Metric.EUCLIDEAN: "l2"}
INDEX = {"max_neighbors": 32, "ef_construction": 200, "ef_search": 200}
"""With Chroma's defaults a graph loses its way to one row in a hundred."""
_PAGE = 500


class ChromaDatabase:
    """The collections of nearfield in one database of Chroma.

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
                return _names(client)
        except AbsentDatabaseError:
            return []

    def open(self, name: str) -> ChromaStore:
        """Open a collection; see :class:`~nearfield.stores.base.StoreFactory`."""
        check_name(name)
        if self._is_absent():
            raise self._missing(name)
        with translated(self._address):
            try:
                handle = Handle(self._address, _encoded(name))
            except (NotFoundError, AbsentDatabaseError):
                raise self._missing(name) from None
        try:
            return ChromaStore(handle, self._read(handle, name))
        except BaseException:
            handle.close()
            raise

    def create(self, info: CollectionInfo) -> ChromaStore:
        """Make a collection; see :class:`~nearfield.stores.base.StoreFactory`."""
        check_name(info.name)
        self._refuse_read_only()
        record = {
            "format": FORMAT_VERSION,
            "metric": info.metric.value,
            "embedding": info.embedding.to_dict(),
        }
        make_database(self._address)
        with connected(self._address) as client:
            try:
                client.create_collection(
                    _encoded(info.name),
                    metadata={_RECORD: json.dumps(record)},
                    configuration=cast("Any", {"hnsw": {"space": _SPACES[info.metric], **INDEX}}),
                    embedding_function=None,
                )
            except ChromaError as error:
                if "already exists" in str(error):  # embedded and server raise different classes
                    raise taken(self._address.shown, info.name) from None
                raise
        return self.open(info.name)

    def drop(self, name: str) -> None:
        """Delete a collection; see :class:`~nearfield.stores.base.StoreFactory`."""
        check_name(name)
        self._refuse_read_only()
        with self._alone(name) as (client, _):
            client.delete_collection(_encoded(name))

    def rename(self, name: str, new_name: str) -> None:
        """Give a collection another name; see :class:`~nearfield.stores.base.StoreFactory`."""
        check_name(name)
        check_name(new_name)
        self._refuse_read_only()
        with self._alone(name) as (client, collection):
            if new_name in _names(client):
                raise taken(self._address.shown, new_name)
            collection.modify(name=_encoded(new_name))

    @contextmanager
    def _alone(self, name: str) -> Iterator[tuple[ClientAPI, Collection]]:
        """Lend a client and a collection that this process does not have open."""
        if self._is_absent():
            raise self._missing(name)
        try:
            with connected(self._address) as client:
                try:
                    collection = client.get_collection(_encoded(name), embedding_function=None)
                except NotFoundError:
                    raise self._missing(name) from None
                with held_alone(self._address, collection):
                    yield client, collection
        except AbsentDatabaseError:
            raise self._missing(name) from None

    def _read(self, handle: Handle, name: str) -> CollectionInfo:
        shown = self._address.shown
        try:
            record = json.loads(handle.metadata[_RECORD])
            version = int(record["format"])
            if version > FORMAT_VERSION:
                raise FormatVersionError(found=version, supported=FORMAT_VERSION, path=shown)
            metric = Metric(record["metric"])
            embedding = EmbeddingInfo.from_dict(record["embedding"])
        except (KeyError, TypeError, ValueError):
            raise StoreError(
                f"the collection {_encoded(name)!r} of {shown} was not made by nearfield; rename "
                "or delete it, or choose another name"
            ) from None
        if handle.space != _SPACES[metric]:
            raise StoreError(
                f"the collection {name!r} of {shown} is to compare by {metric.value}, but its "
                f"index is made for {handle.space!r}; it was changed by something else"
            )
        return CollectionInfo(name, embedding, metric)

    def _is_absent(self) -> bool:
        """Whether there is no database yet; to look into a folder must not make one."""
        folder = self._address.folder
        return folder is not None and not (folder / DATA_FILE).exists()

    def _refuse_read_only(self) -> None:
        if self._address.read_only:
            raise read_only(self._address.shown)

    def _missing(self, name: str) -> CollectionNotFoundError:
        return missing(self._address.shown, name, self.list())


def _names(client: ClientAPI) -> list[str]:
    names: list[str] = []
    while True:
        page = client.list_collections(limit=_PAGE, offset=len(names))
        names += [collection.name for collection in page]
        if len(page) < _PAGE:
            return sorted(filter(None, map(_decoded, names)))


def _encoded(name: str) -> str:
    escaped = name.replace("_", "__").replace(".", "_.")  # Chroma takes no two dots in a row
    return f"{_PREFIX}{escaped}{_SUFFIX}"


def _decoded(name: str) -> str | None:
    if not (name.startswith(_PREFIX) and name.endswith(_SUFFIX)):
        return None
    return re.sub(r"_(.)", r"\1", name.removeprefix(_PREFIX).removesuffix(_SUFFIX))
