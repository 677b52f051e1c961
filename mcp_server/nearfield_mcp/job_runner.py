"""Runs ingest jobs on threads of the server's own, whatever becomes of the request."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from mcp.server.mcpserver.exceptions import ToolError

from nearfield_mcp.failures import UnknownCollectionError, told_of
from nearfield_mcp.jobs import JobCounts, JobFailure, JobFolder, JobRecord, JobState
from nearfield_mcp.scope import CURRENT, Right, Scope

__all__ = ["JobLimits", "JobOutcome", "JobRunner", "Tell"]

Tell = Callable[[JobCounts | None], None]
"""Reports how far a job has come, or None for no news; raises where the job is to end."""

_SAVE_EVERY_S = 1.0
_ERROR_CHARS = 500
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JobLimits:
    """How many jobs there may be at once."""

    running: int = 2
    waiting: int = 64
    per_caller: int = 8


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """What a job came to."""

    counts: JobCounts
    failures: tuple[JobFailure, ...] = ()
    failures_total: int = 0

    @property
    def is_failure(self) -> bool:
        """Whether nothing at all was taken in, for some reason."""
        counts = self.counts
        taken = counts.added + counts.updated + counts.unchanged + counts.removed + counts.empty
        return self.failures_total > 0 and taken == 0


class _CancelledError(Exception):
    """Ends a job that was cancelled."""


class _StoppedError(Exception):
    """Ends a job because the server does."""


class JobRunner:
    """Runs jobs, one at a time for each collection.

    Args:
        folder: Keeps the records.
        work: Does what a record says. It is called on a thread of its own, in the scope of the
            job's caller, and has to report often.
        limits: How many jobs there may be at once.
        ended: Called with the record of a job that ran, on its thread.
    """

    def __init__(
        self,
        folder: JobFolder,
        work: Callable[[JobRecord, Tell], JobOutcome],
        *,
        limits: JobLimits | None = None,
        ended: Callable[[JobRecord], None] = lambda _: None,
    ) -> None:
        self._folder = folder
        self._work = work
        self._limits = limits or JobLimits()
        self._ended = ended
        self._lock = threading.Lock()
        self._waiting: deque[JobRecord] = deque()
        self._running: dict[str, _Job] = {}
        self._threads: set[threading.Thread] = set()
        self._is_stopping = threading.Event()

    def resume(self) -> None:
        """Go on with what servers that are gone have left."""
        adopted = self._folder.adopt()
        with self._lock:
            self._waiting.extend(adopted)
        self._dispatch()

    def submit(self, record: JobRecord, inputs: bytes | None = None) -> JobRecord:
        """Put a job behind those that wait.

        Args:
            record: In state queued.
            inputs: What it was given, to be kept until it ends.

        Raises:
            ToolError: There are too many jobs already.
        """
        record = replace(record, owner=self._folder.owner)
        with self._lock:
            self._refuse_too_many(record)
            if inputs is not None:
                self._folder.save_inputs(record.id, inputs)
            self._folder.save(record)
            self._waiting.append(record)
        self._dispatch()
        return record

    def get(self, identifier: str) -> JobRecord | None:
        """Return the latest of a job, of this server or another; None where there is none."""
        with self._lock:
            job = self._running.get(identifier)
        return job.record if job is not None else self._folder.load(identifier)

    def latest(self) -> list[JobRecord]:
        """Return all jobs, the latest first."""
        return [self.get(record.id) or record for record in self._folder.records()]

    def cancel(self, record: JobRecord) -> None:
        """End a job that waits, or ask the server that runs it to end it at its next step."""
        self._folder.ask_to_cancel(record.id)
        with self._lock:
            waiting = next((each for each in self._waiting if each.id == record.id), None)
            if waiting is not None:
                self._waiting.remove(waiting)
        if waiting is not None:
            ended = replace(waiting, state=JobState.CANCELLED, finished_at=time.time())
            self._folder.finish(ended)

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop all jobs at their next step, for the next server to go on with."""
        with self._lock:
            self._is_stopping.set()
            self._is_stopping = threading.Event()  # of jobs that may come after all
            waiting, threads = list(self._waiting), list(self._threads)
            self._waiting.clear()
        for record in waiting:
            self._folder.save(replace(record, state=JobState.INTERRUPTED))
        deadline = time.monotonic() + timeout_s
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            if not self._running:
                self._folder.release()

    def _refuse_too_many(self, record: JobRecord) -> None:
        jobs = [*self._waiting, *(job.record for job in self._running.values())]
        own = sum(job.tenant == record.tenant and job.subject == record.subject for job in jobs)
        if own >= self._limits.per_caller or len(self._waiting) >= self._limits.waiting:
            raise ToolError(
                "too many ingests are under way; ask ingest_status until one is done, then call "
                "again, or give more sources in one call"
            )

    def _dispatch(self) -> None:
        """Begin every job that may run now."""
        with self._lock:
            while (record := self._next()) is not None:
                self._waiting.remove(record)
                job = _Job(record, self._folder, self._is_stopping)
                self._running[record.id] = job
                name = f"nearfield-ingest-{record.id}"
                thread = threading.Thread(target=self._run, args=(job,), name=name, daemon=True)
                self._threads.add(thread)
                thread.start()

    def _next(self) -> JobRecord | None:
        if len(self._running) >= self._limits.running:
            return None
        busy = {(job.record.tenant, job.record.collection) for job in self._running.values()}
        free = (job for job in self._waiting if (job.tenant, job.collection) not in busy)
        return next(free, None)

    def _run(self, job: _Job) -> None:
        CURRENT.set(_scope_of(job.record))  # a thread has a context of its own
        try:
            job.run(self._work)
        except OSError as error:  # the disk is full, say: the record stays behind
            name, reason = job.record.id, error.strerror
            _logger.error("the record of %s was not written: %s", name, reason)  # noqa: TRY400
        finally:
            self._ended(job.record)
            with self._lock:
                self._running.pop(job.record.id, None)
                self._threads.discard(threading.current_thread())
            self._dispatch()
            with suppress(OSError):  # a server may run for a year
                self._folder.prune()


