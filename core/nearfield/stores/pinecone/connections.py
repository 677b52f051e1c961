"""Clients of Pinecone, and what a collection says through them."""

from __future__ import annotations

import atexit
import os
import random
import threading
import time
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import quote

import pinecone
from pinecone import RetryConfig
from pinecone.errors import NotFoundError

from nearfield.errors import ClosedError, InvalidInputError, StoreBusyError
from nearfield.stores.attempts import attempts
from nearfield.stores.openings import Openings
from nearfield.stores.pinecone.errors import passes, translated
from nearfield.stores.pinecone.freshness import freshness_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pinecone import Pinecone
    from pinecone.models.vectors.responses import QueryResponse

    from nearfield.stores.pinecone.address import Address
    from nearfield.stores.pinecone.indexes import PineconeIndex

__all__ = ["PAGE", "Handle", "connected", "held_alone", "together"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

PAGE = 100
"""Records in a page."""
_AT_ONCE = 4
"""Requests under way for one call."""

_SECRET = "PINECONE_API_KEY"  # noqa: S105  a variable's name
_NO_KEY = "none"
"""What a server that asks for no key is given, since the client wants one."""
_LEAST_S = 0.001
_FIRST_WAIT_S = 0.005
_LONGEST_WAIT_S = 0.5

_IDLE = 8
"""Clients to keep that no one uses: to make one takes longer than most calls."""


class _Clients:
    """The clients of this process, one for each index and for each control plane."""

    def __init__(self) -> None:
        self._guard = threading.RLock()  # the garbage collector may close a handle inside it
        self._made: dict[_Key, Any] = {}
        self._uses: Counter[_Key] = Counter()

    def take(self, key: _Key) -> None:
        """Keep a client until :meth:`leave`."""
        with self._guard:
            self._uses[key] += 1

    def leave(self, key: _Key) -> None:
        """Let go of a client."""
        with self._guard:
            self._uses[key] -= 1
            idle = [each for each in self._made if self._uses[each] <= 0]
            for each in idle[:-_IDLE]:
                self._made.pop(each).close()

    def get(self, key: _Key) -> Any:
        """Return a client, which is made where there is none."""
        with self._guard:
            client = self._made.pop(key, None) or key.made()
            self._made[key] = client  # the last one used is the last to go
            return client

    def close(self) -> None:
        """Let go of all of them, as the process ends."""
        with self._guard:
            for client in self._made.values():
                client.close()
            self._made = {}

    def after_fork_in_child(self) -> None:
        """Leave every connection to the parent."""
        self._guard = threading.RLock()
        self._made = {}


@dataclass(frozen=True, slots=True)
class _Key:
    """What tells clients apart; the secret is in no text.

    Attributes:
        url: Where the control plane is, or an index; empty for Pinecone's own.
        is_index: Whether it is an index.
        secret: The API key.
        timeout_s: Seconds for each call, where the client takes none with a call.
    """

    url: str
    is_index: bool
    secret: str = field(repr=False)
    timeout_s: float = 0.0

    def made(self) -> Any:
        """Make a client that tries once; its own attempts know no end that the caller set."""
        if not self.is_index:
            return pinecone.Pinecone(
                self.secret,
                host=self.url or None,
                timeout=self.timeout_s,
                retry_config=RetryConfig(max_retries=0),
            )
        index: Any = pinecone.Index(host=self.url, api_key=self.secret)
        transport = index._http._client._transport  # noqa: SLF001
        transport._config = replace(transport._config, max_retries=0)  # noqa: SLF001
        return index


_CLIENTS = _Clients()
atexit.register(_CLIENTS.close)
_OPENINGS = Openings()
"""By host and namespace."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_CLIENTS.after_fork_in_child)


class Handle:
    """A namespace of an index that is open; safe in threads, and connected anew after a fork.

    Args:
        address: The database.
        index: The index.
        namespace: The namespace's name.
        collection: Whether the namespace is a collection that is open from now on.

    Raises:
        CollectionInUseError: The collection is dropped or renamed at this moment.
    """

    def __init__(
        self,
        address: Address,
        index: PineconeIndex,
        namespace: str,
        *,
        collection: bool = False,
    ) -> None:
        self.address = address
        self.index = index
        self.namespace = namespace
        self.freshness = freshness_of(index, namespace)
        self._client = _Key(address.reached(index.host), is_index=True, secret=_secret(address))
        opened = (index.host, namespace) if collection else None
        if opened:
            _OPENINGS.enter(opened, _shown(namespace, address.shown))
        _CLIENTS.take(self._client)
        self._end = weakref.finalize(self, _leave, self._client, opened)

    def fetch(self, ids: list[str]) -> list[Any]:
        """Return the records of some ids, as many as go into a URL."""
        answer = self._read(
            lambda index, left_s: index.fetch(ids=ids, namespace=self.namespace, timeout=left_s)
        )
        return list(answer.vectors.values())

    def matching(self, where: Mapping[str, Any]) -> Iterator[Any]:
        """Iterate over the records that match a filter, in no order."""
        token: str | None = None
        while True:
            answer = self._read(
                lambda index, left_s, token=token: index.fetch_by_metadata(
                    filter=where,
                    namespace=self.namespace,
                    limit=PAGE,
                    pagination_token=token,
                    timeout=left_s,
                )
            )
            yield from answer.vectors.values()
            token = answer.pagination.next if answer.pagination else None
            if token is None:
                return

    def count(self) -> int:
        """Count the records."""

        def described(index: Any, left_s: float) -> int:
            try:
                # The client's own verb takes no time limit.
                answer = index._http.get(  # noqa: SLF001
                    f"/namespaces/{quote(self.namespace, safe='')}", timeout=left_s
                )
            except NotFoundError:  # nothing was ever written to it
                return 0
            return int(answer.json()["record_count"])

        return self._read(described)

    def namespaces(self) -> list[str]:
        """Name the index's namespaces in which there is something; the counts lag behind writes."""
        answer = self._run(lambda index, left_s: index.describe_index_stats(timeout=left_s))
        return [name for name, each in answer.namespaces.items() if each.vector_count]

    def query(self, **arguments: Any) -> QueryResponse:
        """Search, again and again until the index has what this process wrote."""
        needed = self.freshness.needed
        until = time.monotonic() + self.address.timeout_s
        wait_s = _FIRST_WAIT_S
        while True:
            answer = self._run(
                lambda index, left_s: index.query(
                    namespace=self.namespace, timeout=left_s, **arguments
                )
            )
            if self.freshness.reflects(_headers(answer), needed):
                return cast("QueryResponse", answer)
            if time.monotonic() + wait_s > until:
                raise StoreBusyError(
                    f"the index of {self.address.shown} did not catch up with what was written "
                    f"within timeout_s={self.address.timeout_s:g}; nothing is lost: try again, or "
                    "allow more time"
                )
            time.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311  no secret
            wait_s = min(_LONGEST_WAIT_S, 1.5 * wait_s)

    def upsert(self, batch: list[Any]) -> None:
        """Write records; at most as many as a request may have."""
        answer = self._run(
            lambda index, left_s: index.upsert(
                vectors=batch, namespace=self.namespace, timeout=left_s
            )
        )
        self.freshness.wrote(_headers(answer))

    def delete(self, **selection: Any) -> None:
        """Delete records by ``ids``, or all with ``deleteAll``."""
        body = {"namespace": self.namespace, **selection}

        def delete(index: Any, left_s: float) -> Mapping[str, str] | None:
            try:
                # The client's own verb keeps the write's number to itself.
                answer = index._http.post("/vectors/delete", timeout=left_s, json=body)  # noqa: SLF001
            except NotFoundError:  # nothing was ever written to the namespace
                return None
            headers: Mapping[str, str] = answer.headers
            return headers

        headers = self._run(delete)
        if headers is not None:
            self.freshness.wrote(headers, emptied=True)

    def check_open(self) -> None:
        """Raise ``ClosedError`` after the end."""
        if not self._end.alive:
            raise ClosedError("the collection was closed; open it again")

    def close(self) -> None:
        """Let go of the collection. Idempotent."""
        self._end()

    def _read(self, operation: Callable[..., _Result]) -> _Result:
        """Run what reads, once the index has what this process wrote."""
        if self.freshness.seen < self.freshness.needed:
            self.query(vector=[1.0] + [0.0] * (self.index.dimension - 1), top_k=1)
        return self._run(operation)

    def _run(self, operation: Callable[..., _Result]) -> _Result:
        """Run an operation that has the same effect however often it is run.

        Args:
            operation: Takes the index and the seconds that are left.
        """
        self.check_open()
        with translated(self.address):
            index = _CLIENTS.get(self._client)
            return attempts(self.address.timeout_s, lambda left_s: operation(index, left_s), passes)


@contextmanager
def connected(address: Address) -> Iterator[Pinecone]:
    """Lend a client of the control plane for one task."""
    key = _Key(
        address.control_plane,
        is_index=False,
        secret=_secret(address),
        timeout_s=max(address.timeout_s, _LEAST_S),
    )
    _CLIENTS.take(key)
    try:
        with translated(address):
            yield _CLIENTS.get(key)
    finally:
        _CLIENTS.leave(key)


@contextmanager
def held_alone(host: str, namespace: str, shown: str) -> Iterator[None]:
    """Make sure that this process does not have the collection open, and keep it so.

    What other processes do, Pinecone does not tell.
    """
    with _OPENINGS.alone((host, namespace), _shown(namespace, shown)):
        yield


def together(work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Do some work for each item, a few at once; an error is raised when what was begun is done."""
    if len(items) <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(_AT_ONCE, len(items))) as pool:
        return list(pool.map(work, items))


def _secret(address: Address) -> str:
    key = os.environ.get(_SECRET, "")
    if not key and not address.host:
        raise InvalidInputError(
            f"pinecone:// needs your project's key; give it by the environment variable {_SECRET}"
        )
    return key or _NO_KEY


def _headers(answer: Any) -> Mapping[str, str]:
    headers: Mapping[str, str] = answer.response_info.raw_headers
    return headers


def _leave(client: _Key, opened: tuple[str, str] | None) -> None:
    if opened:
        _OPENINGS.leave(opened)
    _CLIENTS.leave(client)


def _shown(namespace: str, shown: str) -> str:
    return f"the collection in the namespace {namespace!r} of {shown}"
