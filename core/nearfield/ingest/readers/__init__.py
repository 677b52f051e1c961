"""Readers: files in, entries of text out. A reader is chosen by the file name's suffix."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from nearfield.errors import IngestError, NearfieldError
from nearfield.ingest.entries import Entry, Section
from nearfield.ingest.readers.encoding import check_encoding, decode
from nearfield.ingest.readers.fields import shortened
from nearfield.ingest.readers.markdown import read_markdown
from nearfield.ingest.readers.pdf import read_pdf
from nearfield.ingest.readers.records import read_csv, read_json, read_json_lines
from nearfield.ingest.readers.restructured import read_restructured
from nearfield.ingest.readers.webpage import declared_encoding, read_html
from nearfield.ingest.readers.word import read_docx

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["FORMATS", "READERS_VERSION", "Format", "check_encoding", "format_of", "read"]

READERS_VERSION = 1
"""Raised when a reader gives other text for the same bytes, so that files are read anew."""


@dataclass(frozen=True, slots=True)
class Format:
    """How files of one kind are read; exactly one of the two readers is set.

    Attributes:
        read_text: Takes the decoded text and the file's name.
        read_bytes: Takes the bytes and the file's name, for formats that are not text.
        declared_encoding: Finds the encoding that the bytes declare, where the format can.
        has_records: Whether each entry is a record with an identity of its own.
    """

    read_text: Callable[[str, str], list[Entry]] | None = None
    read_bytes: Callable[[bytes, str], list[Entry]] | None = None
    declared_encoding: Callable[[bytes, str], str | None] | None = None
    has_records: bool = False


def _read_plain(text: str, name: str) -> list[Entry]:  # noqa: ARG001  # a reader's signature
    return [Entry((Section(text.strip()),))]


_PLAIN = Format(read_text=_read_plain)
_MARKDOWN = Format(read_text=read_markdown)
_HTML = Format(read_text=read_html, declared_encoding=declared_encoding)
_JSON_LINES = Format(read_text=read_json_lines, has_records=True)
_TABLE = Format(read_text=read_csv, has_records=True)

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        ".txt": _PLAIN,
        ".text": _PLAIN,
        ".md": _MARKDOWN,
        ".markdown": _MARKDOWN,
        ".html": _HTML,
        ".htm": _HTML,
        ".xhtml": _HTML,
        ".rst": Format(read_text=read_restructured),
        ".json": Format(read_text=read_json, has_records=True),
        ".jsonl": _JSON_LINES,
        ".ndjson": _JSON_LINES,
        ".csv": _TABLE,
        ".tsv": _TABLE,
        ".pdf": Format(read_bytes=read_pdf),
        ".docx": Format(read_bytes=read_docx),
    }
)
"""The formats by suffix, in lower case."""


def format_of(name: str) -> Format | None:
    """Return the format of a file by its suffix, whatever its case; None where it is not known."""
    return FORMATS.get(PurePath(name).suffix.lower())


def read(data: bytes, name: str, *, encoding: str | None = None) -> list[Entry]:
    """Read a file's bytes into entries; entries without text are left out.

    Args:
        data: The whole file.
        name: Its path or name; the suffix chooses the reader.
        encoding: What text files that are neither UTF-8 nor marked otherwise are written in; None
            refuses them. A file read in another encoding than UTF-8 has it in its metadata.

    Raises:
        IngestError: The suffix is not known, or the file is damaged, encrypted or no text.
        MissingDependencyError: The format needs a package of the extra ``files``.
    """
    form = format_of(name)
    if form is None:
        known = ", ".join(sorted(FORMATS))
        raise IngestError(
            f"{name} has a suffix that no reader knows; expected one of {known}", source=name
        )
    try:
        entries = _parse(data, name, form, encoding)
        msgspec.json.encode(entries)  # JSON and rst can spell characters that are none
    except UnicodeEncodeError as error:
        raise IngestError(
            f"{name} has a lone surrogate ({error.object[error.start]!a}), which no text can hold; "
            "remove it",
            source=name,
        ) from error
    except (NearfieldError, MemoryError):
        raise
    except Exception as error:  # parsers fail on damaged files in ways without number
        reason = str(error) or "no reason given"
        raise IngestError(
            f"{name} could not be read: {type(error).__name__}: {reason}; open it with the program "
            "that made it and save it again",
            source=name,
        ) from error
    return [
        replace(entry, title=shortened(entry.title))
        for entry in entries
        if any(section.text.strip() for section in entry.sections)
    ]


def _parse(data: bytes, name: str, form: Format, encoding: str | None) -> list[Entry]:
    if form.read_bytes is not None:
        return form.read_bytes(data, name)
    if form.read_text is None:
        raise IngestError(f"the format of {name} has no reader", source=name)
    declared = form.declared_encoding(data, name) if form.declared_encoding else None
    text, used = decode(data, name=name, encoding=encoding, declared=declared)
    entries = form.read_text(text, name)
    if used == "utf-8":
        return entries
    return [replace(e, metadata={**e.metadata, "encoding": used}) for e in entries]
