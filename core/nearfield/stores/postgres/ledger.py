"""The ledger: which documents a program wrote, when, and from which source.

A record names the slot of the document that it was made for. Every write of a document takes a new
slot, so a record of one that was deleted or replaced, through whichever door, no longer counts.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nearfield.errors import InvalidInputError
from nearfield.stores.base import LedgerDrift
from nearfield.stores.postgres.fields import escaped, unescaped
from nearfield.validation import check_groups, check_ids, check_positive, check_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearfield.stores.postgres.connections import Connection
    from nearfield.stores.postgres.placement import Placement
    from nearfield.stores.postgres.table import Table

__all__ = ["PostgresLedger", "ShardedLedger"]

_TICK = """
INSERT INTO {clocks} VALUES ({key}, %s)
ON CONFLICT (key) DO UPDATE SET at_us = greatest({clocks}.at_us + 1, excluded.at_us)
RETURNING at_us
"""
"""The clock follows the system's, but never stands still or goes back."""
_RECORD = """
INSERT INTO {ledger} (key, namespace, id, group_id, updated_us, slot)
SELECT {key}, %(namespace)s, id, group_id, %(at_us)s, slot
FROM unnest(%(ids)s::text[], %(groups)s::text[]) AS given (id, group_id)
JOIN {documents} USING (id)
ON CONFLICT (key, namespace, id) DO UPDATE
SET updated_us = excluded.updated_us, slot = excluded.slot
"""
_MOST = 2**40
"""More records than a table holds."""
_MINE = "ledger.key = {key} AND namespace = %(namespace)s"
_DRIFT = f"""
SELECT 0, id FROM {{ledger}} AS ledger
WHERE {_MINE} AND NOT EXISTS (SELECT 1 FROM {{documents}} AS d WHERE d.id = ledger.id)
UNION ALL
SELECT 1, id FROM {{ledger}} AS ledger JOIN {{documents}} AS d USING (id)
WHERE {_MINE} AND ledger.slot <> d.slot
UNION ALL
SELECT 2, id FROM {{documents}} AS d
WHERE NOT EXISTS (SELECT 1 FROM {{ledger}} AS l WHERE l.key = {{key}} AND l.id = d.id)
ORDER BY 1, 2
"""


