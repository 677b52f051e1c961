"""An ingest whose files are split, and whose chunks are embedded, by workers.

The coordinator finds the files, reads them, passes over those that are stored as they are, and
writes what comes back; workers do what takes time. So that the coordinator never holds the corpus,
it hands over a few tasks for each worker, and no more before some are done.
"""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from nearfield.errors import InvalidInputError, WorkerError, WorkerLostError
from nearfield.ingest import worker
from nearfield.ingest.chunkers import TextChunker
from nearfield.ingest.ingestion import Found
from nearfield.ingest.worker import Equipment, Part, SplitDocument
from nearfield.ingest.workers import Crew, hired

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from nearfield.documents import Document
    from nearfield.embedders import Embedder
    from nearfield.ingest.chunkers import Chunker
    from nearfield.ingest.ingestion import Ingestion

__all__ = ["Distribution", "Splitting", "distributed"]

_Result = TypeVar("_Result")

_TASKS_PER_SLOT = 4
"""One in hand, and others waiting, so that no worker is idle while the coordinator writes."""
_GROUP_FILES = 32
_GROUP_BYTES = 128 * 2**10
"""Small files travel together: a task costs a millisecond of Dask's scheduler."""
_BYTES_ON_THE_WAY = 256 * 2**20
"""Files that are being split; one larger than that travels alone."""
_LOST_IN_A_ROW = 4
"""Tasks given up one after another, before it is taken for no fault of theirs."""
_CHECK_S = 10.0


@contextmanager
def distributed(
    workers: int | str | None, embedder: Embedder, chunker: Chunker
) -> Iterator[Distribution | None]:
    """Have workers ready for an ingest; None where it does without.

    Raises:
        InvalidInputError: The embedder cannot be made by its name, as it has to be by a worker.
        WorkerError: The workers cannot be reached.
    """
    if workers is None:
        yield None
        return
    name, cache = _travelling(embedder)
    with hired(workers) as crew:
        equipment = Equipment(
            embedder=name,
            fingerprint=embedder.info.fingerprint,
            cache=cache if crew.here else None,
            threads=crew.threads,
            chunker=chunker.settings if isinstance(chunker, TextChunker) else None,
            chunking=chunker.fingerprint,
        )
        yield Distribution(crew, equipment)


class Distribution:
    """Tasks on their way to workers and back.

    Args:
        crew: The workers.
        equipment: What they need.
    """

    def __init__(self, crew: Crew, equipment: Equipment) -> None:
        self._crew = crew
        self._equipment = equipment
        self._running: set[Future[Any]] = set()
        self._lost = 0

    @property
    def can_split(self) -> bool:
        """Whether workers can make the chunker; where not, they only embed."""
        return self._equipment.chunker is not None

    @property
    def room(self) -> int:
        """How many tasks may be on their way at once."""
        return _TASKS_PER_SLOT * max(self._crew.slots(), 1)

    def split(self, parts: Sequence[Part]) -> Future[list[list[SplitDocument] | str]]:
        """Have a worker split files, once there is room for the task."""
        return self._submit(worker.split, parts)

    def embed(self, texts: Sequence[str]) -> Future[NDArray[np.float32]]:
        """Have a worker embed texts, once there is room for the task."""
        return self._submit(worker.embed, texts)

    def wait_for(self, futures: set[Future[Any]]) -> None:
        """Wait until one of some tasks is done."""
        while not wait(futures, _CHECK_S, FIRST_COMPLETED).done:
            self._crew.check()

    def result(self, future: Future[_Result]) -> _Result:
        """Wait for a task, and return what came of it.

        Raises:
            WorkerLostError: Its workers died.
            WorkerError: One task after another lost its workers, or they cannot be reached.
            NearfieldError: What else it raised.
        """
        self.wait_for({future})
        try:
            outcome = future.result()
        except WorkerLostError as error:
            self._lose(error)
            raise
        self._lost = 0
        return outcome

    def _submit(self, task: Callable[..., _Result], argument: object) -> Future[_Result]:
        while len(self._running) >= self.room:
            self.wait_for(self._running)
            self._running = {future for future in self._running if not future.done()}
        future = self._crew.executor.submit(task, self._equipment, argument)
        self._running.add(future)
        return future

    def _lose(self, error: WorkerLostError) -> None:
        self._lost += 1
        if self._lost >= _LOST_IN_A_ROW:
            raise WorkerError(
                f"workers died at {self._lost} tasks one after another, so that it is hardly the "
                f"files: {error}. What was written stays, and the ingest goes on when it is run "
                "again"
            ) from error


