"""Incremental sync: a collection follows files, or documents from elsewhere.

The chunks' own metadata say what was ingested, so a sync keeps no state of its own: it reads what
the collection holds, and embeds and writes only what differs. It may be interrupted at any point
and run again.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec

from nearfield.errors import (
    IngestError,
    InvalidDocumentError,
    InvalidInputError,
    MissingDependencyError,
)
from nearfield.ingest.chunkers import Chunker, TextChunker
from nearfield.ingest.entries import Entry, Markup, Section
from nearfield.ingest.folders import FoundFile, find_files, is_gone
from nearfield.ingest.ingestion import Ingestion, Totals
from nearfield.ingest.readers import READERS_VERSION, check_encoding, format_of, read

if TYPE_CHECKING:
    import os

    from nearfield.collection import Collection
    from nearfield.documents import Document
    from nearfield.filters import Filter
    from nearfield.ingest.report import IngestReport, Progress

__all__ = [
    "DEFAULT_BATCH_SIZE",
    "DEFAULT_MAX_FILE_BYTES",
    "FileContent",
    "SourceFile",
    "async_sync",
    "async_sync_documents",
    "sync",
    "sync_documents",
    "sync_files",
]

DEFAULT_BATCH_SIZE = 64
"""Chunks; a few seconds of work for the default embedder."""
DEFAULT_MAX_FILE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class FileContent:
    """What a file holds.

    Attributes:
        data: The whole file.
        name: Its suffix chooses the reader; the title of a text that has none of its own.
        encoding: What it is in where that is neither UTF-8 nor marked; None refuses it then.
    """

    data: bytes
    name: str
    encoding: str | None = None


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that the caller opens: on a server, in an archive, or with checks of its own.

    Attributes:
        source: What its chunks are known by, the same from call to call.
        load: Returns what it holds. An ``IngestError`` from it is this file's failure.
        size_bytes: Its size as far as known, for the progress.
    """

    source: str
    load: Callable[[], FileContent]
    size_bytes: int = 0


def sync(
    collection: Collection,
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    chunker: Chunker | None = None,
    prune: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    encoding: str | None = None,
    max_file_bytes: int = DEFAULT_MAX_FILE_BYTES,
    batch_size: int = DEFAULT_BATCH_SIZE,
    on_progress: Callable[[Progress], None] | None = None,
) -> IngestReport:
    """Read files into a collection, and on the next call only what has changed since.

    A file is one document, split into chunks; a JSON, JSON Lines or CSV file is one document a
    record. A document's chunks are replaced in one transaction. A file that cannot be read is
    reported and does not stop the others; what is stored of it stays.

    Args:
        collection: Where to write. It needs an embedder.
        sources: Files and folders. Hidden files, ``node_modules``, ``__pycache__`` and symbolic
            links in a folder are passed over.
        chunker: How to split; None fits chunks to the embedder. Another chunker, or other settings
            of it, writes all files anew.
        prune: Remove the documents of files under ``sources`` that are no longer on the disk. A
            file that is there but was passed over or failed keeps its documents. If a folder given
            in ``sources`` is missing altogether, as when a disk is not mounted, nothing under it
            is removed.
        include: Patterns such as ``*.md``: only these files under the folders.
        exclude: Patterns of files and folders to pass over; ``*`` also matches ``/``.
        encoding: What text files are in that are neither UTF-8 nor have a byte order mark; None
            reports them as failures.
        max_file_bytes: Larger files are failures.
        batch_size: How many chunks are embedded and written together, where they belong to
            several documents.
        on_progress: Called at every step, on this thread. An exception from it ends the sync,
            which can be run again.

    Raises:
        EmbedderRequiredError: The collection has no embedder.
        InvalidInputError: An option is out of range.
        StoreError: The collection could not be read or written.
    """
    check_encoding(encoding)
    if max_file_bytes < 1:
        raise InvalidInputError(f"max_file_bytes is {max_file_bytes}; expected at least 1")
    selection = find_files(sources, include=include, exclude=exclude)
    splitter = TextChunker.for_embedder(collection.embedder) if chunker is None else chunker
    ingestion = Ingestion(
        collection,
        chunker=splitter,
        batch_size=batch_size,
        on_progress=on_progress,
        totals=Totals(len(selection.files), sum(file.size_bytes for file in selection.files)),
    )
    gone: list[str] = []
    if prune:
        found = {file.source for file in selection.files}
        candidates = sorted(ingestion.stored.keys() - found)
        gone = [source for source in candidates if selection.covers(source) and is_gone(source)]
    for failure in selection.failures:
        if failure.source not in gone:
            ingestion.note(failure)
    for file in selection.files:
        load = partial(_load, file, max_file_bytes, encoding)
        _take_file(SourceFile(file.source, load, file.size_bytes), ingestion, splitter)
    ingestion.flush()
    ingestion.remove(gone)
    return ingestion.report(skipped=selection.skipped)


