"""``nearfield import-faiss``."""

from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

import nearfield
from nearfield.cli.ingest import interrupted
from nearfield.cli.options import CollectionOption, DatabaseOption, JsonOption
from nearfield.cli.output import note, print_json, print_line, working
from nearfield.cli.progress import IngestBar
from nearfield.errors import StoreBusyError

if TYPE_CHECKING:
    from nearfield.ingest.langchain_faiss import FaissImport

__all__ = ["import_faiss"]


def import_faiss(
    *,
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="What LangChain's FAISS.save_local wrote to.")
    ],
    database: DatabaseOption = ".nearfield",
    collection: CollectionOption = "default",
    index_name: Annotated[
        str, typer.Option(metavar="NAME", help="The name that it was saved under.")
    ] = "index",
    embedder: Annotated[
        str | None,
        typer.Option(
            "--embedder",
            metavar="SPEC",
            help="The model that the store was built with, such as "
            "sentence-transformers:all-MiniLM-L6-v2. Nothing is embedded; without it, name it when "
            "you search.",
            show_default=False,
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="cosine, dot or euclidean. Without it: as the store does.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Move a LangChain FAISS store into a collection.

    Keeps ids, texts, metadata and vectors. Nothing in the pickle is run, and one that would run
    something is refused. It can be interrupted, and goes on when run again.
    """
    from nearfield.ingest.langchain_faiss import import_langchain_faiss

    try:
        with IngestBar(f"reading {folder}") as bar:
            done = import_langchain_faiss(
                folder,
                database,
                collection,
                index_name=index_name,
                embedder=embedder,
                metric=metric,
                on_progress=bar,
            )
        with (
            working("indexing"),
            suppress(StoreBusyError),  # another process is at it
            nearfield.open(database, collection, create=False) as opened,
        ):
            opened.maintain()
    except KeyboardInterrupt:
        raise interrupted() from None
    if as_json:
        print_json({"collection": collection, **asdict(done)})
    else:
        _print(done, collection, named=embedder is not None)


def _print(done: "FaissImport", collection: str, *, named: bool) -> None:
    print_line(
        f"{collection}: {done.written:,} documents written, {done.unchanged:,} unchanged; "
        f"{done.dimension} dimensions, {done.metric.value}"
    )
    if done.vectors_without_document:
        print_line(f"left out: {done.vectors_without_document:,} vectors without a document")
    if done.documents_without_vector:
        print_line(f"left out: {done.documents_without_vector:,} documents without a vector")
    if done.unit_length and done.metric.value == "euclidean":
        note(
            "all vectors have length 1: with --metric cosine they rank the same, and scores are "
            "cosines"
        )
    if not named:
        note("to search it by text, name the model that the store was built with: --embedder SPEC")
