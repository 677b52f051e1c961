"""The official clients: one for all threads, and one for each event loop."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from nearfield.embedders.forks import begin_anew_after_fork
from nearfield.embedders.openai.exchange import Pause
from nearfield.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from openai import AsyncOpenAI, OpenAI

    from nearfield.embedders.openai.exchange import Course, Outcome, Post
    from nearfield.embedders.openai.secret import Secret

__all__ = ["Clients", "Target"]

_Result = TypeVar("_Result")
_NO_KEY = "none"
"""The client demands a key; servers that need none take any."""
_ACCOUNT_HEADERS = ("OpenAI-Organization", "OpenAI-Project")
_parents: list[object] = []
"""Kept, so that no finaliser closes them."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, and what they say besides the texts.

    Attributes:
        url: The server's base URL.
        trusted: Whether the client's other variables in the environment are meant for it.
        key: The key, or None where there is none.
        model: The model's name there.
        dimensions: The components to ask for; None leaves it to the model.
        encoding_format: How vectors are sent: ``"base64"`` or ``"float"``.
    """

    url: str
    trusted: bool
    key: Secret | None
    model: str
    dimensions: int | None
    encoding_format: str

    def client_options(self) -> dict[str, Any]:
        """Return what the clients are made with; they are to repeat nothing by themselves."""
        from openai import Omit

        lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
        names = [*_ACCOUNT_HEADERS, *(line.partition(":")[0].strip() for line in lines)]
        return {
            "default_headers": {} if self.trusted else dict.fromkeys(filter(None, names), Omit()),
            "api_key": _NO_KEY if self.key is None else self.key.value,
            "base_url": self.url,
            "max_retries": 0,
        }

    def request(self, post: Post) -> dict[str, Any]:
        """Return the arguments of a request."""
        options: dict[str, Any] = {"model": self.model, "encoding_format": self.encoding_format}
        if self.dimensions is not None:
            options["dimensions"] = self.dimensions
        return {"input": post.texts, "timeout": post.timeout_s, **options}


@dataclass(frozen=True, slots=True)
class _Loop:
    """What belongs to an event loop: connections cannot be moved to another."""

    client: AsyncOpenAI
    slots: asyncio.Semaphore
    closer: AsyncGenerator[None, None]


class Clients:
    """Follows courses from threads and from event loops, so many at once at most.

    Args:
        target: Where to.
        concurrency: Courses under way at once, of all threads, and again of each event loop.
    """

    def __init__(self, target: Target, *, concurrency: int) -> None:
        self._target = target
        self._concurrency = concurrency
        self._closed = False
        self._client: OpenAI | None = None
        self._loops: dict[asyncio.AbstractEventLoop, _Loop] = {}
        self._begin()
        begin_anew_after_fork(self)

    def run(self, courses: Sequence[Course[_Result]]) -> list[_Result]:
        """Follow courses to their ends, side by side; the first that fails ends them all."""
        client, stop = self._for_threads(), threading.Event()
        if len(courses) == 1:
            return [self._follow(courses[0], client, stop)]
        workers = min(self._concurrency, len(courses)) or 1
        with ThreadPoolExecutor(workers, thread_name_prefix="nearfield-openai") as pool:
            futures = [pool.submit(self._follow, course, client, stop) for course in courses]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                failed = [future for future in futures if future in done and future.exception()]
                return [future.result() for future in failed or futures]
            finally:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)

    async def arun(self, courses: Sequence[Course[_Result]]) -> list[_Result]:
        """Follow courses without blocking the event loop; see :meth:`run`."""
        own = await self._for_loop()
        tasks = [asyncio.create_task(self._afollow(course, own)) for course in courses]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        """Close all connections; those of event loops are closed by them, as soon as they run."""
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
            self._loops.clear()  # a closer that nothing refers to is ended by its loop
        if client is not None:
            client.close()

    async def aclose(self) -> None:
        """Close all connections, and wait for those of this event loop."""
        with self._lock:
            own = self._loops.pop(asyncio.get_running_loop(), None)
        self.close()
        if own is not None:
            await own.closer.aclose()

    def begin_anew(self) -> None:
        """Leave the parent its connections, in a forked child, where they are the same ones."""
        _parents.extend([self._client, *self._loops.values()])
        self._client, self._loops = None, {}
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(self._concurrency)

    def _for_threads(self) -> OpenAI:
        from openai import OpenAI

        with self._lock:
            self._check_open()
            if self._client is None:
                self._client = OpenAI(**self._target.client_options())
            return self._client

    async def _for_loop(self) -> _Loop:
        from openai import AsyncOpenAI

        loop = asyncio.get_running_loop()
        with self._lock:
            self._check_open()
            for other in [other for other in self._loops if other.is_closed()]:
                del self._loops[other]
            own = self._loops.get(loop)
            if own is not None:
                return own
            client = AsyncOpenAI(**self._target.client_options())
            own = _Loop(client, asyncio.Semaphore(self._concurrency), _closing(client))
            self._loops[loop] = own
        await anext(own.closer)  # from here on the loop knows it
        return own

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("this OpenAIEmbedder was closed; make a new one")

    def _follow(self, course: Course[_Result], client: OpenAI, stop: threading.Event) -> _Result:
        outcome: Outcome = None
        with self._slots:
            while True:
                try:
                    step = course.send(outcome)
                except StopIteration as end:
                    return end.value  # type: ignore[no-any-return]
                if isinstance(step, Pause):
                    outcome = None
                    if stop.wait(step.seconds):
                        raise CancelledError
                else:
                    outcome = self._post(step, client)

    async def _afollow(self, course: Course[_Result], own: _Loop) -> _Result:
        outcome: Outcome = None
        async with own.slots:
            while True:
                try:
                    step = course.send(outcome)
                except StopIteration as end:
                    return end.value  # type: ignore[no-any-return]
                if isinstance(step, Pause):
                    outcome = None
                    await asyncio.sleep(step.seconds)
                else:
                    outcome = await self._apost(step, own.client)

    def _post(self, post: Post, client: OpenAI) -> Outcome:
        from httpx2 import HTTPError
        from openai import OpenAIError

        ends = time.monotonic() + post.timeout_s
        create = client.embeddings.with_streaming_response.create
        parts = []
        try:
            with create(**self._target.request(post)) as response:
                # In parts, since the client's own timeout begins anew with each.
                for part in response.iter_bytes():
                    parts.append(part)
                    if time.monotonic() > ends:
                        return TimeoutError()
        except (OpenAIError, HTTPError) as error:
            return error
        except RuntimeError:
            self._check_open()  # closed by another thread meanwhile
            raise
        return b"".join(parts)

    async def _apost(self, post: Post, client: AsyncOpenAI) -> Outcome:
        from openai import OpenAIError

        create = client.embeddings.with_raw_response.create
        try:
            async with asyncio.timeout(post.timeout_s):
                return (await create(**self._target.request(post))).content
        except (OpenAIError, TimeoutError) as error:
            return error
        except RuntimeError:
            self._check_open()  # closed by another task or thread meanwhile
            raise


async def _closing(client: AsyncOpenAI) -> AsyncGenerator[None, None]:
    """Close a client with its event loop, which ends the generators that were begun in it."""
    try:
        yield
    finally:
        await client.close()
