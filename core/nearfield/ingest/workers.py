"""Who shares the work of an ingest: processes of this machine, or a Dask cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass

from nearfield.errors import InvalidInputError

__all__ = ["Crew", "hired"]

_MOST_PROCESSES = 1024


@dataclass(frozen=True, slots=True)
class Crew:
    """Workers, and what has to be known of them.

    Attributes:
        executor: Takes their tasks.
        slots: Tells how many tasks they can have in hand at once; it may change.
        check: Raises ``WorkerError`` where none is left to wait for.
        threads: How many threads a task may use.
        here: Whether they are on this machine, with the same files.
    """

    executor: Executor
    slots: Callable[[], int]
    check: Callable[[], None]
    threads: int
    here: bool


@contextmanager
def hired(workers: int | str) -> Iterator[Crew]:
    """Start or reach workers, and let them go at the end.

    Args:
        workers: How many processes to start here, or a Dask scheduler, ``dask://host:8786``
            (``dask+tls://``, where the cluster asks for it).

    Raises:
        InvalidInputError: It is neither.
        MissingDependencyError: Dask is not installed.
        WorkerError: The scheduler does not answer, or has no workers.
    """
    count = _count(workers)
    if count is not None:
        from nearfield.ingest.local_workers import LocalWorkers

        threads = max(1, _processors() // count)
        with LocalWorkers(count, threads) as executor:
            yield Crew(executor, lambda: count, lambda: None, threads, here=True)
        return
    from nearfield.ingest.dask_workers import dask_crew

    with dask_crew(str(workers)) as crew:
        yield crew


def _count(workers: object) -> int | None:
    """Return the number of processes, or None for the URL of a scheduler."""
    if isinstance(workers, str) and workers.startswith(("dask://", "dask+tls://")):
        return None
    try:
        count = int(workers) if isinstance(workers, str) else workers
    except ValueError:
        count = None
    if type(count) is int and 1 <= count <= _MOST_PROCESSES:
        return count
    raise InvalidInputError(
        f"workers is {workers!r}; expected a number of processes from 1 to {_MOST_PROCESSES:,}, or "
        "a Dask scheduler such as 'dask://host:8786'"
    )


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
