"""``nearfield quality``."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

import nearfield
from nearfield.cli.options import (
    CollectionOption,
    DatabaseOption,
    JsonOption,
    WhereOption,
    check_can_be_written,
    parse_where,
)
from nearfield.cli.output import note, print_json, print_line, print_table, working
from nearfield.documents import Metric
from nearfield.errors import InvalidInputError

if TYPE_CHECKING:
    from nearfield.collection import Collection
    from nearfield.vectors.quality import QualityReport, Space
    from nearfield.vectors.quality.reading import VectorSet

__all__ = ["quality"]

_FETCHED = 500
_LONGEST_TEXT = 1_000
_STYLES = {"warning": "yellow", "note": "cyan", "good": "green"}


def quality(
    *,
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="PATH",
            help="A database, in place of --db; or a .npy file of vectors.",
            show_default=False,
        ),
    ] = None,
    database: DatabaseOption = ".nearfield",
    collection: CollectionOption = "default",
    where: WhereOption = None,
    field: Annotated[
        str | None,
        typer.Option(
            help="A metadata field: do neighbours agree in it? It also colours the map.",
            show_default=False,
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="OTHER",
            help="What to compare with: a collection beside it, PATH/COLLECTION, a .npy file, or "
            "a .txt file of queries, one a line.",
            show_default=False,
        ),
    ] = None,
    metric: Annotated[
        Metric | None,
        typer.Option(help="For a .npy file: how its vectors are compared.", show_default=False),
    ] = None,
    sample: Annotated[
        int, typer.Option(min=2, metavar="N", help="Vectors that are compared with each other.")
    ] = 10_000,
    clusters: Annotated[
        int | None,
        typer.Option(
            min=2, metavar="K", help="Without it: as many as fit best.", show_default=False
        ),
    ] = None,
    near: Annotated[
        float, typer.Option(help="The similarity from which two are near-duplicates.")
    ] = 0.98,
    seed: Annotated[int, typer.Option(min=0, help="What samples are drawn by.")] = 0,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            help="Write a page with plots as well.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure an embedding space: duplicates, outliers, hubs, isotropy, clusters, drift.

    Says in words what is wrong with the vectors, and what to do. Nothing is changed.
    """
    from nearfield.vectors.quality import Space, assess
    from nearfield.vectors.quality.packages import require_packages

    require_packages("nearfield quality", page=html is not None)
    check_can_be_written(html, "--html")
    place = _Place(path or database, collection)
    with working("reading vectors"):
        read = _read(place, where=where, field=field, metric=metric, seed=seed)
        other = None if against is None else _read_other(against, place, read.metric, seed)
    options: dict[str, Any] = {"metric": read.metric, "sample": sample, "seed": seed}
    space = Space(read.found.vectors, **options)
    other_space = None if other is None else Space(other.found.vectors, **options)
    with working("measuring"):
        report = assess(
            space,
            labels=read.found.labels,
            ids=read.found.ids,
            against=other_space,
            against_ids=None if other is None else other.found.ids,
            clusters_wanted=clusters,
            near=near,
        )
    if html is not None:
        sides = [(read, space)]
        if other is not None and other_space is not None:
            sides.append((other, other_space))
        with working("writing the page"):
            html.write_text(_page(report, field, *sides), encoding="utf-8", errors="replace")
    if as_json:
        shown = {"source": read.title, "total": read.found.total, **report.to_dict()}
        print_json({**shown, "html": None if html is None else str(html)})
    else:
        _print_report(report, read)
        if html is not None:
            note(f"wrote {html}")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where vectors are: a ``.npy`` file, or a collection of a database."""

    path: str
    collection: str

    @property
    def is_file(self) -> bool:
        return self.path.endswith(".npy")

    def open(self) -> "Collection":
        return nearfield.open(self.path, self.collection, create=False, read_only=True)


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read, and what is known of it."""

    title: str
    found: "VectorSet"
    metric: Metric
    model: str = ""
    place: _Place | None = None

    def texts(self, rows: list[int]) -> dict[int, str]:
        """Fetch the texts of some rows; of a document deleted meanwhile there is none."""
        if self.place is None or self.found.ids is None:
            return {}
        texts: dict[int, str] = {}
        with self.place.open() as opened:
            for start in range(0, len(rows), _FETCHED):
                some = rows[start : start + _FETCHED]
                ids = [self.found.ids[row] for row in some]
                documents = opened.get(ids, include=("text",))
                for row, document in zip(some, documents, strict=True):
                    if document is not None:
                        texts[row] = document.text[:_LONGEST_TEXT]
        return texts


