"""What a worker does of an ingest: it splits files, and embeds chunks.

Both are functions of what they are given alone. A worker writes nothing, so a task whose worker
died is simply done again, and the collection needs to be in reach of the coordinator only.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from nearfield.embedders import CachedEmbedder, MiniLMEmbedder, contract, load
from nearfield.errors import EmbedderMismatchError, IngestError, MissingDependencyError, WorkerError
from nearfield.ingest.chunkers import ChunkerSettings, TextChunker
from nearfield.ingest.entries import Entry
from nearfield.ingest.provenance import chunk_documents
from nearfield.ingest.readers import READERS_VERSION
from nearfield.ingest.source_files import FileContent, hashed_entries

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nearfield.documents import Document
    from nearfield.embedders import Embedder

__all__ = ["Equipment", "Part", "SplitDocument", "embed", "split"]

_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Equipment:
    """What a worker needs in order to do as the coordinator would.

    Attributes:
        embedder: A name that :func:`nearfield.embedders.load` knows.
        fingerprint: What the embedder of that name has to have, wherever it is loaded.
        cache: The file that keeps embeddings, where the worker reaches it.
        threads: How many threads one task may use.
        chunker: What to make the chunker from; None where only embedding is asked for.
        chunking: The chunker's fingerprint.
        readers: The version of the readers.
    """

    embedder: str
    fingerprint: str
    cache: str | None
    threads: int
    chunker: ChunkerSettings | None
    chunking: str
    readers: int = READERS_VERSION


@dataclass(frozen=True, slots=True)
class Part:
    """A file, or a document that is none, to be split.

    Attributes:
        source: What its chunks are known by.
        content: The file, or the document.
        content_hash: Its hash; the records of a file have hashes of their own.
        settings: What those hashes cover besides the content.
        stored: The hashes of those of its documents that are stored whole, by record.
    """

    source: str
    content: FileContent | Entry
    content_hash: str
    settings: bytes
    stored: Mapping[str | None, str]


SplitDocument: TypeAlias = "tuple[str | None, str, list[Document] | None]"
"""A document's record, its hash, and its chunks; None for the chunks where they are stored."""


def split(equipment: Equipment, parts: Sequence[Part]) -> list[list[SplitDocument] | str]:
    """Read and split files and documents.

    Returns:
        For each its documents, or in words why it cannot be read.

    Raises:
        WorkerError: This is another version of nearfield than the coordinator's.
        EmbedderMismatchError: The embedder's name means another embedder here.
    """
    chunker = _chunker(equipment)
    found: list[list[SplitDocument] | str] = []
    for part in parts:
        try:
            found.append(_split(part, chunker))
        except (IngestError, MissingDependencyError) as error:
            found.append(str(error))
    return found


def embed(equipment: Equipment, texts: Sequence[str]) -> NDArray[np.float32]:
    """Embed texts to be stored; shape (len(texts), dimension).

    Raises:
        EmbedderMismatchError: The embedder's name means another embedder here.
        EmbeddingError: The embedder failed.
    """
    return contract.embed_documents(_embedder(equipment), texts)


def _split(part: Part, chunker: TextChunker) -> list[SplitDocument]:
    if isinstance(part.content, Entry):
        hashed = [(part.content, part.content_hash)]
    else:
        hashed = hashed_entries(part.content, part.content_hash, part.settings)
    return [
        (
            entry.record,
            content_hash,
            None
            if part.stored.get(entry.record) == content_hash
            else chunk_documents(part.source, entry, chunker=chunker, content_hash=content_hash),
        )
        for entry, content_hash in hashed
    ]


def _chunker(equipment: Equipment) -> TextChunker:
    if equipment.chunker is None:
        raise WorkerError("a worker was asked to split files, and was not told how")
    chunker = TextChunker.from_settings(equipment.chunker, _embedder(equipment))
    here = (chunker.fingerprint, READERS_VERSION)
    if here != (equipment.chunking, equipment.readers):
        raise WorkerError(
            f"a worker splits by {here}, the coordinator by "
            f"{(equipment.chunking, equipment.readers)}; install the same version of nearfield on "
            "both"
        )
    return chunker


def _embedder(equipment: Equipment) -> Embedder:
    with _lock:  # a process may have several tasks at once, and loads a model once
        return _loaded(equipment)


@lru_cache(maxsize=2)
def _loaded(equipment: Equipment) -> Embedder:
    embedder = load(equipment.embedder)
    if isinstance(embedder, MiniLMEmbedder):
        embedder = MiniLMEmbedder(equipment.threads)
    if embedder.info.fingerprint != equipment.fingerprint:
        raise EmbedderMismatchError(
            f"{equipment.embedder!r} is another embedder on a worker (fingerprint "
            f"{embedder.info.fingerprint}) than at the coordinator ({equipment.fingerprint}); "
            "install the same model, and the same version of nearfield, on both"
        )
    if equipment.cache is None:
        return embedder
    return CachedEmbedder(embedder, equipment.cache)
