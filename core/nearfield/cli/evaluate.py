"""``nearfield evaluate``: how well a collection retrieves, measured with judged queries."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import nearfield
from nearfield.cli.options import (
    CandidatesOption,
    DatabaseOption,
    EmbedderOption,
    JsonOption,
    RerankOption,
    WhereOption,
    check_can_be_written,
    parse_where,
)
from nearfield.cli.output import note, print_json, print_line, print_table
from nearfield.cli.progress import CountBar
from nearfield.documents import SearchMode
from nearfield.errors import InvalidInputError

if TYPE_CHECKING:
    from nearfield.evaluation import Comparison, Estimate, EvaluationReport, ModeResult

__all__ = ["evaluate"]

_MODES = tuple(SearchMode)
_LEAST_P_VALUE = 0.001


def evaluate(
    *,
    collection: Annotated[
        str, typer.Argument(metavar="COLLECTION", help="The collection to ask.")
    ] = "default",
    queries: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Queries: JSON Lines with _id and text.",
        ),
    ],
    qrels: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Judgements: query-id, corpus-id and score between tabs, or TREC's 4 columns.",
        ),
    ],
    id_field: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The metadata field with the judged ids; after an ingest, record or source. "
            "Without it: the documents' own ids.",
            show_default=False,
        ),
    ] = None,
    database: DatabaseOption = ".nearfield",
    modes: Annotated[
        list[SearchMode] | None,
        typer.Option("--mode", "-m", help="Repeatable. Without it: all.", show_default=False),
    ] = None,
    depths: Annotated[
        list[int] | None,
        typer.Option("-k", min=1, help="How deep to measure. Repeatable.", show_default="10"),
    ] = None,
    where: WhereOption = None,
    rerank: RerankOption = None,
    candidates: CandidatesOption = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Compare with this mode, or with this collection of the database. Without it, "
            "--rerank is compared with the search alone.",
            show_default=False,
        ),
    ] = None,
    per_query: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            help="Write what each query measured into this table, with tabs.",
            show_default=False,
        ),
    ] = None,
    embedder: EmbedderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how well a collection retrieves, with judged queries.

    Prints nDCG@k, Recall@k, MRR@k and MAP@k of each mode, as trec_eval defines them, with half of
    their 95 % intervals, and with a comparison whether what differs could be chance.
    """
    from nearfield.evaluation import read_judgements, read_queries
    from nearfield.rerankers import load

    if per_query is not None and per_query.resolve() in {queries.resolve(), qrels.resolve()}:
        raise InvalidInputError(f"--per-query would write over {str(per_query)!r}")
    check_can_be_written(per_query, "--per-query")
    asked = list(modes or _MODES)
    if against == collection or [against] == asked:
        raise InvalidInputError(f"--against {against!r} is what is measured; name another one")
    if against in _MODES:
        asked = list(dict.fromkeys([*asked, SearchMode(against)]))
    elif against is not None:  # that it is not there is found out now, not after half of the work
        nearfield.open(database, against, create=False, read_only=True).close()
    questions = _Questions(
        database=database,
        texts=read_queries(queries),
        judgements=read_judgements(qrels),
        modes=asked,
        options={"k": depths or 10, "where": parse_where(where), "id_field": id_field},
    )
    reranker = None if rerank is None else load(rerank)
    outcome = _answered(
        questions, collection, embedder, {"rerank": reranker, "candidates": candidates}, against
    )
    if per_query is not None:
        _write_table(per_query, outcome.rows, questions.texts)
    if as_json:
        _print_as_json(outcome)
    else:
        _print_outcome(outcome)


@dataclass(frozen=True, slots=True)
class _Questions:
    """What every setting is asked alike."""

    database: str
    texts: Mapping[str, str]
    judgements: Mapping[str, Mapping[str, int]]
    modes: list[SearchMode]
    options: Mapping[str, Any]

    def ask(self, name: str, embedder: str | None, **reranking: Any) -> "EvaluationReport":
        from nearfield.evaluation import evaluate as measure

        with (
            nearfield.open(
                self.database, name, embedder=embedder, create=False, read_only=True
            ) as opened,
            CountBar(f"asking {name}", "queries") as bar,
        ):
            return measure(
                opened,
                self.texts,
                self.judgements,
                modes=self.modes,
                on_progress=bar,
                **self.options,
                **reranking,
            )


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two rows of the table, and how they compare by each measure."""

    row: str
    baseline: str
    comparisons: "tuple[Comparison, ...]"


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What was measured: the collection's report, that of what it is compared with, the table."""

    report: "EvaluationReport"
    other: "EvaluationReport | None"
    rows: "Mapping[str, ModeResult]"
    pairs: list[_Pair]


