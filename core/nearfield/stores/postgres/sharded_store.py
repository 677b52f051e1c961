"""A collection spread over several servers: writes go to where ids belong, searches to all."""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace as replaced
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from nearfield.documents import Document, Hit, SearchMode
from nearfield.errors import ClosedError, NearfieldError, PartialWriteError
from nearfield.stores.base import Capabilities, Explanation, Include, SearchRequest
from nearfield.stores.clock import WriteClock
from nearfield.stores.fusion import fused, widened
from nearfield.stores.postgres.filters import where_clause
from nearfield.stores.postgres.hits import merged
from nearfield.stores.postgres.ledger import ShardedLedger
from nearfield.stores.postgres.placement import Placement
from nearfield.stores.postgres.plans import choose
from nearfield.stores.postgres.store import PostgresStore, refuse_memory_limit
from nearfield.stores.recall import K

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.filters import Filter
    from nearfield.stores.base import CollectionInfo, TuningReport
    from nearfield.stores.postgres.connections import Server
    from nearfield.stores.postgres.plans import Ranking
    from nearfield.stores.postgres.schema import Birth

__all__ = ["ShardedStore"]

_Result = TypeVar("_Result")

_THREADS = 32
"""Beside those of the callers, each of whom asks one of the servers."""
_CAPABILITIES = Capabilities(
    modes=frozenset(SearchMode), atomic_writes=False, read_your_writes=True, backup=False
)


