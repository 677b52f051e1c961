"""Clients of Milvus: servers are spoken to over the network, Milvus Lite runs in this process."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar

import grpc
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from nearfield.errors import (
    ClosedError,
    ForkedProcessError,
    MissingDependencyError,
    StoreBusyError,
    StoreError,
)
from nearfield.stores.attempts import attempts
from nearfield.stores.milvus.address import Consistency
from nearfield.stores.milvus.errors import is_not_loaded, passes, translated
from nearfield.stores.openings import Openings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nearfield.stores.milvus.address import Address

__all__ = ["Handle", "Operation", "connected", "held_alone", "tried"]

_Result = TypeVar("_Result")
Operation: TypeAlias = "Callable[[MilvusClient, float], _Result]"
"""What is done with a client, within some seconds."""

_NOISY = ("pymilvus.decorators", "pymilvus.client", "milvus_lite")
_CHANNEL = {
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1000,
}
"""How soon a lost connection is made anew; gRPC itself would wait for up to two minutes."""
_LOADING_S = 1.0
_GRACE_S = 5.0
"""For calls of Milvus Lite that are under way when it is closed."""


class _Lite:
    """The folders of Milvus Lite that this process has open; one process at a time has one.

    Its threads and the folder's lock stay with the process that opened it.
    """

    def __init__(self) -> None:
        self._guard = threading.RLock()
        self._uses: Counter[Path] = Counter()
        self._servers: dict[Path, tuple[Any, Any, str]] = {}
        self._stranded: dict[Path, tuple[Any, Any, str]] = {}

    def open(self, folder: Path, timeout_s: float) -> str:
        """Return where it answers, waiting for another process to be done."""
        with self._guard:
            if folder in self._stranded:
                raise _forked(folder)
            if not self._uses[folder]:
                self._servers[folder] = self._started(folder, timeout_s)
            self._uses[folder] += 1
            return self._servers[folder][2]

    def close(self, folder: Path) -> None:
        """Let go of a folder, for the last one that has it open."""
        with self._guard:
            if not self._uses[folder]:  # the parent's
                return
            self._uses[folder] -= 1
            if not self._uses[folder]:
                server, database, _ = self._servers.pop(folder)
                server.stop(_GRACE_S).wait()
                database.close()

    def after_fork_in_child(self) -> None:
        """Leave what is open to the parent."""
        self._guard = threading.RLock()
        # Kept, as the folder's lock would be released, for the parent as well, with its object.
        self._stranded |= self._servers
        self._uses.clear()
        self._servers = {}

    def _started(self, folder: Path, timeout_s: float) -> tuple[Any, Any, str]:
        if find_spec("milvus_lite") is None:
            raise MissingDependencyError("milvus_lite", extra="milvus-lite", purpose="milvus:///")
        from milvus_lite.adapter.grpc.server import start_server_in_thread
        from milvus_lite.exceptions import DataDirLockedError

        if folder.is_file():
            raise StoreError(
                f"{folder} is a file; Milvus Lite 3 keeps a database in a folder, and does not "
                "read those of Milvus Lite 2: name another path"
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        for attempt in Retrying(
            stop=stop_after_delay(timeout_s),
            wait=wait_random_exponential(multiplier=0.02, max=0.5),
            retry=retry_if_exception_type(DataDirLockedError),
            retry_error_callback=lambda _: None,
        ):
            with attempt:
                server, database, port = start_server_in_thread(str(folder), port=0)
                return server, database, f"http://127.0.0.1:{port}"
        raise StoreBusyError(
            f"{folder} stayed open in another process for {timeout_s:g} s; Milvus Lite serves one "
            "process at a time: close it there, or run a Milvus server and open "
            "milvus://host:19530"
        )


@dataclass(slots=True)
class _Shared:
    """What the handles of this process on one collection share.

    Attributes:
        writing: Held by who writes.
        unseen: Grows with each write that a server's Session consistency does not cover.
        seen: The value of ``unseen`` up to which reads have waited for everything.
    """

    writing: threading.RLock = field(default_factory=threading.RLock)
    unseen: int = 1
    seen: int = 0


@dataclass(slots=True)
class _Lease:
    """A client, and the process that made it."""

    client: MilvusClient
    process: int


_LITE = _Lite()
_OPENINGS = Openings()
_SHARED: dict[tuple[str, str], _Shared] = {}
"""Both by address and Milvus's name for the collection."""
_GUARD = threading.RLock()  # the garbage collector may close a handle inside it


