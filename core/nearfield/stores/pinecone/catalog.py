"""Which collections there are: a record for each, in a namespace of the index that holds it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pinecone import Vector

from nearfield.documents import EmbeddingInfo, Metric
from nearfield.errors import FormatVersionError, StoreError
from nearfield.stores.base import CollectionInfo
from nearfield.stores.names import is_name
from nearfield.stores.pinecone.connections import Handle

if TYPE_CHECKING:
    from nearfield.stores.pinecone.address import Address
    from nearfield.stores.pinecone.indexes import PineconeIndex

__all__ = ["FORMAT_VERSION", "Catalog", "Entry"]

FORMAT_VERSION = 1
_NAMESPACE = "nearfield:"
"""No collection's: behind the colon of a tenant there is always a name."""
_SETTLING_S = 5.0
"""So long Pinecone's counts may lag behind what was deleted."""
_LOOK_AGAIN_S = 0.05


@dataclass(frozen=True, slots=True)
class Entry:
    """What is recorded of a collection.

    Attributes:
        name: Its name.
        namespace: Where its documents are.
        info: What was fixed at its birth, as JSON.
    """

    name: str
    namespace: str
    info: str

    def read(self, shown: str) -> CollectionInfo:
        """Return what was fixed at the collection's birth."""
        try:
            record = json.loads(self.info)
            version = int(record["format"])
            if version > FORMAT_VERSION:
                raise FormatVersionError(found=version, supported=FORMAT_VERSION, path=shown)
            metric = Metric(record["metric"])
            return CollectionInfo(self.name, EmbeddingInfo.from_dict(record["embedding"]), metric)
        except (KeyError, TypeError, ValueError):
            raise StoreError(
                f"what {shown} has recorded of the collection {self.name!r} cannot be read; it was "
                "changed by something else"
            ) from None


class Catalog:
    """The collections of one tenant in one index."""

    def __init__(self, address: Address, index: PineconeIndex, handle: Handle) -> None:
        self._tenant = address.tenant
        self._handle = handle
        self.index = index

    @classmethod
    @contextmanager
    def of(cls, address: Address, index: PineconeIndex) -> Iterator[Catalog]:
        """Lend the catalog of an index."""
        with closing(Handle(address, index, _NAMESPACE)) as handle:
            yield cls(address, index, handle)

    def get(self, name: str) -> Entry | None:
        """Return the entry of a collection."""
        return next(map(_entry, self._handle.fetch([self._key(name)])), None)

    def entries(self) -> list[Entry]:
        """Return every entry."""
        found = map(_entry, self._handle.matching({"tenant": {"$eq": self._tenant}}))
        return [entry for entry in found if is_name(entry.name)]

    def add(self, info: CollectionInfo) -> Entry:
        """Record a new collection."""
        record = {
            "format": FORMAT_VERSION,
            "metric": info.metric.value,
            "embedding": info.embedding.to_dict(),
        }
        entry = Entry(info.name, self._free_namespace(info.name), json.dumps(record))
        self._write(entry)
        return entry

    def rename(self, entry: Entry, new_name: str) -> None:
        """Record a collection by another name; its documents stay where they are."""
        self._write(Entry(new_name, entry.namespace, entry.info))
        self.remove(entry)

    def remove(self, entry: Entry) -> None:
        """Forget a collection."""
        self._handle.delete(ids=[self._key(entry.name)])

    def has_others(self, entry: Entry) -> bool:
        """Whether some tenant has another collection in the index."""
        return any(
            record.id != self._key(entry.name)
            for record in self._handle.matching({"name": {"$exists": True}})
        )

    def is_unused(self) -> bool:
        """Whether no tenant has a collection in the index, and no one else a record."""
        until = time.monotonic() + _SETTLING_S
        while set(self._handle.namespaces()) - {_NAMESPACE}:
            if time.monotonic() > until:
                return False
            time.sleep(_LOOK_AGAIN_S)
        # Who sees a mark sees what others wrote before it, where writes are numbered.
        mark = f"~{uuid.uuid4().hex}"
        self._put(mark, {"namespace": ""})
        found = list(self._handle.matching({"namespace": {"$exists": True}}))
        is_seen = self._handle.freshness.signals and any(each.id == mark for each in found)
        if is_seen and not any("name" in each.metadata for each in found):
            return True
        self._handle.delete(ids=[mark])
        return False

    def _write(self, entry: Entry) -> None:
        fields = {
            "tenant": self._tenant,
            "name": entry.name,
            "namespace": entry.namespace,
            "info": entry.info,
        }
        self._put(self._key(entry.name), fields)

    def _put(self, key: str, fields: dict[str, str]) -> None:
        some_vector = [1.0] + [0.0] * (self.index.dimension - 1)
        self._handle.upsert([Vector(key, some_vector, metadata=fields)])

    def _free_namespace(self, name: str) -> str:
        """Return a namespace by the collection's name that no renamed one still uses."""
        free, number = self._key(name), 1
        while any(self._handle.matching({"namespace": {"$eq": free}})):
            number += 1
            free = f"{self._key(name)}~{number}"
        return free

    def _key(self, name: str) -> str:
        return f"{self._tenant}:{name}" if self._tenant else name


def _entry(vector: Vector) -> Entry:
    fields = vector.metadata or {}
    return Entry(
        str(fields.get("name", "")), str(fields.get("namespace", "")), str(fields.get("info", ""))
    )
