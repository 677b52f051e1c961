"""Queries, and judgements of which documents answer them, from the files that benchmarks use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearfield.errors import InvalidInputError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

__all__ = ["read_judgements", "read_queries"]

_HEADER = ("query-id", "corpus-id", "score")
_BEIR_COLUMNS = 3
_TREC_COLUMNS = 4


def read_queries(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read queries in the layout of BEIR: JSON Lines with ``_id`` and ``text``.

    Source of the layout: Thakur et al., "BEIR", NeurIPS 2021.

    Returns:
        The text of each query by its id, in the order of the file.

    Raises:
        InvalidInputError: The file is not of this layout; the message says which line.
        OSError: The file cannot be read.
    """
    queries: dict[str, str] = {}
    for number, line in _lines(path):
        identifier, text = _read_query(line, f"{path}, line {number}")
        if queries.setdefault(identifier, text) != text:
            raise InvalidInputError(
                f"{path}, line {number}: the query {identifier!r} has another text further up"
            )
    if not queries:
        raise InvalidInputError(f"{path} holds no query; expected JSON Lines with _id and text")
    return queries


def read_judgements(path: str | os.PathLike[str]) -> dict[str, dict[str, int]]:
    """Read judgements in the layout of BEIR or of TREC, whichever the first line is in.

    BEIR's has the columns query, document and relevance, separated by tabs, and may have a header;
    TREC's has the columns query, iteration (not used), document and relevance, separated by blanks.

    Returns:
        For each query's id the relevance of documents by their ids; 0 or less is not relevant.

    Raises:
        InvalidInputError: The file is of neither layout, or judges a document twice and
            differently; the message says which line.
        OSError: The file cannot be read.
    """
    judgements: dict[str, dict[str, int]] = {}
    columns = 0
    for number, line in _lines(path):
        tabbed = tuple(cell.strip() for cell in line.split("\t"))
        if not columns:
            columns = _BEIR_COLUMNS if len(tabbed) == _BEIR_COLUMNS else _TREC_COLUMNS
            if tabbed == _HEADER:
                continue
        cells = tabbed if columns == _BEIR_COLUMNS else tuple(line.split())
        query, document, relevance = _read_judgement(cells, columns, f"{path}, line {number}")
        if judgements.setdefault(query, {}).setdefault(document, relevance) != relevance:
            raise InvalidInputError(
                f"{path}, line {number}: the document {document!r} was judged "
                f"{judgements[query][document]} for the query {query!r} further up, and here "
                f"{relevance}"
            )
    if not judgements:
        raise InvalidInputError(
            f"{path} holds no judgement; expected the columns {', '.join(_HEADER)}"
        )
    return judgements


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    """Iterate over the lines that are not blank, with their numbers from 1."""
    with Path(path).open(encoding="utf-8-sig") as file:
        try:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
        except UnicodeDecodeError as error:
            raise InvalidInputError(f"{path} is not UTF-8: {error.reason}") from None


def _read_query(line: str, place: str) -> tuple[str, str]:
    try:
        entry: Any = json.loads(line)
    except ValueError as error:
        raise InvalidInputError(f"{place} is not JSON: {error}") from None
    identifier = entry.get("_id") if isinstance(entry, dict) else None
    text = entry.get("text") if isinstance(entry, dict) else None
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    if not isinstance(identifier, str) or not identifier or not isinstance(text, str):
        raise InvalidInputError(f'{place}: expected an object with the strings "_id" and "text"')
    return identifier, text


def _read_judgement(cells: tuple[str, ...], columns: int, place: str) -> tuple[str, str, int]:
    if len(cells) != columns or not all(cells):
        expected = (
            "3 columns separated by tabs: query-id, corpus-id, score"
            if columns == _BEIR_COLUMNS
            else "3 columns separated by tabs (query-id, corpus-id, score) or TREC's 4"
        )
        raise InvalidInputError(f"{place}: {len(cells)} columns, expected {expected}")
    try:
        return cells[0], cells[-2], int(cells[-1])
    except ValueError:
        raise InvalidInputError(
            f"{place}: the relevance is {cells[-1]!r}, expected a whole number"
        ) from None
