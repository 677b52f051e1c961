"""The options and arguments that several commands share."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from nearfield.errors import InvalidInputError

__all__ = [
    "CandidatesOption",
    "CollectionOption",
    "DatabaseOption",
    "EmbedderOption",
    "JsonOption",
    "RerankOption",
    "WhereOption",
    "YesOption",
    "check_can_be_written",
    "parse_where",
]

DatabaseOption = Annotated[
    str,
    typer.Option(
        "--db",
        envvar="NEARFIELD_DB",
        metavar="PATH",
        help="The database: a folder, made at the first write, or a URL such as "
        "postgresql://user@host/database.",
    ),
]
CollectionOption = Annotated[
    str, typer.Option("--collection", "-c", metavar="NAME", help="The collection in it.")
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document on stdout, and nothing else there."),
]
EmbedderOption = Annotated[
    str | None,
    typer.Option(
        "--embedder",
        metavar="SPEC",
        help="The model, such as sentence-transformers:all-MiniLM-L6-v2. Without it: the "
        "collection's own; for a new one NEARFIELD_EMBEDDER, or else the built-in model.",
        show_default=False,
    ),
]
RerankOption = Annotated[
    str | None,
    typer.Option(
        "--rerank",
        metavar="SPEC",
        help="A model that reads the best hits with the query, as cross-encoder:NAME.",
        show_default=False,
    ),
]
CandidatesOption = Annotated[
    int | None,
    typer.Option(min=1, help="How many hits --rerank reads.", show_default=False),
]
WhereOption = Annotated[
    str | None,
    typer.Option(
        "--where",
        "-w",
        metavar="JSON",
        help="""Only documents whose metadata match, such as '{"year": {"$gte": 2020}}'.""",
        show_default=False,
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before deleting.")]


def check_can_be_written(path: Path | None, option: str) -> None:
    """Raise ``InvalidInputError`` where a file has no folder; before the work it is to hold."""
    if path is not None and not path.absolute().parent.is_dir():
        raise InvalidInputError(f"{option} {path}: there is no folder {path.parent}; make it first")


def parse_where(where: str | None) -> dict[str, Any] | None:
    """Read a filter given as JSON; what is in it is judged by the collection."""
    if where is None:
        return None
    expected = """expected a JSON object such as '{"year": {"$gte": 2020}}'"""
    try:
        value = json.loads(where)
    except ValueError as error:
        raise InvalidInputError(f"--where {where!r} is not JSON ({error}); {expected}") from None
    if not isinstance(value, dict):
        raise InvalidInputError(f"--where is {where!r}; {expected}")
    return value