def _read(
    place: _Place,
    *,
    seed: int,
    where: str | None = None,
    field: str | None = None,
    metric: Metric | None = None,
) -> _Read:
    from nearfield.vectors.quality.reading import read_collection, read_npy

    if place.is_file:
        if field is not None or where is not None:
            raise InvalidInputError(
                f"{place.path} holds vectors alone; --field and --where need a collection"
            )
        return _Read(place.path, read_npy(Path(place.path)), metric or Metric.COSINE)
    with place.open() as opened:
        info = opened.info
        if metric not in {None, info.metric}:
            raise InvalidInputError(
                f"collection {info.name!r} compares by {info.metric.value}; --metric is for .npy "
                "files"
            )
        found = read_collection(opened, where=parse_where(where), field=field, seed=seed)
    return _Read(
        f"{_without_secrets(place.path)}/{info.name}",
        found,
        info.metric,
        info.embedding.model,
        place,
    )


def _without_secrets(path: str) -> str:
    """Return a path as it is, and a URL without its user, password and options."""
    if "://" not in path:
        return path
    parts = urlsplit(path)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _read_other(against: str, place: _Place, metric: Metric, seed: int) -> _Read:
    """Read what is compared with; under the metric of the first."""
    if against.endswith(".txt"):
        return _read_queries(Path(against), place, metric)
    if against.endswith(".npy"):
        return _read(_Place(against, ""), seed=seed, metric=metric)
    folder, slash, name = against.rpartition("/")
    if not slash and place.is_file:
        raise InvalidInputError(
            f"--against {against!r}: there is no collection beside a file; give PATH/COLLECTION or "
            "a .npy file"
        )
    return _read(_Place(folder or place.path, name), seed=seed)


def _read_queries(path: Path, place: _Place, metric: Metric) -> _Read:
    from nearfield.embedders.contract import embed_queries
    from nearfield.vectors.quality.reading import VectorSet

    if place.is_file:
        raise InvalidInputError(
            f"--against {path}: texts are embedded by a collection's model, and a .npy file has "
            "none; embed them and give a .npy file"
        )
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is not UTF-8: {error.reason}") from None
    texts = [line for line in lines if line]
    if not texts:
        raise InvalidInputError(f"{path} holds no query; expected one a line")
    with place.open() as opened:
        vectors = embed_queries(opened.embedder, texts)
    found = VectorSet(vectors, texts, None, len(texts))
    return _Read(str(path), found, metric)


def _page(
    report: "QualityReport",
    field: str | None,
    this: "tuple[_Read, Space]",
    other: "tuple[_Read, Space] | None" = None,
) -> str:
    from nearfield.vectors.quality.page import Source, render_page, shown_rows

    read, space = this
    source = Source(
        title=read.title,
        total=read.found.total,
        model=read.model,
        ids=read.found.ids,
        labels=read.found.labels,
        field=field,
        texts=read.texts(shown_rows(space, report.ids)),
    )
    if other is None:
        return render_page(space, report, source)
    read, against = other
    source = replace(
        source,
        against_title=read.title,
        against_ids=read.found.ids,
        against_texts=read.texts(shown_rows(against, report.against_ids)),
    )
    return render_page(space, report, source, against=against)


def _print_report(report: "QualityReport", read: _Read) -> None:
    from nearfield.vectors.quality.table import lines_of

    noun = "documents" if report.ids else "vectors"
    part = "" if report.rows == read.found.total else f"{report.rows:,} of "
    print_line(
        f"{read.title}: {part}{read.found.total:,} {noun} of {report.dimension:,} dimensions, "
        f"compared by {report.metric.value}",
        style="bold",
    )
    print_line("")
    print_table(
        ("measure", "value"), ((line.meaning.title, line.value) for line in lines_of(report))
    )
    print_line("")
    for finding in report.findings:
        print_line(f"{finding.level.value}: {finding.text}", style=_STYLES[finding.level.value])
        if finding.advice:
            print_line(f"  {finding.advice}", style="dim")
    for reason in report.skipped.values():
        note(f"not measured: {reason}")
