"""Files as a sync takes them: opened by whoever can, hashed, and read into entries."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from nearfield.ingest.readers import READERS_VERSION, format_of, read

if TYPE_CHECKING:
    from nearfield.ingest.entries import Entry

__all__ = [
    "FileContent",
    "SourceFile",
    "hash_entry",
    "hash_file",
    "hashed_entries",
    "settings_of",
]


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


def settings_of(fingerprint: str, encoding: str | None) -> bytes:
    """Return what a hash covers besides the content: how it is read, and how it is split.

    Args:
        fingerprint: The chunker's.
        encoding: What texts are read in that are neither UTF-8 nor marked.
    """
    return f"{READERS_VERSION}\0{fingerprint}\0{encoding or ''}\0".encode()


def hash_file(content: FileContent, settings: bytes) -> str:
    """Return the hash of a file that is one document."""
    return hashlib.sha256(settings + content.data).hexdigest()


def hash_entry(entry: Entry, settings: bytes) -> str:
    """Return the hash of a record, or of a document that is no file."""
    content = msgspec.json.encode(entry, order="deterministic")
    return hashlib.sha256(settings + content).hexdigest()


def hashed_entries(
    content: FileContent, content_hash: str, settings: bytes
) -> list[tuple[Entry, str]]:
    """Read a file into its documents, each with the hash that tells whether it changed.

    Raises:
        IngestError: It cannot be read.
        MissingDependencyError: What reads it is not installed.
    """
    entries = read(content.data, content.name, encoding=content.encoding)
    form = format_of(content.name)
    if form is not None and form.has_records:
        return [(entry, hash_entry(entry, settings)) for entry in entries]
    title = PurePosixPath(content.name).name
    return [(replace(e, title=e.title or title), content_hash) for e in entries]
