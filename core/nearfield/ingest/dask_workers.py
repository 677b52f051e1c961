"""Workers that are a Dask cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

from nearfield.errors import (
    InvalidURLError,
    MissingDependencyError,
    NearfieldError,
    WorkerError,
    WorkerLostError,
)
from nearfield.ingest.workers import Crew

__all__ = ["dask_crew"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_CONNECT_S = 10.0
_NO_WORKERS_S = 60.0
"""How long a cluster may be without workers, as when they are restarted."""
_COUNT_S = 5.0
"""How old the number of workers may be, which follows a cluster that grows."""
_GOES_ON = "what was written stays, and the ingest goes on when it is run again"
_SETTINGS = {"distributed.admin.large-graph-warning-threshold": "1 GiB"}
"""A task holds the files that it is about, up to 64 MiB of them; Dask warns from 10 MB on."""


@contextmanager
def dask_crew(url: str) -> Iterator[Crew]:
    """Reach the workers of a scheduler.

    Args:
        url: ``dask://host:8786``, or ``dask+tls://host:8786`` with the certificates that Dask's own
            configuration names.

    Raises:
        InvalidURLError: There is no host in it.
        MissingDependencyError: Dask is not installed.
        WorkerError: The scheduler does not answer, or has no workers.
    """
    address = _address(url)
    try:
        distributed: Any = import_module("distributed")  # half of it has types
        config: Any = import_module("dask.config")
    except ImportError:
        raise MissingDependencyError("distributed", extra="dask", purpose=url) from None
    try:
        client = distributed.Client(address, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise WorkerError(
            f"no Dask scheduler answers at {url} ({error}); start one with: dask scheduler"
        ) from error
    with client, config.set(_SETTINGS):
        staff = _Staff(client, url)
        staff.check()
        # Dask keeps to one thread a task: its workers set OMP_NUM_THREADS and the like to 1.
        yield Crew(_Tasks(client), staff.slots, staff.check, threads=1, here=False)


class _Tasks(Executor):
    """Dask's tasks as futures of the standard library.

    Those of ``Client.get_executor`` are left unsettled where the connection breaks while a result
    is fetched.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Have a worker of the cluster call a function that it can import."""
        outcome: Future[_T] = Future()
        try:
            # Not pure: what is asked twice is done twice, so that no worker has to keep results.
            task = self._client.submit(fn, *args, pure=False, **kwargs)
        except Exception as error:
            raise WorkerError(f"the Dask scheduler is out of reach: {error}; {_GOES_ON}") from error
        task.add_done_callback(partial(_settle, outcome))
        return outcome


def _settle(outcome: Future[Any], task: Any) -> None:
    """Pass on what came of a task; called by Dask on a thread of its own."""
    from distributed import KilledWorker

    try:
        result = task.result()
    except KilledWorker as error:
        outcome.set_exception(
            WorkerLostError(f"the workers that had a task died, one after another: {error}")
        )
    except NearfieldError as error:
        outcome.set_exception(error)
    except BaseException as error:  # noqa: BLE001  # also what Dask cancels
        name = type(error).__name__
        outcome.set_exception(
            WorkerError(f"a worker failed, or is out of reach: {name}: {error}; {_GOES_ON}")
        )
    else:
        outcome.set_result(result)


class _Staff:
    """How many workers a scheduler has."""

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._url = url
        self._slots = 0
        self._counted_at = float("-inf")

    def slots(self) -> int:
        if time.monotonic() - self._counted_at > _COUNT_S:
            self._slots = self._asked(lambda: sum(self._client.nthreads().values()))
            self._counted_at = time.monotonic()
        return self._slots

    def check(self) -> None:
        """Raise where the scheduler is gone, or has had no workers for a minute."""
        try:
            self._asked(lambda: self._client.wait_for_workers(1, timeout=_NO_WORKERS_S))
        except TimeoutError:
            raise WorkerError(
                f"the Dask scheduler at {self._url} has had no workers for {_NO_WORKERS_S:g} s; "
                f"start some where nearfield is installed: dask worker HOST:PORT; {_GOES_ON}"
            ) from None

    def _asked(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except TimeoutError:
            raise
        except (OSError, RuntimeError) as error:
            raise WorkerError(
                f"the Dask scheduler at {self._url} went away ({error}); {_GOES_ON}"
            ) from error


def _address(url: str) -> str:
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port or 8786
    except ValueError:
        host = None
        port = 0
    if not host or parts.username or parts.path.strip("/") or parts.query:
        raise InvalidURLError(f"{url!r} names no Dask scheduler; expected dask://host:8786")
    scheme = "tls" if parts.scheme == "dask+tls" else "tcp"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
