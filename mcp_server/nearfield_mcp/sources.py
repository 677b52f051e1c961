"""What an ingest job reads: texts it was given, files below allowed folders, pages."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from nearfield_mcp.catalog import Catalog
from nearfield_mcp.job_runner import JobOutcome, Tell
from nearfield_mcp.jobs import JobCounts, JobFailure, JobFolder, JobRecord, SourceKind
from nearfield_mcp.paths import AllowedFolders

if TYPE_CHECKING:
    from nearfield.ingest import IngestReport, Progress
    from nearfield.ingest.sync import FileContent, SourceFile
    from nearfield_mcp.paths import FoundPath
    from nearfield_mcp.urls import Fetcher

__all__ = ["GivenText", "Sources"]

_KEPT_FAILURES = 20
_REASON_CHARS = 200
_SOURCE_CHARS = 300


class GivenText(BaseModel):
    """A text to take in."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1)
    id: Annotated[str, Field(min_length=1, max_length=1_000)] | SkipJsonSchema[None] = Field(
        default=None,
        description="Given again with another text, it replaces the old one; made of the text "
        "when left out",
    )
    title: Annotated[str, Field(max_length=1_000)] | SkipJsonSchema[None] = None
    metadata: dict[str, Any] | SkipJsonSchema[None] = Field(
        default=None, description="Fields to filter by"
    )

    @property
    def source(self) -> str:
        """The id, or one that the same text gets again."""
        if self.id is not None:
            return self.id
        digest = hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()
        return f"text-{digest[:16]}"


class Sources:
    """Reads what a job's record names into the collection it names.

    Args:
        catalog: The collections.
        folder: Where the texts are that jobs were given.
        allowed: The folders that files are read from.
        fetcher: Fetches pages; None where that is off.
    """

    def __init__(
        self,
        catalog: Catalog,
        folder: JobFolder,
        allowed: AllowedFolders,
        fetcher: Fetcher | None,
    ) -> None:
        self._catalog = catalog
        self._folder = folder
        self._allowed = allowed
        self._fetcher = fetcher
        logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # its warnings quote the file

    def ingest(self, record: JobRecord, tell: Tell) -> JobOutcome:
        """Do what a record says; interrupted at any point, it can be done again."""
        if record.kind is SourceKind.TEXTS:
            return self._ingest_texts(record, tell)
        if record.kind is SourceKind.PATHS:
            return self._ingest_paths(record, tell)
        return self._ingest_urls(record, tell)

    def pack(self, texts: Iterable[GivenText]) -> bytes:
        """Spell texts for the job folder."""
        packed = [text.model_dump(exclude_none=True) | {"id": text.source} for text in texts]
        return json.dumps(packed).encode()

    def _ingest_texts(self, record: JobRecord, tell: Tell) -> JobOutcome:
        from nearfield import Document
        from nearfield.ingest import Markup, sync_documents

        documents = []
        for each in json.loads(self._folder.load_inputs(record.id)):
            titled = {"title": each["title"]} if "title" in each else {}
            metadata = each.get("metadata", {}) | titled
            documents.append(Document(each["text"], id=each["id"], metadata=metadata))
        _, collection = self._catalog.open(record.collection)
        report = sync_documents(
            collection, documents, markup=Markup.MARKDOWN, on_progress=_telling(tell)
        )
        return _outcome(report)

    def _ingest_paths(self, record: JobRecord, tell: Tell) -> JobOutcome:
        from nearfield.ingest.sync import SourceFile, sync_files

        places = [self._allowed.place(path) for path in record.sources]
        found = self._allowed.find(places, check=lambda: tell(None))
        files = [
            SourceFile(file.place.source, partial(self._load, file), file.size_bytes)
            for file in found.files
        ]
        _, collection = self._catalog.open(record.collection)
        report = sync_files(collection, files, on_progress=_telling(tell))
        return _outcome(report, skipped=found.skipped, failures=found.failures)

    def _load(self, file: FoundPath) -> FileContent:
        from nearfield.ingest.sync import FileContent

        return FileContent(self._allowed.read(file), file.place.source)

    def _ingest_urls(self, record: JobRecord, tell: Tell) -> JobOutcome:
        from nearfield.ingest.sync import SourceFile, sync_files

        fetcher = self._fetcher
        if fetcher is None:
            raise ToolError("this server fetches no URLs any more")
        files: list[SourceFile] = [
            SourceFile(url, partial(_fetch, fetcher, url, tell)) for url in record.sources
        ]
        _, collection = self._catalog.open(record.collection)
        return _outcome(sync_files(collection, files, on_progress=_telling(tell)))


def _fetch(fetcher: Fetcher, url: str, tell: Tell) -> FileContent:
    from nearfield.errors import IngestError
    from nearfield.ingest.sync import FileContent
    from nearfield_mcp.urls import UrlRefusedError

    try:
        page = fetcher.fetch(url, check=lambda: tell(None))
    except UrlRefusedError as error:
        raise IngestError(str(error), source=url) from None
    return FileContent(page.data, page.name, page.encoding)


def _telling(tell: Tell) -> Any:
    def on_progress(progress: Progress) -> None:
        tell(
            JobCounts(
                files_done=progress.files_done,
                files_total=progress.files_total,
                bytes_done=progress.bytes_done,
                bytes_total=progress.bytes_total or 0,
                chunks_written=progress.chunks_written,
            )
        )

    return on_progress


def _outcome(
    report: IngestReport,
    *,
    skipped: dict[str, int] | None = None,
    failures: Iterable[tuple[str, str]] = (),
) -> JobOutcome:
    failed = [*failures, *((each.source, each.reason) for each in report.failures)]
    settled = report.added + report.updated + report.unchanged + report.empty
    counts = JobCounts(
        files_done=settled + len(failed),
        files_total=settled + len(failed),
        chunks_written=report.chunks_written,
        added=report.added,
        updated=report.updated,
        unchanged=report.unchanged,
        removed=report.removed,
        empty=report.empty,
        skipped=dict(skipped or {}),
    )
    kept = tuple(
        JobFailure(_tidy(source, _SOURCE_CHARS), _tidy(reason, _REASON_CHARS))
        for source, reason in failed[:_KEPT_FAILURES]
    )
    return JobOutcome(counts, kept, len(failed))


def _tidy(text: str, most: int) -> str:
    """Bound a text that names or quotes what was read, and take line ends and controls out."""
    line = "".join(char if char.isprintable() else " " for char in text)
    return line if len(line) <= most else f"{line[: most - 1]}…"
