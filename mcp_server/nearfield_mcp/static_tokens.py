"""Tokens that an operator makes by hand, and the file that their hashes are kept in."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import stat
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from nearfield_mcp.scope import Right
from nearfield_mcp.settings import InvalidSettingsError

__all__ = ["METRICS_SCOPE", "SCOPES", "TENANT", "StaticToken", "TokenFile", "TokenFileError"]

METRICS_SCOPE = "metrics"
"""Allows to read /metrics, and nothing else."""
SCOPES = (*Right, METRICS_SCOPE)
TENANT = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
"""Capitals are refused: where file names ignore them, two tenants would share a folder."""
_PREFIX = "nf"
_ID_BYTES = 6
_SECRET_BYTES = 32
_SALT_BYTES = 16
_FORMAT = 1
_logger = logging.getLogger(__name__)


class TokenFileError(InvalidSettingsError):
    """The file of tokens cannot be read or trusted; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class StaticToken:
    """What is kept of a token: all but the token itself.

    The secret is 256 random bits, so no dictionary of likely ones exists and a slow hash would
    protect nothing; it would only let a caller spend the server's CPU with every wrong token.

    Attributes:
        id: The part of the token that is no secret; it names the token in lists and logs.
        name: What the operator calls it.
        scopes: What it allows.
        tenant: Whose data it opens.
        collections: The collections that it opens; None for all.
        created: Seconds since the epoch.
        expires: Seconds since the epoch; None for never.
        salt: Hexadecimal.
        hash: Of the salt and the secret, SHA-256, hexadecimal.
    """

    id: str
    name: str
    scopes: tuple[str, ...]
    tenant: str | None
    collections: tuple[str, ...] | None
    created: int
    expires: int | None
    salt: str
    hash: str

    def fits(self, secret: str) -> bool:
        """Whether this is its secret, in a time that does not tell how much of it is right."""
        return hmac.compare_digest(self.hash, _hash(self.salt, secret))

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return self.expires is not None and self.expires <= time.time()


class TokenFile:
    """The file of tokens. Safe to use from several threads; written by one process at a time.

    What is revoked or made while a server runs counts from its next request on.

    Args:
        path: Made with the first token, readable by its owner alone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._read_as: tuple[int, int, int] | None = None
        self._tokens: dict[str, StaticToken] = {}

    def tokens(self) -> list[StaticToken]:
        """Return the tokens, oldest first.

        Raises:
            TokenFileError: The file cannot be read, or others than its owner may write it.
        """
        with self._lock:
            return list(self._current().values())

    def find(self, token: str) -> StaticToken | None:
        """Return what is known of a token; None for one that is wrong, expired or revoked."""
        prefix, _, rest = token.partition("_")
        identifier, _, secret = rest.partition("_")
        try:
            with self._lock:
                found = self._current().get(identifier)
        except TokenFileError as error:
            _logger.error("no token is accepted: %s", error)  # noqa: TRY400  # it says all
            return None
        if found is None or prefix != _PREFIX or not found.fits(secret) or found.expired:
            return None
        return found

    def create(
        self,
        *,
        scopes: Sequence[str],
        name: str = "",
        tenant: str | None = None,
        collections: Sequence[str] | None = None,
        lifetime_s: float | None = None,
    ) -> str:
        """Make a token and keep its hash.

        Returns:
            The token: it cannot be had again.
        """
        identifier = secrets.token_hex(_ID_BYTES)
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        salt = secrets.token_hex(_SALT_BYTES)
        now = int(time.time())
        made = StaticToken(
            id=identifier,
            name=name,
            scopes=tuple(scopes),
            tenant=tenant,
            collections=None if collections is None else tuple(collections),
            created=now,
            expires=None if lifetime_s is None else now + int(lifetime_s),
            salt=salt,
            hash=_hash(salt, secret),
        )
        with self._alone():
            self._write([*self._stored(), made])
        return f"{_PREFIX}_{identifier}_{secret}"

    def revoke(self, identifier: str) -> bool:
        """Forget a token; False where there is none of this id."""
        with self._alone():
            tokens = self._stored()
            left = [token for token in tokens if token.id != identifier]
            if len(left) == len(tokens):
                return False
            self._write(left)
        return True

    def _current(self) -> dict[str, StaticToken]:
        """Read the file where it is another than the one read last."""
        try:
            status = self._path.stat()
        except OSError as error:
            self._read_as = None
            raise TokenFileError(f"{self._path}: {error.strerror or error}") from None
        version = (status.st_ino, status.st_mtime_ns, status.st_size)
        if version != self._read_as:
            self._read_as = None
            self._tokens = {token.id: token for token in _parse(self._path, status)}
            self._read_as = version
        return self._tokens

    def _stored(self) -> list[StaticToken]:
        return _parse(self._path, self._path.stat()) if self._path.exists() else []

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes that make or revoke tokens out."""
        from filelock import FileLock

        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self._path}.lock", timeout=10, mode=0o600):
            yield

    def _write(self, tokens: Sequence[StaticToken]) -> None:
        """Replace the file in one step: a reader sees the old or the new, never a part."""
        table = {"format": _FORMAT, "tokens": [asdict(token) for token in tokens]}
        descriptor, name = tempfile.mkstemp(prefix=f"{self._path.name}.", dir=self._path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:  # mkstemp made it 0600
                json.dump(table, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _hash(salt: str, secret: str) -> str:
    return hashlib.sha256(f"{salt}{secret}".encode()).hexdigest()


def _parse(path: Path, status: os.stat_result) -> list[StaticToken]:
    if os.name == "posix" and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise TokenFileError(f"{path} can be written by others than its owner: chmod 600 {path}")
    try:
        table = json.loads(path.read_bytes())
        if table["format"] != _FORMAT:
            raise TokenFileError(f"{path} was written by a newer nearfield")
        return [_token(entry) for entry in table["tokens"]]
    except OSError as error:
        raise TokenFileError(f"{path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, TokenFileError):
            raise
        raise TokenFileError(f"{path} is no file of tokens, or damaged") from None


def _token(entry: dict[str, object]) -> StaticToken:
    fields: dict[str, object] = dict(entry)
    for name in ("scopes", "collections"):
        if isinstance(fields[name], list):
            fields[name] = tuple(fields[name])  # type: ignore[arg-type]
    return StaticToken(**fields)  # type: ignore[arg-type]
