"""Where a Chroma database is: a folder, or a server."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from nearfield.errors import InvalidURLError

__all__ = ["Address"]

_EXPECTED = "expected chroma:///path/to/folder or chroma://host:8000"
_TENANT, _DATABASE = "default_tenant", "default_database"
_PORT = 8000
_SECURE_PORT = 443
_YES = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is, and how it is spoken to.

    Attributes:
        folder: The folder of an embedded database; None where there is a server.
        host: The server's name.
        port: Its port.
        ssl: Whether to speak TLS.
        tenant: The tenant whose database it is.
        database: The database's name.
        timeout_s: Seconds for a call, with all its attempts.
        read_only: Whether to refuse every write.
    """

    folder: Path | None
    host: str
    port: int
    ssl: bool
    tenant: str
    database: str
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
        if "@" in parts.netloc:
            raise InvalidURLError(
                "a chroma:// URL holds no user and no password; leave them out, and give a token "
                "by the environment variable CHROMA_API_KEY"
            )
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        tenant = options.pop("tenant", "") or _TENANT
        database = options.pop("database", "") or _DATABASE
        ssl = _YES.get(options.pop("ssl", "false").lower())
        if options or ssl is None:
            wrong = ", ".join(sorted(options)) or "ssl"
            raise InvalidURLError(
                f"the database URL has the option {wrong}; known: ssl (true or false), tenant and "
                "database"
            )
        folder = None
        if not parts.hostname:
            if parts.query:
                raise InvalidURLError("the URL of a folder takes no options; leave them out")
            folder = _folder(parts.path)
        elif parts.path not in {"", "/"}:
            raise InvalidURLError(
                f"the server {parts.hostname} has no path, got {parts.path!r}; name a database "
                "with ?database=…, or a folder with three slashes: chroma:///path"
            )
        port = port or (_SECURE_PORT if ssl else _PORT)
        return cls(folder, parts.hostname or "", port, ssl, tenant, database, timeout_s, read_only)

    @property
    def place(self) -> str:
        """The server's host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def shown(self) -> str:
        """The URL."""
        if self.folder is not None:
            return f"chroma://{self.folder.as_posix()}"
        options = [
            f"{name}={value}"
            for name, value, usual in (
                ("ssl", str(self.ssl).lower(), "false"),
                ("tenant", self.tenant, _TENANT),
                ("database", self.database, _DATABASE),
            )
            if value != usual
        ]
        return f"chroma://{self.place}{'?' if options else ''}{'&'.join(options)}"


def _folder(path: str) -> Path:
    name = unquote(path)
    if name in {"", "/"} or "\0" in name:
        raise InvalidURLError(f"the database URL names no folder and no server; {_EXPECTED}")
    if os.name == "nt":  # chroma:///C:/data
        name = name.removeprefix("/")
    return Path(os.path.realpath(name))
