"""What the URLs of databases hold that nobody may read: kept out of what the server logs."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, unquote

__all__ = ["Concealer", "credentials_in", "holds_secret"]

_USER = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)@")
_SECRET_NAMES = re.compile(
    r"(password|passwd|secret|token|credentials?)$|(^|[._-])(pass|pwd|sig|(api|access)?[._-]?key)$",
    re.IGNORECASE,
)
_SHORTEST = 4
"""A secret that is shorter is only known in its place in the URL: it may be part of any word."""
_formatter = logging.Formatter()


def credentials_in(url: str) -> set[str]:
    """Return what of a URL must not be shown, as it stands there and decoded."""
    found = set()
    user = _USER.match(url)
    if user is not None:
        name, colon, password = user[1].partition(":")
        found |= {user[1], password if colon else name}
    query = url.partition("?")[2].partition("#")[0]
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if _SECRET_NAMES.search(unquote(name)):
            found |= {pair, value, *(given for _, given in parse_qsl(pair))}
    decoded = {unquote(each) for each in found}
    return {each for each in found | decoded if len(each) >= _SHORTEST}


def holds_secret(url: str) -> bool:
    """Whether a URL holds a password, or a key as one of its options."""
    user = _USER.match(url)
    has_password = user is not None and ":" in user[1]
    query = url.partition("?")[2].partition("#")[0]
    names = (unquote(pair.partition("=")[0]) for pair in query.split("&"))
    return has_password or any(_SECRET_NAMES.search(name) for name in names)


class Concealer(logging.Filter):
    """Takes credentials out of what is logged, wherever the message is from.

    Args:
        urls: Of databases.
    """

    def __init__(self, urls: Iterable[str]) -> None:
        super().__init__()
        secrets = {secret for url in urls for secret in credentials_in(url)}
        longest_first = sorted(secrets, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, longest_first))) if secrets else None

    def cover_all(self) -> None:
        """Have every handler that there is now use this."""
        if self._secrets is not None:
            for handler in logging.getLogger().handlers:
                handler.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Change a record, and let it through."""
        if self._secrets is None:
            return True
        record.msg, record.args = self._secrets.sub("***", record.getMessage()), None
        if record.exc_info:
            text = _formatter.formatException(record.exc_info)
            record.exc_text, record.exc_info = self._secrets.sub("***", text), None
        return True
