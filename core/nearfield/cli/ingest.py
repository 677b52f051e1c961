"""``nearfield ingest``."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import nearfield
from nearfield.cli.exits import ExitCode
from nearfield.cli.options import CollectionOption, DatabaseOption, EmbedderOption, JsonOption
from nearfield.cli.output import note, print_json, print_line, working
from nearfield.cli.progress import IngestBar
from nearfield.errors import InvalidInputError, StoreBusyError

if TYPE_CHECKING:
    from nearfield.collection import Collection
    from nearfield.ingest import IngestReport

__all__ = ["ingest", "interrupted", "print_report"]

_CACHE = "embeddings-cache.sqlite3"


def ingest(
    *,
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Files, and folders to look through.")
    ],
    database: DatabaseOption = ".nearfield",
    collection: CollectionOption = "default",
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Delete the documents of files under PATH that are gone."),
    ] = False,
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB", help="Only such files, as '*.md'. Repeatable.", show_default=False
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB", help="No such files or folders. Repeatable.", show_default=False
        ),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of texts that are not UTF-8.", show_default=False),
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Do not keep embeddings for the next time.")
    ] = False,
    embedder: EmbedderOption = None,
    workers: Annotated[
        str | None,
        typer.Option(
            metavar="N|URL",
            help="Embed with so many processes, or with those of a Dask cluster, dask://host:8786.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Read files, and the next time only what has changed.

    Reads text, Markdown, HTML, reStructuredText, JSON, JSON Lines, CSV, PDF and DOCX. A file that
    cannot be read does not stop the others. It can be interrupted, and goes on when run again.
    """
    for path in paths:
        if not prune and not Path(path).expanduser().exists():
            raise InvalidInputError(f"there is no file or folder {path!r} to read")
    from nearfield.ingest import sync

    try:
        with _opened(database, collection, embedder, cache=not no_cache) as opened:
            with IngestBar(f"reading {paths[0]}") as bar:
                report = sync(
                    opened,
                    paths,
                    prune=prune,
                    include=include or (),
                    exclude=exclude or (),
                    encoding=encoding,
                    on_progress=bar,
                    workers=workers,
                )
            with working("indexing"), suppress(StoreBusyError):  # another process is at it
                opened.maintain()
    except KeyboardInterrupt:
        raise interrupted() from None
    if as_json:
        rate = round(report.chunks_per_s, 1)
        print_json(
            {"collection": collection, "ok": report.ok, "chunks_per_s": rate, **asdict(report)}
        )
    else:
        print_report(report, collection, with_rate=workers is not None)
    if not report.ok:
        raise typer.Exit(ExitCode.INCOMPLETE)


@contextmanager
def _opened(
    database: str, collection: str, embedder: str | None, *, cache: bool
) -> "Iterator[Collection]":
    """Open a collection; with a cache, what is embedded once is never embedded again."""
    with nearfield.open(database, collection, embedder=embedder) as opened:
        folder = opened.stats().get("path")
        if not cache or folder is None:
            yield opened
            return
        model = opened.embedder
    from nearfield.embedders import CachedEmbedder

    with (
        CachedEmbedder(model, Path(folder).parent / _CACHE) as cached,
        nearfield.open(database, collection, embedder=cached) as opened,
    ):
        yield opened


def interrupted() -> KeyboardInterrupt:
    """Return the error that tells how to go on."""
    return KeyboardInterrupt(
        "interrupted: what was written stays, and the same command goes on from there"
    )


def print_report(report: "IngestReport", collection: str, *, with_rate: bool = False) -> None:
    """Print what an ingest did, and on stderr every failure by name."""
    counts = {
        "added": report.added,
        "updated": report.updated,
        "unchanged": report.unchanged,
        "removed": report.removed,
        "empty": report.empty,
        "failed": len(report.failures),
    }
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    rate = f", {report.chunks_per_s:,.0f} a second" if with_rate else ""
    print_line(
        f"{collection}: {told or 'nothing to read'}; "
        f"{report.chunks_written:,} chunks written in {report.seconds:.1f} s{rate}"
    )
    if report.skipped:
        skipped = sorted(report.skipped.items(), key=lambda item: (-item[1], item[0]))
        listed = ", ".join(f"{count:,} {reason}" for reason, count in skipped)
        print_line(f"passed over: {listed}")
    for failure in report.failures:
        reason = " ".join(failure.reason.split())
        note(f"failed: {reason if failure.source in reason else f'{failure.source}: {reason}'}")
