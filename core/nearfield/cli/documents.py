"""``nearfield get`` and ``nearfield delete``."""

import sys
from typing import Annotated

import typer

import nearfield
from nearfield.cli.exits import ExitCode
from nearfield.cli.options import (
    CollectionOption,
    DatabaseOption,
    JsonOption,
    WhereOption,
    YesOption,
    parse_where,
)
from nearfield.cli.output import document_json, print_document, print_json, print_line, stdout
from nearfield.errors import InvalidInputError

__all__ = ["delete", "get"]


def get(
    *,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="The documents' ids.")],
    database: DatabaseOption = ".nearfield",
    collection: CollectionOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Show documents by their ids."""
    with nearfield.open(database, collection, create=False, read_only=True) as opened:
        found = opened.get(ids)
    documents = [document for document in found if document is not None]
    missing = [absent for absent, document in zip(ids, found, strict=True) if document is None]
    if as_json:
        shown = [document_json(document) for document in documents]
        print_json({"collection": collection, "documents": shown, "missing": missing})
    else:
        for number, document in enumerate(documents):
            if number:
                stdout().print()
            print_document(document)
    _end_with_missing(missing)


def delete(
    *,
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]...", help="The documents' ids.", show_default=False),
    ] = None,
    where: WhereOption = None,
    database: DatabaseOption = ".nearfield",
    collection: CollectionOption = "default",
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Delete documents by their ids, or all that match --where."""
    if bool(ids) == (where is not None):
        raise InvalidInputError("give either IDs or --where")
    missing: list[str] = []
    with nearfield.open(database, collection, create=False) as opened:
        if ids:
            distinct = list(dict.fromkeys(ids))
            found = opened.get(distinct, include=())
            missing = [absent for absent, kept in zip(distinct, found, strict=True) if kept is None]
            deleted = opened.delete(distinct)
        else:
            condition = parse_where(where)
            if not yes:
                confirm(f"delete {opened.count(condition):,} documents of {collection!r}?")
            deleted = opened.delete(where=condition)
    if as_json:
        print_json({"collection": collection, "deleted": deleted, "missing": missing})
    else:
        print_line(f"deleted {deleted:,} of {collection!r}")
    _end_with_missing(missing)


def confirm(question: str) -> None:
    """Ask on stderr before something is lost for good; end the command unless told yes."""
    if not sys.stdin.isatty():
        raise InvalidInputError("nobody is there to ask; say --yes to go ahead")
    if not typer.confirm(question, err=True):
        raise KeyboardInterrupt("nothing was deleted")


def _end_with_missing(missing: list[str]) -> None:
    if missing:
        typer.echo(f"error: not found: {', '.join(missing)}", err=True)
        raise typer.Exit(ExitCode.NOT_FOUND)
