"""Fetches pages from the public internet, for a caller who may not be trusted with the address.

The caller chooses the address, the server connects: so it goes to public addresses only, asks for
nothing but the page, sends nothing of its own (no cookies, no credentials, no proxy), and reads no
more and no longer than was said. Every redirect is checked as the first address was.
"""

from __future__ import annotations

import codecs
import ssl
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from pathlib import PurePosixPath

import httpcore2
import httpx2
from mcp.server.mcpserver.exceptions import ToolError

from nearfield_mcp.addresses import AddressRefusedError, PinnedBackend, Resolver, is_public, resolve

__all__ = ["FetchLimits", "FetchedPage", "Fetcher", "UrlRefusedError"]

_SUFFIXES = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "text/markdown": ".md",
    "text/x-markdown": ".md",
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "text/x-rst": ".rst",
    "application/json": ".json",
    "application/jsonl": ".jsonl",
    "application/x-ndjson": ".jsonl",
    "application/pdf": ".pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
}
_PLAIN_SUFFIXES = (".md", ".markdown", ".rst", ".csv", ".tsv", ".txt")
"""Servers say text/plain of these."""
_HEADERS = [
    (b"User-Agent", b"nearfield-mcp"),
    (b"Accept", b"text/html, text/*, application/json, application/pdf, */*;q=0.1"),
    (b"Accept-Encoding", b"gzip"),
    (b"Connection", b"close"),
]
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_URL_CHARS = 2_000
_MAX_NAME_CHARS = 200
_BLOCK_BYTES = 2**16
_OK = 200


class UrlRefusedError(ToolError):
    """A URL cannot be fetched; the message tells nothing of what is behind it."""


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """How much and how long to read for one URL, redirects included."""

    max_bytes: int = 16 * 2**20
    timeout_s: float = 30.0
    max_redirects: int = 5
    ports: frozenset[int] = frozenset({80, 443})


@dataclass(frozen=True, slots=True)
class FetchedPage:
    """What was at a URL.

    Attributes:
        data: The body, decompressed.
        name: A file name whose suffix says what it is.
        encoding: What the server says that text is in, where it does.
    """

    data: bytes
    name: str
    encoding: str | None


