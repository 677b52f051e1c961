"""The course of a request, apart from how it is sent: retries, and texts that are too long.

A course is a generator. It yields what is to be done next, a request to post or a pause to make,
and is sent the outcome; so that threads and event loops follow one and the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np

from nearfield.embedders.openai.answers import read_answer
from nearfield.embedders.openai.failures import (
    describe,
    is_too_long,
    is_transient,
    status_of,
    to_error,
    wait_s,
)
from nearfield.errors import InvalidDocumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from nearfield.embedders.openai.secret import Secret
    from nearfield.embedders.openai.usage import UsageCounter

__all__ = ["Course", "Exchange", "Outcome", "Pause", "Post", "shorter"]

_LOG = logging.getLogger("nearfield.embedders.openai")
_Result = TypeVar("_Result")
_LEAST_TIMEOUT_S = 0.05
"""What a last attempt gets that is begun just before the deadline."""


@dataclass(frozen=True, slots=True)
class Post:
    """Send these texts, and give up after so long."""

    texts: list[str]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float


Outcome: TypeAlias = bytes | Exception | None
"""The body of an answer, or what went wrong; None after a pause."""
Course: TypeAlias = Generator[Post | Pause, Outcome, _Result]


@dataclass(frozen=True, slots=True)
class Exchange:
    """How a server is asked.

    Attributes:
        model: The model's name, for messages.
        server: The server, for messages.
        key: The key that is sent, to keep it out of messages; None where there is none.
        timeout_s: How long one attempt may take.
        deadline_s: How long a request may take, with its retries and the pauses between.
        max_retries: How often a request is repeated at most.
        truncates: Whether a text that is too long is cut; it is refused otherwise.
        accept: Checks and finishes the vectors of an answer, in place.
        usage: Where requests and tokens are counted.
    """

    model: str
    server: str
    key: Secret | None
    timeout_s: float
    deadline_s: float
    max_retries: int
    truncates: bool
    accept: Callable[[NDArray[np.float32]], None]
    usage: UsageCounter

    def embed(self, texts: list[str], positions: list[int]) -> Course[NDArray[np.float32]]:
        """Embed the texts of one request.

        What the server finds too long is sent again in halves, the longer texts first, until the
        text is found; that is refused, or halved itself until the server takes it.

        Args:
            texts: At least one.
            positions: Their places in the call.

        Returns:
            Float32 array of shape (len(texts), dimension).
        """
        outcome = yield from self._request(texts)
        if isinstance(outcome, bytes):
            vectors, tokens = read_answer(outcome, count=len(texts), server=self.server)
            self.usage.add(tokens=tokens)
            self.accept(vectors)
            return vectors
        if not is_too_long(outcome, texts=len(texts)):
            raise to_error(outcome, model=self.model, server=self.server, key=self.key)
        if len(texts) > 1:
            return (yield from self._embed_halves(texts, positions))
        if not self.truncates or len(texts[0]) == 1:
            raise self._refusal(texts[0], positions[0], outcome)
        return (yield from self.embed([shorter(texts[0])], positions))

    def _embed_halves(self, texts: list[str], positions: list[int]) -> Course[NDArray[np.float32]]:
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        middle = len(order) // 2
        parts = []
        for rows in (order[:middle], order[middle:]):
            part = yield from self.embed(
                [texts[row] for row in rows], [positions[row] for row in rows]
            )
            parts.append(part)
        vectors = np.concatenate(parts)
        return vectors[np.argsort(order)]

    def _request(self, texts: list[str]) -> Course[bytes | Exception]:
        """Send texts until there is an answer, or no sense in another attempt."""
        ends = time.monotonic() + self.deadline_s
        for retry in range(self.max_retries + 1):
            left_s = max(ends - time.monotonic(), _LEAST_TIMEOUT_S)
            self.usage.add(requests=1, retries=int(retry > 0))
            outcome = yield Post(texts, min(self.timeout_s, left_s))
            if not isinstance(outcome, Exception):
                return outcome or b""
            pause_s = wait_s(outcome, retry)
            left_s = ends - time.monotonic()
            last = retry == self.max_retries or pause_s >= left_s
            hopeless = is_too_long(outcome, texts=len(texts)) or not is_transient(outcome)
            if last or hopeless:
                return outcome
            _LOG.info(
                "%s: %s; retry %d of %d in %.1f s",
                self.server,
                status_of(outcome) or type(outcome).__name__,
                retry + 1,
                self.max_retries,
                pause_s,
            )
            yield Pause(pause_s)
        raise RuntimeError("a request has at least one attempt")

    def _refusal(self, text: str, position: int, outcome: Exception) -> InvalidDocumentError:
        return InvalidDocumentError(
            f"text of {len(text)} characters is too long for {self.model!r} (document {position} "
            f"of the batch): {describe(outcome, self.key)}; split it, or let it be cut with "
            "over_long='truncate'",
            position=position,
        )


def shorter(text: str) -> str:
    """Return the first half of a text, which is what is tried next in place of one too long."""
    return text[: max(len(text) // 2, 1)]
