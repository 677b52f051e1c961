"""The embedded engine's database: a folder of collections."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nearfield.errors import (
    CorruptionError,
    StoreError,
)
from nearfield.stores.base import CollectionInfo
from nearfield.stores.local import schema
from nearfield.stores.local.connections import ConnectionPool, log_ahead
from nearfield.stores.local.files import CollectionFiles, DatabaseFolder, sync_folder
from nearfield.stores.local.locking import lock_folder, take_alone
from nearfield.stores.local.store import LocalStore
from nearfield.stores.refusals import missing, read_only, taken

if TYPE_CHECKING:
    from pathlib import Path

    from nearfield.stores.durability import Durability
    from nearfield.stores.local.compaction import Policy

__all__ = ["LocalDatabase"]


class LocalDatabase:
    """A folder of collections.

    Args:
        root: The folder; made with the first collection.
        durability: What an acknowledged write survives.
        timeout_s: How long to wait for another writer before ``StoreBusyError``.
        read_only: Whether to refuse every write.
        policy: When segments are built.
    """

    def __init__(
        self,
        root: Path,
        *,
        durability: Durability,
        timeout_s: float,
        read_only: bool,
        policy: Policy | None = None,
    ) -> None:
        if root.exists() and not root.is_dir():
            raise StoreError(f"{root} is a file, expected a folder for a database of collections")
        self._folder = DatabaseFolder(root)
        self._durability = durability
        self._timeout_s = timeout_s
        self._read_only = read_only
        self._policy = policy

    def list(self) -> list[str]:
        """Name the collections, sorted."""
        return self._folder.collections()

    def open(self, name: str) -> LocalStore:
        """Open a collection; see :class:`~nearfield.stores.base.StoreFactory`."""
        files = self._existing(name)
        # Under the lock, so that nobody renames or drops it between the look and the opening.
        with contextlib.nullcontext() if self._read_only else self._locked():
            pool = ConnectionPool(
                self._existing(name).database,
                timeout_s=self._timeout_s,
                durability=self._durability,
                read_only=self._read_only,
            )
            try:
                with pool.borrow() as connection:
                    birth = schema.read_birth(connection, str(files.database))
                    if not self._read_only:  # only now: it may be no collection at all
                        log_ahead(connection)
            except BaseException:
                pool.close()
                raise
            pool.expect(birth.collection_id)
        info = CollectionInfo(name, birth.embedding, birth.metric)
        return LocalStore(info, self._folder, pool, self._policy)

    def create(self, info: CollectionInfo) -> LocalStore:
        """Make a collection; see :class:`~nearfield.stores.base.StoreFactory`."""
        self._refuse_read_only()
        files = self._folder.collection(info.name)
        with self._locked():
            self._refuse_existing(info.name)
            with self._folder.work_in_progress() as unfinished:
                schema.create_file(unfinished, info, collection_id=uuid.uuid4().hex)
                unfinished.folder.rename(files.folder)
            sync_folder(self._folder.root)
        return self.open(info.name)

    def drop(self, name: str) -> None:
        """Delete a collection; see :class:`~nearfield.stores.base.StoreFactory`."""
        self._refuse_read_only()
        self._existing(name)
        with self._locked():
            files = self._existing(name)
            with contextlib.suppress(CorruptionError):  # a damaged one can be dropped all the same
                take_alone(files)
            with self._folder.work_in_progress() as dropped:
                files.folder.rename(dropped.folder)
                sync_folder(self._folder.root)

    def rename(self, name: str, new_name: str) -> None:
        """Give a collection another name; see :class:`~nearfield.stores.base.StoreFactory`."""
        self._refuse_read_only()
        self._existing(name)
        new_files = self._folder.collection(new_name)
        with self._locked():
            files = self._existing(name)
            self._refuse_existing(new_name)
            take_alone(files)
            files.folder.rename(new_files.folder)
            sync_folder(self._folder.root)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with lock_folder(self._folder, self._timeout_s):
            self._folder.remove_leftovers()
            yield

    def _existing(self, name: str) -> CollectionFiles:
        files = self._folder.collection(name)
        if not files.database.is_file():
            raise missing(self._folder.root, name, self.list())
        return files

    def _refuse_existing(self, name: str) -> None:
        if self._folder.collection(name).folder.exists():
            raise taken(self._folder.root, name)

    def _refuse_read_only(self) -> None:
        if self._read_only:
            raise read_only(f"the database at {self._folder.root}")
