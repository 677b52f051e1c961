"""reStructuredText: parsed by docutils with everything switched off that reaches outside."""

from __future__ import annotations

from nearfield.errors import MissingDependencyError
from nearfield.ingest.entries import Entry
from nearfield.ingest.readers.outline import Outline

__all__ = ["read_restructured"]

_SETTINGS = {
    "_disable_config": True,  # no docutils.conf of the current folder
    "file_insertion_enabled": False,  # no include, no csv-table from a file or URL
    "raw_enabled": False,
    "input_encoding": "unicode",
    "doctitle_xform": False,  # a lone title is a section as any other
    "report_level": 5,
    "halt_level": 5,
    "warning_stream": False,
    "syntax_highlight": "none",
    "smart_quotes": False,
    "line_length_limit": 1_000_000,
}


def read_restructured(text: str, name: str) -> list[Entry]:
    """Read reStructuredText; directives that docutils does not know keep their source text.

    Nothing is included from other files, executed or fetched. Comments are left out.
    """
    try:
        from docutils.core import publish_doctree  # of the extra `files`
    except ImportError:
        raise MissingDependencyError(
            "docutils", extra="files", purpose="reading reStructuredText files"
        ) from None

    from nearfield.ingest.readers.doctree import walk  # imports docutils

    document = publish_doctree(text, source_path=name, settings_overrides=_SETTINGS)
    outline = Outline()
    walk(document, outline)
    return [Entry(outline.sections(), title=outline.title)]
