"""One run of a sync: what has to change is gathered into batches and written, whole or not at all.

A document's chunks always go into one transaction, so an interrupted run leaves each document as
it was or as it is to be, and the next run goes on from there.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nearfield.errors import InvalidInputError, WorkerLostError
from nearfield.ingest.provenance import Stored, chunks_of, stored_sources
from nearfield.ingest.report import Failure, IngestReport, Progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Future

    import numpy as np
    from numpy.typing import NDArray

    from nearfield.collection import Collection
    from nearfield.documents import Document
    from nearfield.ingest.distribution import Distribution

__all__ = ["Found", "Ingestion", "Totals"]

_MAX_CHANGES = 256
"""Documents in one transaction; bounds the filter that finds their old chunks."""


@dataclass(frozen=True, slots=True)
class Found:
    """A document that was found in its source.

    Attributes:
        record: Which record of the source it is; None for the whole of it.
        content_hash: What its chunks are made for.
        chunks: Makes them, where they are not stored.
    """

    record: str | None
    content_hash: str
    chunks: Callable[[], list[Document]]


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


@dataclass(frozen=True, slots=True)
class _Embedding:
    """Changes whose chunks are with workers, in one task or several."""

    changes: list[_Change]
    tasks: list[Future[NDArray[np.float32]]]


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
        batch_size: Chunks that are embedded and written together.
        on_progress: Told about every step; what it raises ends the run.
        totals: How much there is to do.
        distribution: Has chunks embedded by workers; None embeds them here.

    Raises:
        EmbedderRequiredError: The collection has no embedder.
        InvalidInputError: The batch size is below 1.
    """

    def __init__(
        self,
        collection: Collection,
        *,
        batch_size: int,
        on_progress: Callable[[Progress], None] | None,
        totals: Totals,
        distribution: Distribution | None = None,
    ) -> None:
        if batch_size < 1:
            raise InvalidInputError(f"batch_size is {batch_size}; expected at least 1")
        self._collection = collection
        self._embedder = collection.embedder
        self._batch_size = batch_size
        self._on_progress = on_progress
        self._totals = totals
        self._distribution = distribution
        self._embedding: deque[_Embedding] = deque()
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

    def hashes_of(self, source: str) -> dict[str | None, str]:
        """Return what the stored documents of a source were made for, by record, if it is known."""
        return {
            record: stored.content_hash
            for record, stored in self.stored.get(source, {}).items()
            if stored.content_hash is not None and stored.is_current(stored.content_hash)
        }

    def note(self, failure: Failure) -> None:
        """Report what is none of the files or documents that are counted."""
        self._tally.failures.append(failure)

    def fail(self, source: str, reason: str, *, size_bytes: int = 0) -> None:
        """Settle a file that could not be read; what is stored of it stays."""
        self.note(Failure(source, reason))
        self._settle(size_bytes)

    def take(self, source: str, found: Sequence[Found], *, size_bytes: int) -> None:
        """Make the stored chunks of a source those of the documents that were found in it."""
        records = self.stored.get(source, {})
        changed = [
            document
            for document in found
            if document.record not in records
            or not records[document.record].is_current(document.content_hash)
        ]
        gone = records.keys() - {document.record for document in found}
        self._tally.unchanged += len(found) - len(changed)
        self._tally.empty += not found
        total = len(changed) + len(gone)
        if total == 0:
            self._settle(size_bytes)
        for number, document in enumerate(changed, start=1):
            is_stored = document.record in records
            change = _Change(source, document.record, document.chunks(), is_stored=is_stored)
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
        """Write all that is pending."""
        self._pass_on()
        while self._embedding:
            self._store_embedded(self._embedding.popleft())

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
            self._pass_on()
        self._pending.append(change)
        self._pending_chunks += size
        if self._pending_chunks >= self._batch_size:
            self._pass_on()

    def _pass_on(self) -> None:
        """Write what is pending in one transaction, now or when workers have embedded it."""
        changes, self._pending, self._pending_chunks = self._pending, [], 0
        if not changes:
            return
        if self._distribution is None:
            self._store(changes)
            return
        self._embedding.append(self._sent(self._distribution, changes))
        # One batch that takes long, as after its worker died, holds up the writing, not the others.
        most = 2 * self._distribution.room
        while self._embedding and (len(self._embedding) > most or self._first_is_back()):
            self._store_embedded(self._embedding.popleft())

    def _sent(self, distribution: Distribution, changes: list[_Change]) -> _Embedding:
        texts = [chunk.text for change in changes for chunk in change.chunks]
        parts = range(0, len(texts), self._batch_size)
        tasks = [distribution.embed(texts[begin : begin + self._batch_size]) for begin in parts]
        return _Embedding(changes, tasks)

    def _first_is_back(self) -> bool:
        return all(task.done() for task in self._embedding[0].tasks)

    def _store_embedded(self, embedding: _Embedding) -> None:
        """Write what workers embed, once they have; in the order in which it was passed on."""
        changes, distribution = embedding.changes, self._distribution
        if distribution is None or not embedding.tasks:
            self._store(changes)
            return
        try:
            vectors = self._vectors(distribution, embedding)
        except (InvalidInputError, WorkerLostError) as error:
            if len(changes) == 1:
                self._refuse(changes[0], error)
                return
            for change in changes:  # one of them cannot be embedded: find it, write the others
                self._store_embedded(self._sent(distribution, [change]))
            return
        self._store(changes, vectors)

    def _vectors(self, distribution: Distribution, embedding: _Embedding) -> NDArray[np.float32]:
        import numpy as np  # heavy, and only with workers

        change, parts = embedding.changes[0], []
        for task in embedding.tasks:
            parts.append(distribution.result(task))
            if len(embedding.tasks) > 1:  # a document of more chunks than a batch
                share = len(parts) - 1
                bytes_ahead = change.size_bytes * share // len(embedding.tasks)
                self.tell(change.source, bytes_ahead=bytes_ahead)
        return np.concatenate(parts)

    def _store(
        self, changes: Sequence[_Change], vectors: NDArray[np.float32] | None = None
    ) -> None:
        try:
            self._write(changes, vectors)
        except InvalidInputError as error:
            if len(changes) == 1:
                self._refuse(changes[0], error)
                return
            begin = 0
            for change in changes:  # one of them cannot be stored: find it, write the others
                end = begin + len(change.chunks)
                self._store([change], None if vectors is None else vectors[begin:end])
                begin = end

    def _write(self, changes: Sequence[_Change], vectors: NDArray[np.float32] | None) -> None:
        chunks = [chunk for change in changes for chunk in change.chunks]
        outdated = [(c.source, c.record) for c in changes if c.is_stored]
        replace = chunks_of(outdated) if outdated else None
        if chunks:
            if vectors is None and len(chunks) > self._batch_size:
                vectors = self._embed(changes[0])
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

    def _refuse(self, change: _Change, error: Exception) -> None:
        reason = f"{change.name} cannot be stored: {error}"
        self._tally.failures.append(Failure(change.name, reason))
        self._settle(change.size_bytes, ends_file=change.ends_file)

    def _settle(self, size_bytes: int, *, ends_file: bool = True) -> None:
        self._tally.bytes_done += size_bytes
        self._tally.files_done += ends_file


def _share(size_bytes: int, number: int, total: int) -> int:
    """The bytes of a file that its change ``number`` of ``total`` stands for; they add up."""
    return size_bytes * number // total - size_bytes * (number - 1) // total
