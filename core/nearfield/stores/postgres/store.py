"""A collection in PostgreSQL: one table, one statement a search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.documents import Document, Hit, SearchMode
from nearfield.errors import UnsupportedOperationError
from nearfield.stores.base import Capabilities, Explanation, Include, PlanStep, SearchRequest
from nearfield.stores.postgres.fields import escaped
from nearfield.stores.postgres.filters import where_clause
from nearfield.stores.postgres.indexing import Indexer
from nearfield.stores.postgres.plans import Plan, choose, read_plan, record
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
    from nearfield.stores.postgres.schema import Birth

__all__ = ["PostgresStore"]

_SCAN_ROWS = 256
_IDS = Include(text=False, metadata=False)
_COPY_ROWS = 1000
"""In one statement, each of which has the whole time there is for a call."""
_TUNING_ROWS = 2000
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
        self._indexer = Indexer(server, birth)
        try:
            plan = self._pool.run(lambda connection: read_plan(connection, birth))
        except BaseException:
            self._pool.close()
            raise
        self._searches = Searches(self._table, birth, self._indexer, plan)

    @property
    def info(self) -> CollectionInfo:
        """What was fixed at the collection's birth."""
        return self._info

    @property
    def capabilities(self) -> Capabilities:
        """What PostgreSQL does natively."""
        return _CAPABILITIES

    def upsert(self, documents: Sequence[Document], *, replace: Filter | None = None) -> None:
        """Write documents in one transaction; see :class:`~nearfield.stores.base.Store`."""
        rows = [encode(document) for document in documents]
        condition, parameters = where_clause(replace)
        # In one order for all writers, so that two of them do not wait for each other.
        taken = sorted(row[0] for row in rows)

        def write(connection: Connection) -> None:
            with connection.transaction(), connection.cursor() as cursor:
                if replace is not None:
                    cursor.execute(
                        self._table.sql(f"DELETE FROM {{documents}} WHERE {condition}"), parameters
                    )
                if not rows:
                    return
                cursor.execute(
                    self._table.sql(
                        "DELETE FROM {documents} WHERE id IN (SELECT id FROM {documents} "
                        "WHERE id = ANY(%s) ORDER BY id FOR UPDATE)"
                    ),
                    (taken,),
                )
                target = self._table.sql(
                    f"COPY {{documents}} ({COLUMNS}) FROM STDIN (FORMAT BINARY)"
                )
                for start in range(0, len(rows), _COPY_ROWS):
                    with cursor.copy(target) as copy:
                        copy.set_types(TYPES)
                        for row in rows[start : start + _COPY_ROWS]:
                            copy.write_row(row)

        self._pool.run(write)
        self._indexer.wrote()

    def delete(self, *, ids: Sequence[str] | None = None, where: Filter | None = None) -> int:
        """Delete by ids, by filter, or by both, and count; see ``Store``."""
        condition, parameters = where_clause(where, ids)
        statement = self._table.sql(f"DELETE FROM {{documents}} WHERE {condition}")
        # Not again after the server went away: what it had deleted by then would not be counted.
        return self._pool.run(
            lambda connection: connection.execute(statement, parameters).rowcount, repeat=False
        )

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

    def scan(self, *, where: Filter | None, include: Include) -> Iterator[Document]:
        """Iterate over the documents as of one moment, in the order of writing."""
        condition, parameters = where_clause(where)
        statement = self._table.sql(
            f"SELECT {selected(include)} FROM {{documents}} WHERE {condition} ORDER BY slot"
        )
        self._table.rows("SELECT")  # on the connection that is lent next: one that is alive
        with (
            self._pool.server.errors(),
            self._pool.lend() as connection,
            connection.transaction(),
            connection.cursor("scan", binary=True) as cursor,
        ):
            cursor.execute(statement, parameters)
            while rows := cursor.fetchmany(_SCAN_ROWS):
                self._pool.check_open()
                yield from map(decode, rows)

    def search(self, request: SearchRequest) -> list[list[Hit]]:
        """Answer each query with its best hits; see ``Store``."""
        return self._searches.search(request)

    def stats(self) -> dict[str, Any]:
        """Return the collection's size and state."""
        (row,) = self._table.rows(
            "SELECT count(*), pg_total_relation_size({name}::regclass) FROM {documents}"
        )
        return {
            "name": self._info.name,
            "server": self._pool.server.shown,
            "table": self._names.documents.as_string(None),
            "metric": self._info.metric.value,
            "embedding": self._info.embedding.to_dict(),
            "documents": row[0],
            "size_bytes": row[1],
        }

    def close(self) -> None:
        """Close every connection. Idempotent."""
        self._indexer.close()
        self._pool.close()

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
        if memory_bytes is not None:
            raise UnsupportedOperationError(
                "memory_bytes cannot be set for a collection in PostgreSQL, whose indexes share "
                "the server's own buffers; leave it out"
            )
        del recheck_share  # there is no background that could repeat searches
        self.maintain()
        drawn = []
        if queries is None:
            drawn = self._table.rows(
                "SELECT id, embedding FROM {documents} ORDER BY random() LIMIT %s", (_TUNING_ROWS,)
            )
        names, vectors = [row[0] for row in drawn], np.array([row[1] for row in drawn], np.float32)
        request = SearchRequest(SearchMode.VECTOR, K + 1, include=_IDS)

        def search(query: NDArray[np.float32], depth: int | None) -> list[str]:
            return [row[0] for row in self._searches.with_plan(query, request, Plan(depth))]

        plan, report = choose(
            search, (names, vectors), queries, target_recall=target_recall, latency_ms=latency_ms
        )
        self._pool.run(lambda connection: record(connection, self._birth, plan))
        self._searches.plan = plan
        return report

    def explain(self, request: SearchRequest) -> Explanation:
        """Answer one query, and tell how; see ``Tunable``."""
        hits = self.search(request)[0]
        documents, matching = self.count(), self.count(where=request.where)
        used, recall = "every match", 1.0
        if request.mode is not SearchMode.KEYWORD and self._searches.uses_index(request):
            plan = self._searches.plan
            used, recall = str(plan), plan.recall or 0.0
            if plan.recall is None:
                used += "; its recall is not known before tune measures it"
        step = PlanStep(used, documents, matching, matching, len(hits), recall)
        return Explanation(request.mode, (step,), documents, matching, len(hits))
