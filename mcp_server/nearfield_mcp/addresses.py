"""Which addresses may be fetched from, and connections that go there and nowhere else."""

from __future__ import annotations

import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

import httpcore2

__all__ = ["AddressRefusedError", "PinnedBackend", "Resolver", "is_public", "resolve"]

Resolver = Callable[[str, int], list[str]]
"""Returns the addresses of a host name, as text, for a port."""

_CLOSED_V4 = tuple(
    map(
        IPv4Network,
        [
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
            *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24"),
            *("192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24"),
            *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
            "168.63.129.16/32",  # a cloud's own services, on a public address
        ],
    )
)
"""IANA's special-purpose IPv4 registry."""
_OPEN_V6 = IPv6Network("2000::/3")
_CLOSED_V6 = tuple(map(IPv6Network, ["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"]))
"""Within it: protocol assignments with Teredo, examples, 6to4."""
_NAT64 = IPv6Network("64:ff9b::/96")
_MAX_ADDRESSES = 16
_TRIED = 3


class AddressRefusedError(httpcore2.ConnectError):
    """A host is at an address that may not be fetched from."""


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is on the public internet; one that embeds another is judged by that."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_V4)
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    return address in _OPEN_V6 and not any(address in network for network in _CLOSED_V6)


def resolve(host: str, port: int) -> list[str]:
    """Ask the system for the addresses of a host."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class PinnedBackend(httpcore2.NetworkBackend):
    """Connects to the very address that was checked, before a deadline.

    A name is resolved once a connection, all its addresses are checked, and one of these is
    connected to; what the name stands for a moment later does not matter. The name stays what the
    server is asked for, and what its certificate has to be for.

    Args:
        deadline: On ``time.monotonic``; every wait ends then.
        resolve: Asks for addresses.
        allows: Whether an address may be connected to.
    """

    def __init__(
        self,
        deadline: float,
        *,
        resolve: Resolver,
        allows: Callable[[IPv4Address | IPv6Address], bool],
    ) -> None:
        self._deadline = deadline
        self._resolve = resolve
        self._allows = allows
        self._sockets = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect to a host by name or address."""
        failure: Exception | None = None
        for address in self._checked(host, port)[:_TRIED]:
            try:
                stream = self._sockets.connect_tcp(
                    address, port, _left(self._deadline, timeout), local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
                continue
            return _Timed(stream, self._deadline)
        raise httpcore2.ConnectError("no connection") from failure

    def _checked(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host; one that is not allowed refuses them all."""
        addresses = self._resolved(host.strip("[]"), port)
        for address in addresses:
            try:
                allowed = self._allows(ip_address(address))
            except ValueError:
                allowed = False
            if not allowed:
                raise AddressRefusedError("not a public address")
        if not addresses or len(addresses) > _MAX_ADDRESSES:
            raise httpcore2.ConnectError("no address")
        return addresses

    def _resolved(self, host: str, port: int) -> list[str]:
        # The system's resolver takes no time-out, so it is left behind when it takes too long.
        answer: queue.SimpleQueue[list[str]] = queue.SimpleQueue()

        def ask() -> None:
            try:
                answer.put(self._resolve(host, port))
            except (OSError, UnicodeError):
                answer.put([])

        threading.Thread(target=ask, name="nearfield-resolve", daemon=True).start()
        try:
            return answer.get(timeout=_left(self._deadline, None))
        except queue.Empty:
            raise httpcore2.ConnectTimeout("the name was not resolved in time") from None


class _Timed(httpcore2.NetworkStream):
    """A connection whose every wait ends at the deadline, however slowly bytes drip in."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline, timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        left = _left(self._deadline, timeout)
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float, timeout: float | None) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore2.ReadTimeout("out of time")
    return left if timeout is None else min(left, timeout)
