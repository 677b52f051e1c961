"""``nearfield stats``, ``check``, ``repair`` and ``backup``."""

from typing import Annotated, Any

import typer

import nearfield
from nearfield.cli.exits import ExitCode
from nearfield.cli.options import CollectionOption, DatabaseOption, JsonOption
from nearfield.cli.output import note, print_json, print_line, print_pairs, print_table
from nearfield.errors import ReadOnlyError

__all__ = ["backup", "check", "repair", "stats"]

_KIBIBYTE = 1024


def stats(
    *,
    database: DatabaseOption = ".nearfield",
    collection: CollectionOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Show a collection's size, model and state."""
    with nearfield.open(database, collection, create=False, read_only=True) as opened:
        figures = opened.stats()
    if as_json:
        print_json(figures)
    else:
        print_pairs(_flat(figures))


def _flat(figures: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Spell nested figures with dots, sizes in binary units and counts with separators."""
    lines: dict[str, str] = {}
    for key, value in figures.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            lines |= _flat(value, f"{name}.")
        elif isinstance(value, bool) or value is None:
            lines[name] = {True: "yes", False: "no", None: "-"}[value]
        elif isinstance(value, int) and name.endswith("_bytes"):
            lines[name.removesuffix("_bytes")] = size_text(value)
        elif isinstance(value, int):
            lines[name] = f"{value:,}"
        elif isinstance(value, float):
            lines[name] = f"{value:.4g}"
        elif isinstance(value, list | tuple):
            lines[name] = ", ".join(str(item) for item in value) or "-"
        else:
            lines[name] = str(value)
    return lines


def size_text(size_bytes: float) -> str:
    """Spell a size for a person, such as ``12.3 MiB``."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = 0
    while size_bytes >= _KIBIBYTE and power < len(units) - 1:
        size_bytes /= _KIBIBYTE
        power += 1
    return f"{size_bytes:.1f} {units[power]}" if power else f"{size_bytes:.0f} B"


def check(
    *,
    database: DatabaseOption = ".nearfield",
    collection: CollectionOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Verify every stored byte."""
    try:
        with nearfield.open(database, collection, create=False) as opened:
            report = opened.check()
    except ReadOnlyError:  # a medium that cannot be written; the keyword index needs a write lock
        note("read-only: everything but the keyword index is checked")
        with nearfield.open(database, collection, create=False, read_only=True) as opened:
            report = opened.check()
    if as_json:
        print_json(
            {
                "collection": collection,
                "ok": report.ok,
                "documents": report.documents,
                "problems": report.problems,
            }
        )
    elif report.ok:
        print_line(f"{collection!r} is well: {report.documents:,} documents read and verified")
    else:
        print_table(
            ("problem", "document", "detail"),
            ((found.kind, found.id or "-", found.detail) for found in report.problems),
        )
    if not report.ok:
        typer.echo(
            f"error: {len(report.problems):,} problems in {collection!r}; "
            "mend it with: nearfield repair",
            err=True,
        )
        raise typer.Exit(ExitCode.STORE)


def repair(
    *,
    database: DatabaseOption = ".nearfield",
    collection: CollectionOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Rebuild what can be, set aside what is damaged."""
    with nearfield.open(database, collection, create=False) as opened:
        report = opened.repair()
    if as_json:
        print_json(
            {
                "collection": collection,
                "documents": report.documents,
                "quarantined": report.quarantined,
                "actions": report.actions,
            }
        )
    else:
        for action in report.actions:
            print_line(action)
        print_line(f"{collection!r} holds {report.documents:,} documents")
        for quarantined in report.quarantined:
            print_line(f"set aside: {quarantined}")
    if report.quarantined:
        raise typer.Exit(ExitCode.INCOMPLETE)


def backup(
    *,
    destination: Annotated[str, typer.Argument(metavar="DEST", help="A folder to be made.")],
    database: DatabaseOption = ".nearfield",
    collection: CollectionOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Copy a collection into a new database folder.

    The copy is of one moment; others may go on writing.
    """
    with nearfield.open(database, collection, create=False, read_only=True) as opened:
        opened.backup(destination)
    if as_json:
        print_json({"collection": collection, "destination": destination})
    else:
        print_line(f"copied {collection!r} to {destination}; open it with: --db {destination}")
