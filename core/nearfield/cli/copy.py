"""``nearfield copy`` and ``nearfield migrate``."""

from typing import Annotated

import typer

import nearfield
from nearfield.cli.options import EmbedderOption, JsonOption
from nearfield.cli.output import print_json, print_line
from nearfield.cli.progress import CountBar
from nearfield.copying import CopyReport
from nearfield.copying import copy as copy_collection

__all__ = ["copy", "migrate"]

_Source = Annotated[str, typer.Argument(metavar="SRC", help="The database to copy from.")]
_Target = Annotated[
    str, typer.Argument(metavar="DST", help="The database to copy to, of any kind.")
]


def copy(
    source: _Source,
    target: _Target,
    *,
    collection: Annotated[
        str, typer.Option("--collection", "-c", metavar="NAME", help="The collection to copy.")
    ] = "default",
    new_name: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Its name in the target.", show_default=False),
    ] = None,
    embedder: EmbedderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a collection to another database, of any kind, and verify it.

    Run it again after an interruption: what is there already is not written again. With
    --embedder the texts are embedded anew.
    """
    reports = _copied(source, target, [collection], new_name, embedder)
    _show(reports, as_json=as_json)


def migrate(
    source: _Source,
    target: _Target,
    *,
    as_json: JsonOption = False,
) -> None:
    """Copy all collections of a database to another, of any kind, and verify them.

    Nothing is deleted from the source.
    """
    with nearfield.connect(source, read_only=True) as database:
        names = database.names()
    _show(_copied(source, target, names, None, None), as_json=as_json)


def _copied(
    source: str, target: str, names: list[str], new_name: str | None, embedder: str | None
) -> list[CopyReport]:
    reports = []
    with (
        nearfield.connect(source, read_only=True) as origin,
        nearfield.connect(target) as destination,
    ):
        for name in names:
            with CountBar(name, "documents") as bar:
                reports.append(
                    copy_collection(
                        origin,
                        destination,
                        name,
                        new_name=new_name,
                        embedder=embedder,
                        progress=bar,
                    )
                )
    return reports


def _show(reports: list[CopyReport], *, as_json: bool) -> None:
    if as_json:
        print_json(reports)
        return
    for report in reports:
        print_line(
            f"{report.name!r}: {report.documents:,} documents, {report.written:,} of them written "
            f"now; {report.compared:,} read back and found the same"
        )
    if not reports:
        print_line("there is no collection to copy")
