"""Word documents (docx): headings, paragraphs, lists and tables."""

from __future__ import annotations

import io
import re
import zipfile
from typing import TYPE_CHECKING

from nearfield.errors import IngestError, MissingDependencyError
from nearfield.ingest.entries import Entry
from nearfield.ingest.readers.encoding import tidy
from nearfield.ingest.readers.outline import Outline

if TYPE_CHECKING:
    from docx.table import Table
    from docx.text.paragraph import Paragraph

__all__ = ["read_docx"]

_HEADING = re.compile(r"heading (\d)", re.IGNORECASE)
_MAX_UNPACKED_BYTES = 512 * 2**20
"""A document far beyond this is an attack on memory, not a text."""


def read_docx(data: bytes, name: str) -> list[Entry]:
    """Read a Word document's body in order; macros, headers and footers are left alone.

    Raises:
        IngestError: It is not a docx file, is damaged, or unpacks to more than 512 MiB.
    """
    try:
        import docx  # of the extra `files`
    except ImportError:
        raise MissingDependencyError(
            "python-docx", extra="files", purpose="reading Word documents"
        ) from None
    from docx.table import Table  # of the extra `files`

    _check_archive(data, name)
    document = docx.Document(io.BytesIO(data))
    outline = Outline()
    for block in document.iter_inner_content():
        if isinstance(block, Table):
            outline.add(_table(block))
        else:
            _paragraph(block, outline)
    title = " ".join(tidy(document.core_properties.title or "").split())
    return [Entry(outline.sections(), title=title or outline.title)]


def _check_archive(data: bytes, name: str) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked_bytes = sum(member.file_size for member in archive.infolist())
            known = "[Content_Types].xml" in archive.namelist()
    except zipfile.BadZipFile as error:
        encrypted = data.startswith(b"\xd0\xcf\x11\xe0")  # an OLE container
        reason = (
            "it is encrypted, or in the old .doc format; save it as docx without a password"
            if encrypted
            else f"it is damaged or of another kind ({error})"
        )
        raise IngestError(f"{name} is not a readable docx file: {reason}", source=name) from error
    if not known:
        raise IngestError(
            f"{name} is an archive, but not a Word document; save it as docx", source=name
        )
    if unpacked_bytes > _MAX_UNPACKED_BYTES:
        raise IngestError(
            f"{name} unpacks to {unpacked_bytes} bytes, the most is {_MAX_UNPACKED_BYTES}; remove "
            "pictures from it or split it",
            source=name,
        )


def _paragraph(paragraph: Paragraph, outline: Outline) -> None:
    text = tidy(paragraph.text)
    style = (paragraph.style.name if paragraph.style else None) or ""
    heading = _HEADING.match(style)
    if heading is not None or style == "Title":
        outline.enter(int(heading[1]) if heading else 1, text)
    elif style.startswith("List") and text.strip():
        outline.add(f"- {text}")
    else:
        outline.add(text)


def _table(table: Table) -> str:
    rows = []
    for row in table.rows:
        cells = row.cells
        # A merged cell comes once for each column it spans.
        distinct = [cell for i, cell in enumerate(cells) if i == 0 or cell is not cells[i - 1]]
        rows.append(" | ".join(" ".join(tidy(cell.text).split()) for cell in distinct))
    return "\n".join(rows)
