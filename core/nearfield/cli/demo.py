"""``nearfield demo``: index the standard library's docstrings, and ask them something."""

import json
import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

import nearfield
from nearfield.cli.docstrings import standard_library
from nearfield.cli.exits import ExitCode
from nearfield.cli.ingest import interrupted, print_report
from nearfield.cli.options import DatabaseOption, EmbedderOption, JsonOption
from nearfield.cli.output import hit_json, print_hit_lines, print_json, print_line, working
from nearfield.cli.progress import IngestBar
from nearfield.documents import Hit, SearchMode

if TYPE_CHECKING:
    from nearfield.collection import Collection
    from nearfield.ingest import IngestReport

__all__ = ["demo"]

_COLLECTION = "demo"
_HITS_PER_QUESTION = 3


@dataclass(frozen=True, slots=True)
class _Question:
    """Something to ask, and the way to ask it."""

    text: str
    mode: SearchMode
    where: dict[str, Any] | None = None

    def command(self, database: str) -> str:
        """Return the command line that asks the same."""
        arguments = ["nearfield", "search", *_where_it_is(database), "--mode", self.mode]
        if self.where is not None:
            arguments += ["--where", json.dumps(self.where)]
        return shlex.join([*arguments, self.text])


@dataclass(frozen=True, slots=True)
class _Answer:
    question: _Question
    hits: list[Hit]
    seconds: float


_QUESTIONS = (
    _Question("how do I turn a string into a date", SearchMode.VECTOR),
    _Question("symlink", SearchMode.KEYWORD),
    _Question("temporary folder that is deleted afterwards", SearchMode.HYBRID),
    _Question("read a compressed file", SearchMode.HYBRID, {"kind": "class"}),
)


def demo(
    *,
    database: DatabaseOption = ".nearfield",
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Index only the first so many docstrings.", show_default=False),
    ] = None,
    embedder: EmbedderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try it on Python's own documentation.

    The docstrings of the standard library go into the collection "demo" and are asked a few
    questions, all on this machine. A second run has nothing left to embed.
    """
    from nearfield.ingest import sync_documents

    try:
        with working("gathering docstrings"):
            documents = standard_library(limit)
        with nearfield.open(database, _COLLECTION, embedder=embedder) as collection:
            with IngestBar("embedding") as bar:
                report = sync_documents(collection, documents, on_progress=bar)
            answers = [_ask(collection, question) for question in _QUESTIONS]
    except KeyboardInterrupt:
        raise interrupted() from None
    if as_json:
        print_json(_as_json(report, answers))
    else:
        print_report(report, _COLLECTION)
        for number, answer in enumerate(answers):
            _print_answer(answer, database, is_first=number == 0)
        _print_next_steps(database)
    if not report.ok:
        raise typer.Exit(ExitCode.INCOMPLETE)


def _ask(collection: "Collection", question: _Question) -> _Answer:
    start_s = time.perf_counter()
    hits = collection.search(
        question.text, k=_HITS_PER_QUESTION, mode=question.mode, where=question.where
    )
    return _Answer(question, hits, time.perf_counter() - start_s)


def _print_answer(answer: _Answer, database: str, *, is_first: bool) -> None:
    loading = ", loading the collection included" if is_first else ""
    print_line("")
    print_line(f"$ {answer.question.command(database)}", style="cyan")
    print_line(f"  {len(answer.hits)} hits in {answer.seconds * 1000:.1f} ms{loading}", style="dim")
    print_hit_lines(answer.hits)


def _print_next_steps(database: str) -> None:
    place = shlex.join(_where_it_is(database))
    print_line("\nGo on with:")
    for command in (
        f'nearfield search {place} "how do I parse a date"',
        f"nearfield search {place} --like json.loads#0",
        f"nearfield stats {place}",
    ):
        print_line(f"  {command}", style="bold")


def _where_it_is(database: str) -> list[str]:
    place = [] if database == ".nearfield" else ["--db", database]
    return [*place, "-c", _COLLECTION]


def _as_json(report: "IngestReport", answers: list[_Answer]) -> dict[str, Any]:
    return {
        "collection": _COLLECTION,
        "ok": report.ok,
        "report": report,
        "questions": [
            {
                "query": answer.question.text,
                "mode": answer.question.mode,
                "where": answer.question.where,
                "seconds": round(answer.seconds, 6),
                "hits": [hit_json(hit) for hit in answer.hits],
            }
            for answer in answers
        ],
    }
