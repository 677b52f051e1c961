"""What a sync tells: its progress while it runs, and a report at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Failure", "IngestReport", "Progress"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sync has come. What is counted as done will not be done again.

    Attributes:
        files_done: Files, or given documents, that are settled: written, unchanged or failed.
        files_total: How many there are; None where the documents come from an iterator.
        chunks_written: Chunks written so far.
        bytes_done: Bytes of the files that are settled. It also moves within a large file while
            that is embedded, so it suits a bar and an estimate of the time left.
        bytes_total: The size of all the files; None where ``files_total`` is.
        source: The file or document at hand; None at the end.
    """

    files_done: int
    files_total: int | None
    chunks_written: int
    bytes_done: int
    bytes_total: int | None
    source: str | None


@dataclass(frozen=True, slots=True)
class Failure:
    """A file or document that could not be taken in; what was stored of it before is still there.

    Attributes:
        source: The file's path or the document's id.
        reason: What was wrong and what to do, for a person.
    """

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What a sync did. A document is a file, a record of a JSON or CSV file, or a given document.

    Attributes:
        added: Documents that were not in the collection before.
        updated: Documents whose chunks were replaced.
        unchanged: Documents that were in the collection as they are.
        removed: Documents that are gone from their file or from the disk, and now from the
            collection.
        empty: Files and documents without any text.
        chunks_written: Chunks embedded and written.
        skipped: Files that were passed over: how many by suffix, or by another reason.
        failures: What could not be taken in.
        seconds: How long it took.
    """

    added: int
    updated: int
    unchanged: int
    removed: int
    empty: int
    chunks_written: int
    skipped: Mapping[str, int]
    failures: tuple[Failure, ...]
    seconds: float

    @property
    def chunks_per_s(self) -> float:
        """The throughput, the reading of unchanged files included."""
        return self.chunks_written / self.seconds if self.seconds else 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures
