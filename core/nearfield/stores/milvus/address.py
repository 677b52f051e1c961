"""Where a Milvus database is: a file of Milvus Lite, or a server."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from nearfield.errors import InvalidURLError

__all__ = ["Address", "Consistency", "Index"]

_EXPECTED = "expected milvus:///path/to/file.db or milvus://host:19530"
_DATABASE = "default"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_PORT = 19530
_SECURE_PORT = 443
_YES = {"true": True, "1": True, "false": False, "0": False}
_TOKEN = "MILVUS_TOKEN"  # noqa: S105  a variable's name
_OPTIONS = ("ssl", "database", "consistency", "index")


class Consistency(StrEnum):
    """Which acknowledged writes a server's reads wait for."""

    SESSION = "Session"
    """Those of this process."""
    STRONG = "Strong"
    """Those of everyone."""


class Index(StrEnum):
    """What searches go through."""

    FLAT = "flat"
    """Every vector."""
    LISTS = "ivf_flat"
    """Lists of similar vectors, some or all of them."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is, and how it is spoken to.

    Attributes:
        folder: The folder of Milvus Lite, whose name ends in ``.db`` by custom; None where there
            is a server.
        host: The server's name.
        port: Its port.
        ssl: Whether to speak TLS.
        token: What proves who is asking, such as ``user:password``; empty for nothing.
        database: The database's name.
        consistency: What reads wait for.
        index: What collections are born with; None where the URL does not say.
        timeout_s: Seconds for a call, with all its attempts.
        read_only: Whether to refuse every write.
    """

    folder: Path | None
    host: str
    port: int
    ssl: bool
    token: str = field(repr=False)
    database: str
    consistency: Consistency
    index: Index | None
    timeout_s: float
    read_only: bool

    @classmethod
    def at(cls, url: str, *, timeout_s: float, read_only: bool) -> Address:
        """Read a URL."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise InvalidURLError(f"the database URL cannot be read; {_EXPECTED}") from None
        if parts.fragment or "@" in parts.path + parts.query:
            # By anyone: it may well be a password that was cut in two.
            raise InvalidURLError(
                f"the database URL cannot be read; {_EXPECTED}, with %40 for @, %2F for /, %3F for "
                "? and %23 for # in a name or password"
            )
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if options.keys() - set(_OPTIONS):
            raise InvalidURLError(
                f"the database URL has an option that is not known; known: {', '.join(_OPTIONS)}; "
                f"a token is given by the environment variable {_TOKEN}"
            )
        folder = None
        if not parts.hostname:
            folder = _folder(parts.path)
            if options.keys() - {"database"} or parts.netloc:
                raise InvalidURLError("the URL of a file takes the option database, no other")
        elif parts.path not in {"", "/"}:
            raise InvalidURLError(
                f"the server {parts.hostname} has no path; name a database with ?database=…, or a "
                "file with three slashes: milvus:///path/to/file.db"
            )
        ssl = _YES.get(options.get("ssl", "false").lower())
        if ssl is None:
            raise InvalidURLError("?ssl= is neither true nor false")
        return cls(
            folder,
            parts.hostname or "",
            port or (_SECURE_PORT if ssl else _PORT),
            ssl,
            _token(parts.username, parts.password),
            _database(options.get("database") or _DATABASE),
            _consistency(options.get("consistency", "session")),
            _index(options.get("index")),
            timeout_s,
            read_only,
        )

    @property
    def place(self) -> str:
        """The server's host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_default_database(self) -> bool:
        """Whether the database is the one that is always there."""
        return self.database == _DATABASE

    @property
    def shown(self) -> str:
        """The URL, without who is asking."""
        options = [
            f"{name}={value}"
            for name, value, usual in (
                ("ssl", str(self.ssl).lower(), "false"),
                ("database", self.database, _DATABASE),
            )
            if value != usual
        ]
        place = self.place if self.folder is None else self.folder.as_posix()
        return f"milvus://{place}{'?' if options else ''}{'&'.join(options)}"


def _folder(path: str) -> Path:
    name = unquote(path)
    if name in {"", "/"} or "\0" in name:
        raise InvalidURLError(f"the database URL names no file and no server; {_EXPECTED}")
    if os.name == "nt":  # milvus:///C:/data.db
        name = name.removeprefix("/")
    return Path(os.path.realpath(name))


def _token(user: str | None, password: str | None) -> str:
    if user is None:
        return os.environ.get(_TOKEN, "")
    return unquote(user) if password is None else f"{unquote(user)}:{unquote(password)}"


def _database(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidURLError(
            f"?database={name!a} cannot name a database; expected letters, digits and '_', not "
            "beginning with a digit"
        )
    return name


def _index(name: str | None) -> Index | None:
    try:
        return None if name is None else Index(name.lower())
    except ValueError:
        raise InvalidURLError(f"?index={name!a} is not known; expected flat or ivf_flat") from None


def _consistency(name: str) -> Consistency:
    try:
        return Consistency(name.capitalize())
    except ValueError:
        raise InvalidURLError(
            f"?consistency={name!a} is not known; expected session or strong"
        ) from None
