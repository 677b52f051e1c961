"""The tools that write: ingest, which makes jobs, and ingest_status."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import anyio
from anyio import to_thread
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from nearfield_mcp.calls import Place
from nearfield_mcp.catalog import Catalog
from nearfield_mcp.events import ScopedBus
from nearfield_mcp.job_runner import JobLimits, JobRunner
from nearfield_mcp.jobs import JobFolder, JobRecord, JobState, SourceKind, new_job_id
from nearfield_mcp.paths import AllowedFolders, FileLimits
from nearfield_mcp.results import Fence, Missing, Shape, answer, lines
from nearfield_mcp.scope import CURRENT, Right
from nearfield_mcp.sources import GivenText, Sources

if TYPE_CHECKING:
    from nearfield_mcp.urls import Fetcher

__all__ = [
    "FailedSource",
    "IngestJob",
    "IngestJobs",
    "TextLimits",
    "WritingTools",
    "demand_write",
]

TargetName = Annotated[
    Annotated[str, Field(max_length=300)] | SkipJsonSchema[None],
    Field(
        description="Where to write: one there is, or a new name where the caller may make one; "
        "may be left out where there is only one",
    ),
]
Texts = Annotated[
    Annotated[list[GivenText], Field(min_length=1, max_length=500)] | SkipJsonSchema[None],
    Field(description="Texts, each with an id, a title and metadata if you like"),
]
_Path = Annotated[str, Field(min_length=1, max_length=4_096)]
Paths = Annotated[
    Annotated[list[_Path], Field(min_length=1, max_length=100)] | SkipJsonSchema[None],
    Field(description="Files and folders that the server may read"),
]
_Url = Annotated[str, Field(min_length=1, max_length=2_000)]
Urls = Annotated[
    Annotated[list[_Url], Field(min_length=1, max_length=50)] | SkipJsonSchema[None],
    Field(description="Public pages and files"),
]
WaitS = Annotated[
    float,
    Field(ge=0, le=600, description="Seconds to wait for the end; the job goes on after that"),
]
JobId = Annotated[
    Annotated[str, Field(max_length=40)] | SkipJsonSchema[None],
    Field(description="From ingest; leave it out for the latest jobs"),
]
CancelJob = Annotated[bool, Field(description="End the job; what it wrote stays")]
_WAIT_S = 25.0
_CANCEL_WAIT_S = 10.0
_FIRST_LOOK_S = 0.01
_LOOK_EVERY_S = 0.25
_LATEST = 10


@dataclass(frozen=True, slots=True)
class TextLimits:
    """How much text one call may bring."""

    max_chars: int = 4_000_000


class FailedSource(Shape):
    """What could not be taken in."""

    source: str
    reason: str


class IngestJob(Shape):
    """How an ingest stands."""

    job: str
    state: str = Field(description="queued, running, done, failed, cancelled or interrupted")
    collection: str
    kind: str = Field(description="texts, paths or urls")
    ids: list[str] | Missing = Field(
        default=None, description="Of the texts, in their order; chunks are id#0, id#1 and so on"
    )
    done: int = Field(description="Documents that are settled")
    total: int | Missing = None
    chunks_written: int
    added: int
    updated: int
    unchanged: int
    removed: int
    empty: int
    skipped: dict[str, int] | Missing = Field(
        default=None, description="Files passed over, by kind"
    )
    failed: int
    failures: list[FailedSource] | Missing = Field(default=None, description="The first of them")
    error: str | Missing = None
    created_at: str
    finished_at: str | Missing = None
    next: str | Missing = Field(default=None, description="What to do now")


class IngestJobs(Shape):
    """How some ingests stand, the latest first."""

    jobs: list[IngestJob]
    truncated: bool = False


class WritingTools:
    """What agents write with.

    Args:
        catalog: The collections.
        job_folder: Keeps the records of jobs; servers of the same databases may share it, others
            must not. See :func:`nearfield_mcp.jobs.default_job_folder`.
        bus: The server's, over which clients are told that there are new resources.
        allowed_folders: Files are read below these only.
        fetcher: Fetches pages; None where that is off.
        file_limits: How much one ingest may read from files.
        text_limits: How much text one call may bring.
        job_limits: How many jobs there may be at once.
        longest_wait_s: A call waits no longer for a job, so that it is answered with the job's
            name before its time is up.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        job_folder: Path,
        bus: ScopedBus,
        allowed_folders: tuple[Path, ...] = (),
        fetcher: Fetcher | None = None,
        file_limits: FileLimits | None = None,
        text_limits: TextLimits | None = None,
        job_limits: JobLimits | None = None,
        longest_wait_s: float = math.inf,
    ) -> None:
        self._catalog = catalog
        self._allowed = AllowedFolders(allowed_folders, limits=file_limits)
        self._fetcher = fetcher
        self._text_limits = text_limits or TextLimits()
        self._folder = JobFolder(job_folder)
        self._sources = Sources(catalog, self._folder, self._allowed, fetcher)
        self._runner = JobRunner(
            self._folder, self._sources.ingest, limits=job_limits, ended=self._publish
        )
        self._bus = bus
        self._longest_wait_s = longest_wait_s

    def start(self) -> None:
        """Go on with the jobs of servers that are gone; heavy, so not before the handshake."""
        self._runner.resume()
        self._folder.prune()

    def close(self) -> None:
        """Stop jobs at their next step, for the next server to go on with."""
        self._runner.close()

    async def ingest(
        self,
        ctx: Context,
        collection: TargetName = None,
        texts: Texts = None,
        paths: Paths = None,
        urls: Urls = None,
        wait_s: WaitS = _WAIT_S,
    ) -> Annotated[CallToolResult, IngestJob]:
        """Take texts, files and folders, or pages into a collection, to be searched from then on.

        Give one of texts, paths and urls. What has not changed since the last time is left as it
        is. A long ingest goes on after wait_s: ask ingest_status.
        """

        def submit() -> JobRecord:
            kind, sources = self._checked(texts, paths, urls)
            record = JobRecord(
                id=new_job_id(),
                collection=self._target(collection),
                kind=kind,
                sources=sources,
                tenant=CURRENT.get().tenant,
                subject=CURRENT.get().subject,
                state=JobState.QUEUED,
                created_at=time.time(),
            )
            return self._runner.submit(record, self._sources.pack(texts) if texts else None)

        latest_s = anyio.current_time() + self._longest_wait_s
        record = await to_thread.run_sync(submit)
        record = await self._wait(record, min(anyio.current_time() + wait_s, latest_s), ctx)
        told = _told(record, [text.source for text in texts] if texts else None)
        result = answer(_spelt(told), told)
        return result.model_copy(update={"is_error": record.state is JobState.FAILED})

    async def ingest_status(
        self,
        ctx: Context,
        job: JobId = None,
        cancel: CancelJob = False,  # noqa: FBT002  # arguments have names
    ) -> Annotated[CallToolResult, IngestJobs]:
        """Tell how an ingest stands, or the latest ones; or end one."""

        def work() -> list[JobRecord]:
            demand_write(self._catalog)
            self._runner.resume()
            if job is None:
                if cancel:
                    raise ToolError(
                        "say which job to cancel; ingest_status without cancel lists them"
                    )
                return [record for record in self._runner.latest() if _is_own(record)]
            record = self._runner.get(job)
            if record is None or not _is_own(record):
                raise ToolError(f"there is no job {job!r}; ingest_status without job lists them")
            if cancel and not record.state.is_final:
                self._runner.cancel(record)
            return [record]

        records = await to_thread.run_sync(work)
        if cancel:
            wait_s = min(_CANCEL_WAIT_S, self._longest_wait_s)
            records = [await self._wait(records[0], anyio.current_time() + wait_s, ctx)]
        told = [_told(record) for record in records[:_LATEST]]
        text = "\n".join(_spelt(each) for each in told) or "Nothing has been ingested yet."
        return answer(text, IngestJobs(jobs=told, truncated=len(records) > _LATEST))

    def _publish(self, record: JobRecord) -> None:
        """Tell clients, on a job's thread."""
        if record.counts.chunks_written or record.counts.removed:
            self._bus.publish_soon(record.collection)

    def _checked(
        self, texts: list[GivenText] | None, paths: list[str] | None, urls: list[str] | None
    ) -> tuple[SourceKind, tuple[str, ...]]:
        """Return what is to be read; refuse it before anything is made."""
        demand_write(self._catalog)
        if sum(given is not None for given in (texts, paths, urls)) != 1:
            raise ToolError("give exactly one of texts, paths and urls")
        if paths is not None:
            places = [self._allowed.place(path) for path in paths]
            return SourceKind.PATHS, tuple(dict.fromkeys(place.source for place in places))
        if urls is not None:
            return SourceKind.URLS, self._checked_urls(urls)
        given = texts or []
        size = sum(len(text.text) for text in given)
        if size > self._text_limits.max_chars:
            raise ToolError(
                f"the texts have {size} characters together, the most is "
                f"{self._text_limits.max_chars}; call several times"
            )
        if len({text.source for text in given}) < len(given):
            raise ToolError("two of the texts have one id, or are the same; give each its own id")
        return SourceKind.TEXTS, ()

    def _checked_urls(self, urls: list[str]) -> tuple[str, ...]:
        if self._fetcher is None:
            raise ToolError(
                "this server fetches no URLs: whoever runs it can allow that with --allow-urls; "
                "pass texts instead"
            )
        checked: dict[str, None] = {}
        for place, url in enumerate(urls):
            try:
                checked[self._fetcher.check(url)] = None
            except ToolError as error:
                raise ToolError(f"urls.{place} is refused: {error}") from None
        return tuple(checked)

    def _target(self, collection: str | None) -> str:
        if collection is None:
            return self._catalog.open(None)[0]
        return self._catalog.open_or_create(collection)[0]

    async def _wait(self, record: JobRecord, until_s: float, ctx: Context) -> JobRecord:
        """Look at a job until it ends or the time is up; report how far it has come."""
        Place.leave()
        pause_s = _FIRST_LOOK_S
        reported = 0.0
        while not record.state.is_final and (left_s := until_s - anyio.current_time()) > 0:
            await anyio.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, _LOOK_EVERY_S)
            latest: JobRecord | None = await to_thread.run_sync(self._runner.get, record.id)
            record = latest or record
            counts = record.counts
            done, total = counts.bytes_done, counts.bytes_total
            if not total:
                done, total = counts.files_done, counts.files_total or 0
            if total and done > reported:
                reported = done
                await ctx.report_progress(done, total, f"{counts.chunks_written} chunks written")
        return record


