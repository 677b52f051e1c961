"""Every file the embedded engine writes, by name, and how one is put in place."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nearfield.stores.names import check_name, is_name

__all__ = ["CollectionFiles", "DatabaseFolder", "make_folder", "sync_file", "sync_folder"]

_WORK_IN_PROGRESS = re.compile(r"\.[0-9a-f]{32}\.tmp")


@dataclass(frozen=True, slots=True)
class CollectionFiles:
    """The files of one collection.

    Attributes:
        folder: Holds this collection and nothing else.
    """

    folder: Path

    @property
    def database(self) -> Path:
        """The SQLite database: magic in ``application_id``, format in ``user_version``.

        SQLite keeps ``-wal`` and ``-shm`` files beside it while it is open.
        """
        return self.folder / "collection.sqlite3"

    @property
    def segments(self) -> Path:
        """Holds one folder per sealed segment; all of it can be rebuilt from the database."""
        return self.folder / "segments"

    @property
    def lease(self) -> Path:
        """Held by the process that builds segments."""
        return self.folder / "maintenance.lock"

    def segment_sizes(self) -> dict[str, int]:
        """Return the bytes on disk of each segment's folder, unfinished ones too."""
        sizes: dict[str, int] = {}
        for file in self.segments.glob("*/*"):
            with contextlib.suppress(FileNotFoundError):  # another process threw it away
                sizes[file.parent.name] = sizes.get(file.parent.name, 0) + file.stat().st_size
        return sizes

    def size_bytes(self) -> int:
        """Return the bytes on disk, SQLite's log and the segments included."""
        database = sum(file.stat().st_size for file in self.folder.glob(f"{self.database.name}*"))
        return database + sum(self.segment_sizes().values())


@dataclass(frozen=True, slots=True)
class DatabaseFolder:
    """The folder behind a database URL.

    Attributes:
        root: Holds one folder per collection.
    """

    root: Path

    @property
    def lock(self) -> Path:
        """Held for the moment of opening, creating, renaming or dropping a collection."""
        return self.root / "nearfield.lock"

    def collection(self, name: str) -> CollectionFiles:
        """Return the files of a collection, or raise ``InvalidNameError``."""
        return CollectionFiles(self.root / check_name(name))

    def collections(self) -> list[str]:
        """Name the collections, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(
            entry.name
            for entry in self.root.iterdir()
            if is_name(entry.name) and CollectionFiles(entry).database.is_file()
        )

    @contextlib.contextmanager
    def work_in_progress(self) -> Iterator[CollectionFiles]:
        """Lend a place in the folder, whose name is no collection's, and clear it away at the end.

        It is moved from there when it is complete. Only to be used while the lock is held.
        """
        files = CollectionFiles(self.root / f".{uuid.uuid4().hex}.tmp")
        try:
            yield files
        finally:
            shutil.rmtree(files.folder, ignore_errors=True)

    def remove_leftovers(self) -> None:
        """Clear away what dead processes left; only to be called while the lock is held."""
        for entry in self.root.iterdir():
            if _WORK_IN_PROGRESS.fullmatch(entry.name):
                shutil.rmtree(entry, ignore_errors=True)

    def set_aside(self, name: str, stamp: str) -> Path:
        """Return where a damaged collection's database is kept after a repair replaced it."""
        return self.root / f".damaged-{name}-{stamp}"


def make_folder(folder: Path) -> None:
    """Make a folder, with its parents, that survives a power loss."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Flush a file to the disk."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder survive a power loss."""
    if os.name == "nt":  # folders cannot be opened there; NTFS journals renames itself
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