def sync_files(
    collection: Collection,
    files: Sequence[SourceFile],
    *,
    chunker: Chunker | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    on_progress: Callable[[Progress], None] | None = None,
) -> IngestReport:
    """Read files that the caller opens, and write what has changed since the last call.

    As :func:`sync`, which it agrees with: what one has written, the other leaves as it is. Nothing
    is pruned.

    Args:
        collection: Where to write. It needs an embedder.
        files: The files; each is loaded when its turn comes.
        chunker: How to split; None fits chunks to the embedder.
        batch_size: How many chunks are embedded and written together.
        on_progress: Called at every step, on this thread. An exception from it ends the sync.

    Raises:
        EmbedderRequiredError: The collection has no embedder.
        InvalidInputError: An option is out of range.
        StoreError: The collection could not be read or written.
    """
    splitter = TextChunker.for_embedder(collection.embedder) if chunker is None else chunker
    ingestion = Ingestion(
        collection,
        chunker=splitter,
        batch_size=batch_size,
        on_progress=on_progress,
        totals=Totals(len(files), sum(file.size_bytes for file in files)),
    )
    for file in files:
        _take_file(file, ingestion, splitter)
    return ingestion.report(skipped={})


def sync_documents(
    collection: Collection,
    documents: Iterable[Document],
    *,
    chunker: Chunker | None = None,
    markup: Markup = Markup.PLAIN,
    prune: Filter | Mapping[str, Any] | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    on_progress: Callable[[Progress], None] | None = None,
) -> IngestReport:
    """Split documents that are no files, and write what has changed since the last call.

    As :func:`sync`, with each document's id as the source, so give them ids that stay the same
    from call to call. A ``title`` in the metadata is the title. Embeddings and creation times of
    the documents are not used.

    Args:
        collection: Where to write. It needs an embedder.
        documents: A sequence, or an iterator that is read as it is written.
        chunker: How to split; None fits chunks to the embedder.
        markup: How the texts are written.
        prune: Remove the chunks that match this filter and whose document was not given; None
            removes none.
        batch_size: How many chunks are embedded and written together.
        on_progress: Called at every step, on this thread. An exception from it ends the sync.

    Raises:
        EmbedderRequiredError: The collection has no embedder.
        InvalidInputError: An option is out of range, or the filter is malformed.
        StoreError: The collection could not be read or written.
    """
    splitter = TextChunker.for_embedder(collection.embedder) if chunker is None else chunker
    totals = Totals()
    if isinstance(documents, Sequence):
        totals = Totals(len(documents), sum(map(_size_bytes, documents)))
    ingestion = Ingestion(
        collection,
        chunker=splitter,
        batch_size=batch_size,
        on_progress=on_progress,
        totals=totals,
    )
    seen: set[str] = set()
    for document in documents:
        ingestion.tell(document.id)
        seen.add(document.id)
        _take_document(document, ingestion, splitter, markup)
    ingestion.flush()
    if prune is not None:
        stale = {
            document.metadata["source"]
            for document in collection.scan(where=prune, include=("metadata",))
            if document.metadata.get("source") in ingestion.stored
        }
        ingestion.remove(sorted(stale - seen))
    return ingestion.report(skipped={})


