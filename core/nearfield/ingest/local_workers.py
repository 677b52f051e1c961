"""Workers that are processes of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING, Any, ParamSpec, TypeVar

from nearfield.errors import NearfieldError, WorkerError, WorkerLostError
from nearfield.ingest import wire

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["LocalWorkers", "serve"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_ATTEMPTS = 3
_END_S = 5.0
"""How long a worker that is asked nothing more may take to end; it writes nothing, so it can be
killed at any moment."""
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[1:]; "
    "from nearfield.ingest.local_workers import serve; serve()"
)
"""Begins where the parent's modules lie, and not in the folder the parent works in."""
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class LocalWorkers(Executor):
    """Processes that work off calls; where one dies, its call is tried again in another.

    They are started anew rather than forked, at the first call, and end with this process, however
    that ends. What they are given and what they return crosses a pipe.

    Args:
        count: How many.
        threads: How many threads numerical libraries may use in each, unless the environment
            says so already.
    """

    def __init__(self, count: int, threads: int) -> None:
        self._workers = [_Worker(threads) for _ in range(count)]
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="nearfield-worker")

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Have a worker call a function that it can import.

        The future raises ``WorkerLostError`` where the worker died three times in a row.
        """
        return self._threads.submit(self._call, fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002  # the base class's
        """Let the workers end; with ``cancel_futures`` at once, whatever they are at."""
        if cancel_futures:
            for worker in self._workers:
                worker.kill()
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)
        for worker in self._workers:
            worker.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown(cancel_futures=error is not None)

    def _call(self, fn: Callable[..., _T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> _T:
        worker = self._idle.get()
        try:
            request = wire.packed((*wire.name_of(fn), args, kwargs))
            return worker.call(request)  # type: ignore[no-any-return]  # what fn returned
        finally:
            self._idle.put(worker)


class _Worker:
    """One process, and those that take its place."""

    def __init__(self, threads: int) -> None:
        self._threads = str(threads)
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False
        self._lock = threading.Lock()

    def call(self, request: bytes) -> Any:
        status: int | None = None
        for _ in range(_ATTEMPTS):
            stdin, stdout = self._streams()
            try:
                stdin.write(request)
                stdin.flush()
                ok, outcome = wire.receive(stdout)
            except (OSError, EOFError):
                status = self._end()
                continue
            if ok:
                return outcome
            raise outcome
        raise WorkerLostError(
            f"a worker died {_ATTEMPTS} times at the same task ({_in_words(status)}); if the "
            "system ended it for want of memory, use fewer workers"
        )

    def kill(self) -> None:
        """End the process at once, and start no other."""
        with self._lock:
            self._killed = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """Let the process end by itself, once nothing is asked of it any more."""
        if self._process is not None:
            self._end()

    def _streams(self) -> tuple[IO[bytes], IO[bytes]]:
        with self._lock:
            if self._killed:
                raise WorkerLostError("the workers were stopped")
            if self._process is None:
                limits = {name: os.environ.get(name, self._threads) for name in _THREADS}
                self._process = subprocess.Popen(  # noqa: S603  # ourselves
                    [sys.executable, "-c", _PROGRAM, *map(os.fspath, sys.path)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**os.environ, **limits, "TOKENIZERS_PARALLELISM": "false"},
                    start_new_session=True,  # an interrupt at the terminal is the parent's to heed
                )
            stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise WorkerLostError("a worker was started without pipes")
        return stdin, stdout

    def _end(self) -> int:
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return 0
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:  # what was not written yet cannot be any more
                    continue
        try:
            return process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def serve() -> None:
    """Work off the calls on standard input until it ends: the main program of a worker."""
    # What libraries print is not to come between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            module, name, args, kwargs = wire.receive(sys.stdin.buffer)
        except EOFError:  # the coordinator is gone
            return
        try:
            answer = wire.packed((True, wire.function(module, name)(*args, **kwargs)))
        except NearfieldError as error:
            answer = wire.packed((False, error))
        except Exception as error:  # noqa: BLE001  # of any kind, which may not cross
            failure = WorkerError(f"a worker failed: {type(error).__name__}: {error}")
            answer = wire.packed((False, failure))
        try:
            answers.write(answer)
            answers.flush()
        except OSError:  # the coordinator is gone, and what is buffered has no reader
            os._exit(1)


def _in_words(status: int | None) -> str:
    if status is None or status >= 0:
        return f"exit status {status}"
    return f"signal {-status}"
