"""``nearfield evaluate``, and ``search --rerank``."""

from __future__ import annotations

import csv
import json

import pytest
from tests.models import save_random_cross_encoder

import nearfield
from nearfield import Document
from nearfield.evaluation import evaluate, read_judgements, read_queries

ANIMALS = {
    "cat": "The cat sat on the mat and purred all afternoon.",
    "dog": "Dogs fetch sticks in the park and bark at strangers.",
    "lava": "Volcanoes erupt when molten rock reaches the surface.",
    "rain": "Rain falls where warm, wet air rises and cools.",
}
QUERIES = {"1": "a kitten on a rug", "2": "puppies that play", "3": "molten rock", "4": "wet air"}
QRELS = [("1", "cat", 1), ("2", "dog", 2), ("3", "lava", 1), ("4", "rain", 1), ("4", "lava", 1)]


def jsonl(path, entries):
    path.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A test collection in BEIR's layout."""
    folder = tmp_path_factory.mktemp("beir")
    corpus = [{"_id": name, "title": name, "text": text} for name, text in ANIMALS.items()]
    jsonl(folder / "corpus.jsonl", corpus)
    jsonl(folder / "queries.jsonl", [{"_id": n, "text": text} for n, text in QUERIES.items()])
    rows = [("query-id", "corpus-id", "score"), *QRELS]
    lines = ("\t".join(map(str, row)) for row in rows)
    (folder / "test.tsv").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A collection under the documents' own ids, with the built-in model, and one with half."""
    folder = tmp_path_factory.mktemp("evaluate") / "database"
    with nearfield.open(folder, "default") as collection:
        collection.upsert([Document(text, id=name) for name, text in ANIMALS.items()])
    with nearfield.open(folder, "half") as collection:
        collection.upsert([Document(ANIMALS[name], id=name) for name in ("cat", "dog")])
    return folder


@pytest.fixture
def run(invoke, built, files):
    def run(*arguments, collection="default"):
        judged = ("--queries", files / "queries.jsonl", "--qrels", files / "test.tsv")
        return invoke("evaluate", collection, "--db", built, *judged, *arguments)

    return run


def test_every_mode_is_measured_and_shown_with_its_interval(run, built, files):
    ran = run()
    assert ran.exit_code == 0, ran.stderr
    assert ran.stderr == ""
    head, empty, *table = ran.stdout.splitlines()
    assert head.startswith("default: 4 queries, 4 relevant documents")
    assert empty == ""
    assert table[0].split() == ["nDCG@10", "Recall@10", "MRR@10", "MAP@10", "ms/query"]
    assert [line.split()[0] for line in table[1:]] == ["vector", "keyword", "hybrid"]
    assert all(len(line) <= 80 for line in ran.stdout.splitlines())
    with nearfield.open(built, "default") as collection:
        judged = read_queries(files / "queries.jsonl"), read_judgements(files / "test.tsv")
        report = evaluate(collection, *judged)
    for line, result in zip(table[1:], report.results, strict=True):
        for shown, estimate in zip(line.split()[1:8:2], result.measures.values(), strict=True):
            assert shown == f"{estimate.mean:.3f}"


def test_several_depths_are_shown_one_after_the_other(run):
    ran = run("-k", 1, "-k", 3, "--mode", "keyword")
    assert ran.exit_code == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert "Recall@1 " in lines[2]
    assert "Recall@3 " in lines[5]
    assert [lines[3].split()[0], lines[6].split()[0]] == ["keyword", "keyword"]
    assert len(lines) == 7


def test_measures_and_comparisons_are_one_json_document(run):
    ran = run("--json", "--mode", "hybrid", "--against", "vector", "-k", 2)
    answer = json.loads(ran.stdout)
    assert ran.exit_code == 0, ran.stderr
    assert answer["collection"] == "default"
    assert answer["model"] == "minilm"
    assert answer["queries"] == 4
    assert answer["against"] is None
    assert [result["mode"] for result in answer["results"]] == ["hybrid", "vector"]
    estimate = answer["results"][0]["measures"]["nDCG@2"]
    assert 0 <= estimate["low"] <= estimate["mean"] <= estimate["high"] <= 1
    [comparison] = answer["comparisons"]
    assert (comparison["setting"], comparison["against"]) == ("hybrid", "vector")
    assert [each["measure"] for each in comparison["measures"]] == [
        *("nDCG@2", "Recall@2", "MRR@2", "MAP@2")
    ]
    assert all(each["wins"] + each["losses"] + each["ties"] == 4 for each in comparison["measures"])