class PostgresLedger:
    """The records of one namespace; see :class:`~nearfield.stores.base.Ledger`.

    Args:
        table: The collection's.
        namespace: Its name.
    """

    def __init__(self, table: Table, namespace: str) -> None:
        self._table = table
        self._namespace = escaped(check_text(namespace, what="namespace"))

    def now_us(self) -> int:
        """Return the time, later than any that was returned or recorded before."""
        return self._table.pool.run(self._tick)

    def record(
        self,
        ids: Sequence[str],
        *,
        groups: Sequence[str | None] | None = None,
        at_least_us: int | None = None,
    ) -> int:
        """Record that documents are as they should be now."""
        of_group = _of_groups(ids, groups)

        def write(connection: Connection) -> int:
            with connection.transaction():
                now_us = _checked(self._tick(connection), at_least_us)
                return self._insert(connection, of_group, now_us, keep=groups is None)

        return self._table.pool.run(write)

    def record_at(self, of_group: dict[str, str | None], at_us: int, *, keep: bool) -> int:
        """Record documents, each with its group, as of a time that another server's clock gave.

        Args:
            of_group: The group of each document.
            at_us: The time.
            keep: Whether to leave the groups as they were recorded before instead.
        """
        return self._table.pool.run(
            lambda connection: self._insert(connection, of_group, at_us, keep=keep)
        )

    def recorded(self, ids: Sequence[str]) -> list[bool]:
        """Tell for each id whether its document is there as it was when it was recorded."""
        names = check_ids(ids)
        rows = self._rows(
            f"SELECT id FROM {{ledger}} AS ledger JOIN {{documents}} AS d USING (id) "
            f"WHERE {_MINE} AND ledger.slot = d.slot AND id = ANY(%(ids)s::text[])",
            ids=list(map(escaped, names)),
        )
        current = {unescaped(row[0]) for row in rows}
        return [name in current for name in names]

    def list(
        self,
        *,
        before_us: int | None = None,
        after_us: int | None = None,
        groups: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[str]:
        """List the ids of recorded documents, those of the earliest time first."""
        entries = self.entries(before_us=before_us, after_us=after_us, groups=groups, limit=limit)
        return [name for _, name in entries]

    def entries(
        self,
        *,
        before_us: int | None,
        after_us: int | None,
        groups: Sequence[str] | None,
        limit: int | None,
    ) -> Sequence[tuple[int, str]]:
        """List as :meth:`list` does, each id with the time of its record before it."""
        wanted = None
        if groups is not None:
            wanted = [escaped(each) for each in check_groups(groups) if each is not None]
        rows = self._rows(
            f"SELECT updated_us, id FROM {{ledger}} AS ledger WHERE {_MINE} "
            "AND EXISTS (SELECT 1 FROM {documents} AS d WHERE d.id = ledger.id) "
            "AND (%(before)s::bigint IS NULL OR updated_us < %(before)s) "
            "AND (%(after)s::bigint IS NULL OR updated_us > %(after)s) "
            "AND (%(groups)s::text[] IS NULL OR group_id = ANY(%(groups)s)) "
            "ORDER BY updated_us, id LIMIT %(limit)s",
            before=before_us,
            after=after_us,
            groups=wanted,
            limit=None if limit is None else min(check_positive(limit, "limit"), _MOST),
        )
        return [(updated_us, unescaped(name)) for updated_us, name in rows]

    def forget(self, ids: Sequence[str]) -> int:
        """Delete records, whether their documents are there or not."""
        statement = self._table.sql(
            f"DELETE FROM {{ledger}} AS ledger WHERE {_MINE} AND id = ANY(%(ids)s::text[])"
        )
        names = list(map(escaped, check_ids(ids)))
        given = {"namespace": self._namespace, "ids": names}
        return self._table.pool.run(
            lambda connection: connection.execute(statement, given).rowcount, repeat=False
        )

    def drift(self) -> LedgerDrift:
        """Compare the records with the documents, as of one moment."""
        drifted: tuple[list[str], ...] = ([], [], [])
        for kind, name in self._rows(_DRIFT):
            drifted[kind].append(unescaped(name))
        return LedgerDrift(*map(tuple, drifted))

    def _rows(self, statement: str, **values: Any) -> Sequence[tuple[Any, ...]]:
        return self._table.rows(statement, {"namespace": self._namespace, **values})

    def _tick(self, connection: Connection) -> int:
        given = (time.time_ns() // 1000,)
        ((at_us,),) = connection.execute(self._table.sql(_TICK), given).fetchall()
        return int(at_us)

    def _insert(
        self, connection: Connection, of_group: dict[str, str | None], at_us: int, *, keep: bool
    ) -> int:
        statement = _RECORD if keep else f"{_RECORD}, group_id = excluded.group_id"
        given = {
            "namespace": self._namespace,
            "at_us": at_us,
            "ids": list(map(escaped, of_group)),
            "groups": [None if each is None else escaped(each) for each in of_group.values()],
        }
        return connection.execute(self._table.sql(statement), given).rowcount


class ShardedLedger:
    """The records of one namespace, each on the server of its document, by the clock of the first.

    Args:
        ledgers: The namespace's ledger on each server.
        placement: Which of them an id belongs to.
        each: Makes calls on several servers at once, which have to succeed.
    """

    def __init__(
        self,
        ledgers: Sequence[PostgresLedger],
        placement: Placement,
        each: Callable[[Sequence[Callable[[], Any]]], Sequence[Any]],
    ) -> None:
        self._ledgers = ledgers
        self._placement = placement
        self._each = each

    def now_us(self) -> int:
        """Return the time, later than any that was returned or recorded before."""
        return self._ledgers[0].now_us()

    def record(
        self,
        ids: Sequence[str],
        *,
        groups: Sequence[str | None] | None = None,
        at_least_us: int | None = None,
    ) -> int:
        """Record that documents are as they should be now."""
        of_group = _of_groups(ids, groups)
        now_us = _checked(self.now_us(), at_least_us)
        calls = [
            lambda place=place, names=names: self._ledgers[place].record_at(
                {name: of_group[name] for name in names}, now_us, keep=groups is None
            )
            for place, names in self._split(list(of_group)).items()
        ]
        return sum(self._each(calls))

    def recorded(self, ids: Sequence[str]) -> list[bool]:
        """Tell for each id whether its document is there as it was when it was recorded."""
        names = check_ids(ids)
        split = self._split(names)
        calls = [
            lambda place=place, some=some: self._ledgers[place].recorded(some)
            for place, some in split.items()
        ]
        current = {
            name
            for some, answers in zip(split.values(), self._each(calls), strict=True)
            for name, answer in zip(some, answers, strict=True)
            if answer
        }
        return [name in current for name in names]

    def list(
        self,
        *,
        before_us: int | None = None,
        after_us: int | None = None,
        groups: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[str]:
        """List the ids of recorded documents, those of the earliest time first."""
        calls = [
            lambda ledger=ledger: ledger.entries(
                before_us=before_us, after_us=after_us, groups=groups, limit=limit
            )
            for ledger in self._ledgers
        ]
        return [name for _, name in heapq.merge(*self._each(calls))][:limit]

    def forget(self, ids: Sequence[str]) -> int:
        """Delete records, whether their documents are there or not."""
        calls = [
            lambda place=place, some=some: self._ledgers[place].forget(some)
            for place, some in self._split(check_ids(ids)).items()
        ]
        return sum(self._each(calls))

    def drift(self) -> LedgerDrift:
        """Compare the records with the documents, on each server as of one moment."""
        drifts = self._each([ledger.drift for ledger in self._ledgers])
        return LedgerDrift(
            *(
                tuple(sorted(name for drift in drifts for name in getattr(drift, kind)))
                for kind in ("missing", "replaced", "unrecorded")
            )
        )

    def _split(self, names: Sequence[str]) -> dict[int, Sequence[str]]:
        return {
            place: [names[position] for position in positions]
            for place, positions in self._placement.split(names).items()
        }


def _of_groups(ids: Sequence[str], groups: Sequence[str | None] | None) -> dict[str, str | None]:
    """Return the group of each id; of an id that is given twice, the last."""
    names = check_ids(ids)
    given = [None] * len(names) if groups is None else check_groups(groups)
    if len(given) != len(names):
        raise InvalidInputError(f"{len(given)} groups were given for {len(names)} documents")
    return dict(zip(names, given, strict=True))


def _checked(now_us: int, at_least_us: int | None) -> int:
    if at_least_us is not None and at_least_us > now_us:
        raise InvalidInputError(
            f"the time to record is {now_us} µs, and at least {at_least_us} µs was asked for, "
            "which is in the future; take the time from the ledger itself"
        )
    return now_us
