"""The words of a query: what a keyword search looks for, on every store."""

from __future__ import annotations

import re

__all__ = ["MAX_WORDS", "search_words"]

MAX_WORDS = 256
"""More words of a query than these are passed over."""
_SEPARATORS = re.compile(r"[\s\x00-/:-@\[-`{-\x7f]+")
# Lucene's English stop set, and the words that questions are made of.
_STOP_WORDS = frozenset(
    """
    a an and are as at be but by for if in into is it no not of on or such that the their then
    there these they this to was will with
    am can could did do does had has have how i me my our should so than us we were what when
    where which who why would you your
    """.split()
)


def search_words(query: str) -> list[str]:
    """Return the words to look for, each once and in lower case.

    Stop words count only when there is nothing else.
    """
    words = dict.fromkeys(word for word in _SEPARATORS.split(query.lower()) if word)
    telling = [w for w in words if w not in _STOP_WORDS and any(map(str.isalnum, w))] or list(words)
    return telling[:MAX_WORDS]
