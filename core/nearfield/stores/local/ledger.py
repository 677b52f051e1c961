"""The ledger: which documents a program wrote, when, and from which source.

It lives in the collection's own database, and each record names the slot of the document it was
made for. Every write of a document takes a new slot, so a record of one that was deleted or
replaced, through whichever door, no longer counts.
"""

from __future__ import annotations

import contextlib
import sqlite3
import struct
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from nearfield.errors import CorruptionError, InvalidInputError
from nearfield.stores.base import LedgerDrift, Problem
from nearfield.stores.local.rows import select_in
from nearfield.validation import check_groups, check_ids, check_positive, check_text

if TYPE_CHECKING:
    from nearfield.stores.local.connections import ConnectionPool

__all__ = ["LocalLedger", "copy_records", "drop_damaged", "ledger_problems"]

_SELECT = """
SELECT namespace, ledger.id, group_id, updated_at, ledger.slot, ledger.checksum, documents.slot
FROM ledger LEFT JOIN documents ON documents.id = ledger.id
WHERE namespace = ?
"""
_SELECT_BYTES = """
SELECT CAST(namespace AS BLOB), CAST(id AS BLOB), CAST(group_id AS BLOB),
       updated_at, slot, checksum
FROM ledger
"""
"""Text is read as bytes: damaged text need not be UTF-8."""
_INSERT = (
    "INSERT OR REPLACE INTO ledger (namespace, id, group_id, updated_at, slot, checksum) "
    "VALUES (?, ?, ?, ?, ?, ?)"
)
_EARLIEST, _LATEST = -(2**63), 2**63 - 1
_CHUNK = 500
_pack = struct.Struct("<qqIIi").pack


class _Record(NamedTuple):
    namespace: str
    id: str
    group: str | None
    updated_at: int
    slot: int

    @property
    def checksum(self) -> int:
        """A CRC-32 of all fields."""
        namespace, identifier = self.namespace.encode(), self.id.encode()
        group = b"" if self.group is None else self.group.encode()
        group_bytes = -1 if self.group is None else len(group)
        numbers = _pack(self.updated_at, self.slot, len(namespace), len(identifier), group_bytes)
        return crc32(numbers + namespace + identifier + group)

    @classmethod
    def verified(cls, row: Sequence[object]) -> _Record:
        """Read a row of ``_SELECT``, or raise ``CorruptionError``."""
        record = cls(*row[:5])  # type: ignore[arg-type]  # judged by the checksum
        try:
            intact = record.checksum == row[5]
        except (TypeError, AttributeError, struct.error):  # another type than was written
            intact = False
        if not intact:
            raise CorruptionError(
                f"the ledger's record of {record.id!a} is damaged; run `nearfield repair`: it "
                "drops the record, and the document is indexed anew"
            )
        return record

    @property
    def row(self) -> tuple[object, ...]:
        """The parameters of ``_INSERT``."""
        return (*self, self.checksum)


