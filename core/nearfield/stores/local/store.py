"""The embedded store: documents in SQLite, vectors in a memtable and in sealed segments."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.documents import Document, Hit, SearchMode
from nearfield.errors import CorruptionError, InvalidInputError
from nearfield.filters import fields
from nearfield.ranking import fusion_depth, reciprocal_rank_fusion
from nearfield.stores.base import (
    Capabilities,
    CollectionInfo,
    Explanation,
    Include,
    PlanStep,
    SearchRequest,
)
from nearfield.stores.local import inspection, manifest, repairs, tombstones
from nearfield.stores.local.background import Maintenance
from nearfield.stores.local.compaction import Compaction, Policy
from nearfield.stores.local.hits import Ranked, best_in_order, fetch_hits, read_documents
from nearfield.stores.local.keyword import index_slots, keyword_top_k, unindex_texts
from nearfield.stores.local.ledger import LocalLedger
from nearfield.stores.local.plans import Target
from nearfield.stores.local.recall import repeated
from nearfield.stores.local.rows import (
    INSERT_DOCUMENT,
    INSERT_VECTOR,
    SELECT_DOCUMENTS,
    SELECT_HEADS,
    decode_document,
    decode_metadata,
    encode_document,
    encode_vector,
    refuse_missing,
    select_in,
    verify_head,
)
from nearfield.stores.local.schema import read_state
from nearfield.stores.local.segment_files import DamagedSegmentError
from nearfield.stores.local.snapshots import Snapshot, Snapshots
from nearfield.stores.local.tuner import report
from nearfield.stores.monitor import RecallMonitor

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from nearfield.filters import Filter
    from nearfield.stores.base import CheckReport, RepairReport, TuningReport
    from nearfield.stores.local.connections import ConnectionPool
    from nearfield.stores.local.files import DatabaseFolder
    from nearfield.stores.local.segments import SegmentRecord

    IntArray = NDArray[np.int64]

__all__ = ["LocalStore"]

_CAPABILITIES = Capabilities(
    modes=frozenset(SearchMode), atomic_writes=True, read_your_writes=True, backup=True
)


class LocalStore:
    """One collection in one SQLite database; any number of threads and processes may open it.

    A search is one read transaction: vectors, filters, keywords and documents are of one moment.
    """

    def __init__(
        self,
        info: CollectionInfo,
        folder: DatabaseFolder,
        pool: ConnectionPool,
        policy: Policy | None = None,
    ) -> None:
        self._info = info
        self._folder = folder
        self._pool = pool
        files = folder.collection(info.name)
        self._snapshots = Snapshots(info, files)
        compaction = Compaction(info, pool, files, policy or Policy())
        self._maintenance = Maintenance(compaction, pool, files, self._snapshots)
        self._monitor = RecallMonitor()

    @property
    def info(self) -> CollectionInfo:
        """What was fixed at the collection's birth."""
        return self._info

    @property
    def capabilities(self) -> Capabilities:
        """What this store does natively: everything."""
        return _CAPABILITIES

    def upsert(self, documents: Sequence[Document], *, replace: Filter | None = None) -> None:
        """Write documents in one transaction; see :class:`~nearfield.stores.base.Store`."""
        self._maintenance.before_write()
        reached = self._snapshots.sequence
        with self._pool.writing() as connection:
            slots = _slots_of(connection, [document.id for document in documents])
            if replace is not None:
                slots.update(self._matching_slots(connection, replace, reached))
            if not documents and not slots:
                return
            sequence = _next_sequence(connection, len(documents) - len(slots))
            _delete_slots(connection, slots)
            last = _last_slot(connection)
            connection.executemany(
                INSERT_DOCUMENT,
                [
                    encode_document(slot, sequence, document)
                    for slot, document in enumerate(documents, start=last + 1)
                ],
            )
            connection.executemany(
                INSERT_VECTOR,
                [
                    encode_vector(slot, _embedding_of(document))
                    for slot, document in enumerate(documents, start=last + 1)
                ],
            )
            index_slots(connection, last)
            unsealed = _unsealed_at_most(connection, last + len(documents))
        self._maintenance.after_write(unsealed)

    def delete(self, *, ids: Sequence[str] | None = None, where: Filter | None = None) -> int:
        """Delete in one transaction; see :class:`~nearfield.stores.base.Store`."""
        reached = self._snapshots.sequence
        with self._pool.writing() as connection:
            slots = set[int]() if ids is None else _slots_of(connection, ids)
            if where is not None:
                matching = self._matching_slots(connection, where, reached)
                slots = slots.intersection(matching) if ids is not None else set(matching)
            if slots:
                _next_sequence(connection, -len(slots))
                _delete_slots(connection, slots)
            return len(slots)

    def get(self, ids: Sequence[str], *, include: Include) -> list[Document | None]:
        """Fetch documents by id; see :class:`~nearfield.stores.base.Store`."""
        with self._pool.reading() as connection:
            rows = list(select_in(connection, f"{SELECT_DOCUMENTS} WHERE id IN", ids))
            _refuse_strangers(rows, ids)
            found = {
                document.id: document
                for document in read_documents(
                    connection, rows, include, self._info.embedding.dimension
                )
            }
        return [found.get(identifier) for identifier in ids]

    def search(self, request: SearchRequest) -> list[list[Hit]]:
        """Answer each query; see :class:`~nearfield.stores.base.Store`."""
        return self._answer(request, None)

    def explain(self, request: SearchRequest) -> Explanation:
        """Answer one query, and tell how; see :class:`~nearfield.stores.base.Tunable`."""
        steps: list[PlanStep] = []
        hits = self._answer(request, steps)[0]
        documents = self.count()
        matching = documents if request.where is None else self.count(where=request.where)
        return Explanation(request.mode, tuple(steps), documents, matching, len(hits))

    def _answer(self, request: SearchRequest, steps: list[PlanStep] | None) -> list[list[Hit]]:
        paths = frozenset[str]() if request.where is None else fields(request.where)
        while True:
            reached = self._snapshots.sequence
            try:
                with self._pool.reading() as connection:
                    snapshot = self._snapshots.at(connection, paths, reached=reached)
                    if snapshot is not None:
                        self._maintenance.after_look(snapshot)
                        if request.ids is not None:
                            slots = sorted(_slots_of(connection, request.ids))
                            snapshot = snapshot.among(np.array(slots, np.int64))
                        rankings = self._rankings(connection, snapshot, request, steps)
                        return fetch_hits(connection, rankings, request, self._info)
            except DamagedSegmentError as error:  # the database has the rows
                self._snapshots.discard(error.segment_id)

    def _rankings(
        self,
        connection: sqlite3.Connection,
        snapshot: Snapshot,
        request: SearchRequest,
        steps: list[PlanStep] | None,
    ) -> list[Ranked]:
        if request.mode is SearchMode.VECTOR:
            return self._by_vector(snapshot, request, request.k, steps)
        where = request.where
        restricted = where is not None or request.ids is not None
        allowed = snapshot.matching_slots(where) if restricted else None
        if steps is not None:
            rows = snapshot.count(None)
            matching = rows if allowed is None else len(allowed)
            steps.append(PlanStep("keyword index (BM25)", rows, matching, 0, 0, 1.0))
        if request.mode is SearchMode.KEYWORD:
            return _by_keyword(connection, request, request.k, allowed)
        depth = fusion_depth(request.k)
        by_vector = self._by_vector(snapshot, request, depth, steps)
        by_keyword = _by_keyword(connection, request, depth, allowed)
        weights = 2 * request.alpha, 2 - 2 * request.alpha
        fused = []
        for lists in zip(by_vector, by_keyword, strict=True):
            rankings = [best_in_order(connection, ranked, depth) for ranked in lists]
            slots = [[slot for slot, _ in ranked] for ranked in rankings]
            scores = reciprocal_rank_fusion(slots, weights)
            fused.append(list(scores.items()))
        return fused

    def _by_vector(
        self, snapshot: Snapshot, request: SearchRequest, k: int, steps: list[PlanStep] | None
    ) -> list[Ranked]:
        queries = _required(request.vectors, "vectors", request.mode)
        metric, where = self._info.metric, request.where
        ranked = snapshot.search(queries, k, metric=metric, where=where, steps=steps)
        if snapshot.sealed and steps is None:
            self._monitor.offer(
                snapshot.target.recheck_share,
                partial(
                    repeated, snapshot, queries[0].copy(), ranked[0], k, where=where, metric=metric
                ),
            )
        return ranked

    def scan(self, *, where: Filter | None, include: Include) -> Generator[Document, None, None]:
        """Iterate over one moment's documents; see :class:`~nearfield.stores.base.Store`."""
        with self._pool.reading() as connection:
            documents = read_state(connection).documents
            cursor = connection.execute(f"{SELECT_DOCUMENTS} ORDER BY slot")
            while rows := cursor.fetchmany(256):
                documents -= len(rows)
                if where is not None:
                    rows = [row for row in rows if _matches(row, where)]
                yield from read_documents(connection, rows, include, self._info.embedding.dimension)
            _refuse_lost(documents)

    def count(self, *, where: Filter | None = None) -> int:
        """Count documents; see :class:`~nearfield.stores.base.Store`."""
        if where is None:
            with self._pool.reading() as connection:
                documents = read_state(connection).documents
                total: int = connection.execute("SELECT count(*) FROM documents").fetchone()[0]
                _refuse_lost(documents - total)
                return total
        with self._view(where) as (_, snapshot):
            return snapshot.count(where)

    def version(self) -> int:
        """Return a number that each write, by whomever, makes larger."""
        with self._pool.reading() as connection:
            return int(connection.execute("SELECT sequence FROM state").fetchone()[0])

    def stats(self) -> dict[str, Any]:
        """Return figures on size and state."""
        with self._pool.reading() as connection:
            value = {
                name: connection.execute(statement).fetchone()[0]
                for name, statement in {
                    "documents": "SELECT count(*) FROM documents",
                    "sequence": "SELECT sequence FROM state",
                    "tombstones": "SELECT count(*) FROM tombstones",
                    "quarantined": "SELECT count(*) FROM quarantine",
                }.items()
            }
            records = manifest.read_segments(connection)
            target = manifest.read_target(connection)
        pending = self._maintenance.pending_rows()
        files = self._folder.collection(self._info.name)
        live_recall = self._monitor.estimate()
        return {
            **value,
            "size_bytes": files.size_bytes(),
            "path": str(files.folder),
            "index": {
                "segments": len(records),
                "rows": sum(record.rows for record in records),
                "pending_rows": pending,
                "index_bytes": sum(record.index_bytes for record in records),
                "plans": [record.plan(target) for record in records],
                "target_recall": target.recall,
                "predicted_recall": _predicted_recall(records, target, value["documents"]),
                "live_recall": None if live_recall is None else asdict(live_recall),
                "maintenance": "running" if self._maintenance.running else "idle",
                "maintenance_error": self._maintenance.last_error,
            },
        }

    def check(self) -> CheckReport:
        """Verify every stored byte; see :class:`~nearfield.stores.base.Checkable`."""
        files = self._folder.collection(self._info.name)
        return inspection.check(self._pool, self._info, files)

    def repair(self) -> RepairReport:
        """Set damage aside and rebuild the rest; see :class:`~nearfield.stores.base.Checkable`."""
        with self._maintenance.paused():
            report = repairs.repair(self._pool, self._folder, self._info)
            self._snapshots.forget()  # the file may be another one
        return report

    def backup(self, destination: Path) -> None:
        """Copy the collection, as of one moment, into a new database folder."""
        repairs.backup(self._pool, self._info.name, destination)

    def ledger(self, namespace: str) -> LocalLedger:
        """Return the ledger of a namespace; see :class:`~nearfield.stores.base.Recordable`."""
        return LocalLedger(self._pool, namespace)

    def maintain(self) -> int:
        """Build all segments that are due; see :class:`~nearfield.stores.base.Tunable`."""
        return self._maintenance.run()

    def tune(
        self,
        *,
        target_recall: float,
        latency_ms: float | None,
        memory_bytes: int | None,
        recheck_share: float,
        queries: NDArray[np.float32] | None,
    ) -> TuningReport:
        """Hold a recall from now on; see :class:`~nearfield.stores.base.Tunable`."""
        target = Target(target_recall, latency_ms, memory_bytes, recheck_share)
        self._maintenance.retune(target, queries)
        while True:
            try:
                with self._view(None) as (_, snapshot):
                    pass  # what it shows outlives the transaction
                return report(snapshot, self._info.metric, target, queries)
            except DamagedSegmentError as error:
                self._snapshots.discard(error.segment_id)

    def close(self) -> None:
        """Give up what is under way in the background, and close every connection. Idempotent."""
        self._maintenance.close()
        self._monitor.close()
        self._pool.close()

    @contextlib.contextmanager
    def _view(self, where: Filter | None) -> Iterator[tuple[sqlite3.Connection, Snapshot]]:
        """Lend a read transaction and the snapshot of exactly what it sees."""
        paths = frozenset[str]() if where is None else fields(where)
        while True:
            reached = self._snapshots.sequence
            with self._pool.reading() as connection:
                snapshot = self._snapshots.at(connection, paths, reached=reached)
                if snapshot is not None:
                    self._maintenance.after_look(snapshot)
                    yield connection, snapshot
                    return

    def _matching_slots(
        self, connection: sqlite3.Connection, where: Filter, reached: int
    ) -> list[int]:
        """Find the slots that match, inside a write transaction that has not written yet."""
        paths = fields(where)
        snapshot = self._snapshots.at(connection, paths, reached=reached)
        if snapshot is None:  # a segment's files are gone; this time they are taken for lost
            snapshot = self._snapshots.at(connection, paths, reached=-1)
        if snapshot is None:  # no one can be ahead of the transaction that holds the write lock
            raise CorruptionError("the number of the last write went back; open it again")
        slots: list[int] = snapshot.matching_slots(where).tolist()
        return slots


