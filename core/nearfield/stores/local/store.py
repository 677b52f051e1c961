"""The embedded store: documents in SQLite, searched exactly."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from heapq import nlargest
from typing import TYPE_CHECKING, Any

from nearfield.documents import Document, Hit, SearchMode
from nearfield.errors import CorruptionError, InvalidInputError
from nearfield.filters import fields
from nearfield.ranking import fusion_depth, reciprocal_rank_fusion, relevance
from nearfield.stores.base import Capabilities, CollectionInfo, Include, SearchRequest
from nearfield.stores.local import flat, inspection, maintenance
from nearfield.stores.local.keyword import index_slots, keyword_top_k, unindex_texts
from nearfield.stores.local.memtable import Memtable, Snapshot
from nearfield.stores.local.rows import (
    INSERT_DOCUMENT,
    INSERT_VECTOR,
    SELECT_DOCUMENTS,
    SELECT_HEADS,
    decode_document,
    decode_metadata,
    encode_document,
    encode_vector,
    fetch_ids,
    fetch_vectors,
    refuse_missing,
    select_in,
    verify_head,
)
from nearfield.stores.local.schema import read_state

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from nearfield.filters import Filter
    from nearfield.stores.base import CheckReport, RepairReport
    from nearfield.stores.local.connections import ConnectionPool
    from nearfield.stores.local.files import DatabaseFolder

    IntArray = NDArray[np.int64]

__all__ = ["LocalStore"]

_TOMBSTONES_KEPT = 100_000
"""A process that slept through more deletions than this reads the collection anew."""

_CAPABILITIES = Capabilities(
    modes=frozenset(SearchMode), atomic_writes=True, read_your_writes=True, backup=True
)

Ranked = list[tuple[int, float]]
"""Slots and scores, best first, with all that tie with the last."""


class LocalStore:
    """One collection in one SQLite database; any number of threads and processes may open it.

    A search is one read transaction: vectors, filters, keywords and documents are of one moment.
    """

    def __init__(self, info: CollectionInfo, folder: DatabaseFolder, pool: ConnectionPool) -> None:
        self._info = info
        self._folder = folder
        self._pool = pool
        self._memtable = Memtable(info.embedding.dimension)

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
        reached = self._memtable.sequence
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

    def delete(self, *, ids: Sequence[str] | None = None, where: Filter | None = None) -> int:
        """Delete in one transaction; see :class:`~nearfield.stores.base.Store`."""
        reached = self._memtable.sequence
        with self._pool.writing() as connection:
            slots = _slots_of(connection, ids or ())
            if where is not None:
                slots.update(self._matching_slots(connection, where, reached))
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
                document.id: document for document in self._documents(connection, rows, include)
            }
        return [found.get(identifier) for identifier in ids]

    def search(self, request: SearchRequest) -> list[list[Hit]]:
        """Answer each query exactly; see :class:`~nearfield.stores.base.Store`."""
        if request.mode is SearchMode.KEYWORD and request.where is None:
            with self._pool.reading() as connection:  # needs nothing that is kept in memory
                rankings = _by_keyword(connection, request, request.k, None)
                return [self._hits(connection, ranked, request) for ranked in rankings]
        with self._view(request.where) as (connection, snapshot):
            if request.mode is SearchMode.VECTOR:
                rankings = self._by_vector(snapshot, request, request.k)
            elif request.mode is SearchMode.KEYWORD:
                allowed = snapshot.matching_slots(request.where)
                rankings = _by_keyword(connection, request, request.k, allowed)
            else:
                rankings = self._by_both(connection, snapshot, request)
            return [self._hits(connection, ranked, request) for ranked in rankings]

    def scan(self, *, where: Filter | None, include: Include) -> Iterator[Document]:
        """Iterate over one moment's documents; see :class:`~nearfield.stores.base.Store`."""
        with self._pool.reading() as connection:
            _, documents = read_state(connection)
            cursor = connection.execute(f"{SELECT_DOCUMENTS} ORDER BY slot")
            while rows := cursor.fetchmany(256):
                documents -= len(rows)
                if where is not None:
                    rows = [row for row in rows if _matches(row, where)]
                yield from self._documents(connection, rows, include)
            _refuse_lost(documents)

    def count(self, *, where: Filter | None = None) -> int:
        """Count documents; see :class:`~nearfield.stores.base.Store`."""
        if where is None:
            with self._pool.reading() as connection:
                _, documents = read_state(connection)
                total: int = connection.execute("SELECT count(*) FROM documents").fetchone()[0]
                _refuse_lost(documents - total)
                return total
        with self._view(where) as (_, snapshot):
            return len(snapshot.matching_slots(where))

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
        files = self._folder.collection(self._info.name)
        return {**value, "size_bytes": files.size_bytes(), "path": str(files.folder)}

    def check(self) -> CheckReport:
        """Verify every stored byte; see :class:`~nearfield.stores.base.Checkable`."""
        return inspection.check(self._pool, self._info.embedding.dimension)

    def repair(self) -> RepairReport:
        """Set damage aside and rebuild the rest; see :class:`~nearfield.stores.base.Checkable`."""
        report = maintenance.repair(self._pool, self._folder, self._info)
        self._memtable = Memtable(self._info.embedding.dimension)  # the file may be another one
        return report

    def backup(self, destination: Path) -> None:
        """Copy the collection, as of one moment, into a new database folder."""
        maintenance.backup(self._pool, self._info.name, destination)

    def close(self) -> None:
        """Close every connection. Idempotent."""
        self._pool.close()

    @contextlib.contextmanager
    def _view(self, where: Filter | None) -> Iterator[tuple[sqlite3.Connection, Snapshot]]:
        """Lend a read transaction and the snapshot of exactly what it sees."""
        paths = frozenset[str]() if where is None else fields(where)
        while True:
            reached = self._memtable.sequence
            with self._pool.reading() as connection:
                snapshot = self._memtable.at(connection, paths, reached=reached)
                if snapshot is not None:
                    yield connection, snapshot
                    return

    def _matching_slots(
        self, connection: sqlite3.Connection, where: Filter, reached: int
    ) -> list[int]:
        """Find the slots that match, inside a write transaction that has not written yet."""
        snapshot = self._memtable.at(connection, fields(where), reached=reached)
        if snapshot is None:  # no one can be ahead of the transaction that holds the write lock
            raise CorruptionError("the number of the last write went back; open it again")
        slots: list[int] = snapshot.matching_slots(where).tolist()
        return slots

    def _by_vector(self, snapshot: Snapshot, request: SearchRequest, k: int) -> list[Ranked]:
        queries = _required(request.vectors, "vectors", request.mode)
        search = flat.top_k_many if len(queries) > 1 else flat.top_k_one
        found = search(
            snapshot.vectors,
            snapshot.norms,
            queries,
            k,
            metric=self._info.metric,
            positions=snapshot.positions(request.where),
        )
        return [
            list(zip(snapshot.slots[rows].tolist(), scores.tolist(), strict=True))
            for rows, scores in found
        ]

    def _by_both(
        self, connection: sqlite3.Connection, snapshot: Snapshot, request: SearchRequest
    ) -> list[Ranked]:
        depth = fusion_depth(request.k)
        allowed = None if request.where is None else snapshot.matching_slots(request.where)
        by_vector = self._by_vector(snapshot, request, depth)
        by_keyword = _by_keyword(connection, request, depth, allowed)
        fused = []
        for lists in zip(by_vector, by_keyword, strict=True):
            rankings = [_in_order(connection, ranked, depth) for ranked in lists]
            scores = reciprocal_rank_fusion([[slot for slot, _ in r] for r in rankings])
            fused.append(list(scores.items()))
        return fused

    def _hits(
        self, connection: sqlite3.Connection, ranked: Ranked, request: SearchRequest
    ) -> list[Hit]:
        """Order ties by id, cut, and fetch the documents."""
        if request.min_score is not None:
            ranked = [(slot, score) for slot, score in ranked if score >= request.min_score]
        if len(ranked) > request.k:
            ranked = _in_order(connection, ranked, request.k)
        scores = dict(ranked)
        rows = list(select_in(connection, f"{SELECT_DOCUMENTS} WHERE slot IN", list(scores)))
        refuse_missing(scores, {row[0] for row in rows}, "the document")
        ordered = sorted(rows, key=lambda row: (-scores[row[0]], row[1]))
        documents = self._documents(connection, ordered, request.include)
        metric = self._info.metric
        return [
            Hit(document, score, rank, relevance(score, request.mode, metric))
            for rank, (document, score) in enumerate(
                zip(documents, (scores[row[0]] for row in ordered), strict=True), start=1
            )
        ]

    def _documents(
        self, connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]], include: Include
    ) -> list[Document]:
        if not include.embedding:
            return [decode_document(row, include) for row in rows]
        vectors = fetch_vectors(
            connection, [row[0] for row in rows], self._info.embedding.dimension
        )
        return [decode_document(row, include, vectors[row[0]]) for row in rows]


