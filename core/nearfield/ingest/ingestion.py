"""One run of a sync: what has to change is gathered into batches and written, whole or not at all.

A document's chunks always go into one transaction, so an interrupted run leaves each document as
it was or as it is to be, and the next run goes on from there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nearfield.errors import InvalidInputError
from nearfield.ingest.provenance import Stored, chunk_documents, chunks_of, stored_sources
from nearfield.ingest.report import Failure, IngestReport, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from nearfield.collection import Collection
    from nearfield.documents import Document
    from nearfield.ingest.chunkers import Chunker
    from nearfield.ingest.entries import Entry

__all__ = ["Ingestion", "Totals"]

_MAX_CHANGES = 256
"""Documents in one transaction; bounds the filter that finds their old chunks."""


@dataclass(frozen=True, slots=True)
class Totals:
    """How much there is to do, None where that is not known beforehand."""

    files: int | None = None
    size_bytes: int | None = None


@dataclass(slots=True)
class _Change:
    """One document to write or, without chunks, to remove."""

    source: str
    record: str | None
    chunks: list[Document]
    is_stored: bool
    size_bytes: int = 0
    ends_file: bool = False

    @property
    def name(self) -> str:
        return self.source if self.record is None else f"{self.source}#{self.record}"


@dataclass(slots=True)
class _Tally:
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    empty: int = 0
    chunks_written: int = 0
    files_done: int = 0
    bytes_done: int = 0
    failures: list[Failure] = field(default_factory=list)


class Ingestion:
    """Brings a collection in line with documents that are offered one after another.

    Args:
        collection: Where to write.
        chunker: How to split.
        batch_size: Chunks that are embedded and written together.
        on_progress: Told about every step; what it raises ends the run.
        totals: How much there is to do.

    Raises:
        EmbedderRequiredError: The collection has no embedder.
        InvalidInputError: The batch size is below 1.
    """

    def __init__(
        self,
        collection: Collection,
        *,
        chunker: Chunker,
        batch_size: int,
        on_progress: Callable[[Progress], None] | None,
        totals: Totals,
    ) -> None:
        if batch_size < 1:
            raise InvalidInputError(f"batch_size is {batch_size}; expected at least 1")
        self._collection = collection
        self._embedder = collection.embedder
        self._chunker = chunker
        self._batch_size = batch_size
        self._on_progress = on_progress
        self._totals = totals
        self._started = time.perf_counter()
        self._tally = _Tally()
        self._pending: list[_Change] = []
        self._pending_chunks = 0
        self.stored: dict[str, dict[str | None, Stored]] = stored_sources(collection)

    def tell(self, source: str | None, *, bytes_ahead: int = 0) -> None:
        """Report progress; ``source`` is what is at hand."""
        if self._on_progress is None:
            return
        done = self._tally
        self._on_progress(
            Progress(
                files_done=done.files_done,
                files_total=self._totals.files,
                chunks_written=done.chunks_written,
                bytes_done=done.bytes_done + bytes_ahead,
                bytes_total=self._totals.size_bytes,
                source=source,
            )
        )

    def skip_if_current(self, source: str, content_hash: str, *, size_bytes: int) -> bool:
        """Settle a file of one document that is stored for this hash; return whether it was."""
        records = self.stored.get(source, {})
        stored = records.get(None)
        if stored is None or len(records) > 1 or not stored.is_current(content_hash):
            return False
        self._tally.unchanged += 1
        self._settle(size_bytes)
        return True

    def note(self, failure: Failure) -> None:
        """Report what is none of the files or documents that are counted."""
        self._tally.failures.append(failure)

    def fail(self, source: str, reason: str, *, size_bytes: int = 0) -> None:
        """Settle a file that could not be read; what is stored of it stays."""
        self.note(Failure(source, reason))
        self._settle(size_bytes)

    def take(self, source: str, entries: Sequence[tuple[Entry, str]], *, size_bytes: int) -> None:
        """Make the stored chunks of a source those of its entries, each given with its hash."""
        records = self.stored.get(source, {})
        changed = [
            (entry, content_hash)
            for entry, content_hash in entries
            if entry.record not in records or not records[entry.record].is_current(content_hash)
        ]
        gone = records.keys() - {entry.record for entry, _ in entries}
        self._tally.unchanged += len(entries) - len(changed)
        self._tally.empty += not entries
        total = len(changed) + len(gone)
        if total == 0:
            self._settle(size_bytes)
        for number, (entry, content_hash) in enumerate(changed, start=1):
            chunks = chunk_documents(
                source, entry, chunker=self._chunker, content_hash=content_hash
            )
            change = _Change(source, entry.record, chunks, is_stored=entry.record in records)
            change.ends_file = number == total
            change.size_bytes = _share(size_bytes, number, total)
            self._add(change)
        for number, record in enumerate(sorted(gone, key=str), start=len(changed) + 1):
            change = _Change(source, record, [], is_stored=True)
            change.ends_file = number == total
            change.size_bytes = _share(size_bytes, number, total)
            self._add(change)

    def remove(self, sources: Sequence[str]) -> None:
        """Remove every chunk of these sources."""
        for source in sources:
            for record in sorted(self.stored[source], key=str):
                self._add(_Change(source, record, [], is_stored=True))
        self.flush()

    def flush(self) -> None:
        """Write what is pending in one transaction."""
        changes, self._pending, self._pending_chunks = self._pending, [], 0
        if not changes:
            return
        try:
            self._write(changes)
        except InvalidInputError as error:
            if len(changes) == 1:
                self._refuse(changes[0], error)
                return
            for change in changes:  # one of them cannot be stored: find it, write the others
                self._pending = [change]
                self.flush()

    def report(self, *, skipped: Mapping[str, int]) -> IngestReport:
        """Write what is pending, tell that all is done, and sum up."""
        self.flush()
        self.tell(None)
        tally = self._tally
        return IngestReport(
            added=tally.added,
            updated=tally.updated,
            unchanged=tally.unchanged,
            removed=tally.removed,
            empty=tally.empty,
            chunks_written=tally.chunks_written,
            skipped=dict(skipped),
            failures=tuple(tally.failures),
            seconds=time.perf_counter() - self._started,
        )

    def _add(self, change: _Change) -> None:
        size = len(change.chunks)
        if self._pending_chunks + size > self._batch_size or len(self._pending) >= _MAX_CHANGES:
            self.flush()
        self._pending.append(change)
        self._pending_chunks += size
        if self._pending_chunks >= self._batch_size:
            self.flush()

    def _write(self, changes: Sequence[_Change]) -> None:
        chunks = [chunk for change in changes for chunk in change.chunks]
        outdated = [(c.source, c.record) for c in changes if c.is_stored]
        replace = chunks_of(outdated) if outdated else None
        if chunks:
            vectors = self._embed(changes[0]) if len(chunks) > self._batch_size else None
            self._collection.upsert(chunks, vectors=vectors, replace=replace)
        elif replace is not None:
            self._collection.delete(where=replace)
        for change in changes:
            self._count(change)
        self.tell(changes[-1].source)

    def _embed(self, change: _Change) -> NDArray[np.float32]:
        """Embed a document of more chunks than a batch, so that progress shows meanwhile."""
        import numpy as np  # heavy, and only for large documents

        texts = [chunk.text for chunk in change.chunks]
        vectors = []
        for begin in range(0, len(texts), self._batch_size):
            batch = texts[begin : begin + self._batch_size]
            vectors.append(self._embedder.embed_documents(batch))
            self.tell(change.source, bytes_ahead=change.size_bytes * begin // len(texts))
        return np.concatenate(vectors)

    def _count(self, change: _Change) -> None:
        tally = self._tally
        tally.chunks_written += len(change.chunks)
        if not change.chunks:
            tally.removed += change.is_stored
            tally.empty += not change.is_stored
        elif change.is_stored:
            tally.updated += 1
        else:
            tally.added += 1
        self._settle(change.size_bytes, ends_file=change.ends_file)

    def _refuse(self, change: _Change, error: InvalidInputError) -> None:
        reason = f"{change.name} cannot be stored: {error}"
        self._tally.failures.append(Failure(change.name, reason))
        self._settle(change.size_bytes, ends_file=change.ends_file)

    def _settle(self, size_bytes: int, *, ends_file: bool = True) -> None:
        self._tally.bytes_done += size_bytes
        self._tally.files_done += ends_file


def _share(size_bytes: int, number: int, total: int) -> int:
    """The bytes of a file that its change ``number`` of ``total`` stands for; they add up."""
    return size_bytes * number // total - size_bytes * (number - 1) // total