def demand_write(catalog: Catalog) -> None:
    """Raise ``ToolError`` where the caller may not write."""
    if catalog.read_only or Right.WRITE not in CURRENT.get().rights:
        raise ToolError("this may only be read here; writing needs a token with the scope write")


def _is_own(record: JobRecord) -> bool:
    scope = CURRENT.get()
    is_callers = record.tenant == scope.tenant and record.subject == scope.subject
    return is_callers and scope.may_use(record.collection)  # two tokens may have one name


def _told(record: JobRecord, ids: list[str] | None = None) -> IngestJob:
    counts = record.counts
    failures = [FailedSource(source=each.source, reason=each.reason) for each in record.failures]
    return IngestJob(
        job=record.id,
        state=record.state,
        collection=record.collection,
        kind=record.kind,
        ids=ids,
        done=counts.files_done,
        total=counts.files_total,
        chunks_written=counts.chunks_written,
        added=counts.added,
        updated=counts.updated,
        unchanged=counts.unchanged,
        removed=counts.removed,
        empty=counts.empty,
        skipped=dict(counts.skipped) or None,
        failed=record.failures_total,
        failures=failures or None,
        error=record.error,
        created_at=_time(record.created_at),
        finished_at=_time(record.finished_at) if record.finished_at else None,
        next=_next(record),
    )