@dataclass(frozen=True, slots=True)
class _Group:
    parts: list[Part]
    sizes: list[int]


class Splitting:
    """Files and documents that workers split, on their way to an ingestion.

    They arrive there in the order in which they are done, so that a long one holds up no others.

    Args:
        distribution: Hands them to workers.
        ingestion: Takes what they became.
    """

    def __init__(self, distribution: Distribution, ingestion: Ingestion) -> None:
        self._distribution = distribution
        self._ingestion = ingestion
        self._group = _Group([], [])
        self._away: dict[Future[list[list[SplitDocument] | str]], _Group] = {}

    def offer(self, part: Part, *, size_bytes: int) -> None:
        """Have a file or a document split, and take in what is back by now."""
        self._group.parts.append(part)
        self._group.sizes.append(size_bytes)
        if len(self._group.parts) >= _GROUP_FILES or sum(self._group.sizes) >= _GROUP_BYTES:
            self._send()
        self._take_back(wait=False)

    def finish(self) -> None:
        """Wait until everything offered is back and taken in."""
        self._send()
        while self._away:
            self._take_back(wait=True)

    def _send(self) -> None:
        group, self._group = self._group, _Group([], [])
        if not group.parts:
            return
        while self._away and self._bytes_away() + sum(group.sizes) > _BYTES_ON_THE_WAY:
            self._take_back(wait=True)
        self._away[self._distribution.split(group.parts)] = group

    def _bytes_away(self) -> int:
        return sum(size for group in self._away.values() for size in group.sizes)

    def _take_back(self, *, wait: bool) -> None:
        if wait and self._away:
            self._distribution.wait_for(set(self._away))
        for future in [future for future in self._away if future.done()]:
            self._take(future, self._away.pop(future))

    def _take(self, future: Future[list[list[SplitDocument] | str]], group: _Group) -> None:
        try:
            outcomes = self._distribution.result(future)
        except WorkerLostError as error:
            if len(group.parts) == 1:
                reason = f"{group.parts[0].source} could not be read: {error}"
                self._ingestion.fail(group.parts[0].source, reason, size_bytes=group.sizes[0])
                return
            for part, size_bytes in zip(group.parts, group.sizes, strict=True):  # which one is it?
                self._away[self._distribution.split([part])] = _Group([part], [size_bytes])
            return
        for part, size_bytes, outcome in zip(group.parts, group.sizes, outcomes, strict=True):
            if isinstance(outcome, str):
                self._ingestion.fail(part.source, outcome, size_bytes=size_bytes)
            else:
                found = [_found(*document) for document in outcome]
                self._ingestion.take(part.source, found, size_bytes=size_bytes)


def _found(record: str | None, content_hash: str, chunks: list[Document] | None) -> Found:
    return Found(record, content_hash, lambda: chunks or [])


def _travelling(embedder: Embedder) -> tuple[str, str | None]:
    """Return the name that a worker loads the embedder by, and the file of its cache."""
    from nearfield.embedders import CachedEmbedder, load

    cache = None
    if isinstance(embedder, CachedEmbedder):
        cache = str(embedder.path)
        embedder = embedder.embedder
    name = embedder.info.model
    try:
        known = type(load(name)) is type(embedder)
    except InvalidInputError:
        known = False
    if not known:
        raise InvalidInputError(
            f"workers load the embedder by its name, and {name!r} is none that "
            f"nearfield.embedders.load makes a {type(embedder).__name__} from; ingest without "
            "workers, or open the collection with an embedder that has a name, such as "
            "'sentence-transformers:NAME' or 'openai:MODEL'"
        )
    return name, cache
