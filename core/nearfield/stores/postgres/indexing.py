"""The index of a collection's vectors: built beside searches and writes, by one at a time."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from nearfield.errors import NearfieldError
from nearfield.stores.postgres.connections import connected
from nearfield.stores.postgres.schema import INDEX_KINDS, template

if TYPE_CHECKING:
    from collections.abc import Callable
    from weakref import WeakMethod

    from nearfield.stores.postgres.connections import Connection, Server
    from nearfield.stores.postgres.schema import Birth

__all__ = ["INDEXED_FROM", "Indexer", "compared"]

_LOG = logging.getLogger(__name__)

INDEXED_FROM = 10_000
"""From so many documents on, an index is quicker than comparing every vector."""
MAX_INDEXED_DIMENSION = 2000
MAX_INDEXED_HALVES = 4000
"""Of vectors with more components than pgvector's index takes, half precision is indexed."""
_PAUSE_S = 1.0
"""Without a write, before a build begins."""
_AFTER_FAILURE_S = 60.0
"""Before the next attempt, and twice as long each time: what failed often fails again, as for want
of a right, or where one exact answer takes longer than a call may."""
_POLL_S = 0.5
_BUILD_LOCK = 1 << 61
"""Beside a collection's own lock; held by who builds."""


def compared(birth: Birth, query: str) -> tuple[str, str]:
    """Return SQL for the distance that is indexed, and for the score of a document.

    Args:
        birth: The collection's.
        query: SQL for the vector that is asked with, a parameter or a literal.
    """
    kind = INDEX_KINDS[birth.info.metric]
    distance = f"embedding {kind.operator} {query}"
    score = kind.score.format(distance=distance)
    dimension = birth.info.embedding.dimension
    if MAX_INDEXED_DIMENSION < dimension <= MAX_INDEXED_HALVES:
        halves = f"halfvec({dimension})"
        return f"(embedding::{halves}) {kind.operator} {query}::{halves}", score
    return distance, score


class Indexer:
    """Builds a collection's index once it pays, in a pause between writes.

    Args:
        server: Where the collection is.
        birth: What is recorded of it.
        measure: Measures how searches go through the index, if that is due; held weakly, since its
            owner has the indexer, and is closed when no one has it any more.
    """

    def __init__(
        self, server: Server, birth: Birth, measure: WeakMethod[Callable[[], None]]
    ) -> None:
        self._server = server
        self._birth = birth
        self._measure = measure
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._last_write_s = -_PAUSE_S
        self._not_before_s = 0.0
        self._pause_s = _AFTER_FAILURE_S / 2
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
        self._closed = False

    def look(self) -> None:
        """Look in the background whether an index is due, build it, and measure it."""
        with self._guarded():
            busy = self._thread is not None and self._thread.is_alive()
            if busy or self._closed or not _can_be_indexed(self._birth) or self._server.read_only:
                return
            if time.monotonic() < self._not_before_s:
                return
            self._thread = threading.Thread(
                target=self._build_quietly, name="nearfield-index", daemon=True
            )
            self._thread.start()

    def wrote(self) -> None:
        """Note a write, and look once no more follow: rows enter an index slowly one by one."""
        with self._guarded():
            self._last_write_s = time.monotonic()
        self.look()

    def build(self, *, wait: bool = True) -> bool:
        """Build the index if it is due, and measure it; return whether it was built.

        Args:
            wait: Whether to wait where someone else is at it.
        """
        if not _can_be_indexed(self._birth):
            return False
        with connected(self._server) as connection:
            with self._guarded():
                if self._closed:
                    return False
                self._connection = connection
            try:
                return self._built(connection, wait=wait)
            finally:
                with self._guarded():
                    self._connection = None

    def close(self) -> None:
        """End a build that is under way."""
        with self._guarded():
            self._closed = True
            self._changed.notify_all()
            connection, thread = self._connection, self._thread
        if connection is None and thread is None:
            return
        until_s = time.monotonic() + self._server.timeout_s
        while time.monotonic() < until_s:
            if connection is not None:
                with suppress(psycopg.Error):  # it, or the server, is gone
                    connection.cancel_safe(timeout=_POLL_S)
            if thread is None or not thread.is_alive():
                return
            thread.join(_POLL_S)  # what was cancelled may have been the statement before
            with self._guarded():
                connection = self._connection

    def _guarded(self) -> threading.Condition:
        if self._process != os.getpid():  # a fork's child: what is under way is the parent's
            self._process = os.getpid()
            self._changed = threading.Condition()
            self._thread = self._connection = None
        return self._changed

    def _build_quietly(self) -> None:
        with self._guarded():
            while (left_s := self._last_write_s + _PAUSE_S - time.monotonic()) > 0:
                if self._closed:
                    return
                self._changed.wait(left_s)
        try:
            self.build(wait=False)
        except (NearfieldError, psycopg.Error) as error:
            self._pause_s *= 2
            self._not_before_s = time.monotonic() + self._pause_s
            if not self._closed:
                name = self._birth.info.name
                _LOG.warning("the index of %r was not built, or not measured: %s", name, error)

    def _built(self, connection: Connection, *, wait: bool) -> bool:
        birth = self._birth
        connection.patience_s = None
        connection.execute(
            # A build waits for transactions that are under way, such as scans.
            "SELECT set_config('statement_timeout', '0', false), "
            "set_config('lock_timeout', '0', false)"
        )
        lock = (birth.names.lock | _BUILD_LOCK,)
        # Asked for again and again, since a build waits for every statement that waits.
        while connection.execute("SELECT pg_try_advisory_lock(%s)", lock).fetchone() != (True,):
            if not wait or self._closed:
                return False
            time.sleep(_POLL_S)
        built = self._made(connection)
        measure = self._measure()
        if measure is not None:
            measure()
        return built

    def _made(self, connection: Connection) -> bool:
        birth = self._birth
        state = _state(connection, birth)
        if state is True or not self._is_due(connection):
            return False
        names = {
            "documents": birth.names.documents,
            "index": birth.names.index,
            "name": sql.Identifier(birth.names.index_name),
        }
        if state is False:  # a build that was broken off
            connection.execute(sql.SQL("DROP INDEX CONCURRENTLY {index}").format(**names))
        kind, target = "vector", "embedding"
        dimension = birth.info.embedding.dimension
        if dimension > MAX_INDEXED_DIMENSION:
            kind, target = "halfvec", f"(embedding::halfvec({dimension}))"
        operators = f"{kind}_{INDEX_KINDS[birth.info.metric].operators}"
        statement = (
            f"CREATE INDEX CONCURRENTLY {{name}} ON {{documents}} USING hnsw ({target} {operators})"
        )
        connection.execute(template(statement).format(**names))
        return True

    def _is_due(self, connection: Connection) -> bool:
        counted = connection.execute(
            sql.SQL("SELECT count(*) FROM (SELECT 1 FROM {} LIMIT %s) AS part").format(
                self._birth.names.documents
            ),
            (INDEXED_FROM,),
        ).fetchone()
        return counted == (INDEXED_FROM,)


def _can_be_indexed(birth: Birth) -> bool:
    """Whether pgvector can index vectors of this dimension."""
    return birth.info.embedding.dimension <= MAX_INDEXED_HALVES


def _state(connection: Connection, birth: Birth) -> bool | None:
    """Return whether the index is complete, None where there is none."""
    row = connection.execute(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)",
        (birth.names.index.as_string(None),),
    ).fetchone()
    return None if row is None else bool(row[0])