def test_modes_are_compared_in_words(run):
    ran = run("--against", "keyword", "-m", "vector")
    assert ran.exit_code == 0, ran.stderr
    # With four queries nothing is significant, however large the difference.
    assert "vector and keyword cannot be told apart: nDCG@10 differs by +0." in ran.stdout
    assert "(95 % interval " in ran.stdout
    assert "; better for " in ran.stdout


def test_two_collections_are_compared_mode_by_mode(run):
    ran = run("--against", "half", "--mode", "vector", "--mode", "keyword")
    assert ran.exit_code == 0, ran.stderr
    assert "\nvector of half " in ran.stdout
    assert "vector and vector of half cannot be told apart: nDCG@10 differs by +" in ran.stdout
    assert "keyword and keyword of half cannot be told apart" in ran.stdout
    assert "half does not hold 2 of the 4 relevant documents" in ran.stderr
    answer = json.loads(run("--against", "half", "-m", "vector", "--json").stdout)
    assert answer["against"]["missing"] == 2
    assert answer["comparisons"][0]["against"] == "vector of half"


def test_a_clear_difference_is_said_to_be_one(invoke, tmp_path):
    words = [f"word{number}" for number in range(40)]
    with nearfield.open(tmp_path / "db", "good", dimension=1) as good:
        good.upsert([Document(word, id=word, embedding=[1.0]) for word in words])
    with nearfield.open(tmp_path / "db", "bad", dimension=1) as bad:
        bad.upsert([Document("else", id=word, embedding=[1.0]) for word in words])
    queries = jsonl(tmp_path / "q.jsonl", [{"_id": word, "text": word} for word in words])
    qrels = tmp_path / "trec.qrels"
    qrels.write_text("".join(f"{word} 0 {word} 1\n" for word in words), encoding="utf-8")
    options = ("--queries", queries, "--qrels", qrels, "--db", tmp_path / "db", "-m", "keyword")
    ran = invoke("evaluate", "good", *options, "--against", "bad")
    assert ran.exit_code == 0, ran.stderr
    assert (
        "keyword is better than keyword of bad: nDCG@10 differs by +1.000 (95 % interval +1.000 "
        "to +1.000, p < 0.001); better for 40 queries, worse for 0, alike for 0"
    ) in ran.stdout
    backwards = invoke("evaluate", "bad", *options, "--against", "good").stdout
    assert "keyword is worse than keyword of good: nDCG@10 differs by -1.000" in backwards


def test_what_each_query_measured_goes_into_a_table(run, tmp_path):
    path = tmp_path / "queries.tsv"
    ran = run("--per-query", path, "--mode", "vector", "--against", "half")
    assert ran.exit_code == 0, ran.stderr
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [(row["query-id"], row["setting"]) for row in rows] == [
        (query, setting) for query in QUERIES for setting in ("vector", "vector of half")
    ]
    assert {row["query-id"]: row["text"] for row in rows} == QUERIES
    mean = sum(float(row["nDCG@10"]) for row in rows if row["setting"] == "vector") / 4
    assert f"{mean:.3f}" in ran.stdout


def test_an_ingested_corpus_is_found_by_its_records(invoke, files, tmp_path):
    database = tmp_path / "db"
    ran = invoke("ingest", files / "corpus.jsonl", "--db", database, "--no-cache")
    assert ran.exit_code == 0, ran.stderr
    judged = ("--queries", files / "queries.jsonl", "--qrels", files / "test.tsv")
    ran = invoke("evaluate", "--db", database, *judged)
    assert ran.exit_code == 2
    assert "--id-field record" in ran.stderr
    ran = invoke("evaluate", "--db", database, *judged, "--id-field", "record", "--json")
    assert ran.exit_code == 0, ran.stderr
    answer = json.loads(ran.stdout)
    assert answer["missing"] == 0
    by_meaning = answer["results"][0]
    assert by_meaning["mode"] == "vector"
    assert by_meaning["measures"]["Recall@10"]["mean"] == 1.0


