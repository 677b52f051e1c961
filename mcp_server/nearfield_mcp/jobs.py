"""Records of ingest jobs in a folder that several servers may share.

A record is a small file that is replaced as a whole, so it is never half written. It says what is
read (paths, URLs), how far that has come and what failed; it holds no content. The texts of a job
that was given texts are kept beside it, for their owner's eyes only, until the job ends.

A server holds a lock for as long as it lives, and the system lets go of it however the process
ends. A job whose server is gone can so be told from one that runs, and is taken over by the next
server that looks: just one of them, since it has to hold the lock of the server that is gone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

if TYPE_CHECKING:
    import filelock

__all__ = [
    "JobCounts",
    "JobFailure",
    "JobFolder",
    "JobRecord",
    "JobState",
    "SourceKind",
    "default_job_folder",
    "new_job_id",
]

_ID = re.compile(r"[0-9a-f]{20}")
_RECORD = ".job"
_INPUTS = ".inputs"
_CANCEL = ".cancel"
_OWNER = ".owner"
_MAX_RESUMES = 1
_KEPT = 200
_KEPT_S = 30 * 86_400
_OWNER_AGE_S = 86_400
_GAVE_UP = (
    "the server ended twice while it ran; what was written stays, and ingest can be called again"
)


class SourceKind(StrEnum):
    """What a job reads."""

    TEXTS = "texts"
    PATHS = "paths"
    URLS = "urls"


class JobState(StrEnum):
    """How a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """Its server ended; the next one goes on with it."""

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen."""
        return self in {JobState.DONE, JobState.FAILED, JobState.CANCELLED}


@dataclass(frozen=True, slots=True)
class JobCounts:
    """How far a job has come; see ``nearfield.ingest.Progress`` and ``IngestReport``."""

    files_done: int = 0
    files_total: int | None = None
    bytes_done: int = 0
    bytes_total: int = 0
    chunks_written: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    empty: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobFailure:
    """What could not be taken in, and why."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class JobRecord:
    """All that is kept of a job.

    Attributes:
        id: 20 hexadecimal digits; later jobs sort behind earlier ones.
        collection: Where it writes.
        kind: What it reads.
        sources: The paths or URLs; empty for texts.
        tenant: Of the caller; a job is shown to this tenant and subject only.
        subject: Who the caller is.
        state: How it stands.
        created_at: Seconds since 1970, as all times here.
        owner: The server that runs it.
        started_at: When it was last begun.
        finished_at: When it ended.
        resumes: How often it was taken over from a server that died.
        counts: How far it has come.
        failures: The first of them.
        failures_total: How many there are.
        error: Why all of it failed.
    """

    id: str
    collection: str
    kind: SourceKind
    sources: tuple[str, ...]
    tenant: str | None
    subject: str
    state: JobState
    created_at: float
    owner: str = ""
    started_at: float | None = None
    finished_at: float | None = None
    resumes: int = 0
    counts: JobCounts = field(default_factory=JobCounts)
    failures: tuple[JobFailure, ...] = ()
    failures_total: int = 0
    error: str | None = None


_FORMAT = TypeAdapter(JobRecord)


