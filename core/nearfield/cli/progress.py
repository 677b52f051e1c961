"""The bar that shows how far an ingest has come."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self

from rich.progress import (
    BarColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as ProgressBar

from nearfield.cli.output import stderr
from nearfield.cli.snippets import printable

if TYPE_CHECKING:
    from types import TracebackType

    from nearfield.ingest.report import Progress

__all__ = ["CountBar", "IngestBar"]

_SOURCE_COLUMNS = 22


class IngestBar:
    """A bar on stderr with the rate and the time left; silent where stderr is no terminal.

    Call it with each :class:`~nearfield.ingest.report.Progress`.
    """

    def __init__(self, description: str) -> None:
        self._bar = ProgressBar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.fields[chunks]:,} chunks {task.fields[rate]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            console=stderr(),
            transient=True,
            disable=not sys.stderr.isatty(),
            expand=True,
        )
        self._task = self._bar.add_task(_shortened(description), total=None, chunks=0, rate="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Show how far it has come."""
        by_bytes = bool(progress.bytes_total)
        elapsed_s = self._bar.tasks[0].elapsed or 0.0
        rate = f"{progress.chunks_written / elapsed_s:,.0f}/s" if elapsed_s > 1 else ""
        self._bar.update(
            self._task,
            total=progress.bytes_total if by_bytes else progress.files_total,
            completed=progress.bytes_done if by_bytes else progress.files_done,
            chunks=progress.chunks_written,
            rate=rate,
            description=_shortened(progress.source) if progress.source else None,
        )


class CountBar:
    """A bar on stderr of how many are done; silent where stderr is no terminal.

    Args:
        description: What is being done.
        unit: What is counted, as ``"queries"``.
    """

    def __init__(self, description: str, unit: str) -> None:
        self._bar = ProgressBar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn(f"{{task.completed:,.0f}} of {{task.total:,.0f}} {unit}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            console=stderr(),
            transient=True,
            disable=not sys.stderr.isatty(),
            expand=True,
        )
        self._task = self._bar.add_task(_shortened(description), total=0)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """Show how many of all are done."""
        self._bar.update(self._task, completed=done, total=total)


def _shortened(source: str) -> str:
    name = " ".join(printable(source).rsplit("/", 1)[-1].split())
    if len(name) > _SOURCE_COLUMNS:
        name = f"{name[: _SOURCE_COLUMNS - 1]}…"
    return f"{name:<{_SOURCE_COLUMNS}}"
