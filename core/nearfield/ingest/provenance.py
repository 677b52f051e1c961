"""Where a chunk came from: written into its metadata, and read back from there by the next sync.

There is no other record of what was ingested, so nothing can disagree with the collection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nearfield.documents import Document
from nearfield.filters import F, Or

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from nearfield.collection import Collection
    from nearfield.filters import Filter
    from nearfield.ingest.chunkers import Chunker
    from nearfield.ingest.entries import Entry

__all__ = ["RESERVED", "Stored", "chunk_documents", "chunks_of", "stored_sources"]

RESERVED = frozenset({"source", "record", "chunk", "chunks", "previous", "next", "content_hash"})
"""What only a sync may write; a field of this name in a file gets ``_`` behind it."""


@dataclass(slots=True)
class Stored:
    """What the collection holds of one document.

    Attributes:
        content_hash: The hash its chunks were made for; None where they differ.
        expected: How many chunks belong to it, as they say themselves.
        present: How many are there.
    """

    content_hash: str | None
    expected: int
    present: int = 0

    def is_current(self, content_hash: str) -> bool:
        """Whether every chunk is there, and made for this hash."""
        return self.content_hash == content_hash and self.present == self.expected


def stored_sources(collection: Collection) -> dict[str, dict[str | None, Stored]]:
    """Read from the chunks' metadata what is there: by source, then by record."""
    found: dict[str, dict[str | None, Stored]] = {}
    for document in collection.scan(where=F.source.exists(), include=("metadata",)):
        metadata = document.metadata
        content_hash, expected = metadata.get("content_hash"), metadata.get("chunks")
        if not isinstance(content_hash, str) or not isinstance(expected, int):
            continue  # someone's own document, with a field of the same name
        records = found.setdefault(metadata["source"], {})
        stored = records.setdefault(metadata.get("record"), Stored(content_hash, expected))
        stored.present += 1
        if (stored.content_hash, stored.expected) != (content_hash, expected):
            stored.content_hash = None
    return found


def chunks_of(documents: Iterable[tuple[str, str | None]]) -> Filter:
    """Match the chunks of some documents, each given as its source and record.

    Documents that a sync did not write are never matched, whatever their fields.
    """
    whole: list[str] = []
    records: dict[str, list[str]] = {}
    for source, record in documents:
        if record is None:
            whole.append(source)
        else:
            records.setdefault(source, []).append(record)
    parts: list[Filter] = [
        (F.source == source) & F.record.in_(names) for source, names in records.items()
    ]
    if whole:
        parts.append(F.source.in_(whole) & ~F.record.exists())
    return F.content_hash.exists() & Or(tuple(parts))


def chunk_documents(
    source: str, entry: Entry, *, chunker: Chunker, content_hash: str
) -> list[Document]:
    """Split an entry into the documents that are stored for it.

    Their ids are ``source#chunk`` or ``source#record#chunk``. Their metadata is the entry's own
    and: ``source``; ``record`` where it is one; ``title``; ``section``, the headings joined by
    `` > ``; ``page``; ``chunk``, the place from 0, of ``chunks``; the ids of the ``previous`` and
    the ``next`` chunk, where there is one; ``content_hash``.
    """
    stem = source if entry.record is None else f"{source}#{entry.record}"
    pieces = list(_pieces(entry, chunker))
    documents = []
    for position, (text, place) in enumerate(pieces):
        metadata = {
            **_own_fields(entry),
            **place,
            "source": source,
            "chunk": position,
            "chunks": len(pieces),
            "content_hash": content_hash,
        }
        if entry.record is not None:
            metadata["record"] = entry.record
        if entry.title:
            metadata["title"] = entry.title
        if position > 0:
            metadata["previous"] = f"{stem}#{position - 1}"
        if position < len(pieces) - 1:
            metadata["next"] = f"{stem}#{position + 1}"
        documents.append(Document(text, id=f"{stem}#{position}", metadata=metadata))
    return documents


def _pieces(entry: Entry, chunker: Chunker) -> Iterator[tuple[str, dict[str, Any]]]:
    for section in entry.sections:
        place: dict[str, Any] = {}
        if section.headings:
            place["section"] = " > ".join(section.headings)
        if section.page is not None:
            place["page"] = section.page
        for text in chunker.split(section.text, markup=entry.markup):
            yield text, place


def _own_fields(entry: Entry) -> dict[str, Any]:
    fields = entry.metadata
    return {_free_name(key, fields) if key in RESERVED else key: fields[key] for key in fields}


def _free_name(key: str, fields: Mapping[str, Any]) -> str:
    name = f"{key}_"
    while name in fields:
        name += "_"
    return name