def new_job_id() -> str:
    """Make an id: 12 digits of milliseconds, 8 that are random."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(4)}"


def default_job_folder(databases: Mapping[str, str]) -> Path:
    """Return where servers of the same databases keep their jobs, in the user's state folder.

    Args:
        databases: URLs by name. A relative path counts from the current folder.
    """
    places = {
        name: url if "://" in url else str(Path(url).expanduser().absolute())
        for name, url in databases.items()
    }
    digest = hashlib.sha256(json.dumps(places, sort_keys=True).encode()).hexdigest()[:16]
    base = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_STATE_HOME")
    state = Path(base) if base else Path.home() / ".local" / "state"
    return state / "nearfield-mcp" / "jobs" / digest


class JobFolder:
    """Keeps the records of jobs. Safe to use from several threads and processes.

    Args:
        folder: Made when the first job is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._owner: str | None = None
        self._own_lock: filelock.BaseFileLock | None = None
        self._lock = threading.Lock()

    @property
    def owner(self) -> str:
        """This server's name; its lock is held from the first time this is asked for."""
        with self._lock:
            if self._owner is None:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                name = secrets.token_hex(8)
                lock = self._lock_of(name)
                lock.acquire()
                self._owner, self._own_lock = name, lock
            return self._owner

    def release(self) -> None:
        """Let go of this server's lock: its jobs may be taken over."""
        with self._lock:
            if self._own_lock is not None:
                self._own_lock.release()
                self._path(self._owner or "", _OWNER).unlink(missing_ok=True)
            self._owner = self._own_lock = None

    def save(self, record: JobRecord) -> None:
        """Write a record, as a whole or not at all."""
        self._write(self._path(record.id, _RECORD), _FORMAT.dump_json(record))

    def load(self, identifier: str) -> JobRecord | None:
        """Read a record; None where there is none."""
        if not _ID.fullmatch(identifier):
            return None
        try:
            return _FORMAT.validate_json(self._path(identifier, _RECORD).read_bytes())
        except (OSError, ValidationError):
            return None

    def records(self) -> Iterator[JobRecord]:
        """Read all records, the latest first."""
        with suppress(FileNotFoundError):
            names = sorted((p.stem for p in self._folder.glob(f"*{_RECORD}")), reverse=True)
            yield from (record for name in names if (record := self.load(name)) is not None)

    def save_inputs(self, identifier: str, data: bytes) -> None:
        """Keep what a job was given, readable for this user only, until it ends."""
        self._write(self._path(identifier, _INPUTS), data)

    def load_inputs(self, identifier: str) -> bytes:
        """Read what a job was given.

        Raises:
            FileNotFoundError: It was given nothing, or has ended.
        """
        return self._path(identifier, _INPUTS).read_bytes()

    def finish(self, record: JobRecord) -> None:
        """Write the record of a job that ended, and forget what it was given."""
        self.save(record)
        for suffix in (_INPUTS, _CANCEL):
            self._path(record.id, suffix).unlink(missing_ok=True)

    def ask_to_cancel(self, identifier: str) -> None:
        """Ask whichever server runs a job to end it."""
        self._path(identifier, _CANCEL).touch(mode=0o600)

    def is_cancelled(self, identifier: str) -> bool:
        """Whether someone asked a job to end."""
        return self._path(identifier, _CANCEL).exists()

    def adopt(self) -> list[JobRecord]:
        """Take over the jobs of servers that are gone, the oldest first.

        Returns:
            Those to go on with. One that was taken over before, and outlived that server too, is
            given up: it might be what ends them.
        """
        adopted = []
        for seen in reversed(list(self.records())):
            if seen.state.is_final or seen.owner == self.owner:
                continue
            with self._held(seen.owner) as is_held:
                record = self.load(seen.id) if is_held else None
                if record is None or record.state.is_final or record.owner != seen.owner:
                    continue  # its server lives, or another one was faster
                was_running = record.state is JobState.RUNNING
                if was_running and record.resumes >= _MAX_RESUMES:
                    given_up = replace(
                        record, state=JobState.FAILED, error=_GAVE_UP, finished_at=time.time()
                    )
                    self.finish(given_up)
                    continue
                record = replace(
                    record,
                    owner=self.owner,
                    state=JobState.QUEUED,
                    resumes=record.resumes + was_running,
                )
                self.save(record)
                adopted.append(record)
        return adopted

    def prune(self) -> None:
        """Remove old records of jobs that ended, and what servers long gone left behind."""
        now = time.time()
        for place, record in enumerate(self.records()):
            is_old = place >= _KEPT or record.created_at < now - _KEPT_S
            if is_old and record.state.is_final:
                for suffix in (_RECORD, _INPUTS, _CANCEL):
                    self._path(record.id, suffix).unlink(missing_ok=True)
        for path in [*self._folder.glob(f"*{_OWNER}"), *self._folder.glob("*.tmp")]:
            with suppress(FileNotFoundError):
                if path.stat().st_mtime > now - _OWNER_AGE_S or path.stem == self._owner:
                    continue
                if path.suffix == _OWNER:
                    with self._held(path.stem) as is_held:
                        if not is_held:
                            continue
                path.unlink(missing_ok=True)

    def _path(self, name: str, suffix: str) -> Path:
        return self._folder / f"{name}{suffix}"

    def _lock_of(self, owner: str) -> filelock.BaseFileLock:
        import filelock  # at the first job

        # Taken on one thread, let go of on another.
        return filelock.FileLock(self._path(owner, _OWNER), thread_local=False)

    @contextmanager
    def _held(self, owner: str) -> Iterator[bool]:
        """Hold the lock of another server; False while that lives."""
        import filelock

        lock = self._lock_of(owner)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _write(self, path: Path, data: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(suffix=".tmp", dir=self._folder)  # of mode 0600
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if os.name != "nt":
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
