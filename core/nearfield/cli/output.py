"""What people and programs read: documents, hits, tables and JSON on stdout, progress on stderr."""

from __future__ import annotations

import json
import re
import sys
from contextlib import nullcontext
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console
from rich.text import Text

from nearfield.cli.snippets import printable, snippet, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from nearfield.documents import Document, Hit

__all__ = [
    "document_json",
    "hit_json",
    "note",
    "print_document",
    "print_hit_lines",
    "print_hits",
    "print_json",
    "print_line",
    "print_pairs",
    "print_table",
    "stderr",
    "stdout",
    "working",
]

_MAX_TEXT_COLUMNS = 96  # longer lines are hard to read, however wide the terminal
_INDENT_COLUMNS = 4


class _PipeAwareConsole(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Let the command line end as it does for any other closed pipe."""
        raise BrokenPipeError


def stdout() -> Console:
    """Return the console of results; without colour or markup where it is not a terminal."""
    return _PipeAwareConsole(file=sys.stdout, highlight=False, markup=False, emoji=False)


def stderr() -> Console:
    """Return the console of progress and messages."""
    return Console(file=sys.stderr, highlight=False, markup=False, emoji=False)


def note(message: str) -> None:
    """Tell a person something that is not part of the result."""
    stderr().print(Text(printable(message)), soft_wrap=True)


def working(message: str) -> AbstractContextManager[Any]:
    """Show on stderr that something of unknown length goes on, if a person is looking."""
    return stderr().status(message) if sys.stderr.isatty() else nullcontext()


def print_json(value: Any) -> None:
    """Print one JSON document, indented for a terminal and on one line otherwise."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    indent = 2 if sys.stdout.isatty() else None
    text = json.dumps(value, ensure_ascii=not utf8, indent=indent, default=_plain)
    sys.stdout.write(f"{text}\n")


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def document_json(document: Document) -> dict[str, Any]:
    """Return the fields of a document that the command line shows."""
    return {
        "id": document.id,
        "text": document.text,
        "metadata": dict(document.metadata),
        "created_at": document.created_at,
    }


def hit_json(hit: Hit) -> dict[str, Any]:
    """Return the fields of a hit that the command line shows."""
    return {
        "rank": hit.rank,
        "score": hit.score,
        "relevance": hit.relevance,
        "id": hit.id,
        "text": hit.text,
        "metadata": dict(hit.document.metadata),
    }


def print_hits(hits: Sequence[Hit], *, query: str = "", full: bool = False) -> None:
    """Print hits, best first: rank, score, title and section, id, and the fitting part."""
    console = stdout()
    for number, hit in enumerate(hits):
        if number:
            console.print()
        title, shown_id = _title(hit.document), printable(hit.id)
        says_it_all = not title or shown_id.startswith(title)
        head = _rank_and_score(hit, len(hits))
        head.append(shown_id if says_it_all else title, style="bold")
        _print_block(console, head, indent=0)
        if not says_it_all:
            _print_block(console, Text(shown_id, style="dim"))
        body = printable(hit.text).strip() if full else snippet(hit.text, query)
        _print_block(console, _emphasised(body, query))


def print_hit_lines(hits: Sequence[Hit]) -> None:
    """Print hits on one line each: rank, score, title or id, and how the text goes on."""
    console = stdout()
    for hit in hits:
        title = _title(hit.document) or printable(hit.id)
        line = _rank_and_score(hit, len(hits)).append(title, style="bold")
        _, _, rest = printable(hit.text).partition("\n")
        line.append(f"  {' '.join(rest.split())}")
        line.truncate(min(console.width, _MAX_TEXT_COLUMNS), overflow="ellipsis")
        console.print(line, no_wrap=True)


def _rank_and_score(hit: Hit, hits: int) -> Text:
    text = Text().append(f"{hit.rank:>{len(str(hits))}}", style="cyan")
    return text.append(f"  {hit.score:.3f}  ", style="green")


def _title(document: Document) -> str:
    """Join the title and the section of a document, if it has them."""
    fields = [document.metadata.get(name) for name in ("title", "section")]
    parts = [printable(field) for field in fields if isinstance(field, str) and field.strip()]
    if len(parts) > 1 and parts[1].startswith(parts[0]):
        parts = parts[1:]  # the outermost heading often is the title
    return " · ".join(parts)


def print_document(document: Document) -> None:
    """Print a whole document: its id, its metadata and its text."""
    console = stdout()
    _print_block(console, Text(printable(document.id), style="bold"), indent=0)
    for key, value in document.metadata.items():
        shown = value if isinstance(value, str) else json.dumps(value, default=_plain)
        line = Text(f"{printable(key)}: ", style="dim")
        _print_block(console, line.append(printable(shown).strip(), style="dim"))
    console.print()
    _print_block(console, Text(printable(document.text).strip()))


def print_line(message: str, *, style: str = "") -> None:
    """Print one line of the result, whatever its length."""
    stdout().print(Text(printable(message), style=style), soft_wrap=True)


def print_pairs(pairs: Mapping[str, Any]) -> None:
    """Print names and values in two columns."""
    _print_columns([(name, str(value)) for name, value in pairs.items()], style="dim")


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under headings; nothing is cut off, so the last column may be wrapped."""
    cells = list(rows)
    _print_columns([headings, *cells], header_style="dim")


def _print_columns(
    rows: Sequence[Sequence[str]], *, style: str = "", header_style: str = ""
) -> None:
    """Print cells in columns of their own width; ``style`` is that of the first column."""
    shown = [[" ".join(printable(cell).split()) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    console = stdout()
    for number, row in enumerate(shown):
        line = Text(style=header_style if number == 0 else "")
        for position, cell in enumerate(row):
            last = position == len(row) - 1
            text = cell if last else f"{cell:<{widths[position]}}  "
            line.append(text, style=style if position == 0 else "")
        console.print(line, soft_wrap=True)


def _emphasised(body: str, query: str) -> Text:
    text = Text(body)
    for word in words(query):
        text.highlight_regex(rf"(?i)\b{re.escape(word)}\w{{0,2}}\b", "bold yellow")
    return text


def _print_block(console: Console, text: Text, *, indent: int = _INDENT_COLUMNS) -> None:
    width = max(min(console.width, _MAX_TEXT_COLUMNS) - indent, 1)
    for line in text.wrap(console, width, overflow="fold"):
        line.rstrip()
        console.print(Text(" " * indent if line else "").append_text(line), soft_wrap=True)