async def async_sync(
    collection: Collection,
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    on_progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> IngestReport:
    """Run :func:`sync` on a worker thread; ``options`` are its other arguments.

    When the task is cancelled, the sync ends at its next step, and only then is the cancellation
    passed on. ``on_progress`` is called on the worker thread.
    """
    return await _on_thread(partial(sync, collection, sources, **options), on_progress)


async def async_sync_documents(
    collection: Collection,
    documents: Iterable[Document],
    *,
    on_progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> IngestReport:
    """Run :func:`sync_documents` on a worker thread, as :func:`async_sync` does."""
    call = partial(sync_documents, collection, documents, **options)
    return await _on_thread(call, on_progress)


def _take_file(file: SourceFile, ingestion: Ingestion, chunker: Chunker) -> None:
    source, size_bytes = file.source, file.size_bytes
    ingestion.tell(source)
    try:
        content = file.load()
        settings = _settings(chunker, content.encoding)
        content_hash = hashlib.sha256(settings + content.data).hexdigest()
        if ingestion.skip_if_current(source, content_hash, size_bytes=size_bytes):
            return
        entries = read(content.data, content.name, encoding=content.encoding)
    except (IngestError, MissingDependencyError) as error:
        ingestion.fail(source, str(error), size_bytes=size_bytes)
        return
    form = format_of(content.name)
    if form is not None and form.has_records:
        hashed = [(entry, _entry_hash(entry, settings)) for entry in entries]
    else:
        title = PurePosixPath(content.name).name
        hashed = [(replace(e, title=e.title or title), content_hash) for e in entries]
    ingestion.take(source, hashed, size_bytes=size_bytes)


def _load(file: FoundFile, max_file_bytes: int, encoding: str | None) -> FileContent:
    """Read a file once: what is hashed is what is parsed, even if it changes meanwhile."""
    try:
        with Path(file.source).open("rb") as stream:
            data = stream.read(max_file_bytes + 1)
    except OSError as error:
        raise IngestError(
            f"{file.source} could not be read: {error.strerror}", source=file.source
        ) from error
    if len(data) > max_file_bytes:
        raise IngestError(
            f"{file.source} is larger than {max_file_bytes} bytes; raise max_file_bytes to read it",
            source=file.source,
        )
    return FileContent(data, file.source, encoding)


def _take_document(
    document: Document, ingestion: Ingestion, chunker: Chunker, markup: Markup
) -> None:
    from nearfield.validation import (  # it imports numpy
        check_id,
        check_metadata,
        check_text,
    )

    try:
        fields = check_metadata(document.metadata)
        text = check_text(document.text)
        source = check_id(document.id)
    except InvalidDocumentError as error:
        reason = f"{document.id!r} cannot be stored: {error}"
        ingestion.fail(document.id, reason, size_bytes=_size_bytes(document))
        return
    title = fields.pop("title", "")
    if not isinstance(title, str):
        fields["title"], title = title, ""
    entry = Entry((Section(text),), title=title, markup=markup, metadata=fields)
    hashed = [(entry, _entry_hash(entry, _settings(chunker, None)))] if text.strip() else []
    ingestion.take(source, hashed, size_bytes=_size_bytes(document))


def _settings(chunker: Chunker, encoding: str | None) -> bytes:
    return f"{READERS_VERSION}\0{chunker.fingerprint}\0{encoding or ''}\0".encode()


def _entry_hash(entry: Entry, settings: bytes) -> str:
    content = msgspec.json.encode(entry, order="deterministic")
    return hashlib.sha256(settings + content).hexdigest()


def _size_bytes(document: Document) -> int:
    return len(document.text.encode("utf-8", "surrogatepass"))


class _Stopped(Exception):  # noqa: N818  # a signal between two threads, not an error
    """Ends a sync whose task was cancelled."""


async def _on_thread(
    call: Callable[..., IngestReport], on_progress: Callable[[Progress], None] | None
) -> IngestReport:
    cancelled = threading.Event()

    def tell(progress: Progress) -> None:
        if cancelled.is_set():
            raise _Stopped
        if on_progress is not None:
            on_progress(progress)

    work = asyncio.ensure_future(asyncio.to_thread(call, on_progress=tell))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        cancelled.set()
        await asyncio.wait([work])
        work.exception()  # seen, so that it is not logged as lost
        raise
