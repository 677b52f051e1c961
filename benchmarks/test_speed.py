"""How fast the embedded engine is, beside the libraries it is made of.

Run with ``python -m pytest benchmarks --json speed.json``; see README.md for what each
measures. Nothing here fails for being slow: the table at the end says PASS or MISS.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.corpus import DIMENSION, SELECTIVITIES, make_corpus
from benchmarks.rivals import BareSQLite, Chroma, MetadataArrays, sqlite_rows

import nearfield
from nearfield import F

_ROOT = Path(__file__).parents[1]
SIZES = [10_000, 100_000]
BATCH = 1000


# ── writing ──────────────────────────────────────────────────────────────────────────────────────


def test_bulk_upsert(contest, report, tmp_path):
    rounds = 30
    corpus = make_corpus((rounds + 3) * BATCH, words=20)
    batches = list(corpus.batches(BATCH))
    rows = [sqlite_rows(*batch, number * BATCH) for number, batch in enumerate(batches)]
    collection = nearfield.open(tmp_path / "ours", dimension=DIMENSION, durability="full")
    bare = BareSQLite(tmp_path / "bare.sqlite3")
    indexed = BareSQLite(tmp_path / "indexed.sqlite3", keyword_index=True)
    contenders = {
        "nearfield": lambda i: collection.upsert(batches[i][0], vectors=batches[i][1]),
        "bare SQLite": lambda i: bare.insert(*rows[i]),
        "bare SQLite + FTS5": lambda i: indexed.insert(*rows[i]),
    }
    if importlib.util.find_spec("chromadb"):
        chroma = Chroma(tmp_path / "chroma")
        contenders["Chroma, embedded"] = lambda i: chroma.upsert(*batches[i])
    else:
        report.notes.append("Chroma is not installed: NOT MEASURED beside the bulk upsert")
    ours, *_ = contest.run(
        "bulk upsert, 1,000 documents a batch, durability full",
        contenders,
        rounds=rounds,
        items=BATCH,
    )
    report.figure("bulk upsert", ours.items_per_s, "docs/s", at_least=15_000)
    collection.close()


# ── searching ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("count", SIZES)
def test_vector_to_ten_documents(contest, report, make_setting, count):
    setting = make_setting(count)
    queries = setting.corpus.query_vectors
    rng = np.random.default_rng(1)
    slots = [rng.choice(count, 10, replace=False).tolist() for _ in queries]
    ours, kernel, select = contest.run(
        f"vector -> 10 documents, {count:,}",
        {
            "nearfield": lambda i: setting.collection.search(queries[i]),
            "FAISS flat, 1 thread": lambda i: setting.faiss.search(queries[i]),
            "SQLite, 10 rows by key": lambda i: setting.sqlite.fetch(slots[i]),
        },
        rounds=400 if count == SIZES[0] else 100,
    )
    bar = {"at_most": 3} if count == SIZES[0] else {}
    for name in ("median_s", "minimum_s"):
        floor = getattr(kernel, name) + getattr(select, name)
        title = f"vector -> 10 documents, {count:,}: {name.removesuffix('_s')} / floor"
        report.figure(title, getattr(ours, name) / floor, "x", **bar)


@pytest.mark.parametrize("kind", ["equality", "range", "contains"])
@pytest.mark.parametrize("selectivity", SELECTIVITIES)
def test_filtered_search(contest, make_setting, selectivity, kind):
    setting = make_setting(SIZES[-1])
    arrays = MetadataArrays(setting.corpus.documents)
    queries = setting.corpus.query_vectors
    field, value = SELECTIVITIES[selectivity]
    rounds = 60

    def condition(number: int):
        """Return a filter that was never asked before where the number is new."""
        if kind == "range":
            return F.position < selectivity + number * 1e-9
        stated = F[field] == value if kind == "equality" else F.labels.contains(value)
        return stated & (F.position >= -number)

    def mask() -> np.ndarray:
        if kind == "range":
            return arrays.below(selectivity)
        return arrays.equals(field, value) if kind == "equality" else arrays.has_label(value)

    def with_bare_parts(number: int) -> None:
        found = setting.faiss.search_masked(queries[number], mask())
        setting.sqlite.fetch(found)

    setting.collection.search(queries[0], where=condition(0))
    contest.run(
        f"{kind} filter, {selectivity:.1%} of {SIZES[-1]:,}",
        {
            "nearfield, filter seen before": lambda i: setting.collection.search(
                queries[i], where=condition(0)
            ),
            "nearfield, new filter": lambda i: setting.collection.search(
                queries[i], where=condition(i + 1)
            ),
            "numpy mask + FAISS bitmap + SQLite": with_bare_parts,
        },
        rounds=rounds,
    )


def test_first_use_of_a_filter_field(contest, make_setting):
    setting = make_setting(SIZES[-1])
    query = setting.corpus.query_vectors[0]
    opened = []

    def reopen(_: int) -> None:
        collection = nearfield.open(setting.folder, create=False)
        collection.search(query)
        opened.append(collection)

    contest.run(
        f"first use of a field by a filter, {SIZES[-1]:,}",
        {
            "nearfield, a string field": lambda _: opened[-1].search(
                query, where=F.kind == "kind-7"
            ),
            "(opening and loading the vectors)": reopen,
        },
        rounds=5,
    )
    for collection in opened:
        collection.close()


@pytest.mark.parametrize("mode", ["keyword", "hybrid"])
@pytest.mark.parametrize("count", SIZES)
def test_text_search(contest, make_setting, count, mode):
    setting = make_setting(count)
    texts, vectors = setting.corpus.queries, setting.corpus.query_vectors
    field, value = SELECTIVITIES[0.01]

    def search(number: int, where=None) -> None:
        vector = vectors[number] if mode == "hybrid" else None
        setting.collection.search(texts[number], vector=vector, mode=mode, where=where)

    contest.run(
        f"{mode} search, {count:,} documents of 60 words",
        {
            "nearfield": search,
            "nearfield, among 1 % of them": lambda i: search(i, where=F[field] == value),
        },
        rounds=200 if count == SIZES[0] else 100,
    )


@pytest.mark.parametrize("count", SIZES)
def test_search_many(contest, make_setting, count):
    setting = make_setting(count)
    queries = setting.corpus.query_vectors[:256]
    contest.run(
        f"256 queries, {count:,}",
        {
            "nearfield.search_many": lambda _: setting.collection.search_many(queries),
            "nearfield.search, one by one": lambda _: [
                setting.collection.search(query) for query in queries
            ],
            "FAISS batch, 1 thread (no documents)": lambda _: setting.faiss.search_many(queries),
        },
        rounds=8 if count == SIZES[0] else 3,
        items=len(queries),
    )


# ── starting ─────────────────────────────────────────────────────────────────────────────────────


def test_import(contest, report):
    imports = []
    contest.run(
        "a new process that imports numpy and nearfield",
        {"the whole process": lambda _: imports.append(_in_new_process("import"))},
        rounds=9,
    )
    milliseconds = [1e3 * measured["wall_s"] for measured in imports]
    report.figure(
        "import nearfield after numpy, median", np.median(milliseconds), "ms", at_most=150
    )
    report.figure("import nearfield after numpy, minimum", min(milliseconds), "ms")


def test_open_to_the_first_hit(contest, report, make_setting):
    count = SIZES[-1]
    folder = make_setting(count).folder
    opens = []
    contest.run(
        f"a new process that opens {count:,} documents and searches once",
        {"the whole process": lambda _: opens.append(_in_new_process("open", str(folder)))},
        rounds=5,
    )
    seconds = [measured["wall_s"] for measured in opens]
    report.figure(f"open {count:,} to the first hit, median", np.median(seconds), "s", at_most=1)
    report.figure(f"open {count:,} to the first hit, minimum", min(seconds), "s")
    mebibyte = 2**20
    vectors = count * DIMENSION * 4 / mebibyte
    for name, key in (("resident", "resident_bytes"), ("peak", "peak_bytes")):
        size = np.median([measured[key] for measured in opens]) / mebibyte
        report.figure(f"{name} memory of {count:,} ({vectors:.0f} MiB of vectors)", size, "MiB")


def _in_new_process(*arguments: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.startup", *arguments]
    done = subprocess.run(command, cwd=_ROOT, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)
