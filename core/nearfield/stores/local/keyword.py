"""Keyword search: BM25 over SQLite's FTS5 index, which is written in the documents' transaction."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import numpy as np

from nearfield.words import search_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "index_slots",
    "keyword_top_k",
    "match_expression",
    "rebuild_index",
    "unindex_texts",
    "verify_index",
]

_SPARE_ROWS = 16
"""Fetched beyond the k-th, to see where its ties end."""
_MOST_ROWS = 2**40
"""More than any table has, and an integer that SQLite takes."""
_RANKED = (
    "SELECT rowid, bm25(documents_fts) AS score FROM documents_fts "
    "WHERE documents_fts MATCH ? ORDER BY score LIMIT ?"
)
_RANKED_AMONG_ALLOWED = _RANKED.replace("MATCH ?", "MATCH ? AND is_allowed(rowid)")


def match_expression(query: str) -> str | None:
    """Turn a user's text into an FTS5 expression that matches any of its words.

    Each word is quoted, so nothing in the text is read as FTS5 syntax. Stop words count only when
    there is nothing else.

    Returns:
        None when there is no word to search for.
    """
    words = search_words(query)
    if not words:
        return None
    return " OR ".join(f'"{word}"' for word in words)


def keyword_top_k(
    connection: sqlite3.Connection, query: str, k: int, allowed: NDArray[np.int64] | None
) -> list[tuple[int, float]]:
    """Rank documents by BM25 (k1 = 1.2, b = 0.75, as FTS5 fixes them).

    Args:
        connection: In a transaction.
        query: Any text.
        k: How many.
        allowed: The slots to consider, ascending; None for all.

    Returns:
        Slots and scores, best first, with all that tie with the k-th best.
    """
    expression = match_expression(query)
    if expression is None or (allowed is not None and not len(allowed)):
        return []
    statement = _RANKED
    if allowed is not None:
        _register(connection, allowed)
        statement = _RANKED_AMONG_ALLOWED
    limit = min(k, _MOST_ROWS) + _SPARE_ROWS
    while True:
        rows = connection.execute(statement, (expression, limit)).fetchall()
        if len(rows) < limit or rows[-1][1] > rows[k - 1][1]:
            kth = rows[:k][-1][1] if rows else 0.0
            return [(slot, -score) for slot, score in rows if score <= kth]
        limit *= 4  # more rows tie with the k-th


def _register(connection: sqlite3.Connection, allowed: NDArray[np.int64]) -> None:
    """Define the SQL function ``is_allowed``: documents it refuses are never scored."""
    last = int(allowed[-1])
    mask = np.zeros(last + 1, np.bool_)
    mask[allowed] = True
    is_allowed = mask.tobytes()
    connection.create_function("is_allowed", 1, lambda slot: 0 < slot <= last and is_allowed[slot])


def index_slots(connection: sqlite3.Connection, after: int) -> None:
    """Add the documents beyond a slot to the index."""
    connection.execute(
        "INSERT INTO documents_fts (rowid, text) SELECT slot, text FROM documents WHERE slot > ?",
        (after,),
    )


def unindex_texts(connection: sqlite3.Connection, texts: list[tuple[int, str]]) -> None:
    """Take documents out of the index, given their slots and the very texts that went in."""
    connection.executemany(
        "INSERT INTO documents_fts (documents_fts, rowid, text) VALUES ('delete', ?, ?)", texts
    )


def rebuild_index(connection: sqlite3.Connection) -> None:
    """Make the index anew from the texts."""
    connection.execute("INSERT INTO documents_fts (documents_fts) VALUES ('rebuild')")


def verify_index(connection: sqlite3.Connection) -> None:
    """Compare the index with the texts; SQLite reports a difference as corruption."""
    connection.execute(
        "INSERT INTO documents_fts (documents_fts, rank) VALUES ('integrity-check', 1)"
    )
