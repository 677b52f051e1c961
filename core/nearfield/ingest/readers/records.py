"""Files of records: JSON, JSON Lines and CSV; each record is a document of its own.

A record's text is its field ``text``, ``content``, ``body`` or the like, after its title; without
such a field, it is all the fields as lines of ``key: value``. Its ``id`` tells it apart from the
others, or else its number in the file. The remaining fields become metadata, as far as they are
short; long strings are appended to the text.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nearfield.errors import IngestError
from nearfield.ingest.entries import Entry, Section
from nearfield.ingest.readers.fields import metadata_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["read_csv", "read_json", "read_json_lines"]

_TEXT_FIELDS = ("text", "content", "body", "page_content", "document", "passage", "abstract")
_TITLE_FIELDS = ("title", "name", "headline")
_ID_FIELDS = ("id", "_id", "doc_id", "docid", "uuid")
_MAX_ID_BYTES = 512
_DELIMITERS = ",;\t|"
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")  # no leading zeros: those are codes, not numbers
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17})?(?:[eE][-+]?[0-9]{1,2})?")
_INT64 = range(-(2**63), 2**63)


def read_json(text: str, name: str) -> list[Entry]:
    """Read a JSON file: an array has a record per item, anything else is one record.

    ``NaN`` is read as null.

    Raises:
        IngestError: It is not JSON; the message says where.
    """
    value = _parse(text, name, where="")
    return _entries(value if isinstance(value, list) else [value])


def read_json_lines(text: str, name: str) -> list[Entry]:
    """Read JSON Lines: a record per line; blank lines are passed over.

    Raises:
        IngestError: A line is not JSON; the message says which.
    """
    lines = enumerate(text.split("\n"), start=1)
    return _entries(_parse(s, name, where=f" in line {n}") for n, s in lines if s.strip())


def read_csv(text: str, name: str) -> list[Entry]:
    """Read a table with a header row: a record per row, the column names as keys.

    The delimiter is a tab in ``.tsv`` files, else the most frequent of comma, semicolon, tab and
    bar in the header. A column whose every value is a number becomes numbers; an empty cell is
    left out.

    Raises:
        IngestError: A quote is never closed, or stands where none may.
    """
    delimiter = "\t" if name.lower().endswith(".tsv") else _delimiter(text)
    # The limit is one for the whole process, so it is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        table = [row for row in rows if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise IngestError(
            f"{name} is not a readable table: {error}, near line {rows.line_num}", source=name
        ) from error
    if not table:
        return []
    width = max(map(len, table))
    header = _column_names(table[0], width)
    columns = [_typed([row[i] if i < len(row) else "" for row in table[1:]]) for i in range(width)]
    return _entries(
        {key: column[i] for key, column in zip(header, columns, strict=True) if column[i] != ""}
        for i in range(len(table) - 1)
    )


def _delimiter(text: str) -> str:
    header = re.sub(r'"[^"]*"', "", text.lstrip("\n").split("\n", 1)[0])
    return max(_DELIMITERS, key=header.count)


def _column_names(header: list[str], width: int) -> list[str]:
    taken: dict[str, int] = {}
    names = (header[i].strip() if i < len(header) else "" for i in range(width))
    return [_unused(name or f"column_{i + 1}", taken) for i, name in enumerate(names)]


def _typed(cells: list[str]) -> list[str] | list[int | str] | list[float | str]:
    values = [cell.strip() for cell in cells]
    filled = [value for value in values if value]
    if all(_INTEGER.fullmatch(value) for value in filled):
        return [int(value) if value else "" for value in values]
    if all(_NUMBER.fullmatch(value) for value in filled):
        return [float(value) if value else "" for value in values]
    return values


def _parse(text: str, name: str, *, where: str) -> Any:
    def read_constant(constant: str) -> None:
        if constant != "NaN":  # which dataframes write for "missing"
            raise IngestError(f"{name} is not JSON: {constant}{where}", source=name)

    try:
        # Not msgspec's: this one says where the fault is, and reads integers of any size.
        return json.loads(text, parse_constant=read_constant)
    except json.JSONDecodeError as error:
        place = f"{where}, column {error.colno}" if where else f", line {error.lineno}"
        raise IngestError(f"{name} is not JSON: {error.msg}{place}", source=name) from error


def _entries(values: Iterable[Any]) -> list[Entry]:
    taken: dict[str, int] = {}
    return [_entry(value, number, taken) for number, value in enumerate(values, start=1)]


def _entry(value: Any, number: int, taken: dict[str, int]) -> Entry:
    if not isinstance(value, Mapping):
        text = "\n".join(_rendered("", value))
        return Entry((Section(text),), record=_unused(str(number), taken))
    fields = {key: _storable(item) for key, item in value.items() if key}
    is_text = _is_filled_text
    text_field = _first(fields, _TEXT_FIELDS, is_text)
    title_field = _first(fields, _TITLE_FIELDS, is_text)
    id_field = _first(fields, _ID_FIELDS, _is_usable_id)
    title = "" if title_field is None else fields[title_field].strip()
    if text_field is None:
        text = "\n".join(_rendered("", fields))
    else:
        text = fields[text_field].strip()
        if title and not text.startswith(title):
            text = f"{title}\n\n{text}"
    key = str(number) if id_field is None else str(fields[id_field])
    used = {text_field, title_field, id_field}
    rest = {key: item for key, item in fields.items() if key not in used}
    kept = metadata_fields(rest)
    if text_field is not None:
        # What is too long for metadata is text.
        long = {k: v for k, v in rest.items() if k not in kept and isinstance(v, str)}
        text = "\n\n".join([text, *_rendered("", long)])
    return Entry((Section(text),), title=title, record=_unused(key, taken), metadata=kept)


def _first(
    fields: Mapping[str, Any], names: Iterable[str], accept: Callable[[Any], bool]
) -> str | None:
    by_name: dict[str, str] = {}
    for key in fields:
        by_name.setdefault(key.lower(), key)
    for name in names:
        if name in by_name and accept(fields[by_name[name]]):
            return by_name[name]
    return None


def _is_filled_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_usable_id(value: Any) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return True
    if not isinstance(value, str) or not value.strip():
        return False
    return len(value.encode("utf-8", "replace")) <= _MAX_ID_BYTES


def _storable(value: Any) -> Any:
    """Make a JSON value one that metadata may hold: integers beyond 64 bits become text."""
    if isinstance(value, dict):
        return {key: _storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, int) and value not in _INT64:
        return str(value)
    return value


def _rendered(path: str, value: Any) -> Iterator[str]:
    """Write a value as lines of ``key: value``, nested keys with dots."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _rendered(f"{path}.{key}" if path else str(key), item)
    elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        for item in value:
            yield from _rendered(path, item)
    elif value is not None and value != "":
        shown = ", ".join(map(_shown, value)) if isinstance(value, list) else _shown(value)
        yield f"{path}: {shown}" if path else shown


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _unused(name: str, taken: dict[str, int]) -> str:
    """Return the name, with ``~2`` or more behind it where it is taken, and take it."""
    candidate = name
    while candidate in taken:
        taken[name] += 1
        candidate = f"{name}~{taken[name]}"
    taken[candidate] = 1
    return candidate
