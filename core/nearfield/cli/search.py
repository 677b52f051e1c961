"""``nearfield search``."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

import nearfield
from nearfield.cli.options import (
    CandidatesOption,
    CollectionOption,
    DatabaseOption,
    EmbedderOption,
    JsonOption,
    RerankOption,
    WhereOption,
    parse_where,
)
from nearfield.cli.output import hit_json, note, print_hits, print_json
from nearfield.documents import SearchMode
from nearfield.errors import InvalidInputError
from nearfield.rerankers import load

if TYPE_CHECKING:
    from nearfield.stores.base import Explanation

__all__ = ["search"]


def search(
    *,
    query: Annotated[
        str | None, typer.Argument(help="What to look for.", show_default=False)
    ] = None,
    database: DatabaseOption = ".nearfield",
    collection: CollectionOption = "default",
    k: Annotated[int, typer.Option("-k", min=1, help="The most hits to show.")] = 10,
    mode: Annotated[
        SearchMode | None,
        typer.Option(
            "--mode",
            "-m",
            help="By meaning, by words, or both. Without it: both, or vector with --like.",
            show_default=False,
        ),
    ] = None,
    where: WhereOption = None,
    min_score: Annotated[
        float | None, typer.Option(help="Only hits that score at least this.", show_default=False)
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Look for what is like this document.", show_default=False),
    ] = None,
    rerank: RerankOption = None,
    candidates: CandidatesOption = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Tell on stderr how the search was done.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Whole texts, not snippets.")] = False,
    embedder: EmbedderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the documents that fit a query best."""
    if (query is None) == (like is None):
        raise InvalidInputError("give either a QUERY or --like ID")
    reranker = None if rerank is None else load(rerank)
    with nearfield.open(
        database, collection, embedder=embedder, create=False, read_only=True
    ) as opened:
        best = SearchMode.HYBRID if SearchMode.HYBRID in opened.modes else SearchMode.VECTOR
        chosen = mode or (SearchMode.VECTOR if like else best)
        start_s = time.perf_counter()
        hits = opened.search(
            query,
            k=k,
            where=parse_where(where),
            mode=chosen,
            min_score=min_score,
            rerank=reranker,
            candidates=candidates,
            like=like,
        )
        seconds = time.perf_counter() - start_s
        if explain and query is not None:
            _note_plan(opened.explain(query, k=k, where=parse_where(where), mode=chosen))
    if as_json:
        print_json(
            {
                "query": query,
                "like": like,
                "collection": collection,
                "mode": chosen,
                "rerank": rerank,
                "seconds": round(seconds, 6),
                "hits": [hit_json(hit) for hit in hits],
            }
        )
    elif hits:
        print_hits(hits, query=query or "", full=full)
    else:
        note("no hits")


def _note_plan(explanation: "Explanation") -> None:
    for step in explanation.steps:
        note(
            f"{step.plan}: {step.matching:,} of {step.rows:,} rows match, {step.compared:,} "
            f"compared, recall {step.predicted_recall:.4f}"
        )
    note(f"selectivity {explanation.selectivity:.2%}")
