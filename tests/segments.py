"""Collections whose segments are tiny, so that a few rows bring about every change to them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearfield.connect import Database
from nearfield.stores.durability import Durability
from nearfield.stores.local import ladder, manifest
from nearfield.stores.local.compaction import Policy
from nearfield.stores.local.database import LocalDatabase

if TYPE_CHECKING:
    from nearfield import Collection
    from nearfield.stores.local.segments import SegmentRecord

TINY = Policy(index_rows=8, seal_rows=8, quiet_seal_rows=4, quiet_s=0.0, automatic=False)
"""Segments are built by ``maintain`` only."""
TINY_AUTOMATIC = Policy(index_rows=8, seal_rows=8, bulk_rows=8, quiet_seal_rows=4, quiet_s=0.0)
"""Segments come and go by themselves."""
_LIMITS = {
    "_LISTS_FROM_ROWS": 1,
    "_TRIAL_SHARE": 1.0,
    "_GRAPH_UP_TO_RECALL": 1.0,
    "_PAYS": float("inf"),
}


@contextlib.contextmanager
def every_index() -> Iterator[None]:
    """Have every kind of index built and kept, however few the rows and whatever it is worth."""
    usual = {name: getattr(ladder, name) for name in _LIMITS}
    for name, value in _LIMITS.items():
        setattr(ladder, name, value)
    try:
        yield
    finally:
        for name, value in usual.items():
            setattr(ladder, name, value)


def connect(
    folder: Path,
    *,
    policy: Policy = TINY,
    durability: str = "normal",
    timeout_s: float = 30.0,
    read_only: bool = False,
) -> Database:
    """Connect to a folder of collections that follow a policy."""
    factory = LocalDatabase(
        Path(folder),
        durability=Durability(durability),
        timeout_s=timeout_s,
        read_only=read_only,
        policy=policy,
    )
    return Database(factory, str(folder))


def reopen(folder: Path, name: str, **options: Any) -> Collection:
    """Open a collection that is there."""
    return connect(folder, **options).open(name)


def maintain(collection: Collection) -> int:
    """Build all that is due; return how many segments were built."""
    return collection._store.maintain()


def records(collection: Collection) -> list[SegmentRecord]:
    """Read the manifest."""
    with collection._store._pool.reading() as connection:
        return manifest.read_segments(connection)


def folder_of(collection: Collection) -> Path:
    """Return where a collection's files are."""
    return Path(collection.stats()["path"])


def folders(collection: Collection) -> list[str]:
    """Name the folders of segments, unfinished ones too."""
    segments = folder_of(collection) / "segments"
    return sorted(path.name for path in segments.iterdir()) if segments.is_dir() else []


def searched_rows(collection: Collection, query: Any) -> dict[str, int]:
    """Return how many live rows a search finds in segments, and how many in the memtable."""
    collection.search(query, k=1)
    found = {"segments": 0, "memtable": 0}
    for part in collection._store._snapshots._snapshot.parts:
        found["segments" if part.segment else "memtable"] += part.live_count
    return found
