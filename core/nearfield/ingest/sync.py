"""Incremental sync: a collection follows files, or documents from elsewhere.

The chunks' own metadata say what was ingested, so a sync keeps no state of its own: it reads what
the collection holds, and embeds and writes only what differs. It may be interrupted at any point
and run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearfield.errors import (
    IngestError,
    InvalidDocumentError,
    InvalidInputError,
    MissingDependencyError,
)
from nearfield.ingest.chunkers import Chunker, TextChunker
from nearfield.ingest.distribution import Splitting, distributed
from nearfield.ingest.entries import Entry, Markup, Section
from nearfield.ingest.folders import FoundFile, find_files, is_gone
from nearfield.ingest.ingestion import Found, Ingestion, Totals
from nearfield.ingest.provenance import chunk_documents
from nearfield.ingest.readers import check_encoding
from nearfield.ingest.source_files import (
    FileContent,
    SourceFile,
    hash_entry,
    hash_file,
    hashed_entries,
    settings_of,
)
from nearfield.ingest.worker import Part
from nearfield.threads import run_on_thread

if TYPE_CHECKING:
    import os

    from nearfield.collection import Collection
    from nearfield.documents import Document
    from nearfield.filters import Filter
    from nearfield.ingest.distribution import Distribution
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
    workers: int | str | None = None,
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
        workers: Have the files split and the chunks embedded by so many processes of this machine,
            or by those of a Dask cluster, ``"dask://host:8786"``; None does it here. What is
            written is the same. The embedder has to have a name that ``embedders.load`` knows.

    Raises:
        EmbedderRequiredError: The collection has no embedder.
        InvalidInputError: An option is out of range.
        StoreError: The collection could not be read or written.
        WorkerError: The workers could not be reached, or died again and again.
    """
    check_encoding(encoding)
    if max_file_bytes < 1:
        raise InvalidInputError(f"max_file_bytes is {max_file_bytes}; expected at least 1")
    selection = find_files(sources, include=include, exclude=exclude)
    splitter = TextChunker.for_embedder(collection.embedder) if chunker is None else chunker
    with distributed(workers, collection.embedder, splitter) as distribution:
        ingestion = Ingestion(
            collection,
            batch_size=batch_size,
            on_progress=on_progress,
            totals=Totals(len(selection.files), sum(file.size_bytes for file in selection.files)),
            distribution=distribution,
        )
        gone: list[str] = []
        if prune:
            found = {file.source for file in selection.files}
            candidates = sorted(ingestion.stored.keys() - found)
            gone = [source for source in candidates if selection.covers(source) and is_gone(source)]
        for failure in selection.failures:
            if failure.source not in gone:
                ingestion.note(failure)
        splitting = _splitting(distribution, ingestion)
        for file in selection.files:
            load = partial(_load, file, max_file_bytes, encoding)
            source_file = SourceFile(file.source, load, file.size_bytes)
            _take_file(source_file, ingestion, splitter, splitting)
        if splitting is not None:
            splitting.finish()
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
    workers: int | str | None = None,
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
        workers: As in :func:`sync`.

    Raises:
        EmbedderRequiredError: The collection has no embedder.
        InvalidInputError: An option is out of range, or the filter is malformed.
        StoreError: The collection could not be read or written.
        WorkerError: The workers could not be reached, or died again and again.
    """
    splitter = TextChunker.for_embedder(collection.embedder) if chunker is None else chunker
    totals = Totals()
    if isinstance(documents, Sequence):
        totals = Totals(len(documents), sum(map(_size_bytes, documents)))
    with distributed(workers, collection.embedder, splitter) as distribution:
        ingestion = Ingestion(
            collection,
            batch_size=batch_size,
            on_progress=on_progress,
            totals=totals,
            distribution=distribution,
        )
        splitting = _splitting(distribution, ingestion)
        seen: set[str] = set()
        for document in documents:
            ingestion.tell(document.id)
            if splitting is not None and document.id in seen:
                splitting.finish()  # or the one given before might be written after it
            seen.add(document.id)
            _take_document(document, ingestion, splitter, markup, splitting)
        if splitting is not None:
            splitting.finish()
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
    return await run_on_thread(partial(sync, collection, sources, **options), on_progress)


async def async_sync_documents(
    collection: Collection,
    documents: Iterable[Document],
    *,
    on_progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> IngestReport:
    """Run :func:`sync_documents` on a worker thread, as :func:`async_sync` does."""
    call = partial(sync_documents, collection, documents, **options)
    return await run_on_thread(call, on_progress)


def _splitting(distribution: Distribution | None, ingestion: Ingestion) -> Splitting | None:
    """Have workers split where there are some, and the chunker is one that they can make."""
    if distribution is None or not distribution.can_split:
        return None
    return Splitting(distribution, ingestion)


def _take_file(
    file: SourceFile, ingestion: Ingestion, chunker: Chunker, splitting: Splitting | None = None
) -> None:
    source, size_bytes = file.source, file.size_bytes
    ingestion.tell(source)
    try:
        content = file.load()
        settings = settings_of(chunker.fingerprint, content.encoding)
        content_hash = hash_file(content, settings)
        if ingestion.skip_if_current(source, content_hash, size_bytes=size_bytes):
            return
        if splitting is not None:
            stored = ingestion.hashes_of(source)
            part = Part(source, content, content_hash, settings, stored)
            splitting.offer(part, size_bytes=size_bytes)
            return
        hashed = hashed_entries(content, content_hash, settings)
    except (IngestError, MissingDependencyError) as error:
        ingestion.fail(source, str(error), size_bytes=size_bytes)
        return
    found = [_found(source, entry, chunker, entry_hash) for entry, entry_hash in hashed]
    ingestion.take(source, found, size_bytes=size_bytes)


def _found(source: str, entry: Entry, chunker: Chunker, content_hash: str) -> Found:
    chunks = partial(chunk_documents, source, entry, chunker=chunker, content_hash=content_hash)
    return Found(entry.record, content_hash, chunks)


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
    document: Document,
    ingestion: Ingestion,
    chunker: Chunker,
    markup: Markup,
    splitting: Splitting | None,
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
    size_bytes = _size_bytes(document)
    if not text.strip():
        ingestion.take(source, [], size_bytes=size_bytes)
        return
    entry = Entry((Section(text),), title=title, markup=markup, metadata=fields)
    settings = settings_of(chunker.fingerprint, None)
    content_hash = hash_entry(entry, settings)
    if ingestion.skip_if_current(source, content_hash, size_bytes=size_bytes):
        return
    if splitting is not None:
        part = Part(source, entry, content_hash, settings, {})
        splitting.offer(part, size_bytes=size_bytes)
    else:
        found = _found(source, entry, chunker, content_hash)
        ingestion.take(source, [found], size_bytes=size_bytes)


def _size_bytes(document: Document) -> int:
    return len(document.text.encode("utf-8", "surrogatepass"))
