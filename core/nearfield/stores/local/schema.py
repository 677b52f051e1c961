"""The SQLite schema of a collection, and the version of its format."""

from __future__ import annotations

import json
import sqlite3
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from nearfield.documents import EmbeddingInfo, Metric
from nearfield.errors import CorruptionError, FormatVersionError
from nearfield.stores.local.connections import opened
from nearfield.stores.local.files import CollectionFiles, sync_file, sync_folder

if TYPE_CHECKING:
    from nearfield.stores.base import CollectionInfo

__all__ = [
    "FORMAT_VERSION",
    "PAGE_SIZE_BYTES",
    "Birth",
    "State",
    "create_file",
    "read_birth",
    "read_state",
]

APPLICATION_ID = 0x4E464C44  # "NFLD"
FORMAT_VERSION = 1
PAGE_SIZE_BYTES = 8192
"""Five float32 vectors of 384 to a page; measured fastest to write and to load (docs/design.md)."""

_TABLES = """
CREATE TABLE state (
    only_row      INTEGER PRIMARY KEY CHECK (only_row = 1),
    collection_id TEXT    NOT NULL,
    embedding     TEXT    NOT NULL,
    metric        TEXT    NOT NULL,
    checksum      INTEGER NOT NULL, -- of the columns above, which never change
    sequence      INTEGER NOT NULL, -- of the last write
    documents     INTEGER NOT NULL, -- how many there are, to notice rows that vanished
    generation    INTEGER NOT NULL, -- of the manifest: which segments there are
    target        TEXT    NOT NULL  -- the recall to hold: checksum and JSON, or nothing
);

-- Text comes last, so that reading the other columns never walks its overflow pages.
-- A slot is never used twice: an update is a new slot and a tombstone for the old one.
CREATE TABLE documents (
    slot          INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT    NOT NULL UNIQUE,
    sequence      INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    checksum      INTEGER NOT NULL, -- of the columns above and the metadata
    metadata      BLOB    NOT NULL,
    text_checksum INTEGER NOT NULL,
    text          TEXT    NOT NULL
);

CREATE TABLE vectors (
    slot     INTEGER PRIMARY KEY,
    checksum INTEGER NOT NULL,
    vector   BLOB    NOT NULL
);

-- The manifest. A segment holds all rows from one slot to another that were live when it was built;
-- what it says can be thrown away, as the rows themselves are above.
CREATE TABLE segments (
    segment_id INTEGER PRIMARY KEY AUTOINCREMENT,
    first_slot INTEGER NOT NULL,
    last_slot  INTEGER NOT NULL,
    checksum   INTEGER NOT NULL, -- of the other columns
    record     TEXT    NOT NULL  -- files, their checksums and what was measured, as JSON
);

-- Tells other processes which slots to forget. The newest rows are kept, and those of slots that a
-- segment still holds.
CREATE TABLE tombstones (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    slot     INTEGER NOT NULL
);

-- Damaged rows that a repair took out, as they were found.
CREATE TABLE quarantine (
    position INTEGER PRIMARY KEY,
    slot     INTEGER,
    id,
    metadata,
    text,
    vector,
    problem  TEXT NOT NULL
);

-- Which documents a program wrote, when, and from which source. A record counts while the document
-- is in the slot that it had when it was recorded.
CREATE TABLE ledger (
    id         TEXT    NOT NULL,
    namespace  TEXT    NOT NULL,
    group_id   TEXT,
    updated_at INTEGER NOT NULL, -- microseconds
    slot       INTEGER NOT NULL,
    checksum   INTEGER NOT NULL, -- of the other columns
    PRIMARY KEY (id, namespace)
) WITHOUT ROWID;

CREATE INDEX ledger_by_group ON ledger (namespace, group_id, updated_at);
CREATE INDEX ledger_by_time ON ledger (namespace, updated_at);

-- The latest time that the ledger gave out.
CREATE TABLE ledger_clock (
    only_row   INTEGER PRIMARY KEY CHECK (only_row = 1),
    updated_at INTEGER NOT NULL,
    checksum   INTEGER NOT NULL
);

CREATE VIRTUAL TABLE documents_fts USING fts5 (
    text,
    content = 'documents',
    content_rowid = 'slot',
    tokenize = 'porter unicode61 remove_diacritics 2'
);
"""


@dataclass(frozen=True, slots=True)
class Birth:
    """What was fixed when the collection was made.

    Attributes:
        collection_id: Tells this database from another that took its place.
        embedding: The space of the vectors.
        metric: How they are compared.
    """

    collection_id: str
    embedding: EmbeddingInfo
    metric: Metric


class State(NamedTuple):
    """What the last write left.

    Attributes:
        sequence: Its number.
        documents: How many documents there are.
        generation: The number of the last change to the manifest of segments.
    """

    sequence: int
    documents: int
    generation: int


def create_file(files: CollectionFiles, info: CollectionInfo, *, collection_id: str) -> None:
    """Lay out an empty collection in a new folder; it is on the disk when this returns."""
    birth = collection_id, json.dumps(info.embedding.to_dict()), info.metric.value
    files.folder.mkdir()
    files.database.touch()
    with opened(files.database) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE_BYTES}")
        connection.executescript(f"BEGIN;{_TABLES}COMMIT;")
        connection.execute(
            "INSERT INTO state VALUES (1, ?, ?, ?, ?, 0, 0, 0, '')",
            (*birth, _birth_checksum(*birth)),
        )
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
    sync_file(files.database)
    sync_folder(files.folder)


def read_birth(connection: sqlite3.Connection, path: str) -> Birth:
    """Check magic and version, and read what was fixed at birth.

    Raises:
        CorruptionError: The file is not a collection.
        FormatVersionError: A newer nearfield wrote it.
    """
    magic = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if magic != APPLICATION_ID or version < 1:
        raise CorruptionError(
            f"{path} is not a nearfield collection: its magic number is {magic:#010x}, expected "
            f"{APPLICATION_ID:#010x}; restore it from a backup",
            path=path,
        )
    if version > FORMAT_VERSION:
        raise FormatVersionError(found=version, supported=FORMAT_VERSION, path=path)
    row = connection.execute(
        "SELECT checksum, collection_id, embedding, metric FROM state"
    ).fetchone()
    try:
        checksum, collection_id, embedding, metric = row
        intact = checksum == _birth_checksum(collection_id, embedding, metric)
        birth = Birth(collection_id, EmbeddingInfo.from_dict(json.loads(embedding)), Metric(metric))
    except (TypeError, ValueError, KeyError) as error:
        raise _damaged_birth(path, str(error)) from error
    if not intact:
        raise _damaged_birth(path, "its checksum differs")
    return birth


def read_state(connection: sqlite3.Connection) -> State:
    """Return what the last write left."""
    row = connection.execute("SELECT sequence, documents, generation FROM state").fetchone()
    if row is None or not all(isinstance(value, int) and value >= 0 for value in row):
        raise CorruptionError(
            f"the record of the last write is damaged ({row}); run `nearfield repair`, or restore "
            "a backup"
        )
    return State(*row)


def _damaged_birth(path: str, detail: str) -> CorruptionError:
    return CorruptionError(
        f"the birth record in {path} is damaged ({detail}); restore it from a backup", path=path
    )


def _birth_checksum(collection_id: str, embedding: str, metric: str) -> int:
    return zlib.crc32(f"{collection_id}\0{embedding}\0{metric}".encode())
