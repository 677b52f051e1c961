"""Clients of Chroma: one a process for a folder, one a collection for a server."""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import quote

import chromadb
import filelock
import httpx
from chromadb.config import Settings
from chromadb.errors import ChromaError

from nearfield.errors import (
    ClosedError,
    ForkedProcessError,
    StoreBusyError,
)
from nearfield.stores.attempts import attempts
from nearfield.stores.chroma.errors import AbsentDatabaseError, passes, translated
from nearfield.stores.openings import Openings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

    from nearfield.stores.chroma.address import Address

__all__ = ["DATA_FILE", "Handle", "connected", "held_alone", "make_database"]

_Result = TypeVar("_Result")

DATA_FILE = "chroma.sqlite3"
"""What Chroma keeps in a folder of its own."""
_LOCK_FILE = "nearfield.lock"
_TOKEN = "CHROMA_API_KEY"  # noqa: S105  a variable's name
_TOKEN_HEADER = "x-chroma-token"  # noqa: S105
_LEAST_S = 0.001


class _Folders:
    """The folders that this process has open; Chroma loses rows where two processes write to one.

    Chroma's threads and the file's lock stay with the process that opened the folder: a fork of it
    cannot use that folder.
    """

    def __init__(self) -> None:
        self._guard = threading.RLock()  # the garbage collector may close a handle inside it
        self._uses: Counter[Path] = Counter()
        self._locks: dict[Path, filelock.BaseFileLock] = {}
        self._stranded: dict[Path, filelock.BaseFileLock] = {}

    def open(self, folder: Path, timeout_s: float) -> ClientAPI:
        """Return a client, waiting for another process to be done."""
        with self._guard:
            if folder in self._stranded:
                raise _forked(folder)
            self._uses[folder] += 1
            try:
                if self._uses[folder] == 1:
                    self._lock(folder, timeout_s)
                return chromadb.PersistentClient(folder, Settings(anonymized_telemetry=False))
            except BaseException:
                self._leave(folder)
                raise

    def close(self, folder: Path, client: ClientAPI) -> None:
        """Let go of a client, and with the last one of the folder."""
        with self._guard:
            cast("Any", client).close()
            self._leave(folder)

    def _leave(self, folder: Path) -> None:
        self._uses[folder] -= 1
        if not self._uses[folder] and folder in self._locks:
            self._locks.pop(folder).release()

    def after_fork_in_child(self) -> None:
        """Leave what is open to the parent."""
        self._guard = threading.RLock()
        # Kept, as the file's lock would be released, for the parent as well, with its object.
        self._stranded |= self._locks
        self._uses.clear()
        self._locks = {}

    def _lock(self, folder: Path, timeout_s: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / _LOCK_FILE, thread_local=False)
        try:
            lock.acquire(timeout=timeout_s)
        except filelock.Timeout as error:
            raise StoreBusyError(
                f"{folder} stayed open in another process for {timeout_s:g} s; an embedded Chroma "
                "serves one process at a time: close it there, or run `chroma run --path` and "
                "open chroma://host:port"
            ) from error
        self._locks[folder] = lock


@dataclass(slots=True)
class _Lease:
    """A client, what it has open, and the process that made it."""

    client: ClientAPI
    collection: Collection
    process: int


_FOLDERS = _Folders()
_OPENINGS = Openings()
"""By address and Chroma's id."""
_WRITING: dict[tuple[str, str], threading.RLock] = {}
"""What the writers of this process hold, by address and Chroma's id."""