def _after_fork_in_child() -> None:
    global _GUARD
    _GUARD = threading.RLock()
    for shared in _SHARED.values():
        shared.writing = threading.RLock()
    _LITE.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Handle:
    """A collection that is open; safe in threads, and connected anew after a fork.

    Args:
        address: Where it is.
        name: Milvus's name for it.
    """

    def __init__(self, address: Address, name: str) -> None:
        self.address = address
        self.name = name
        self._guard = threading.Lock()
        self._lease = _Lease(_client(address), os.getpid())
        key = (address.shown, name)
        try:
            _OPENINGS.enter(key, f"the collection {name!r} of {address.shown}")
        except BaseException:
            _let_go(address, self._lease.client)
            raise
        with _GUARD:
            self._shared = _SHARED.setdefault(key, _Shared())
            self._shared.unseen += 1  # what others wrote before, too, is to be seen
        self._end = weakref.finalize(self, _leave, address, self._lease, key)

    @property
    def is_lite(self) -> bool:
        """Whether it is Milvus Lite's."""
        return self.address.folder is not None

    @property
    def version(self) -> str:
        """The version of the server, or of Milvus Lite."""
        return str(self.run(lambda client, within_s: client.get_server_version(timeout=within_s)))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other writers of this process waiting."""
        with self._shared.writing:
            yield

    def run(self, operation: Operation[_Result]) -> _Result:
        """Run an operation on the client.

        It is run again, within the time there is, where the connection was lost or the server is
        not ready; so it must have the same effect however often it is run.
        """
        client = self._current()

        def repeated(within_s: float) -> _Result:
            try:
                return operation(client, within_s)
            except Exception as error:
                if is_not_loaded(error):
                    self._load(client, within_s)
                raise

        with translated(self.address):
            return tried(self.address, repeated)

    def read(self, operation: Callable[[MilvusClient, dict[str, Any]], _Result]) -> _Result:
        """Run an operation that reads, with the options that its calls need."""
        shared = self._shared
        unseen = shared.unseen
        level = self.address.consistency
        if self.address.folder is None and shared.seen < unseen:
            level = Consistency.STRONG
        found = self.run(
            lambda client, within_s: operation(
                client, {"timeout": within_s, "consistency_level": level.value}
            )
        )
        if level is Consistency.STRONG:
            with _GUARD:
                shared.seen = max(shared.seen, unseen)
        return found

    def deleted(self) -> None:
        """Let the next read wait: Milvus's sessions do not cover deletions."""
        with _GUARD:
            self._shared.unseen += 1

    def _load(self, client: MilvusClient, within_s: float) -> None:
        """Ask for what a server does by itself, unless someone released the collection."""
        with suppress(MilvusException, grpc.RpcError):  # it is asked again
            client.load_collection(self.name, timeout=min(within_s, _LOADING_S), _async=True)

    def check_open(self) -> None:
        """Raise ``ClosedError`` after the end."""
        self._current()

    def close(self) -> None:
        """Let go of the collection. Idempotent."""
        self._end()

    def _current(self) -> MilvusClient:
        if not self._end.alive:
            raise ClosedError("the collection was closed; open it again")
        lease = self._lease
        if lease.process == os.getpid():
            return lease.client
        if self.address.folder is not None:
            raise _forked(self.address.folder)
        with self._guard:
            if lease.process != os.getpid():  # the parent's connections are the parent's
                lease.client, lease.process = _client(self.address), os.getpid()
            return lease.client


@contextmanager
def connected(address: Address) -> Iterator[MilvusClient]:
    """Lend a client for one task, with its errors as nearfield's."""
    client = _client(address)
    try:
        with translated(address):
            yield client
    finally:
        _let_go(address, client)


@contextmanager
def held_alone(address: Address, name: str, shown: str) -> Iterator[None]:
    """Make sure that this process does not have a collection open, and keep it so.

    What other clients of a server do, Milvus does not tell.
    """
    key = (address.shown, name)
    with _OPENINGS.alone(key, f"the collection {shown!r} of {address.shown}"):
        yield


def tried(address: Address, operation: Callable[[float], _Result]) -> _Result:
    """Run an operation until it succeeds, fails for good, or the time is over."""
    return attempts(address.timeout_s, operation, passes)


def _client(address: Address) -> MilvusClient:
    for name in _NOISY:  # what they log is raised, too, and has filters and ids in it
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if address.folder is None:
        with translated(address):
            scheme = "https" if address.ssl else "http"
            return tried(
                address, lambda within_s: _made(address, f"{scheme}://{address.place}", within_s)
            )
    place = _LITE.open(address.folder, address.timeout_s)
    try:
        with translated(address):
            return _made(address, place, address.timeout_s)
    except BaseException:
        _LITE.close(address.folder)
        raise


def _made(address: Address, place: str, within_s: float) -> MilvusClient:
    client = MilvusClient(
        place,
        token=address.token if address.folder is None else "",
        db_name=address.database,
        timeout=within_s,
        dedicated=True,
        grpc_options=_CHANNEL,
    )
    # Who asks again, and for how long, is decided here.
    handler: Any = client._handler  # noqa: SLF001
    handler._on_rpc_error = _end_at_once  # noqa: SLF001
    return client


def _end_at_once(error: Exception) -> NoReturn:
    raise error


def _leave(address: Address, lease: _Lease, key: tuple[str, str]) -> None:
    _OPENINGS.leave(key)
    if lease.process == os.getpid():
        _let_go(address, lease.client)


def _let_go(address: Address, client: MilvusClient) -> None:
    client.close()
    if address.folder is not None:
        _LITE.close(address.folder)


def _forked(folder: Path) -> ForkedProcessError:
    return ForkedProcessError(
        f"this process was forked while {folder} was open, and Milvus Lite cannot use it here; "
        "start the process anew (multiprocessing's start method 'spawn'), or use "
        "milvus://host:19530"
    )
