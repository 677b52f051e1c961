"""What the benchmarks share: collections of several sizes, and the report at the end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import faiss
import pytest
from benchmarks.contest import Contest, Report
from benchmarks.corpus import DIMENSION, Corpus, make_corpus
from benchmarks.rivals import BareFaiss, BareSQLite, sqlite_rows

import nearfield

_BATCH = 1000
_WORDS = 60
_REPORT = pytest.StashKey[Report]()


@dataclass(frozen=True, slots=True)
class Setting:
    """The same corpus in a collection, in bare SQLite and in bare FAISS.

    Attributes:
        folder: The database of the collection ``default``.
        collection: Open, with its vectors in memory.
        corpus: What is in it.
        sqlite: The same documents; slots count from 0, as FAISS does.
        faiss: The same vectors.
    """

    folder: Path
    collection: nearfield.Collection
    corpus: Corpus
    sqlite: BareSQLite
    faiss: BareFaiss


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--json", type=Path, metavar="PATH", help="store the report as JSON")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_REPORT] = Report()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    report = config.stash[_REPORT]
    if not report.timings and not report.figures:
        return
    terminalreporter.section("nearfield")
    for line in report.lines():
        terminalreporter.write_line(line)
    path = config.getoption("--json")
    if path is not None:
        report.write(path)


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    return request.config.stash[_REPORT]


@pytest.fixture
def contest(benchmark, report: Report) -> Contest:
    return Contest(benchmark, report)


@pytest.fixture(autouse=True, scope="session")
def _one_faiss_thread():
    faiss.omp_set_num_threads(1)


@pytest.fixture(scope="session")
def make_setting(tmp_path_factory: pytest.TempPathFactory):
    """Return a function that fills a collection and its rivals with a corpus of some size."""
    made: dict[int, Setting] = {}

    def make(count: int) -> Setting:
        if count not in made:
            made[count] = _fill(tmp_path_factory.mktemp(f"setting-{count}"), count)
        return made[count]

    yield make
    for setting in made.values():
        setting.collection.close()
        setting.sqlite.close()


def _fill(folder: Path, count: int) -> Setting:
    corpus = make_corpus(count, words=_WORDS)
    collection = nearfield.open(folder, dimension=DIMENSION)
    sqlite = BareSQLite(folder / "bare.sqlite3")
    for number, (documents, vectors) in enumerate(corpus.batches(_BATCH)):
        collection.upsert(documents, vectors=vectors)
        sqlite.insert(*sqlite_rows(documents, vectors, number * _BATCH))
    collection.search(corpus.query_vectors[0])
    return Setting(folder, collection, corpus, sqlite, BareFaiss(corpus.vectors))
