"""Background maintenance: one process at a time builds segments, and nobody waits for it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nearfield.errors import ClosedError, NearfieldError, ReadOnlyError, StoreBusyError
from nearfield.stores.local.connections import translated_errors
from nearfield.stores.local.forks import FORKS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nearfield.stores.local.compaction import Compaction
    from nearfield.stores.local.connections import ConnectionPool
    from nearfield.stores.local.files import CollectionFiles
    from nearfield.stores.local.plans import Target
    from nearfield.stores.local.snapshots import Snapshot, Snapshots

__all__ = ["Maintenance"]

_LOG = logging.getLogger("nearfield.maintenance")
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_LOOK_AGAIN_S = 0.05


class _AbandonedError(Exception):
    """The collection was closed or is being repaired, or the process is ending."""


class Maintenance:
    """Runs a collection's compaction on a thread of its own while there is something to do.

    The lease keeps processes from doing the same work twice. It does not keep the collection right:
    that is the manifest's transaction, which refuses what another process overtook.
    """

    def __init__(
        self,
        compaction: Compaction,
        pool: ConnectionPool,
        files: CollectionFiles,
        snapshots: Snapshots,
    ) -> None:
        self._compaction = compaction
        self._policy = compaction.policy
        self._pool = pool
        self._files = files
        self._snapshots = snapshots
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._pauses = 0
        self._takeovers = 0  # callers who do on their own thread what the background was at
        self._unsealed = 0
        self._resume_at = 0.0
        self._pause_s = _FIRST_PAUSE_S
        self.last_error: str | None = None
        FORKS.add(self)

    @property
    def running(self) -> bool:
        """Whether this process is at it."""
        return self._thread is not None

    def after_write(self, unsealed: int) -> None:
        """Take note of how many rows, at most, no segment holds."""
        self._unsealed = unsealed
        if unsealed >= self._policy.bulk_rows:
            self._wake(settle=False)

    def after_look(self, snapshot: Snapshot) -> None:
        """Have done what a search shows to be due, some of it only when no one writes."""
        policy = self._policy
        if (
            snapshot.unsealed >= policy.seal_rows
            or snapshot.dead_share > policy.dead_share
            or self._snapshots.unusable
        ):
            self._wake(settle=False)
        elif (
            snapshot.unsealed >= policy.quiet_seal_rows or not snapshot.thorough
        ) and self._snapshots.quiet_s() > policy.quiet_s:
            self._wake(settle=True)

    def before_write(self) -> None:
        """Hold a write back while far too many rows wait to be sealed.

        Raises:
            StoreBusyError: Nobody sealed them in time.
        """
        if self._unsealed <= self._policy.most_unsealed:
            return
        deadline = time.monotonic() + self._pool.timeout_s
        while self._compaction.next_task(frozenset(), settle=False) is not None:
            self._wake(settle=False)
            if time.monotonic() > deadline:
                raise StoreBusyError(
                    f"more than {self._policy.most_unsealed:,} documents wait to be indexed, and "
                    f"no process did so within {self._pool.timeout_s} s; call maintain(), or try "
                    "again"
                )
            time.sleep(_LOOK_AGAIN_S)
        self._unsealed = 0

    def pending_rows(self) -> int:
        """Return how many rows wait to be put into a segment."""
        return self._compaction.pending_rows()

    def run(self) -> int:
        """Do all there is to do on this thread; return how many segments were built.

        Raises:
            StoreBusyError: Another process was at it for longer than the timeout.
            ReadOnlyError: The collection was opened with ``read_only=True``.
        """
        with self._alone():
            return self._do_all(settle=True)

    def retune(self, target: Target, queries: NDArray[np.float32] | None) -> None:
        """Set the recall to hold, and build every segment for it; errors as of :meth:`run`."""
        with self._alone():
            outdated = self._compaction.set_target(target)
            self._do_all(settle=True)
            with translated_errors(self._files.folder):
                self._compaction.rebuild(outdated, queries, self._checkpoint)
                self._compaction.sweep()

    def close(self) -> None:
        """Give up what is under way and wait until it has. Idempotent."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Give up what is under way, on any thread, and begin nothing until the end."""
        with self._lock:
            self._pauses += 1
            thread = self._thread
        try:
            if thread is not None:
                thread.join()
            yield
        finally:
            with self._lock:
                self._pauses -= 1

    @contextmanager
    def _taken_over(self) -> Iterator[None]:
        """Give up what the background is at, and keep it from beginning anew until the end."""
        with self._lock:
            self._takeovers += 1
            thread = self._thread
        try:
            if thread is not None:
                thread.join()
            yield
        finally:
            with self._lock:
                self._takeovers -= 1

    def before_fork(self) -> None:
        """Hold the lock, so that the child gets it in a known state."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Forget the thread, which is the parent's."""
        self._lock = threading.Lock()
        self._thread = None
        self._pauses = self._takeovers = 0

    def _wake(self, *, settle: bool) -> None:
        """See to what is due on a thread of its own, unless one is at it; return at once."""
        if self._thread is not None or time.monotonic() < self._resume_at:
            return
        if not self._policy.automatic or self._pool.read_only:
            return
        with self._lock:
            held_off = self._closed or self._pauses or self._takeovers
            if self._thread is None and not held_off:
                # Not a daemon: a process must not end in the middle of a call to FAISS.
                thread = threading.Thread(
                    target=self._work, args=(settle,), name="nearfield-maintenance", daemon=False
                )
                try:
                    thread.start()
                except RuntimeError as error:  # too many threads, or the interpreter is ending
                    self._put_off(error)
                else:
                    self._thread = thread  # before it can end: that takes the lock

    def _work(self, settle: bool) -> None:  # noqa: FBT001 - a thread's argument
        try:
            with self._lease(0.0) as held:
                checkpoint = self._background_checkpoint
                built = self._do_all(settle=settle, checkpoint=checkpoint) if held else 0
            self._pause_s = _FIRST_PAUSE_S
            self.last_error = None
            if not built:
                self._resume_at = time.monotonic() + _FIRST_PAUSE_S
        except (_AbandonedError, ClosedError):
            pass
        except NearfieldError as error:
            self._put_off(error)
        except Exception as error:  # noqa: BLE001 - a search must not suffer from it
            self._put_off(error)
        finally:
            with self._lock:
                self._thread = None

    def _put_off(self, error: Exception) -> None:
        """Try again later; until then the rows are searched where they are."""
        self.last_error = f"{type(error).__name__}: {error}"
        self._resume_at = time.monotonic() + self._pause_s
        _LOG.warning("segments could not be built, next try in %.0f s: %s", self._pause_s, error)
        self._pause_s = min(_LONGEST_PAUSE_S, 2 * self._pause_s)

    def _do_all(self, *, settle: bool, checkpoint: Callable[[], None] | None = None) -> int:
        checkpoint = checkpoint or self._checkpoint
        with translated_errors(self._files.folder):
            self._compaction.sweep()
            built = 0
            while task := self._compaction.next_task(self._snapshots.unusable, settle=settle):
                checkpoint()
                built += self._compaction.run(task, checkpoint)
            if built:
                self._compaction.sweep()
        return built

    def _checkpoint(self) -> None:
        # An open collection must not keep the process from ending.
        if self._closed or self._pauses or not threading.main_thread().is_alive():
            raise _AbandonedError

    def _background_checkpoint(self) -> None:
        if self._takeovers:
            raise _AbandonedError
        self._checkpoint()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self._pool.read_only:
            raise ReadOnlyError(
                f"{self._pool.path} was opened with read_only=True; open it without to build "
                "its segments"
            )
        # What the background was at is done here, and more thoroughly.
        with self._taken_over(), self._lease(self._pool.timeout_s) as held:
            if not held:
                raise StoreBusyError(
                    f"another was building segments in {self._files.folder} for more than "
                    f"{self._pool.timeout_s} s; try again, or wait for it to finish"
                )
            try:
                self._verify_segments()
                yield
            except _AbandonedError:
                raise ClosedError(
                    f"the collection at {self._pool.path} was closed, or repaired, while its "
                    "segments were built"
                ) from None

    def _verify_segments(self) -> None:
        """Open all segments anew, so that those whose files are of no use are known."""
        self._snapshots.reopen()
        snapshot = None
        while snapshot is None:
            reached = self._snapshots.sequence
            with self._pool.reading() as connection:
                snapshot = self._snapshots.at(connection, reached=reached)

    @contextmanager
    def _lease(self, timeout_s: float) -> Iterator[bool]:
        import filelock

        # A connection that lies open keeps others from dropping or renaming the collection, whose
        # folder the lock would otherwise bring back.
        with self._pool.reading():
            pass
        lock = filelock.FileLock(self._files.lease)
        held = True
        with translated_errors(self._files.lease):
            try:
                lock.acquire(timeout=timeout_s)
            except filelock.Timeout:  # an OSError
                held = False
        try:
            yield held
        finally:
            lock.release()
