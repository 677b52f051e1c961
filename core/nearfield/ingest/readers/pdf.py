"""PDF: the text of each page."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from nearfield.errors import IngestError, MissingDependencyError
from nearfield.ingest.entries import Entry, Section
from nearfield.ingest.readers.encoding import tidy

if TYPE_CHECKING:
    from pypdf import PdfReader

__all__ = ["read_pdf"]


def read_pdf(data: bytes, name: str) -> list[Entry]:
    """Read a PDF's text layer, a section a page.

    Raises:
        IngestError: It is damaged, needs a password, or holds pictures of text only.
    """
    try:
        from pypdf import PdfReader  # of the extra `files`
        from pypdf.errors import PyPdfError  # of the extra `files`
    except ImportError:
        raise MissingDependencyError("pypdf", extra="files", purpose="reading PDF files") from None

    try:
        reader = PdfReader(io.BytesIO(data))
        _unlock(reader, name)
        texts = [tidy(page.extract_text()).strip() for page in reader.pages]
        title = (reader.metadata.title if reader.metadata else None) or ""
    except PyPdfError as error:
        raise IngestError(f"{name} is not a readable PDF: {error}", source=name) from error
    sections = tuple(
        Section(text, page=number) for number, text in enumerate(texts, start=1) if text
    )
    if texts and not sections:
        raise IngestError(
            f"{name} has {len(texts)} pages but no text in them, as scans do; run it through text "
            "recognition (OCR) first",
            source=name,
        )
    return [Entry(sections, title=" ".join(tidy(title).split()))]


def _unlock(reader: PdfReader, name: str) -> None:
    from pypdf import PasswordType  # of the extra `files`
    from pypdf.errors import DependencyError  # of the extra `files`

    if not reader.is_encrypted:
        return
    try:
        # Many files are locked against changes only: the empty password opens them.
        opened = reader.decrypt("") is not PasswordType.NOT_DECRYPTED
    except DependencyError as error:
        raise IngestError(
            f"{name} is encrypted, and decrypting it needs the package 'cryptography'; install it "
            "with: pip install cryptography",
            source=name,
        ) from error
    if not opened:
        raise IngestError(
            f"{name} is encrypted and needs a password; save a copy without one", source=name
        )
