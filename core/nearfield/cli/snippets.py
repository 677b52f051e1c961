"""The part of a text that fits a query, safe to show on a terminal."""

from __future__ import annotations

import re
from itertools import islice

__all__ = ["printable", "snippet", "words"]

_MAX_SNIPPET_CHARACTERS = 280
# Too common to say anything about where in a text the answer is.
_STOP_WORDS = frozenset(
    {
        *("a", "an", "and", "are", "as", "at", "be", "but", "by", "can", "do", "does", "for"),
        *("from", "has", "have", "how", "i", "if", "in", "into", "is", "it", "its", "me", "my"),
        *("no", "not", "of", "on", "or", "so", "than", "that", "the", "their", "then", "there"),
        *("these", "this", "to", "was", "we", "what", "when", "where", "which", "who", "why"),
        *("will", "with", "you", "your"),
    }
)
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def words(query: str) -> list[str]:
    """Return the words of a query that are worth looking for, lower case, each once."""
    found = re.findall(r"\w+", query.lower())
    return list(dict.fromkeys(word for word in found if word not in _STOP_WORDS))


def printable(text: str) -> str:
    """Replace control characters, so that no text can steer the terminal that shows it."""
    return _CONTROL_CHARACTERS.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def snippet(text: str, query: str, *, size: int = _MAX_SNIPPET_CHARACTERS) -> str:
    """Return the stretch of a text that holds most of a query's words, on one line.

    Args:
        text: The whole text.
        query: What was searched for; without any of its words in the text, the beginning is
            returned.
        size: The most characters to return, less the ellipses.
    """
    line = " ".join(printable(text).split())
    if len(line) <= size:
        return line
    start = _best_start(line, query, size)
    end = min(len(line), start + size)
    if end < len(line):
        end = line.rfind(" ", start + 1, end + 1) if " " in line[start + 1 : end + 1] else end
    return ("… " if start else "") + line[start:end].strip() + (" …" if end < len(line) else "")


def _best_start(line: str, query: str, size: int) -> int:
    """Find where the window with the most different words of the query begins."""
    wanted = words(query)
    if not wanted:
        return 0
    # The first letters stand for the word's other forms: "parsing" is found by "parse".
    stems = "|".join(re.escape(word[:5]) for word in wanted)
    places = [
        (match.start(), match.group().lower())
        for match in re.finditer(rf"\b(?:{stems})", line, re.IGNORECASE)
    ]
    best, best_start = 0, 0
    for index, (place, _) in enumerate(places):
        inside = set()
        for other, word in islice(places, index, None):
            if other >= place + size:
                break
            inside.add(word)
        if len(inside) > best:
            best, best_start = len(inside), place
    if best_start < size // 2:
        return 0
    return line.find(" ", best_start - size // 6) + 1