class ShardedStore:
    """One collection over several servers; see :class:`~nearfield.stores.base.Store`.

    What a call does on one server happens there whole or not at all. Where some servers fail, a
    call that reads raises the error of the first of them: an answer without their documents would
    look like a whole one. A call that writes raises ``PartialWriteError``.

    Args:
        parts: The servers, and what each records of its part.
        shown: The URL of all of them, without a password.
    """

    def __init__(self, parts: Sequence[tuple[Server, Birth]], shown: str) -> None:
        parts = sorted(parts, key=lambda part: part[1].names.key)
        self._shown = shown
        self._placement = Placement([birth.names.key for _, birth in parts])
        self._clock = WriteClock()
        self._closed = False
        self._start()
        self._servers = [server.shown for server, _ in parts]
        self._stores: list[PostgresStore] = []
        try:
            for server, birth in parts:
                self._stores.append(PostgresStore(server, birth))
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> CollectionInfo:
        """What was fixed at the collection's birth."""
        return self._stores[0].info

    @property
    def capabilities(self) -> Capabilities:
        """What several servers do together."""
        return _CAPABILITIES

    # ── documents ────────────────────────────────────────────────────────────────────────────

    def upsert(self, documents: Sequence[Document], *, replace: Filter | None = None) -> None:
        """Write documents, on each server in one transaction; see ``Store``.

        Raises:
            PartialWriteError: Some servers did their part, and others failed.
        """
        where_clause(replace)  # refused before anything is written
        slots = self._clock.take(len(documents))
        split = self._placement.split(document.id for document in documents)
        if replace is not None:
            split = {place: split.get(place, []) for place in range(len(self._stores))}
        calls = {
            place: partial(
                self._stores[place].upsert,
                [documents[position] for position in positions],
                replace=replace,
                slots=[slots[position] for position in positions],
            )
            for place, positions in split.items()
        }
        ids = {
            place: [documents[position].id for position in positions]
            for place, positions in split.items()
        }
        self._write(calls, ids)

    def delete(self, *, ids: Sequence[str] | None = None, where: Filter | None = None) -> int:
        """Delete by ids, by filter, or by both, and count; see ``Store``.

        Raises:
            PartialWriteError: Some servers did their part, and others failed.
        """
        where_clause(where)
        split = self._split(ids)
        calls = {
            place: partial(self._stores[place].delete, ids=names, where=where)
            for place, names in split.items()
        }
        return sum(self._write(calls, {place: names or [] for place, names in split.items()}))

    def get(self, ids: Sequence[str], *, include: Include) -> list[Document | None]:
        """Fetch documents in the order of the ids; see ``Store``."""
        names = self._split(ids)
        calls = [
            partial(self._stores[place].get, some or [], include=include)
            for place, some in names.items()
        ]
        found = {
            document.id: document
            for documents in self._read(calls)
            for document in documents
            if document is not None
        }
        return [found.get(name) for name in ids]

    def count(self, *, where: Filter | None = None) -> int:
        """Count the documents, or those that match."""
        return sum(self._read([partial(store.count, where=where) for store in self._stores]))

    def version(self) -> int:
        """Return a number that each write makes larger; see ``Versioned``."""
        return sum(self._read([store.version for store in self._stores]))

    def scan(self, *, where: Filter | None, include: Include) -> Generator[Document, None, None]:
        """Iterate over the documents in the order of writing, on each server as of one moment.

        The servers' moments are those of the first document that is asked for, one after another.
        """
        self._check_open()
        with ExitStack() as scans:
            begun = [
                scans.enter_context(closing(store.scan_slots(where=where, include=include)))
                for store in self._stores
            ]
            for _, document in heapq.merge(*begun, key=lambda pair: pair[0]):
                yield document

    # ── searches ─────────────────────────────────────────────────────────────────────────────

    def search(self, request: SearchRequest) -> list[list[Hit]]:
        """Answer each query with the best hits of all servers; see ``Store``."""
        if request.mode is not SearchMode.HYBRID:
            (found,) = self._found([request])
            return found
        wide = widened(request)
        near, worded = self._found(
            [
                replaced(wide, mode=SearchMode.VECTOR),
                replaced(wide, mode=SearchMode.KEYWORD),
            ]
        )
        return fused(near, worded, request, self.info.metric)

    def _found(self, requests: Sequence[SearchRequest]) -> list[list[list[Hit]]]:
        """Answer requests that differ in their mode alone, all on all servers at once."""
        split = self._split(requests[0].ids) or {0: []}
        calls = [
            partial(self._stores[place].search, replaced(request, ids=names))
            for request in requests
            for place, names in split.items()
        ]
        answers = self._read(calls)
        vectors, texts = requests[0].vectors, requests[0].texts or ()
        queries = range(len(texts) if vectors is None else len(vectors))
        found = []
        for start in range(0, len(requests) * len(split), len(split)):
            of_servers = answers[start : start + len(split)]
            found.append(
                [merged([hits[query] for hits in of_servers], requests[0].k) for query in queries]
            )
        return found

    def ledger(self, namespace: str) -> ShardedLedger:
        """Return the ledger of a namespace; see ``Recordable``."""
        ledgers = [store.ledger(namespace) for store in self._stores]
        return ShardedLedger(ledgers, self._placement, self._read)

    # ── keeping it well ──────────────────────────────────────────────────────────────────────

    def stats(self) -> dict[str, Any]:
        """Return the collection's size and state, and those of each part."""
        parts = self._read([store.stats for store in self._stores])
        return {
            "name": self.info.name,
            "server": self._shown,
            "metric": self.info.metric.value,
            "embedding": self.info.embedding.to_dict(),
            "documents": sum(part["documents"] for part in parts),
            "size_bytes": sum(part["size_bytes"] for part in parts),
            "parts": [
                {
                    name: part[name]
                    for name in ("server", "table", "documents", "size_bytes", "index")
                }
                for part in parts
            ],
        }

    def close(self) -> None:
        """Close every connection. Idempotent."""
        self._closed = True
        for store in self._stores:
            store.close()
        if self._process == os.getpid():
            self._threads.shutdown(wait=False)

    def maintain(self) -> int:
        """Build the indexes that are due, on all servers at once; return how many were built."""
        return sum(self._read([store.maintain for store in self._stores]))

    def tune(
        self,
        *,
        target_recall: float,
        latency_ms: float | None,
        memory_bytes: int | None,
        recheck_share: float,
        queries: NDArray[np.float32] | None,
    ) -> TuningReport:
        """Choose the depth of searches, the same on all servers; see ``Tunable``."""
        refuse_memory_limit(memory_bytes)
        self.maintain()
        plan, report = choose(
            self._nearest,
            queries if queries is not None else self._sample(),
            target_recall=target_recall,
            latency_ms=latency_ms,
        )
        self._write(
            {
                place: partial(store.adopt, plan, target_recall, recheck_share)
                for place, store in enumerate(self._stores)
            }
        )
        return report

    def explain(self, request: SearchRequest) -> Explanation:
        """Answer one query, and tell how it went on each server; see ``Tunable``."""
        hits = self.search(request)[0]
        parts = self._read([partial(store.explain, request) for store in self._stores])
        steps = tuple(
            replaced(step, plan=f"{server}: {step.plan}")
            for server, part in zip(self._servers, parts, strict=True)
            for step in part.steps
        )
        documents = sum(part.documents for part in parts)
        matching = sum(part.matching for part in parts)
        return Explanation(request.mode, steps, documents, matching, len(hits))

    def _nearest(self, query: NDArray[np.float32], depth: int | None) -> Ranking:
        rankings = self._read([partial(store.nearest, query, depth) for store in self._stores])
        everywhere = [pair for ranking in rankings for pair in ranking]
        return sorted(everywhere, key=lambda pair: (-pair[1], pair[0]))[: K + 1]

    def _sample(self) -> tuple[list[str], NDArray[np.float32]]:
        samples = [
            sample for sample in self._read([store.sample for store in self._stores]) if sample[0]
        ]
        if not samples:
            return [], np.empty((0, self.info.embedding.dimension), np.float32)
        names = [name for ids, _ in samples for name in ids]
        return names, np.concatenate([vectors for _, vectors in samples])

    # ── servers ──────────────────────────────────────────────────────────────────────────────

    def _split(self, ids: Sequence[str] | None) -> dict[int, list[str] | None]:
        """Return the places of the servers to ask, with the ids that belong to each."""
        if ids is None:
            return dict.fromkeys(range(len(self._stores)))
        return {
            place: [ids[position] for position in positions]
            for place, positions in self._placement.split(ids).items()
        }

    def _read(self, calls: Sequence[Callable[[], _Result]]) -> list[_Result]:
        """Make calls at once, or raise the error of the first that fails."""
        results = []
        for outcome in self._outcomes(calls):
            if isinstance(outcome, NearfieldError):
                raise outcome
            results.append(outcome)
        return results

    def _write(
        self,
        calls: Mapping[int, Callable[[], _Result]],
        ids: Mapping[int, Sequence[str]] | None = None,
    ) -> list[_Result]:
        """Make calls at once, each to the server at a place, and say what was done if one fails."""
        outcomes = dict(zip(calls, self._outcomes(list(calls.values())), strict=True))
        errors = {
            place: each for place, each in outcomes.items() if isinstance(each, NearfieldError)
        }
        results = [each for each in outcomes.values() if not isinstance(each, NearfieldError)]
        if not errors:
            return results
        first = next(iter(errors.values()))
        if not results:
            raise first
        named = ids or {}
        raise PartialWriteError(
            f"{len(results)} of {len(outcomes)} servers did their part of this write, but not "
            f"{', '.join(self._servers[place] for place in errors)}, or it is not known: {first}. "
            "Make the same call again: what is done already is not done twice",
            failed=tuple(self._servers[place] for place in errors),
            done=tuple(
                name for place in outcomes if place not in errors for name in named.get(place, ())
            ),
            undone=tuple(name for place in errors for name in named.get(place, ())),
        ) from first

    def _outcomes(self, calls: Sequence[Callable[[], _Result]]) -> list[_Result | NearfieldError]:
        """Make calls at once, the first in this thread, and wait for all of them."""
        self._check_open()
        if not calls:
            return []
        try:
            others = [self._threads.submit(_outcome, call) for call in calls[1:]]
        except RuntimeError:  # closed a moment ago
            raise _closed() from None
        return [_outcome(calls[0]), *(other.result() for other in others)]

    def _check_open(self) -> None:
        if self._closed:
            raise _closed()
        if self._process != os.getpid():  # a fork's child: the threads are the parent's
            self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="nearfield-shards")


def _outcome(call: Callable[[], _Result]) -> _Result | NearfieldError:
    try:
        return call()
    except NearfieldError as error:
        return error


def _closed() -> ClosedError:
    return ClosedError("the collection was closed; open it again")
