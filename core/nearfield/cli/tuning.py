"""``nearfield tune``: name the recall that searches are to hold."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import nearfield
from nearfield.cli.exits import ExitCode
from nearfield.cli.maintenance import size_text
from nearfield.cli.options import CollectionOption, DatabaseOption, JsonOption
from nearfield.cli.output import note, print_json, print_line, print_table, working
from nearfield.errors import InvalidInputError

if TYPE_CHECKING:
    from nearfield.stores.base import TuningReport

__all__ = ["tune"]


def tune(
    *,
    target_recall: Annotated[
        float,
        typer.Option(
            "--target-recall", "-r", min=0.0, max=1.0, help="Mean recall@10; 1 is an exact scan."
        ),
    ] = 0.99,
    latency_ms: Annotated[
        float | None,
        typer.Option(help="The most CPU milliseconds a query may take.", show_default=False),
    ] = None,
    memory_bytes: Annotated[
        int | None, typer.Option(help="The most memory for indexes.", show_default=False)
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Queries to measure with, one a line; without it, some are made from the "
            "documents.",
            show_default=False,
        ),
    ] = None,
    database: DatabaseOption = ".nearfield",
    collection: CollectionOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Name a recall; the cheapest way to search that holds it is measured, and used."""
    texts = None if queries is None else _read_queries(queries)
    with (
        nearfield.open(database, collection, create=False) as opened,
        working("building and measuring indexes"),
    ):
        report = opened.tune(
            target_recall=target_recall,
            latency_ms=latency_ms,
            memory_bytes=memory_bytes,
            queries=texts,
        )
    if as_json:
        print_json({"collection": collection, **asdict(report)})
    else:
        _print_report(report)
    if not report.met:
        raise typer.Exit(ExitCode.INCOMPLETE)


def _read_queries(path: Path) -> list[str]:
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    texts = [line for line in lines if line]
    if not texts:
        raise InvalidInputError(f"{path} holds no query; expected one a line")
    return texts


def _print_report(report: "TuningReport") -> None:
    recall = report.recall
    if report.front:
        print_table(
            ("", "plan", "recall@10", "CPU µs"),
            (
                (
                    "→" if trade.chosen else "",
                    trade.plan,
                    f"{trade.recall.mean:.4f}",
                    f"{trade.cost_us:,.0f}",
                )
                for trade in report.front
            ),
        )
    else:
        print_line("few documents: every vector is compared, no index is needed")
    print_line(
        f"recall@10 {recall.mean:.4f} (95 % interval {recall.low:.4f} to {recall.high:.4f}, "
        f"5th percentile {recall.p5:.2f}), asked for {report.target_recall:.4f}"
    )
    print_line(
        f"{report.cost_us:,.0f} µs of CPU a query, an exact scan {report.exact_cost_us:,.0f}; "
        f"{size_text(report.memory_bytes)} of indexes"
    )
    for shortfall in report.shortfalls:
        note(f"not met: {shortfall}")