def _answered(
    questions: _Questions,
    collection: str,
    embedder: str | None,
    reranking: Mapping[str, Any],
    against: str | None,
) -> _Outcome:
    """Ask the collection, and what it is compared with; only one thing differs between the two."""
    suffix = "" if reranking["rerank"] is None else " reranked"
    report = questions.ask(collection, embedder, **reranking)
    rows = {f"{result.mode}{suffix}": result for result in report.results}
    other, baselines = None, {}
    if against in _MODES:
        baselines = dict.fromkeys(rows, f"{against}{suffix}")
    elif against is not None:
        other = questions.ask(against, None, **reranking)
        baselines = {row: f"{row} of {against}" for row in rows}
    elif suffix:
        other = questions.ask(collection, embedder)
        baselines = {row: row.removesuffix(suffix) for row in rows}
    if other is not None:
        rows |= dict(zip(baselines.values(), other.results, strict=True))
    pairs = [
        _compared(rows, row, baseline) for row, baseline in baselines.items() if row != baseline
    ]
    return _Outcome(report, other, rows, pairs)


def _compared(rows: "Mapping[str, ModeResult]", row: str, baseline: str) -> _Pair:
    from nearfield.evaluation import compare

    one, other = rows[row], rows[baseline]
    return _Pair(row, baseline, tuple(compare(one, other, name) for name in one.measures))


def _print_as_json(outcome: _Outcome) -> None:
    other = outcome.other
    print_json(
        {
            **outcome.report.to_dict(),
            "against": None if other is None else other.to_dict(),
            "comparisons": [
                {
                    "setting": pair.row,
                    "against": pair.baseline,
                    "measures": [comparison.to_dict() for comparison in pair.comparisons],
                }
                for pair in outcome.pairs
            ],
        }
    )


def _print_outcome(outcome: _Outcome) -> None:
    report = outcome.report
    print_line(
        f"{report.collection}: {report.queries:,} queries, {report.documents:,} relevant "
        "documents; ± is half of the 95 % interval"
    )
    for names in _by_depth(report.results[0]):
        print_line("")
        print_table(
            ("", *names, "ms/query"),
            (
                (
                    name,
                    *(_estimate_text(result.measures[each]) for each in names),
                    f"{result.search_ms:.1f}",
                )
                for name, result in outcome.rows.items()
            ),
        )
    for pair in outcome.pairs:
        print_line("")
        print_line(_verdict(pair))
    _note_what_is_missing(report)
    if outcome.other is not None and outcome.other.collection != report.collection:
        _note_what_is_missing(outcome.other)


def _by_depth(result: "ModeResult") -> Iterator[list[str]]:
    """Group the names of the measures by the depth they are taken at."""
    depths = dict.fromkeys(name.partition("@")[2] for name in result.measures)
    for depth in depths:
        yield [name for name in result.measures if name.partition("@")[2] == depth]


def _estimate_text(estimate: "Estimate") -> str:
    return f"{estimate.mean:.3f} ±{(estimate.high - estimate.low) / 2:.3f}"


def _verdict(pair: _Pair) -> str:
    """Say in words how two rows compare by the first measure."""
    found = pair.comparisons[0]
    difference = found.difference
    better = "better" if difference.mean > 0 else "worse"
    head = (
        f"{pair.row} is {better} than {pair.baseline}"
        if found.is_significant
        else f"{pair.row} and {pair.baseline} cannot be told apart"
    )
    p_value = (
        f"p < {_LEAST_P_VALUE}" if found.p_value < _LEAST_P_VALUE else f"p = {found.p_value:.3f}"
    )
    return (
        f"{head}: {found.measure} differs by {difference.mean:+.3f} (95 % interval "
        f"{difference.low:+.3f} to {difference.high:+.3f}, {p_value}); better for {found.wins:,} "
        f"queries, worse for {found.losses:,}, alike for {found.ties:,}"
    )


def _note_what_is_missing(report: "EvaluationReport") -> None:
    if report.missing:
        note(
            f"{report.collection} does not hold {report.missing:,} of the {report.documents:,} "
            "relevant documents; they count as not found"
        )
    if report.unanswerable:
        note(f"left out: {report.unanswerable:,} judged queries without a relevant document")
    if report.textless:
        note(f"left out: {report.textless:,} judged queries whose text was not given")


def _write_table(path: Path, rows: "Mapping[str, ModeResult]", texts: Mapping[str, str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        names = list(next(iter(rows.values())).measures)
        table.writerow(["query-id", "setting", *names, "text"])
        for query in next(iter(rows.values())).per_query:
            for name, result in rows.items():
                values = result.per_query[query]
                measured = (f"{values[each]:.6g}" for each in names)
                table.writerow([query, name, *measured, texts[query]])