class Fetcher:
    """Fetches pages from public addresses.

    Args:
        limits: How much and how long to read.
        resolve: Asks for addresses.
        allows: Which addresses may be connected to. Anything but the default is for tests.
        tls: Which certificates are trusted; None for those the system trusts.
    """

    def __init__(
        self,
        limits: FetchLimits | None = None,
        *,
        resolve: Resolver = resolve,
        allows: Callable[[IPv4Address | IPv6Address], bool] = is_public,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._limits = limits or FetchLimits()
        self._resolve = resolve
        self._allows = allows
        self._tls = tls

    def check(self, url: str) -> str:
        """Return a URL without its fragment, if its spelling is allowed.

        Raises:
            UrlRefusedError: It is no http or https URL, has credentials in it, or a port that is
                not allowed.
        """
        return str(self._parsed(url))

    def fetch(self, url: str, *, check: Callable[[], None] = lambda: None) -> FetchedPage:
        """Fetch what is at a URL.

        Args:
            url: Where.
            check: Called with every block that is read; what it raises ends it.

        Raises:
            UrlRefusedError: It may not, or could not, be fetched.
        """
        deadline = time.monotonic() + self._limits.timeout_s
        at = self._parsed(url)
        for _ in range(self._limits.max_redirects + 1):
            try:
                found = self._request(at, deadline, check)
            except AddressRefusedError:
                raise UrlRefusedError(
                    "its host is not on the public internet, or not only there"
                ) from None
            except httpcore2.TimeoutException:
                raise UrlRefusedError(
                    f"it could not be read within {self._limits.timeout_s:g} s"
                ) from None
            except (httpcore2.NetworkError, httpcore2.ProtocolError, ssl.SSLError, OSError):
                raise UrlRefusedError(
                    "it could not be reached, or answered no proper HTTP"
                ) from None
            if isinstance(found, FetchedPage):
                return found
            check()
            at = found
        raise UrlRefusedError(f"it redirects more than {self._limits.max_redirects} times")

    @cached_property
    def _context(self) -> ssl.SSLContext:
        return self._tls or httpx2.create_ssl_context(trust_env=False)

    def _parsed(self, url: str) -> httpx2.URL:
        if len(url) > _MAX_URL_CHARS:
            raise UrlRefusedError(f"it has more than {_MAX_URL_CHARS} characters")
        try:
            parsed = httpx2.URL(url).copy_with(fragment=None)
            parsed.raw_host.decode("ascii")
        except (httpx2.InvalidURL, ValueError, TypeError):
            raise UrlRefusedError("it is no URL") from None
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise UrlRefusedError("only http:// and https:// URLs are fetched")
        if parsed.userinfo:
            raise UrlRefusedError("it has credentials in it, which are never sent")
        if (parsed.port or _default_port(parsed)) not in self._limits.ports:
            allowed = ", ".join(map(str, sorted(self._limits.ports)))
            raise UrlRefusedError(f"its port is not allowed; allowed: {allowed}")
        return parsed

    def _request(
        self, url: httpx2.URL, deadline: float, check: Callable[[], None]
    ) -> FetchedPage | httpx2.URL:
        """Return the page, or where it redirects to. A new connection each time: nothing stays."""
        backend = PinnedBackend(deadline, resolve=self._resolve, allows=self._allows)
        target = httpcore2.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        headers = [(b"Host", url.netloc), *_HEADERS]
        with (
            httpcore2.ConnectionPool(ssl_context=self._context, network_backend=backend) as pool,
            pool.stream("GET", target, headers=headers) as response,
        ):
            told = _headers(response)
            if response.status in _REDIRECTS and told["location"]:
                return self._redirected(url, str(told["location"]))
            if response.status != _OK:
                raise UrlRefusedError(f"the server answered {response.status}")
            name, encoding = _kind(url, told)
            return FetchedPage(self._body(response, told, check), name, encoding)

    def _redirected(self, url: httpx2.URL, location: str) -> httpx2.URL:
        try:
            following = url.join(location)
        except (httpx2.InvalidURL, ValueError):
            raise UrlRefusedError("it redirects to what is no URL") from None
        if url.scheme == "https" and following.scheme == "http":
            raise UrlRefusedError("it redirects from https to http")
        try:
            return self._parsed(str(following))
        except UrlRefusedError as error:
            raise UrlRefusedError(f"it redirects elsewhere, and {error}") from None

    def _body(
        self, response: httpcore2.Response, told: Message, check: Callable[[], None]
    ) -> bytes:
        most = self._limits.max_bytes
        coding = str(told["content-encoding"] or "identity").strip().lower()
        if coding not in {"identity", "gzip", "x-gzip", "deflate"}:
            raise UrlRefusedError("it is compressed in a way that was not asked for")
        blocks = response.iter_stream()
        data = bytearray()
        for block in blocks if coding == "identity" else _inflated(blocks):
            check()
            data += block
            if len(data) > most:
                raise UrlRefusedError(f"it has more than {most} bytes")
        return bytes(data)


def _inflated(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress in blocks of bounded size, whatever the ratio."""
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip or zlib, as it begins
    try:
        for block in blocks:
            if inflater.eof:
                return
            yield inflater.decompress(block, _BLOCK_BYTES)
            while inflater.unconsumed_tail:
                yield inflater.decompress(inflater.unconsumed_tail, _BLOCK_BYTES)
        while rest := inflater.decompress(inflater.unconsumed_tail, _BLOCK_BYTES):
            yield rest
    except zlib.error:
        raise UrlRefusedError("its compression is damaged") from None
    if not inflater.eof:
        raise UrlRefusedError("it ended before its end")


def _headers(response: httpcore2.Response) -> Message:
    told = Message()
    for name, value in response.headers:
        told[name.decode("ascii", "replace")] = value.decode("latin-1")
    return told


def _kind(url: httpx2.URL, told: Message) -> tuple[str, str | None]:
    """Return a name with the suffix of the media type, and the encoding of text."""
    if "content-type" not in told:
        raise UrlRefusedError("the server does not say what type it is of")
    media = told.get_content_type()
    last = PurePosixPath(url.path).name
    suffix = _SUFFIXES.get(media)
    if suffix is None and media.startswith("text/"):
        own = PurePosixPath(last).suffix.lower()
        suffix = own if own in _PLAIN_SUFFIXES else ".txt"
    if suffix is None:
        raise UrlRefusedError(
            "it is of a type that is not read; pages, text, JSON, PDF and Word are"
        )
    stem = PurePosixPath(last).stem if PurePosixPath(last).suffix.lower() == suffix else last
    charset = told.get_content_charset()
    try:
        encoding = codecs.lookup(charset).name if charset else None
        "a".encode(encoding or "utf-8")
    except (LookupError, ValueError):
        encoding = None
    stem = "".join(char if char.isprintable() else " " for char in stem)[:_MAX_NAME_CHARS]
    return f"{stem or url.host}{suffix}", None if encoding == "utf-8" else encoding


def _default_port(url: httpx2.URL) -> int:
    return 443 if url.scheme == "https" else 80
