"""A collection in PostgreSQL: one table, one statement a search."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

import numpy as np

from nearfield.documents import Document, Hit, SearchMode
from nearfield.errors import UnsupportedOperationError
from nearfield.stores.base import Capabilities, Explanation, Include, PlanStep, SearchRequest
from nearfield.stores.monitor import RecallMonitor
from nearfield.stores.postgres.fields import escaped
from nearfield.stores.postgres.filters import where_clause
from nearfield.stores.postgres.indexing import Indexer
from nearfield.stores.postgres.ledger import PostgresLedger
from nearfield.stores.postgres.plans import (
    START_DEPTH,
    Plan,
    Settings,
    choose,
    read_state,
    record,
)
from nearfield.stores.postgres.pool import Pool
from nearfield.stores.postgres.rows import COLUMNS, TYPES, decode, encode, selected
from nearfield.stores.postgres.searches import Searches
from nearfield.stores.postgres.table import Table
from nearfield.stores.recall import K

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.filters import Filter
    from nearfield.stores.base import CollectionInfo, TuningReport
    from nearfield.stores.postgres.connections import Connection, Server
    from nearfield.stores.postgres.plans import Ranking, Sample
    from nearfield.stores.postgres.schema import Birth

__all__ = ["PostgresStore", "refuse_memory_limit"]

_SCAN_ROWS = 256
_COPY_ROWS = 1000
"""In one statement, each of which has the whole time there is for a call."""
_TUNING_ROWS = 2000
_MAKE_ROOM = (
    "DELETE FROM {documents} WHERE id IN "
    "(SELECT id FROM {documents} WHERE id = ANY(%b) ORDER BY id FOR UPDATE)"
)
"""In one order of ids for all writers, so that two of them do not wait for each other."""
_COUNT_WRITE = (
    # In one of a few rows, so that writers seldom wait for each other.
    "INSERT INTO {writes} VALUES ({key}, mod(pg_backend_pid(), 32), 1) "
    "ON CONFLICT (key, part) DO UPDATE SET count = {writes}.count + 1"
)
_PAGED_ROWS = 50_000
"""Rows of about so many, page by page, are read to draw those from."""
_MEASURED_WITHIN_S = 60.0
"""In the background, for the exact answers; ``tune`` takes the time it needs."""
_CAPABILITIES = Capabilities(
    modes=frozenset(SearchMode), atomic_writes=True, read_your_writes=True, backup=False
)


class PostgresStore:
    """One collection in a database; see :class:`~nearfield.stores.base.Store`."""

    def __init__(self, server: Server, birth: Birth) -> None:
        self._info = birth.info
        self._birth = birth
        self._names = birth.names
        self._pool = Pool(server, lock=birth.names.lock)
        self._table = Table(self._pool, birth.names)
        self._indexer = Indexer(server, birth, WeakMethod(self._measure))
        self._monitor = RecallMonitor()
        try:
            self._searches = Searches(self._table, birth, self._indexer, self._monitor)
        except BaseException:
            self._pool.close()
            raise

    @property
    def info(self) -> CollectionInfo:
        """What was fixed at the collection's birth."""
        return self._info

    @property
    def capabilities(self) -> Capabilities:
        """What PostgreSQL does natively."""
        return _CAPABILITIES

    def upsert(
        self,
        documents: Sequence[Document],
        *,
        replace: Filter | None = None,
        slots: Sequence[int] | None = None,
    ) -> None:
        """Write documents in one transaction; see :class:`~nearfield.stores.base.Store`.

        Args:
            documents: What to write.
            replace: What to delete in the same step.
            slots: The place of each in the order of writing; the server's own when left out.
        """
        condition, parameters = where_clause(replace)
        taken = [escaped(document.id) for document in documents]
        columns = COLUMNS if slots is None else f"{COLUMNS}, slot"
        types = TYPES if slots is None else (*TYPES, "int8")

        def write(connection: Connection) -> None:
            with connection.transaction(), connection.cursor() as cursor:
                if replace is not None:
                    cursor.execute(
                        self._table.sql(f"DELETE FROM {{documents}} WHERE {condition}"), parameters
                    )
                if documents:
                    cursor.execute(self._table.sql(_MAKE_ROOM), (taken,))
                target = self._table.sql(
                    f"COPY {{documents}} ({columns}) FROM STDIN (FORMAT BINARY)"
                )
                for start in range(0, len(documents), _COPY_ROWS):
                    places = range(start, min(start + _COPY_ROWS, len(documents)))
                    with cursor.copy(target) as copy:
                        copy.set_types(types)
                        # Encoded only now, while the server is at the rows before.
                        for place in places:
                            row = encode(documents[place])
                            copy.write_row(row if slots is None else (*row, slots[place]))
                cursor.execute(self._table.sql(_COUNT_WRITE))

        self._pool.run(write)
        self._indexer.wrote()

    def delete(self, *, ids: Sequence[str] | None = None, where: Filter | None = None) -> int:
        """Delete by ids, by filter, or by both, and count; see ``Store``."""
        condition, parameters = where_clause(where, ids)
        statement = self._table.sql(
            f"WITH gone AS (DELETE FROM {{documents}} WHERE {condition} RETURNING 1), "
            f"counted AS ({_COUNT_WRITE}) SELECT count(*) FROM gone"
        )
        # Not again after the server went away: what it had deleted by then would not be counted.
        ((deleted,),) = self._pool.run(
            lambda connection: connection.execute(statement, parameters).fetchall(), repeat=False
        )
        return int(deleted)

    def version(self) -> int:
        """Return a number that each write makes larger; see ``Versioned``."""
        ((count,),) = self._table.rows(
            "SELECT coalesce(sum(count), 0)::bigint FROM {writes} WHERE key = {key}"
        )
        return int(count)

    def get(self, ids: Sequence[str], *, include: Include) -> list[Document | None]:
        """Fetch documents in the order of the ids; see ``Store``."""
        rows = self._table.rows(
            f"SELECT {selected(include)} FROM {{documents}} WHERE id = ANY(%s)",
            ([escaped(name) for name in ids],),
        )
        found = {document.id: document for document in map(decode, rows)}
        return [found.get(name) for name in ids]

    def count(self, *, where: Filter | None = None) -> int:
        """Count the documents, or those that match."""
        condition, parameters = where_clause(where)
        statement = f"SELECT count(*) FROM {{documents}} WHERE {condition}"
        return int(self._table.rows(statement, parameters)[0][0])

    def scan(self, *, where: Filter | None, include: Include) -> Generator[Document, None, None]:
        """Iterate over the documents as of one moment, in the order of writing."""
        for _, document in self.scan_slots(where=where, include=include):
            yield document

    def scan_slots(
        self, *, where: Filter | None, include: Include
    ) -> Generator[tuple[int, Document]]:
        """Iterate as :meth:`scan` does, and tell the place of each in the order of writing."""
        condition, parameters = where_clause(where)
        statement = self._table.sql(
            f"SELECT {selected(include)}, slot FROM {{documents}} WHERE {condition} ORDER BY slot"
        )
        with (
            self._pool.server.errors(),
            self._pool.lend() as connection,
            connection.transaction(),
            connection.cursor("scan", binary=True) as cursor,
        ):
            cursor.execute(statement, parameters)
            while rows := cursor.fetchmany(_SCAN_ROWS):
                self._pool.check_open()
                for row in rows:
                    yield row[5], decode(row)

    def search(self, request: SearchRequest) -> list[list[Hit]]:
        """Answer each query with its best hits; see ``Store``."""
        return self._searches.search(request)

    def stats(self) -> dict[str, Any]:
        """Return the collection's size and state."""
        (row,) = self._table.rows(
            "SELECT count(*), pg_total_relation_size({name}::regclass) FROM {documents}"
        )
        state, live = read_state(self._table, self._info.name), self._monitor.estimate()
        return {
            "name": self._info.name,
            "server": self._pool.server.shown,
            "table": self._names.documents.as_string(None),
            "metric": self._info.metric.value,
            "embedding": self._info.embedding.to_dict(),
            "documents": row[0],
            "size_bytes": row[1],
            "index": {
                "plan": str(state.plan),
                "target_recall": state.settings.target_recall,
                "predicted_recall": state.plan.recall,
                "live_recall": None if live is None else asdict(live),
            },
        }

    def close(self) -> None:
        """Close every connection. Idempotent."""
        self._pool.close()  # which ends a measurement
        self._indexer.close()
        self._monitor.close()

    def ledger(self, namespace: str) -> PostgresLedger:
        """Return the ledger of a namespace; see ``Recordable``."""
        return PostgresLedger(self._table, namespace)

    # ── plans ────────────────────────────────────────────────────────────────────────────────

    def maintain(self) -> int:
        """Build the index now if it is due; return how many were built."""
        self._pool.check_open()
        return int(self._indexer.build())

    def tune(
        self,
        *,
        target_recall: float,
        latency_ms: float | None,
        memory_bytes: int | None,
        recheck_share: float,
        queries: NDArray[np.float32] | None,
    ) -> TuningReport:
        """Choose the depth of searches, and record it; see ``Tunable``."""
        refuse_memory_limit(memory_bytes)
        self.maintain()
        plan, report = choose(
            self.nearest,
            queries if queries is not None else self.sample(),
            target_recall=target_recall,
            latency_ms=latency_ms,
        )
        self.adopt(plan, target_recall, recheck_share)
        return report

    def nearest(self, query: NDArray[np.float32], depth: int | None) -> Ranking:
        """Return the K + 1 nearest documents as a search of the index at a depth finds them."""
        return self._searches.nearest(query, K + 1, Plan(depth))

    def sample(self) -> Sample:
        """Return some documents to make queries of."""
        documents = max(1, read_state(self._table, self._info.name).documents)
        drawn = self._table.rows(
            "SELECT id, embedding FROM {documents} TABLESAMPLE SYSTEM (%s) "
            "ORDER BY random() LIMIT %s",
            (min(100.0, 100.0 * _PAGED_ROWS / documents), _TUNING_ROWS),
        )
        return [row[0] for row in drawn], np.array([row[1] for row in drawn], np.float32)

    def adopt(self, plan: Plan, target_recall: float, recheck_share: float) -> None:
        """Record how all are to search from now on."""
        state = read_state(self._table, self._info.name)
        record(
            self._table,
            Settings(target_recall, recheck_share, plan, state.index, state.documents),
        )
        self._searches.refresh()

    def _measure(self) -> None:
        """Choose a plan for an index that is new, or that has grown: as deep as it takes.

        It does not become less deep, as what is asked in earnest may be harder to find than what
        is made of documents; with queries of one's own, ``tune`` finds what is quicker.
        """
        state = read_state(self._table, self._info.name)
        if state.index is None or state.is_measured or self._pool.server.read_only:
            return
        target_recall = state.settings.target_recall
        known = state.settings.plan.depth if state.settings.index is not None else None
        plan, _ = choose(
            self.nearest,
            self.sample(),
            target_recall=target_recall,
            exact_within_s=_MEASURED_WITHIN_S,
            least_depth=known or START_DEPTH,
        )
        self.adopt(plan, target_recall, state.settings.recheck_share)

    def explain(self, request: SearchRequest) -> Explanation:
        """Answer one query, and tell how; see ``Tunable``."""
        hits = self.search(request)[0]
        documents, matching = self.count(), self.count(where=request.where)
        used, recall = "every match", 1.0
        if request.mode is not SearchMode.KEYWORD and self._searches.uses_index(request, matching):
            plan = self._searches.state.plan
            used, recall = str(plan), plan.recall or 0.0
            if plan.recall is None:
                used += "; its recall is being measured"
        step = PlanStep(used, documents, matching, matching, len(hits), recall)
        return Explanation(request.mode, (step,), documents, matching, len(hits))


def refuse_memory_limit(memory_bytes: int | None) -> None:
    """Raise ``UnsupportedOperationError`` unless there is none."""
    if memory_bytes is not None:
        raise UnsupportedOperationError(
            "memory_bytes cannot be set for a collection in PostgreSQL, whose indexes share the "
            "server's own buffers; leave it out"
        )
