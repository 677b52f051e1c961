"""The manifest: which segments there are, kept in the database beside the rows they copy."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from nearfield.errors import CorruptionError
from nearfield.stores.local.plans import DEFAULT_TARGET, Target
from nearfield.stores.local.segments import SegmentRecord

__all__ = ["LAST_SLOT", "read_segments", "read_target", "replace_segments", "write_target"]

LAST_SLOT = 2**63 - 1
"""No slot is higher."""


def read_segments(connection: sqlite3.Connection) -> list[SegmentRecord]:
    """Return the segments by ascending slots; a damaged entry is left out."""
    records: list[SegmentRecord] = []
    rows = connection.execute(
        "SELECT segment_id, first_slot, last_slot, checksum, CAST(record AS BLOB) FROM segments "
        "ORDER BY first_slot"
    )
    for segment_id, first_slot, last_slot, checksum, content in rows:
        try:
            text = content.decode()
            record = SegmentRecord.from_json(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, AttributeError):  # or NULL
            continue
        intact = checksum == _checksum(text) and (
            (record.segment_id, record.first_slot, record.last_slot)
            == (segment_id, first_slot, last_slot)
        )
        if intact and (not records or records[-1].last_slot < first_slot):
            records.append(record)
    return records


def replace_segments(
    connection: sqlite3.Connection,
    first_slot: int,
    last_slot: int,
    records: Sequence[SegmentRecord],
) -> None:
    """Put segments in the place of all that hold any slot of a range, in a write transaction.

    Tombstones of the rows that are in no segment any more are left for whoever follows them.
    """
    connection.execute(
        "DELETE FROM segments WHERE last_slot >= ? AND first_slot <= ?", (first_slot, last_slot)
    )
    for record in records:
        row = connection.execute(
            "INSERT INTO segments (first_slot, last_slot, checksum, record) VALUES (?, ?, 0, '')",
            (record.first_slot, record.last_slot),
        )
        text = replace(record, segment_id=row.lastrowid or 0).to_json()
        connection.execute(
            "UPDATE segments SET checksum = ?, record = ? WHERE segment_id = ?",
            (_checksum(text), text, row.lastrowid),
        )
    _count_change(connection)


def read_target(connection: sqlite3.Connection) -> Target:
    """Return the recall to hold."""
    text = connection.execute("SELECT target FROM state").fetchone()[0]
    if text == "":  # never set
        return DEFAULT_TARGET
    try:
        checksum, _, record = text.partition(" ")
        if checksum == str(_checksum(record)):
            return msgspec.json.decode(record, type=Target)
        problem = "its checksum differs"
    except (msgspec.MsgspecError, TypeError, AttributeError) as error:
        problem = str(error)
    raise CorruptionError(
        f"the record of the recall to hold is damaged ({problem}); run `nearfield repair`"
    )


def write_target(connection: sqlite3.Connection, target: Target) -> None:
    """Set the recall to hold, in a write transaction."""
    record = msgspec.json.encode(target).decode()
    connection.execute("UPDATE state SET target = ?", (f"{_checksum(record)} {record}",))
    _count_change(connection)


def _count_change(connection: sqlite3.Connection) -> None:
    """Let every process notice: a change of the manifest is a write that changes no document."""
    connection.execute(
        "UPDATE state SET sequence = sequence + 1, "
        "generation = 1 + (max(0, CAST(generation AS INTEGER)) & 0xFFFFFFFF)"  # damaged or not
    )


def _checksum(text: str) -> int:
    return zlib.crc32(text.encode())