def _by_keyword(
    connection: sqlite3.Connection, request: SearchRequest, k: int, allowed: IntArray | None
) -> list[Ranked]:
    texts = _required(request.texts, "texts", request.mode)
    return [keyword_top_k(connection, text, k, allowed) for text in texts]


def _predicted_recall(records: Sequence[SegmentRecord], target: Target, documents: int) -> float:
    """Return the recall that was measured for the plans in use; rows in no segment count as 1."""
    missed = sum((1.0 - record.predicted_recall(target)) * record.rows for record in records)
    return 1.0 - missed / documents if documents else 1.0


def _required(value: Any, name: str, mode: SearchMode) -> Any:
    if value is None:
        raise InvalidInputError(f"a {mode} search needs {name}, got None")
    return value


def _embedding_of(document: Document) -> NDArray[np.float32]:
    if document.embedding is None:
        raise InvalidInputError(f"document {document.id!r} has no embedding to store")
    return document.embedding


def _matches(row: tuple[Any, ...], where: Filter) -> bool:
    verify_head(row[:6])
    return where.matches(decode_metadata(row[5]))


def _refuse_lost(documents: int) -> None:
    """Raise ``CorruptionError`` unless as many documents were read as were written."""
    if documents:
        raise CorruptionError(
            f"{abs(documents)} documents {'are missing' if documents > 0 else 'are too many'}; run "
            "`nearfield check`, then `nearfield repair`"
        )