class _Job:
    """A job that runs; its record is up to date here at once and on the disk every second."""

    def __init__(self, record: JobRecord, folder: JobFolder, is_stopping: threading.Event) -> None:
        self.record = record
        self._folder = folder
        self._is_stopping = is_stopping
        self._saved_s = 0.0

    def run(self, work: Callable[[JobRecord, Tell], JobOutcome]) -> None:
        self._save(state=JobState.RUNNING, started_at=time.time())
        try:
            outcome = work(self.record, self._tell)
        except _CancelledError:
            self._end(JobState.CANCELLED)
        except _StoppedError:
            self._save(state=JobState.INTERRUPTED)
        except Exception as error:  # noqa: BLE001  # whatever it is, the job's record says so
            if self._is_stopping.is_set():  # what it used was closed under it
                self._save(state=JobState.INTERRUPTED)
                return
            self._end(JobState.FAILED, error=_told(self.record, error))
        else:
            self.record = replace(
                self.record,
                counts=outcome.counts,
                failures=outcome.failures,
                failures_total=outcome.failures_total,
            )
            self._end(JobState.FAILED if outcome.is_failure else JobState.DONE)

    def _tell(self, counts: JobCounts | None) -> None:
        if self._is_stopping.is_set():
            raise _StoppedError
        if self._folder.is_cancelled(self.record.id):
            raise _CancelledError
        if counts is not None:
            self.record = replace(self.record, counts=counts)
            if time.monotonic() - self._saved_s >= _SAVE_EVERY_S:
                self._save()

    def _save(self, **changes: Any) -> None:
        self.record = replace(self.record, **changes)
        self._saved_s = time.monotonic()
        self._folder.save(self.record)

    def _end(self, state: JobState, *, error: str | None = None) -> None:
        # On the disk first: what the record says here, others may act on.
        ended = replace(self.record, state=state, finished_at=time.time(), error=error)
        self._folder.finish(ended)
        self.record = ended


def _scope_of(record: JobRecord) -> Scope:
    """Return what the caller had when the job was accepted, and no more than the job needs."""
    return Scope(
        tenant=record.tenant,
        collections=frozenset({record.collection}),
        rights=frozenset({Right.READ, Right.WRITE}),
        subject=record.subject,
    )


def _told(record: JobRecord, error: Exception) -> str:
    from nearfield.errors import NearfieldError

    if isinstance(error, NearfieldError):
        return told_of(error, record.collection)[:_ERROR_CHARS]
    if isinstance(error, UnknownCollectionError | ToolError):
        return str(error)[:_ERROR_CHARS]
    # Neither the message nor the traceback: both may quote what was read.
    _logger.error("job %s failed: %s", record.id, type(error).__name__)
    return f"it failed unexpectedly ({type(error).__name__}); what was written stays; call again"