def _after_fork_in_child() -> None:
    _WRITING.clear()
    _FOLDERS.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Handle:
    """A collection that is open; safe in threads, and connected anew after a fork.

    Args:
        address: Where it is.
        name: Chroma's name for it.

    Raises:
        NotFoundError: There is none of this name.
    """

    def __init__(self, address: Address, name: str) -> None:
        self.address = address
        self._guard = threading.Lock()
        self._lease = _leased(address, name)
        self._key = (address.shown, str(self._lease.collection.id))
        try:
            _OPENINGS.enter(self._key, f"the collection {name!r} of {address.shown}")
        except BaseException:
            _let_go(address, self._lease.client)
            raise
        self._end = weakref.finalize(self, _leave, address, self._lease, self._key)

    @property
    def metadata(self) -> dict[str, Any]:
        """What was recorded with the collection at its birth."""
        return dict(self._lease.collection.metadata or {})

    @property
    def space(self) -> str | None:
        """The distance that its index was made for."""
        index = self._lease.collection.configuration_json.get("hnsw") or {}
        space: str | None = index.get("space")
        return space

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other writers of this process waiting."""
        with _WRITING.setdefault(self._key, threading.RLock()):
            yield

    @property
    def max_batch(self) -> int:
        """How many records a call may bring."""
        return int(self.run(lambda _: self._lease.client.get_max_batch_size()))

    def run(self, operation: Callable[[Any], _Result]) -> _Result:
        """Run an operation on the collection.

        On a server it is run again, within the time there is, where the connection was lost; so
        it must have the same effect however often it is run.
        """
        collection = self._current()
        with translated(self.address):
            if self.address.folder is not None:
                return operation(collection)
            return _tried(self.address, lambda: operation(collection))

    def check_open(self) -> None:
        """Raise ``ClosedError`` after the end."""
        self._current()

    def close(self) -> None:
        """Let go of the collection. Idempotent."""
        self._end()

    def _current(self) -> Collection:
        if not self._end.alive:
            raise ClosedError("the collection was closed; open it again")
        lease = self._lease
        if lease.process == os.getpid():
            return lease.collection
        if self.address.folder is not None:
            raise _forked(self.address.folder)
        with self._guard:
            if lease.process != os.getpid():  # the parent's connections are the parent's
                own = _leased(self.address, lease.collection.name)
                lease.client, lease.collection = own.client, own.collection
                lease.process = own.process
            return lease.collection


@contextmanager
def connected(address: Address) -> Iterator[ClientAPI]:
    """Lend a client for one task."""
    client = _client(address)
    try:
        with translated(address):
            yield client
    finally:
        _let_go(address, client)


@contextmanager
def held_alone(address: Address, collection: Collection) -> Iterator[None]:
    """Make sure that this process does not have the collection open, and keep it so.

    What other clients of a server do, Chroma does not tell.
    """
    key = (address.shown, str(collection.id))
    with _OPENINGS.alone(key, f"the collection {collection.name!r} of {address.shown}"):
        yield


def _tried(address: Address, operation: Callable[[], _Result]) -> _Result:
    return attempts(address.timeout_s, lambda _: operation(), passes)


def _client(address: Address) -> ClientAPI:
    with translated(address):
        if address.folder is not None:
            return _FOLDERS.open(address.folder, address.timeout_s)
        return _tried(address, lambda: _remote(address))


def make_database(address: Address) -> None:
    """Make the database, and its tenant, on a server that does not have it."""
    if address.folder is not None:
        return
    with translated(address):
        if not _tried(address, lambda: _is_absent(address)):
            return
        settings = Settings(
            anonymized_telemetry=False,
            chroma_api_impl="chromadb.api.fastapi.FastAPI",
            chroma_server_host=address.host,
            chroma_server_http_port=address.port,
            chroma_server_ssl_enabled=address.ssl,
            chroma_server_headers=_headers(),
        )
        owner: Any = cast("Any", chromadb).AdminClient(settings)
        sessions = _sessions(owner, address)
        try:
            for make in (
                partial(owner.create_tenant, address.tenant),
                partial(owner.create_database, address.database, address.tenant),
            ):
                try:
                    make()
                except ChromaError as error:
                    if "already exists" not in str(error):  # the tenant, or another was faster
                        raise
        finally:
            for session in sessions:
                session.close()


def _remote(address: Address) -> ClientAPI:
    if _is_absent(address):
        raise AbsentDatabaseError(
            f"the server of {address.shown} has no such database; it is made with the first "
            "collection"
        )
    client = chromadb.HttpClient(
        address.host,
        address.port,
        address.ssl,
        _headers(),
        Settings(anonymized_telemetry=False),
        address.tenant,
        address.database,
    )
    _sessions(client, address)
    return client


def _is_absent(address: Address) -> bool:
    """Ask the server in bounded time, which Chroma's own client does not do as it is made."""
    scheme = "https" if address.ssl else "http"
    tenant, database = quote(address.tenant, safe=""), quote(address.database, safe="")
    place = f"/api/v2/tenants/{tenant}/databases/{database}"
    answer = httpx.get(
        f"{scheme}://{address.place}{place}", headers=_headers(), timeout=_timeout(address)
    )
    return answer.status_code == httpx.codes.NOT_FOUND


def _headers() -> dict[str, str] | None:
    token = os.environ.get(_TOKEN)
    return {_TOKEN_HEADER: token} if token else None


def _timeout(address: Address) -> httpx.Timeout:
    return httpx.Timeout(max(address.timeout_s, _LEAST_S))


def _sessions(client: Any, address: Address) -> list[httpx.Client]:
    """Return the connections of a client, which it neither limits in time nor closes itself."""
    owners = (client, getattr(client, "_admin_client", None))
    found = [getattr(getattr(owner, "_server", None), "_session", None) for owner in owners]
    sessions = [session for session in found if isinstance(session, httpx.Client)]
    for session in sessions:
        session.timeout = _timeout(address)
    return sessions


def _leased(address: Address, name: str) -> _Lease:
    client = _client(address)
    try:
        collection = _tried(address, lambda: client.get_collection(name, embedding_function=None))
    except BaseException:
        _let_go(address, client)
        raise
    return _Lease(client, collection, os.getpid())


def _leave(address: Address, lease: _Lease, key: tuple[str, str]) -> None:
    _OPENINGS.leave(key)
    if lease.process == os.getpid():
        _let_go(address, lease.client)


def _let_go(address: Address, client: ClientAPI) -> None:
    if address.folder is None:
        for session in _sessions(client, address):
            session.close()
        cast("Any", client).close()
    else:
        _FOLDERS.close(address.folder, client)


def _forked(folder: Path) -> ForkedProcessError:
    return ForkedProcessError(
        f"this process was forked while {folder} was open, and Chroma cannot use it here; start "
        "the process anew (multiprocessing's start method 'spawn'), or use chroma://host:port"
    )