class LocalLedger:
    """The records of one namespace; see :class:`~nearfield.stores.base.Ledger`."""

    def __init__(self, pool: ConnectionPool, namespace: str) -> None:
        self._pool = pool
        self._namespace = check_text(namespace, what="namespace")

    def now_us(self) -> int:
        """Return the time, later than any that was returned or recorded before."""
        with self._pool.writing() as connection:
            return _tick(connection)

    def record(
        self,
        ids: Sequence[str],
        *,
        groups: Sequence[str | None] | None = None,
        at_least_us: int | None = None,
    ) -> int:
        """Record that documents are as they should be now."""
        identifiers = check_ids(ids)
        given = None if groups is None else check_groups(groups)
        if given is not None and len(given) != len(identifiers):
            raise InvalidInputError(
                f"{len(given)} groups were given for {len(identifiers)} documents"
            )
        with self._pool.writing() as connection:
            now_us = _tick(connection)
            if at_least_us is not None and at_least_us > now_us:
                raise InvalidInputError(
                    f"the time to record is {now_us} µs, and at least {at_least_us} µs was asked "
                    "for, which is in the future; take the time from the ledger itself"
                )
            slots = dict(
                select_in(connection, "SELECT id, slot FROM documents WHERE id IN", identifiers)
            )
            if given is None:
                known = {each.id: each.group for each, _ in self._records(connection, identifiers)}
                given = [known.get(identifier) for identifier in identifiers]
            of_group = dict(zip(identifiers, given, strict=True))  # of several, the last counts
            records = [
                _Record(self._namespace, identifier, group, now_us, slots[identifier])
                for identifier, group in of_group.items()
                if identifier in slots
            ]
            connection.executemany(_INSERT, [record.row for record in records])
        return len(records)

    def recorded(self, ids: Sequence[str]) -> list[bool]:
        """Tell for each id whether its document is there as it was when it was recorded."""
        identifiers = check_ids(ids)
        with self._pool.reading() as connection:
            current = {
                record.id
                for record, slot in self._records(connection, identifiers)
                if record.slot == slot
            }
        return [identifier in current for identifier in identifiers]

    def list(
        self,
        *,
        before_us: int | None = None,
        after_us: int | None = None,
        groups: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[str]:
        """List the ids of recorded documents, those of the earliest time first."""
        most = -1 if limit is None else min(check_positive(limit, "limit"), _LATEST)
        before = _LATEST if before_us is None else before_us
        after = _EARLIEST if after_us is None else after_us
        moment = "updated_at" if groups is None else "+updated_at"  # + leaves the index of groups
        found: list[_Record] = []
        with self._pool.reading() as connection:
            for condition, values in _group_conditions(groups):
                rows = connection.execute(
                    f"{_SELECT} AND documents.slot IS NOT NULL AND {moment} < ? AND {moment} > ? "
                    f"{condition} ORDER BY {moment}, ledger.id LIMIT ?",
                    (self._namespace, before, after, *values, most),
                )
                found += map(_Record.verified, rows)
        found.sort(key=lambda each: (each.updated_at, each.id))
        return [each.id for each in found[:limit]]

    def forget(self, ids: Sequence[str]) -> int:
        """Delete records, whether their documents are there or not."""
        rows = [(self._namespace, identifier) for identifier in check_ids(ids)]
        with self._pool.writing() as connection:
            return connection.executemany(
                "DELETE FROM ledger WHERE namespace = ? AND id = ?", rows
            ).rowcount

    def drift(self) -> LedgerDrift:
        """Compare the records with the documents, as of one moment."""
        missing: list[str] = []
        replaced: list[str] = []
        outdated = f"{_SELECT} AND ledger.slot IS NOT documents.slot ORDER BY ledger.id"
        with self._pool.reading() as connection:
            for row in connection.execute(outdated, (self._namespace,)):
                identifier = _Record.verified(row).id
                (missing if row[-1] is None else replaced).append(identifier)
            unrecorded = connection.execute(
                "SELECT id FROM documents "
                "WHERE NOT EXISTS (SELECT 1 FROM ledger WHERE ledger.id = documents.id) ORDER BY id"
            ).fetchall()
        return LedgerDrift(tuple(missing), tuple(replaced), tuple(each for (each,) in unrecorded))

    def _records(
        self, connection: sqlite3.Connection, ids: Sequence[str]
    ) -> Iterator[tuple[_Record, int | None]]:
        """Find the records of ids, each with the slot that the document is in now."""
        for chunk in _chunks(ids):
            rows = connection.execute(
                f"{_SELECT} AND ledger.id IN ({','.join('?' * len(chunk))})",
                (self._namespace, *chunk),
            )
            for row in rows:
                yield _Record.verified(row), row[-1]


def ledger_problems(connection: sqlite3.Connection) -> list[Problem]:
    """Return what is wrong with the ledger."""
    problems = [
        Problem("ledger", "a record is damaged; repair drops it", _shown(row[1]))
        for row in connection.execute(_SELECT_BYTES)
        if _intact(row) is None
    ]
    try:
        _last_tick(connection)
    except CorruptionError as error:
        problems.append(Problem("ledger", str(error)))
    return problems


def drop_damaged(connection: sqlite3.Connection) -> int:
    """Drop damaged records, and those of documents that are gone; return how many were damaged.

    A document whose record is gone is indexed anew. A slot that a salvage gives out a second time
    must not make the record of a lost document count again.
    """
    intact, damaged = [], 0
    for row in connection.execute(_SELECT_BYTES).fetchall():
        record = _intact(row)
        if record is None:
            damaged += 1
        else:
            intact.append(record)
    if damaged:
        connection.execute("DELETE FROM ledger")  # a damaged key finds no row
        connection.executemany(_INSERT, [record.row for record in intact])
    connection.execute(
        "DELETE FROM ledger "
        "WHERE NOT EXISTS (SELECT 1 FROM documents WHERE documents.id = ledger.id)"
    )
    try:
        _last_tick(connection)
    except CorruptionError:
        _write_tick(connection, max((record.updated_at for record in intact), default=0))
    return damaged


def copy_records(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    """Copy intact records whose documents are in the new file, up to a page that cannot be read."""
    latest = 0
    with contextlib.suppress(sqlite3.DatabaseError):
        for row in old.execute(_SELECT_BYTES):
            record = _intact(row)
            if record is not None:
                latest = max(latest, record.updated_at)
                new.execute(_INSERT, record.row)
    with contextlib.suppress(sqlite3.DatabaseError, CorruptionError):
        latest = max(latest, _last_tick(old))
    if latest:
        _write_tick(new, latest)
    drop_damaged(new)


def _tick(connection: sqlite3.Connection) -> int:
    """Move the ledger's clock: it follows the system's, but never stands still or goes back."""
    now_us = max(time.time_ns() // 1000, _last_tick(connection) + 1)
    _write_tick(connection, now_us)
    return now_us


def _last_tick(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT updated_at, checksum FROM ledger_clock").fetchone()
    if row is None:
        return 0
    updated_at, checksum = row
    if not isinstance(updated_at, int) or checksum != _clock_checksum(updated_at):
        raise CorruptionError("the ledger's clock is damaged; run `nearfield repair`")
    return updated_at


def _write_tick(connection: sqlite3.Connection, updated_at: int) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO ledger_clock VALUES (1, ?, ?)",
        (updated_at, _clock_checksum(updated_at)),
    )


def _clock_checksum(updated_at: int) -> int:
    return crc32(struct.pack("<q", updated_at))


def _group_conditions(groups: Sequence[str] | None) -> Iterator[tuple[str, Sequence[str]]]:
    """Spell "in any of these groups" in statements of bounded length; no groups match nothing."""
    if groups is None:
        yield "", ()
        return
    wanted = {group for group in check_groups(groups) if group is not None}
    for chunk in _chunks(sorted(wanted)):
        yield f"AND group_id IN ({','.join('?' * len(chunk))})", chunk


def _chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


def _intact(row: Sequence[object]) -> _Record | None:
    """Read a row of ``_SELECT_BYTES``, or return None where it is damaged."""
    texts = [part.decode(errors="replace") if isinstance(part, bytes) else part for part in row[:3]]
    with contextlib.suppress(CorruptionError):
        return _Record.verified((*texts, *row[3:]))
    return None


def _shown(identifier: object) -> str | None:
    return identifier.decode(errors="replace") if isinstance(identifier, bytes) else None
