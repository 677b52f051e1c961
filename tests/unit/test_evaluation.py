"""Retrieval quality of a collection: judged queries in, measures and comparisons out."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from tests.embedders import HashingEmbedder
from tests.rerankers import OverlapReranker

import nearfield
from nearfield import Document, SearchMode
from nearfield.errors import EmbedderRequiredError, InvalidInputError
from nearfield.evaluation import (
    ModeResult,
    aevaluate,
    compare,
    evaluate,
    measure,
    read_judgements,
    read_queries,
)

WORDS = "wing flow shock heat plate layer drag lift jet body nose cone".split()
DATA = Path(
    os.environ.get("NEARFIELD_BENCH_DATA") or Path(__file__).parents[3].joinpath("shared", "data")
)


def made_texts(count, seed, words):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, words)) for _ in range(count)]


QUERIES = {f"q{n}": text for n, text in enumerate(made_texts(70, 1, 3))}  # more than one batch
DOCUMENTS = [Document(text, id=f"d{n}") for n, text in enumerate(made_texts(200, 2, 6))]


def made_judgements(seed=3):
    """Judge documents by the words of the query that they have."""
    judged = {}
    for query, text in QUERIES.items():
        grades = {
            each.id: len(set(text.split()) & set(each.text.split())) - 1 for each in DOCUMENTS
        }
        judged[query] = {name: grade for name, grade in grades.items() if grade >= 0}
    return judged


JUDGEMENTS = made_judgements()


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    with nearfield.open(folder, "whole", embedder=HashingEmbedder(16)) as opened:
        opened.upsert(DOCUMENTS)
        yield opened


@pytest.fixture(scope="module")
def chunked(tmp_path_factory):
    """Each document as three chunks, with its id as metadata; one in ten as a number."""
    folder = tmp_path_factory.mktemp("chunks")
    with nearfield.open(folder, "chunks", embedder=HashingEmbedder(16)) as opened:
        opened.upsert(
            Document(
                " ".join(document.text.split()[2 * part : 2 * part + 2]),
                id=f"{document.id}#{part}",
                metadata={"record": document.id, "part": part},
            )
            for document in DOCUMENTS
            for part in range(3)
        )
        yield opened


# ── what is measured ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("k", [1, 10, (5, 20)])
def test_a_report_has_the_measures_of_what_searches_find(collection, k):
    ks = k if isinstance(k, tuple) else (k,)
    report = evaluate(collection, QUERIES, JUDGEMENTS, k=k)
    assert [result.mode for result in report.results] == list(SearchMode)
    for result in report.results:
        assert list(result.per_query) == list(QUERIES)
        for query, text in QUERIES.items():
            hits = collection.search(text, k=max(ks), mode=result.mode)
            expected = measure([hit.id for hit in hits], JUDGEMENTS[query], ks)
            assert result.per_query[query] == expected
        for name, estimate in result.measures.items():
            values = [values[name] for values in result.per_query.values()]
            assert estimate.mean == pytest.approx(np.mean(values))
            assert estimate.low <= estimate.mean <= estimate.high
            assert estimate.low < estimate.high or len(set(values)) == 1
        assert result.search_ms > 0
    assert (report.collection, report.model) == ("whole", "hashing-16")
    assert (report.queries, report.unanswerable, report.textless) == (70, 0, 0)
    assert report.missing == 0
    assert report.reranker is None


async def test_the_async_twin_measures_the_same_without_blocking_the_loop(collection):
    told = []
    options = {"modes": ["keyword", "vector"], "k": (5, 10)}
    report = await aevaluate(
        collection, QUERIES, JUDGEMENTS, on_progress=lambda *step: told.append(step), **options
    )
    expected = evaluate(collection, QUERIES, JUDGEMENTS, **options)
    assert [each.measures for each in report.results] == [
        each.measures for each in expected.results
    ]
    assert told[-1] == (140, 140)


async def test_a_cancelled_evaluation_has_ended_when_the_cancellation_arrives(collection):
    reached, release, steps = threading.Event(), threading.Event(), []

    def hold(done, total):
        steps.append(done)
        reached.set()
        release.wait(10)

    task = asyncio.create_task(aevaluate(collection, QUERIES, JUDGEMENTS, on_progress=hold))
    await asyncio.to_thread(reached.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps == [64]


def test_modes_are_measured_in_the_order_given_and_once(collection):
    report = evaluate(collection, QUERIES, JUDGEMENTS, modes=["keyword", "vector", "keyword"])
    assert [result.mode for result in report.results] == ["keyword", "vector"]
    only = evaluate(collection, QUERIES, JUDGEMENTS, modes="keyword")
    assert only.result("keyword").measures == report.result(SearchMode.KEYWORD).measures
    with pytest.raises(InvalidInputError, match="'hybrid' was not measured, only: keyword"):
        only.result("hybrid")


def test_filters_and_weights_are_those_of_a_search(collection):
    options = {"where": {"missing": 1}}
    report = evaluate(collection, QUERIES, JUDGEMENTS, modes="vector", **options)
    assert report.result("vector").measures["Recall@10"].mean == 0
    words_alone = evaluate(collection, QUERIES, JUDGEMENTS, modes="hybrid", alpha=0.0)
    keyword = evaluate(collection, QUERIES, JUDGEMENTS, modes="keyword")
    assert words_alone.result("hybrid").per_query == keyword.result("keyword").per_query


def test_a_reranker_puts_the_hits_in_order(collection):
    report = evaluate(
        collection, QUERIES, JUDGEMENTS, modes="vector", rerank=OverlapReranker(), candidates=30
    )
    assert report.reranker == "overlap"
    for query, text in QUERIES.items():
        hits = collection.search(text, rerank=OverlapReranker(), candidates=30)
        expected = measure([hit.id for hit in hits], JUDGEMENTS[query])
        assert report.result("vector").per_query[query] == expected
    plain = evaluate(collection, QUERIES, JUDGEMENTS, modes="vector")
    # The judgements are made from shared words, which is what the reranker goes by.
    comparison = compare(report.result("vector"), plain.result("vector"))
    assert comparison.is_significant
    assert comparison.difference.mean > 0


def test_queries_that_cannot_be_measured_are_left_out_and_counted(collection):
    judgements = {
        **JUDGEMENTS,
        "q0": {"d1": 0, "d2": -1},
        "q1": {},
        "without text": {"d1": 1},
    }
    queries = {**QUERIES, "not judged": "wing"}
    report = evaluate(collection, queries, judgements, modes="keyword")
    assert (report.queries, report.unanswerable, report.textless) == (68, 2, 1)
    assert {"q0", "q1", "not judged"}.isdisjoint(report.result("keyword").per_query)


def test_relevant_documents_that_are_not_there_count_as_not_found(collection):
    report = evaluate(collection, {"q": "wing"}, {"q": {"d1": 1, "gone": 1}}, k=200)
    assert (report.documents, report.missing) == (2, 1)
    assert report.result("vector").measures["Recall@200"].mean == 0.5


def test_progress_is_told_up_to_the_last_search(collection):
    told = []
    evaluate(
        *(collection, QUERIES, JUDGEMENTS),
        modes=["keyword", "vector"],
        on_progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(64, 140), (128, 140), (134, 140), (140, 140)]


def test_a_report_is_json_and_the_same_every_time(collection):
    report = evaluate(collection, QUERIES, JUDGEMENTS)
    again = evaluate(collection, QUERIES, JUDGEMENTS)
    for one, other in zip(report.results, again.results, strict=True):
        assert (one.measures, one.per_query) == (other.measures, other.per_query)
    content = json.loads(json.dumps(report.to_dict(per_query=True)))
    assert content["queries"] == 70
    assert content["results"][0]["mode"] == "vector"
    assert content["results"][0]["per_query"]["q5"] == report.results[0].per_query["q5"]
    assert "per_query" not in report.to_dict()["results"][0]


# ── documents in pieces ──────────────────────────────────────────────────────────────────────────


def merged(hits, k):
    return list(dict.fromkeys(hit.metadata["record"] for hit in hits))[:k]


@pytest.mark.parametrize("mode", ["vector", "keyword"])
def test_of_the_chunks_of_a_document_the_best_counts(chunked, mode):
    report = evaluate(chunked, QUERIES, JUDGEMENTS, modes=mode, id_field="record")
    for query, text in QUERIES.items():
        everything = chunked.search(text, k=600, mode=mode)
        expected = measure(merged(everything, 10), JUDGEMENTS[query])
        assert report.result(mode).per_query[query] == expected


def test_a_reranker_sees_its_candidates_and_no_more(chunked):
    reranker = OverlapReranker()
    report = evaluate(
        *(chunked, QUERIES, JUDGEMENTS), modes="vector", id_field="record", rerank=reranker
    )
    loading, *calls = reranker.calls
    assert loading[1] == 1
    assert [count for _, count in calls] == [50] * len(QUERIES)
    for query, text in QUERIES.items():
        hits = chunked.search(text, k=50, rerank=OverlapReranker(), candidates=50)
        expected = measure(merged(hits, 10), JUDGEMENTS[query])
        assert report.result("vector").per_query[query] == expected


def test_ids_in_metadata_may_be_numbers(tmp_path):
    with nearfield.open(tmp_path, embedder=HashingEmbedder(16)) as opened:
        opened.upsert([Document("wing", metadata={"number": 7}), Document("jet", id="8")])
        report = evaluate(
            *(opened, {"q": "wing", "r": "jet"}, {"q": {"7": 1}, "r": {"8": 1}}), id_field="number"
        )
        assert report.missing == 0  # one by its field; the other, without it, by its id
        assert report.result("keyword").measures["Recall@10"].mean == 1.0


def test_the_field_with_the_judged_ids_is_named_where_it_was_forgotten(chunked):
    with pytest.raises(InvalidInputError, match=r"holds none of.*'record'.*--id-field record"):
        evaluate(chunked, QUERIES, JUDGEMENTS)
    with pytest.raises(InvalidInputError, match=r"by its field 'part'.*'record'"):
        evaluate(chunked, QUERIES, JUDGEMENTS, id_field="part")
    with pytest.raises(InvalidInputError, match="pass the metadata field"):
        evaluate(chunked, {"q": "wing"}, {"q": {"elsewhere": 1}})


# ── what is refused ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"k": 0}, "k"),
        ({"k": ()}, "k is empty"),
        ({"k": (10, -1)}, "k"),
        ({"modes": ()}, "modes is empty"),
        ({"modes": "psychic"}, "mode is 'psychic'"),
        ({"alpha": 2}, "alpha"),
        ({"rerank": "cross-encoder:x"}, "load it once"),
        ({"candidates": 20}, "candidates is for"),
        ({"seed": -1}, "seed is -1"),
        ({"where": {"year": {"$near": 1}}}, "near"),
    ],
)
def test_bad_options_are_refused_before_a_search(collection, options, told):
    def fail(*_):
        raise AssertionError("something was searched")

    with pytest.raises(InvalidInputError, match=told):
        evaluate(collection, QUERIES, JUDGEMENTS, on_progress=fail, **options)


def test_queries_and_judgements_that_do_not_belong_together_are_refused(collection):
    with pytest.raises(InvalidInputError, match=r"such as 'x'.*'q0', 'q1', 'q2'"):
        evaluate(collection, QUERIES, {"x": {"d1": 1}})
    with pytest.raises(InvalidInputError, match="none of the 70 queries is judged"):
        evaluate(collection, QUERIES, {"q1": {"d1": 0}})


def test_a_collection_of_given_vectors_can_be_asked_by_words(tmp_path):
    with nearfield.open(tmp_path, dimension=2) as opened:
        opened.upsert([Document("wing", id="d1", embedding=np.ones(2, np.float32))])
        judged = {"q": {"d1": 1}}
        report = evaluate(opened, {"q": "wing"}, judged, modes="keyword")
        assert report.result("keyword").measures["MRR@10"].mean == 1
        with pytest.raises(EmbedderRequiredError):
            evaluate(opened, {"q": "wing"}, judged)


# ── comparisons ──────────────────────────────────────────────────────────────────────────────────


def result_of(values):
    per_query = {f"q{n}": {"nDCG@10": value} for n, value in enumerate(values)}
    return ModeResult.summed_up(SearchMode.VECTOR, per_query, search_ms=1.0, seed=0)


def test_a_comparison_is_query_by_query():
    rng = np.random.default_rng(4)
    hard = rng.random(100) * 0.8
    one, other = result_of(hard + 0.02 + 0.05 * rng.standard_normal(100)), result_of(hard)
    comparison = compare(one, other)
    assert comparison.is_significant
    assert comparison.p_value < 0.01
    assert 0 < comparison.difference.low < comparison.difference.mean < comparison.difference.high
    # Side by side the two look alike: it is the queries that differ.
    assert one.measures["nDCG@10"].low < other.measures["nDCG@10"].mean
    backwards = compare(other, one)
    assert backwards.difference.mean == pytest.approx(-comparison.difference.mean)
    assert (backwards.wins, backwards.losses) == (comparison.losses, comparison.wins)


def test_wins_losses_and_ties_are_counted():
    comparison = compare(result_of([0.5, 0.5, 0.2, 1.0]), result_of([0.5, 0.4, 0.3, 0.1]))
    assert (comparison.wins, comparison.losses, comparison.ties) == (2, 1, 1)
    assert not comparison.is_significant
    assert comparison.to_dict()["is_significant"] is False
    assert json.loads(json.dumps(comparison.to_dict()))["wins"] == 2


def test_chance_differences_are_significant_about_as_often_as_they_should_be():
    rng = np.random.default_rng(5)
    alike = [
        compare(result_of(rng.random(40)), result_of(rng.random(40))).is_significant
        for _ in range(60)
    ]
    assert sum(alike) <= 9  # 3 are expected; 10 or more come once in 1,000 times


def test_a_setting_compared_with_itself_is_a_tie():
    comparison = compare(result_of([0.1, 0.9]), result_of([0.1, 0.9]))
    assert (comparison.ties, comparison.p_value) == (2, 1.0)


def test_results_of_other_queries_or_measures_are_not_compared():
    with pytest.raises(InvalidInputError, match="different queries"):
        compare(result_of([0.5]), result_of([0.5, 0.5]))
    with pytest.raises(InvalidInputError, match="'nDCG@5' was not measured, only: nDCG@10"):
        compare(result_of([0.5]), result_of([0.5]), "nDCG@5")


# ── files ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def write(tmp_path):
    def write(content, name="file"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_queries_are_json_lines(write):
    path = write('\ufeff{"_id": "1", "text": "a \\u00e9"}\r\n\r\n{"_id": 2, "text": "", "x": []}\n')
    assert read_queries(path) == {"1": "a é", "2": ""}
    assert read_queries(str(path)) == read_queries(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "holds no query"),
        ('{"_id": "1", "text": "a"}\nnot JSON\n', "line 2 is not JSON"),
        ('{"_id": "1"}', 'line 1: expected an object with the strings "_id" and "text"'),
        ('{"_id": "", "text": "a"}', "line 1: expected"),
        ('{"_id": true, "text": "a"}', "line 1: expected"),
        ('["1", "a"]', "line 1: expected"),
        ('{"_id": "1", "text": "a"}\n{"_id": "1", "text": "b"}', "line 2: the query '1' has"),
        (b'{"_id": "1", "text": "\xff"}', "is not UTF-8"),
    ],
)
def test_queries_that_cannot_be_read_are_refused_with_their_line(write, content, told):
    path = write(content)
    with pytest.raises(InvalidInputError, match=told) as refusal:
        read_queries(path)
    assert str(path) in str(refusal.value)


BEIR = "query-id\tcorpus-id\tscore\n1\tdoc one\t2\n1\t7\t0\n\n2\t7\t-1\n"
TREC = "1 0 doc-one 2\n1  Q0  7\t0\n\n2 0 7 -1\n"


@pytest.mark.parametrize(
    ("content", "first"),
    [
        (BEIR, "doc one"),
        (BEIR.partition("\n")[2], "doc one"),
        (BEIR.replace("\n", "\r\n"), "doc one"),
        (BEIR + "1\t7\t0\n", "doc one"),
        (TREC, "doc-one"),
        (TREC.replace(" ", "\t").replace("\t\t", "\t"), "doc-one"),
    ],
)
def test_judgements_are_read_in_the_layouts_of_beir_and_trec(write, content, first):
    assert read_judgements(write(content)) == {"1": {first: 2, "7": 0}, "2": {"7": -1}}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "holds no judgement"),
        ("query-id\tcorpus-id\tscore\n", "holds no judgement"),
        (BEIR + "3\t7\n", "line 6: 2 columns, expected 3 columns separated by tabs"),
        (BEIR + "3\t\t1\n", "line 6"),
        (BEIR + "3\t7\tyes\n", "line 6: the relevance is 'yes', expected a whole number"),
        (BEIR + "3\t7\t0.5\n", "line 6: the relevance is '0.5'"),
        (BEIR + "1\t7\t3\n", "line 6: the document '7' was judged 0 .* here 3"),
        (TREC + "3 7 1\n", "line 5: 3 columns"),
        ("just words\n", "line 1: 2 columns.*or TREC's 4"),
        (b"1\t\xff\t1\n", "is not UTF-8"),
    ],
)
def test_judgements_that_cannot_be_read_are_refused_with_their_line(write, content, told):
    path = write(content)
    with pytest.raises(InvalidInputError, match=told) as refusal:
        read_judgements(path)
    assert str(path) in str(refusal.value)


# ── real collections ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["cranfield", "scifact"])
def test_a_real_collection_measures_what_trec_eval_measures(name, tmp_path):
    folder = DATA / name
    if not (folder / "corpus.jsonl").is_file():
        pytest.skip(f"there is no {folder / 'corpus.jsonl'}; set NEARFIELD_BENCH_DATA")
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="pytrec-eval-terrier is not installed")
    queries = read_queries(folder / "queries.jsonl")
    judgements = read_judgements(folder / "qrels" / "test.tsv")
    entries = map(json.loads, (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines())
    with nearfield.open(tmp_path, embedder=HashingEmbedder(64), durability="normal") as opened:
        opened.upsert(
            [Document(f"{each['title']} {each['text']}", id=each["_id"]) for each in entries]
        )
        report = evaluate(opened, queries, judgements, modes="keyword", k=(10, 100))
        run = {
            query: {
                hit.id: float(-hit.rank)  # as scores, ranks leave no ties
                for hit in opened.search(queries[query], k=100, mode="keyword")
            }
            for query in judgements
        }
    names = {"ndcg_cut": "nDCG", "recall": "Recall", "map_cut": "MAP"}
    wanted = {f"{measure}.10,100" for measure in names}
    expected = pytrec_eval.RelevanceEvaluator(judgements, wanted | {"recip_rank"}).evaluate(run)
    result = report.result("keyword")
    assert result.per_query.keys() == expected.keys() == judgements.keys()
    for query, values in result.per_query.items():
        assert values["MRR@100"] == pytest.approx(expected[query]["recip_rank"])
        for theirs, ours in names.items():
            for k in (10, 100):
                assert values[f"{ours}@{k}"] == pytest.approx(expected[query][f"{theirs}_{k}"])