def _slots_of(connection: sqlite3.Connection, ids: Sequence[str]) -> set[int]:
    rows = list(select_in(connection, f"{SELECT_HEADS} WHERE id IN", ids))
    for row in rows:
        verify_head(row)
    _refuse_strangers(rows, ids)
    return {row[0] for row in rows}


def _refuse_strangers(rows: Sequence[tuple[Any, ...]], ids: Sequence[str]) -> None:
    """Raise ``CorruptionError`` if looking up ids led to the rows of others."""
    strangers = {row[1] for row in rows}.difference(ids)
    if strangers:
        raise CorruptionError(
            f"the index of ids led to {len(strangers)} other documents; run `nearfield check`, "
            "then `nearfield repair`"
        )


def _next_sequence(connection: sqlite3.Connection, added: int) -> int:
    """Count the write that is under way, and the documents it adds; return its number."""
    sequence, documents, _ = read_state(connection)
    connection.execute(
        "UPDATE state SET sequence = ?, documents = ?", (sequence + 1, documents + added)
    )
    return sequence + 1


def _unsealed_at_most(connection: sqlite3.Connection, last_slot: int) -> int:
    """Return how many documents no segment holds, or somewhat more."""
    sealed: int = connection.execute(
        "SELECT coalesce(max(last_slot), 0) FROM segments "
        "WHERE last_slot <= ?",  # others are damaged
        (last_slot,),
    ).fetchone()[0]
    return min(last_slot - sealed, read_state(connection).documents)


def _last_slot(connection: sqlite3.Connection) -> int:
    """Return the highest slot ever used, also by documents that are gone."""
    last, top = connection.execute(
        "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'documents'), 0), "
        "coalesce((SELECT max(slot) FROM documents), 0)"
    ).fetchone()
    if not isinstance(last, int) or last < top:
        raise CorruptionError(
            f"the last slot is recorded as {last}, and slot {top} is in use; run `nearfield repair`"
        )
    return last


def _delete_slots(connection: sqlite3.Connection, slots: set[int]) -> None:
    if not slots:
        return
    documents = list(select_in(connection, f"{SELECT_DOCUMENTS} WHERE slot IN", sorted(slots)))
    refuse_missing(slots, {row[0] for row in documents}, "the document")
    # Words that differ from those that were indexed would stay in the index for good.
    texts = [(row[0], decode_document(row, Include()).text) for row in documents]
    unindex_texts(connection, texts)
    rows = [(slot,) for slot in sorted(slots)]
    connection.executemany("DELETE FROM documents WHERE slot = ?", rows)
    connection.executemany("DELETE FROM vectors WHERE slot = ?", rows)
    tombstones.bury(connection, sorted(slots))
