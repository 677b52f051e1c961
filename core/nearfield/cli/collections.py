"""``nearfield collections``: list, drop, rename."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import nearfield
from nearfield.cli.documents import confirm
from nearfield.cli.options import DatabaseOption, JsonOption, YesOption
from nearfield.cli.output import print_json, print_line, print_table

__all__ = ["collections_app"]


class _ListByDefault(TyperGroup):
    """Makes ``nearfield collections --db folder`` mean ``nearfield collections list …``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in {"-h", "--help"}):
            args = ["list", *args]
        return super().parse_args(ctx, args)


collections_app = typer.Typer(
    cls=_ListByDefault,
    help="List, drop or rename collections.",
    rich_markup_mode=None,
)


@collections_app.command("list")
def list_collections(
    *, database: DatabaseOption = ".nearfield", as_json: JsonOption = False
) -> None:
    """List the collections with their sizes and models."""
    listed = []
    with nearfield.connect(database, read_only=True) as connected:
        for name in connected.names():
            with connected.open(name) as opened:
                listed.append((opened.info, len(opened)))
    if as_json:
        print_json(
            {
                "collections": [
                    {
                        "name": info.name,
                        "documents": documents,
                        "model": info.embedding.model,
                        "dimension": info.embedding.dimension,
                        "metric": info.metric,
                    }
                    for info, documents in listed
                ]
            }
        )
    elif listed:
        print_table(
            ("collection", "documents", "model", "dimension", "metric"),
            (
                (
                    info.name,
                    f"{documents:,}",
                    info.embedding.model,
                    str(info.embedding.dimension),
                    info.metric,
                )
                for info, documents in listed
            ),
        )
    else:
        print_line(f"no collections in {database}")


@collections_app.command()
def drop(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The collection to delete.")],
    database: DatabaseOption = ".nearfield",
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Delete a collection and all its documents."""
    with nearfield.connect(database) as connected:
        if not yes:
            with connected.open(name) as opened:
                documents = len(opened)
            confirm(f"delete collection {name!r} and its {documents:,} documents?")
        connected.drop(name)
    if as_json:
        print_json({"dropped": name})
    else:
        print_line(f"dropped {name!r}")


@collections_app.command()
def rename(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The collection.")],
    new_name: Annotated[str, typer.Argument(metavar="NEW_NAME", help="Its new name.")],
    database: DatabaseOption = ".nearfield",
    as_json: JsonOption = False,
) -> None:
    """Give a collection another name."""
    with nearfield.connect(database) as connected:
        connected.rename(name, new_name)
    if as_json:
        print_json({"renamed": name, "to": new_name})
    else:
        print_line(f"renamed {name!r} to {new_name!r}")