def _next(record: JobRecord) -> str | None:
    if record.state.is_final:
        return None
    if record.state is JobState.INTERRUPTED:
        return "its server ended; the next one that starts goes on with it"
    return f"it goes on by itself; ask ingest_status with job {record.id}, or go on with other work"


def _spelt(told: IngestJob) -> str:
    """Spell a job for a model."""
    counts = {
        "added": told.added,
        "updated": told.updated,
        "unchanged": told.unchanged,
        "removed": told.removed,
        "without text": told.empty,
        "passed over": sum((told.skipped or {}).values()),
        "failed": told.failed,
    }
    parts = [f"{count} {name}" for name, count in counts.items() if count]
    if told.next and told.total:
        parts = [f"{told.done} of {told.total} documents"]
    parts.append(f"{told.chunks_written} chunks written to {told.collection}")
    head = f"Job {told.job} ({told.kind}) is {told.state}: {', '.join(parts)}."
    ids = f"Ids: {', '.join(told.ids)}; chunks are id#0, id#1 and so on." if told.ids else None
    fence = Fence.new()
    problems = [f"{each.source}: {each.reason}" for each in told.failures or []]
    if told.error:
        problems.insert(0, told.error)
    if told.failed > len(told.failures or []):
        problems.append(f"and {told.failed - len(told.failures or [])} more")
    block = [fence.explanation, fence.around("\n".join(problems))] if problems else []
    return lines([head, ids, *block, f"Next: {told.next}." if told.next else None])


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
