"""What was indexed, kept beside the documents: LangChain's record manager over the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from langchain_core.indexing import RecordManager

from nearfield import Collection
from nearfield.errors import DocumentNotFoundError, InvalidInputError

if TYPE_CHECKING:
    from nearfield.stores.base import LedgerDrift

__all__ = ["NearfieldRecordManager"]

_MAX_SECONDS = 9e12
"""What 64 bits of microseconds hold."""


class _OverCollection(Protocol):
    @property
    def collection(self) -> Collection: ...


class NearfieldRecordManager(RecordManager):
    """Keeps what ``index()`` has indexed in the collection's own database.

    A record counts while the document that it was made for is there, unchanged. So a document that
    was deleted or replaced elsewhere, or never written because a run broke off, is indexed again,
    and none is skipped for ever. Records are backed up, moved and dropped with the documents.

    Args:
        collection: The collection that ``index()`` writes into, or the vector store over it.
        namespace: Tells one source of documents from another in the same collection. Cleaning up
            after one never deletes documents of another.
    """

    def __init__(
        self, collection: Collection | _OverCollection, namespace: str = "default"
    ) -> None:
        opened = getattr(collection, "collection", collection)
        if not isinstance(opened, Collection):
            raise InvalidInputError(
                f"collection is a {type(collection).__name__}, expected a nearfield collection or "
                "a NearfieldVectorStore over one"
            )
        self._collection = opened
        self._ledger = opened.ledger(namespace)
        super().__init__(namespace)

    def __repr__(self) -> str:
        return f"NearfieldRecordManager({self._collection!r}, namespace={self.namespace!r})"

    def create_schema(self) -> None:
        """Do nothing: a collection has its ledger from birth."""

    async def acreate_schema(self) -> None:
        """Do nothing: a collection has its ledger from birth."""

    def get_time(self) -> float:
        """Return the database's time in seconds, later than that of any record.

        It never goes back, even where the system's clock does.
        """
        return self._ledger.now_us() / 1e6

    async def aget_time(self) -> float:
        """Return the time without blocking the event loop; see :meth:`get_time`."""
        return await asyncio.to_thread(self.get_time)

    def update(
        self,
        keys: Sequence[str],
        *,
        group_ids: Sequence[str | None] | None = None,
        time_at_least: float | None = None,
    ) -> None:
        """Record that documents are up to date now.

        Args:
            keys: Their ids. One whose document is not there is passed over.
            group_ids: The source of each. When left out, each keeps the one it has.
            time_at_least: A time that must not lie in the future.

        Raises:
            InvalidInputError: ``group_ids`` has another length than ``keys``, or
                ``time_at_least`` is in the future.
            DocumentNotFoundError: Not one of the documents is in the collection.
        """
        if not keys and not group_ids:
            return
        at_least_us = _microseconds(time_at_least, "time_at_least")
        recorded = self._ledger.record(keys, groups=group_ids, at_least_us=at_least_us)
        if not recorded:
            raise DocumentNotFoundError(
                f"none of the {len(keys)} documents to record is in the collection "
                f"{self._collection.info.name!r}: let index() write into a NearfieldVectorStore "
                "over this very collection; if another process deleted them since, run it again",
                id=keys[0],
            )

    async def aupdate(
        self,
        keys: Sequence[str],
        *,
        group_ids: Sequence[str | None] | None = None,
        time_at_least: float | None = None,
    ) -> None:
        """Record without blocking the event loop; see :meth:`update`."""
        await asyncio.to_thread(self.update, keys, group_ids=group_ids, time_at_least=time_at_least)

    def exists(self, keys: Sequence[str]) -> list[bool]:
        """Tell for each key whether its document is there, as it was when it was recorded."""
        return self._ledger.recorded(keys)

    async def aexists(self, keys: Sequence[str]) -> list[bool]:
        """Tell without blocking the event loop; see :meth:`exists`."""
        return await asyncio.to_thread(self.exists, keys)

    def list_keys(
        self,
        *,
        before: float | None = None,
        after: float | None = None,
        group_ids: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[str]:
        """List the keys of recorded documents, those of the earliest time first.

        One whose document was replaced elsewhere is listed, so that cleaning up finds it; one
        whose document is gone is not.

        Args:
            before: Only those recorded before this time, in seconds.
            after: Only those recorded after this time.
            group_ids: Only those of these sources; an empty list matches none.
            limit: At most so many.
        """
        return self._ledger.list(
            before_us=_microseconds(before, "before"),
            after_us=_microseconds(after, "after"),
            groups=group_ids,
            limit=limit,
        )

    async def alist_keys(
        self,
        *,
        before: float | None = None,
        after: float | None = None,
        group_ids: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[str]:
        """List without blocking the event loop; see :meth:`list_keys`."""
        return await asyncio.to_thread(
            self.list_keys, before=before, after=after, group_ids=group_ids, limit=limit
        )

    def delete_keys(self, keys: Sequence[str]) -> None:
        """Delete records, not documents; those that are not there are passed over."""
        self._ledger.forget(keys)

    async def adelete_keys(self, keys: Sequence[str]) -> None:
        """Delete without blocking the event loop; see :meth:`delete_keys`."""
        await asyncio.to_thread(self.delete_keys, keys)

    def check(self) -> LedgerDrift:
        """Compare the records with the documents, changing nothing.

        Returns:
            Keys whose document is gone, keys whose document was replaced elsewhere, and the ids of
            documents that no record speaks of in any namespace. The next ``index()`` sets the first
            two right by itself.
        """
        return self._ledger.drift()

    async def acheck(self) -> LedgerDrift:
        """Compare without blocking the event loop; see :meth:`check`."""
        return await asyncio.to_thread(self.check)

    def mend(self, *, delete_unrecorded: bool = False) -> LedgerDrift:
        """Forget records whose document is gone; not to be called while ``index()`` runs.

        A document that was replaced keeps its record: the next ``index()`` writes it anew, or
        cleans it up if its source no longer has it.

        Args:
            delete_unrecorded: Also delete the documents that no record speaks of, such as those
                of a run that broke off and whose source is gone. Documents that were never meant to
                be indexed with a record manager are among them.

        Returns:
            What was found.
        """
        found = self._ledger.drift()
        self._ledger.forget(found.missing)
        if delete_unrecorded and found.unrecorded:
            self._collection.delete(found.unrecorded)
        return found

    async def amend(self, *, delete_unrecorded: bool = False) -> LedgerDrift:
        """Mend without blocking the event loop; see :meth:`mend`."""
        return await asyncio.to_thread(self.mend, delete_unrecorded=delete_unrecorded)


def _microseconds(seconds: float | None, name: str) -> int | None:
    if seconds is None:
        return None
    is_real = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_real or not -_MAX_SECONDS < seconds < _MAX_SECONDS:
        raise InvalidInputError(f"{name} is {seconds!r}, expected seconds of Unix time")
    return round(seconds * 1e6)