def _by_keyword(
    connection: sqlite3.Connection, request: SearchRequest, k: int, allowed: IntArray | None
) -> list[Ranked]:
    texts = _required(request.texts, "texts", request.mode)
    return [keyword_top_k(connection, text, k, allowed) for text in texts]


def _required(value: Any, name: str, mode: SearchMode) -> Any:
    if value is None:
        raise InvalidInputError(f"a {mode} search needs {name}, got None")
    return value


def _embedding_of(document: Document) -> NDArray[np.float32]:
    if document.embedding is None:
        raise InvalidInputError(f"document {document.id!r} has no embedding to store")
    return document.embedding


def _in_order(connection: sqlite3.Connection, ranked: Ranked, k: int) -> Ranked:
    """Return the k best, best first; ids are fetched for ties alone."""
    if len(ranked) > k:
        kth = nlargest(k, (score for _, score in ranked))[-1]
        ranked = [pair for pair in ranked if pair[1] >= kth]
    times = Counter(score for _, score in ranked)
    ids = fetch_ids(connection, [slot for slot, score in ranked if times[score] > 1])
    return sorted(ranked, key=lambda pair: (-pair[1], ids.get(pair[0], "")))[:k]


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
    sequence, documents = read_state(connection)
    connection.execute(
        "UPDATE state SET sequence = ?, documents = ?", (sequence + 1, documents + added)
    )
    return sequence + 1


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
    connection.executemany("INSERT INTO tombstones (slot) VALUES (?)", rows)
    connection.execute(
        "DELETE FROM tombstones WHERE position <= (SELECT max(position) FROM tombstones) - ?",
        (_TOMBSTONES_KEPT,),
    )
