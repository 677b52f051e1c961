"""``nearfield tune``, and what ``search --explain`` and ``stats`` tell of it."""

import json

import numpy as np
import pytest

import nearfield
from nearfield import Document

ROWS = 21_000  # a few more than are searched exactly


@pytest.fixture(scope="module")
def large_database(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuning") / "database"
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((ROWS, 24), dtype=np.float32)
    with nearfield.open(folder, dimension=24, durability="normal") as collection:
        for start in range(0, ROWS, 3_000):
            rows = range(start, start + 3_000)
            documents = [Document(f"word{i}", id=f"{i}", metadata={"n": i}) for i in rows]
            collection.upsert(documents, vectors=vectors[start : start + 3_000])
    return folder


def test_tuning_shows_what_there_was_to_choose_from(invoke, large_database):
    ran = invoke("tune", "--db", large_database, "--target-recall", "0.9", "--json")
    report = json.loads(ran.stdout)
    assert ran.exit_code == 0, ran.stderr
    assert report["met"] is True
    assert report["target_recall"] == 0.9
    assert report["recall"]["mean"] >= 0.88
    assert any(trade["chosen"] for trade in report["front"])
    shown = invoke("tune", "--db", large_database)
    assert shown.exit_code == 0, shown.stderr
    assert "exact scan" in shown.stdout
    assert "asked for 0.9900" in shown.stdout
    index = json.loads(invoke("stats", "--db", large_database, "--json").stdout)["index"]
    assert index["target_recall"] == 0.99
    assert index["rows"] + index["pending_rows"] == ROWS


def test_what_cannot_be_met_is_told_and_is_no_success(invoke, large_database):
    ran = invoke("tune", "--db", large_database, "--latency-ms", "0.000001")
    assert ran.exit_code == 4
    assert "not met" in ran.stderr


def test_a_small_collection_needs_no_index(invoke, database):
    ran = invoke("tune", "--db", database)
    assert ran.exit_code == 0
    assert "no index is needed" in ran.stdout
    assert "recall@10 1.0000" in ran.stdout


def test_queries_of_ones_own_are_read_from_a_file(invoke, database, tmp_path):
    queries = tmp_path / "queries.txt"
    queries.write_text("a cat\n\nsticks in a park\n", encoding="utf-8")
    ran = invoke("tune", "--db", database, "--queries", queries, "--json")
    assert ran.exit_code == 0, ran.stderr
    assert json.loads(ran.stdout)["recall"]["queries"] == 2
    queries.write_text("\n", encoding="utf-8")
    assert "holds no query" in invoke("tune", "--db", database, "--queries", queries).stderr


def test_a_search_can_be_explained(invoke, database):
    ran = invoke("search", "purring", "--db", database, "--explain", "-w", '{"animal": "cat"}')
    assert ran.exit_code == 0
    assert "exact scan: 1 of 3 rows match" in ran.stderr
    assert "BM25" in ran.stderr
    assert "selectivity 33.33%" in ran.stderr