def test_what_was_left_out_is_told(invoke, built, files, tmp_path):
    qrels = tmp_path / "test.tsv"
    text = (files / "test.tsv").read_text(encoding="utf-8")
    qrels.write_text(f"{text}\n1\tgone\t1\n5\tcat\t1\n2\tdog\t2\n6\tcat\t0\n", encoding="utf-8")
    judged = ("--queries", files / "queries.jsonl", "--qrels", qrels)
    ran = invoke("evaluate", "--db", built, *judged, "-m", "keyword")
    assert ran.exit_code == 0, ran.stderr
    assert ran.stderr.splitlines() == [
        "default does not hold 1 of the 5 relevant documents; they count as not found",
        "left out: 1 judged queries without a relevant document",
        "left out: 1 judged queries whose text was not given",
    ]


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["--queries", "nowhere.jsonl"], 2, "does not exist"),
        (["--against", "nowhere"], 1, "nowhere"),
        (["--mode", "psychic"], 2, "psychic"),
        (["-k", "0"], 2, "-k"),
        (["--id-field", "absent"], 2, "has the metadata field 'absent'"),
        (["--rerank", "unheard-of"], 2, "'cross-encoder:NAME'"),
        (["--candidates", "5"], 2, "candidates is for"),
        (["--mode", "vector", "--against", "vector"], 2, "name another one"),
        (["--against", "default"], 2, "name another one"),
        (["--per-query", "absent/measured.tsv"], 2, "there is no folder absent"),
        (["--where", "{year: 2020}"], 2, "is not JSON"),
    ],
)
def test_bad_input_is_refused_with_its_reason(run, arguments, status, told):
    ran = run(*arguments)
    assert ran.exit_code == status
    assert ran.stdout == ""
    assert told in ran.stderr
    assert ran.stderr.startswith("error: ")
    assert ran.stderr.count("\n") == 1


def test_a_table_is_never_written_over_the_judgements(run, files):
    ran = run("--per-query", files / "test.tsv")
    assert ran.exit_code == 2
    assert "would write over" in ran.stderr
    assert len(read_judgements(files / "test.tsv")) == 4


def test_a_file_of_another_layout_is_refused_with_its_line(invoke, built, files):
    queries, qrels = files / "queries.jsonl", files / "test.tsv"
    ran = invoke("evaluate", "--db", built, "--queries", qrels, "--qrels", qrels)
    assert ran.exit_code == 2
    assert "test.tsv, line 1 is not JSON" in ran.stderr
    ran = invoke("evaluate", "--db", built, "--queries", queries, "--qrels", queries)
    assert ran.exit_code == 2
    assert "queries.jsonl, line 1" in ran.stderr


# ── reranking ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory):
    """Plumbing alone: a model with random weights."""
    folder = tmp_path_factory.mktemp("cross-encoder") / "model"
    save_random_cross_encoder(folder, "cat dog rock rain wet air".split())
    return f"cross-encoder:{folder}?device=cpu"


def test_a_reranker_is_compared_with_the_search_alone(run, cross_encoder):
    ran = run("--rerank", cross_encoder, "--mode", "hybrid", "--candidates", 10)
    assert ran.exit_code == 0, ran.stderr
    rows = [line.split("  ")[0] for line in ran.stdout.splitlines()[3:5]]
    assert rows == ["hybrid reranked", "hybrid"]
    assert "hybrid reranked and hybrid cannot be told apart" in ran.stdout
    answer = json.loads(
        run("--rerank", cross_encoder, "--json", "--against", "vector", "-m", "hybrid").stdout
    )
    assert answer["reranker"].startswith("cross-encoder:")
    [comparison] = answer["comparisons"]
    assert comparison["setting"] == "hybrid reranked"
    assert comparison["against"] == "vector reranked"


def test_a_search_can_be_reranked(invoke, built, cross_encoder):
    ran = invoke("search", "wet air", "--db", built, "--rerank", cross_encoder, "--json")
    assert ran.exit_code == 0, ran.stderr
    answer = json.loads(ran.stdout)
    assert answer["rerank"] == cross_encoder
    scores = [hit["score"] for hit in answer["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert [hit["relevance"] for hit in answer["hits"]] == scores


def test_an_unknown_reranker_is_refused_by_a_search(invoke, built):
    ran = invoke("search", "wet air", "--db", built, "--rerank", "unheard-of")
    assert ran.exit_code == 2
    assert "'cross-encoder:NAME'" in ran.stderr
