"""The words of texts as sparse vectors, whose inner products are keyword scores.

The weight of a word in a text is the one of BM25 (k1 = 1.2, b = 0.75; Robertson and Zaragoza, The
Probabilistic Relevance Framework, 2009), with a fixed length in the place of the mean one, and
without the word's rarity, of which Milvus and Pinecone say nothing: so a score says something of
its document alone, and the same at all times.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from itertools import groupby, islice
from operator import itemgetter
from typing import TypeAlias
from zlib import crc32

from nearfield.words import MAX_WORDS, search_words

__all__ = ["Words", "asked_words", "text_words"]

Words: TypeAlias = dict[int, float]
"""A weight for each word, by the word's number."""

_SEARCHED_CHARACTERS = 150_000
"""What lies beyond, no keyword finds."""
_TABLES = (
    """CREATE VIRTUAL TABLE texts USING fts5(
        text, tokenize = 'porter unicode61 remove_diacritics 2', content = '', columnsize = 0
    )""",
    "CREATE VIRTUAL TABLE words USING fts5vocab(texts, instance)",
)
"""Words as the embedded engine's, so that the same words are found."""
_K1, _B = 1.2, 0.75
_LENGTH = 128
"""Words in a text of usual length."""
_GRAIN = 4096
"""Weights are fractions of this, so that 32-bit sums of ``MAX_WORDS`` of them, too, are exact."""
_NUMBERS = 2**32 - 2
"""Milvus takes numbers below 2**32 - 1. No word has the number 0."""


def text_words(texts: Sequence[str]) -> list[Words]:
    """Return the sparse vectors of texts, empty where a text has no word."""
    return [_weighed(counts) for counts in _counted(texts)]


def asked_words(query: str) -> Words:
    """Return the sparse vector of what to search for, empty where a query has no word."""
    (counts,) = _counted([" ".join(search_words(query))])
    return dict.fromkeys(islice(counts, MAX_WORDS), 1.0)


def _counted(texts: Sequence[str]) -> list[Counter[int]]:
    """Count the words of texts, by their numbers: stems, without case and accents."""
    found: list[Counter[int]] = [Counter() for _ in texts]
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for table in _TABLES:
            connection.execute(table)
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO texts (rowid, text) VALUES (?, ?)",
            ((place, text[:_SEARCHED_CHARACTERS]) for place, text in enumerate(texts)),
        )
        places = connection.execute("SELECT term, doc FROM words ORDER BY term")
        for word, some in groupby(places, itemgetter(0)):
            number = 1 + crc32(word.encode()) % _NUMBERS
            for _, place in some:
                found[place][number] += 1
    return found


def _weighed(counts: Counter[int]) -> Words:
    scale = _K1 * (1 - _B + _B * counts.total() / _LENGTH)
    return {
        number: max(1, round(_GRAIN * times * (_K1 + 1) / (times + scale))) / _GRAIN
        for number, times in counts.items()
    }
