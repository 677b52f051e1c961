"""Where a server is, and whether the key in the environment is meant for it."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from nearfield.errors import InvalidInputError

__all__ = ["OPENAI", "Address"]

OPENAI = "https://api.openai.com/v1"
_OPENAI_HOST = "api.openai.com"
_KEY_VARIABLE = "OPENAI_API_KEY"
_URL_VARIABLE = "OPENAI_BASE_URL"
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """A server's base URL, without a secret in it.

    Attributes:
        url: Scheme, host, port and path, such as ``https://api.openai.com/v1``.
        host: The host alone.
    """

    url: str
    host: str

    @classmethod
    def of(cls, base_url: str | None) -> Address:
        """Read a base URL; None means the variable ``OPENAI_BASE_URL``, and OpenAI without it.

        Raises:
            InvalidInputError: It is no URL of a server, or has more in it than one.
        """
        where = "base_url"
        if base_url is None:
            base_url = os.environ.get(_URL_VARIABLE) or OPENAI
            where = f"base_url, taken from the variable {_URL_VARIABLE},"
        # What is refused is never shown: it may be a secret, or have one in it.
        try:
            parts = urlsplit(base_url.strip())
            port = parts.port
        except ValueError:
            parts, port = SplitResult("", "", "", "", ""), None
        if parts.scheme not in _PORTS or not parts.hostname:
            raise InvalidInputError(
                f"{where} is no address of a server, such as 'http://127.0.0.1:8080/v1'"
            )
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise InvalidInputError(
                f"{where} has a user name, a password, a query or a fragment in it, which HTTP "
                "clients write into logs; give the plain address, and the key as api_key="
            )
        return cls(_plain(parts, port), parts.hostname)

    @property
    def is_openai(self) -> bool:
        """Whether it is OpenAI's own, in whatever region."""
        return self.host == _OPENAI_HOST or self.host.endswith("." + _OPENAI_HOST)

    @property
    def place(self) -> str:
        """Host, port and path: what tells this server from others."""
        return self.url.partition("://")[2]

    @property
    def is_trusted(self) -> bool:
        """Whether what the environment has for OpenAI's client is meant for this server.

        So for OpenAI, for this machine, and for the server that ``OPENAI_BASE_URL`` names. Any
        other address may come from the record of a collection that somebody else made.
        """
        return self.is_openai or self._is_here() or self._is_named()

    def environment_key(self) -> str | None:
        """Return the variable ``OPENAI_API_KEY`` if it is meant for this server."""
        return (os.environ.get(_KEY_VARIABLE) or None) if self.is_trusted else None

    def _is_named(self) -> bool:
        named = os.environ.get(_URL_VARIABLE)
        try:
            return bool(named) and Address.of(named) == self
        except InvalidInputError:
            return False

    def _is_here(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def _plain(parts: SplitResult, port: int | None) -> str:
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    if port is not None and port != _PORTS[parts.scheme]:
        host += f":{port}"
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
