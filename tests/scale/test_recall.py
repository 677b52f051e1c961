"""What the approximate tier promises: recall at the target, under any filter, for every metric."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.segments import connect, every_index

import nearfield
from nearfield import Document, F
from nearfield.stores.local import ladder, plans, segments
from nearfield.stores.local.compaction import Policy
from nearfield.stores.local.plans import PlanKind

DIMENSION = 48
ROWS = 12_000
POLICY = Policy(index_rows=1_000, seal_rows=4_000, quiet_seal_rows=100, automatic=False)
METRICS = ["cosine", "dot", "euclidean"]


def scores(vectors, query, metric):
    x, y = vectors.astype(np.float64), query.astype(np.float64)
    if metric == "euclidean":
        return 1 / (1 + np.sqrt(((x - y) ** 2).sum(axis=1)))
    products = x @ y
    if metric == "dot":
        return products
    return products / np.linalg.norm(x, axis=1) / np.linalg.norm(y)


def clustered(rng, count):
    """Clusters of different sizes and lengths, so that the metrics disagree."""
    centres = np.random.default_rng(1).standard_normal((80, DIMENSION))
    weights = np.random.default_rng(2).pareto(1.0, 80) + 0.1
    chosen = rng.choice(80, count, p=weights / weights.sum())
    vectors = centres[chosen] + 0.6 * rng.standard_normal((count, DIMENSION))
    return (vectors * rng.uniform(0.7, 1.4, (count, 1))).astype(np.float32)


class Corpus:
    def __init__(self, folder, metric):
        rng = np.random.default_rng(3)
        self.metric = metric
        self.vectors = clustered(rng, ROWS)
        self.queries = clustered(rng, 60)
        along = self.vectors @ rng.standard_normal(DIMENSION).astype(np.float32)
        near = -np.linalg.norm(self.vectors - self.vectors[0], axis=1)
        self.fields = {
            "random": rng.permutation(ROWS) / ROWS,
            "side": np.argsort(np.argsort(-along)) / ROWS,
            "near": np.argsort(np.argsort(-near)) / ROWS,
        }
        self.collection = connect(folder, policy=POLICY).create(
            "c", dimension=DIMENSION, metric=metric
        )
        for start in range(0, ROWS, 2_000):
            rows = range(start, start + 2_000)
            self.collection.upsert(
                [
                    Document(
                        f"text {i}",
                        id=f"{i}",
                        metadata={name: float(v[i]) for name, v in self.fields.items()},
                    )
                    for i in rows
                ],
                vectors=self.vectors[start : start + 2_000],
            )
        self.collection.maintain()

    def truth(self, query, k, rows):
        found = scores(self.vectors[rows], query, self.metric)
        return {f"{i}" for i in np.asarray(rows)[np.argsort(-found, kind="stable")[:k]]}

    def recall(self, k, rows, **options):
        shares = []
        for query in self.queries:
            found = [hit.id for hit in self.collection.search(query, k=k, **options)]
            assert len(found) == len(set(found)) == min(k, len(rows))
            shares.append(len(self.truth(query, k, rows).intersection(found)) / len(found))
        return float(np.mean(shares))


@pytest.fixture(scope="module", params=METRICS)
def corpus(request, tmp_path_factory):
    made = Corpus(tmp_path_factory.mktemp(request.param), request.param)
    yield made
    made.collection.close()


def test_every_row_is_in_a_segment_that_is_not_searched_exactly(corpus):
    index = corpus.collection.stats()["index"]
    assert (index["rows"], index["pending_rows"]) == (ROWS, 0)
    explanation = corpus.collection.explain(corpus.queries[0])
    assert explanation.compared > 0
    assert all(step.reranked < step.rows for step in explanation.steps)


@pytest.mark.parametrize("k", [1, 10, 100])
def test_recall_is_at_the_target(corpus, k):
    assert corpus.recall(k, np.arange(ROWS)) >= 0.98


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("field", ["random", "side", "near"])
def test_a_filter_costs_no_results_and_no_recall(corpus, field, share):
    rows = np.flatnonzero(corpus.fields[field] < share)
    assert corpus.recall(10, rows, where=F[field] < share) >= 0.98


def test_scores_are_exact(corpus):
    for query in corpus.queries[:10]:
        hits = corpus.collection.search(query)
        rows = [int(hit.id) for hit in hits]
        exact = scores(corpus.vectors[rows], query, corpus.metric)
        assert [hit.score for hit in hits] == pytest.approx(exact.tolist(), rel=1e-6, abs=1e-6)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_many_queries_at_once_find_what_they_find_one_by_one(corpus):
    alone = [[hit.id for hit in corpus.collection.search(query)] for query in corpus.queries]
    together = [[hit.id for hit in hits] for hits in corpus.collection.search_many(corpus.queries)]
    same = [len(set(a) & set(b)) / 10 for a, b in zip(alone, together, strict=True)]
    assert np.mean(same) >= 0.99  # codes are compared in blocks, whose rounding may differ


def test_an_explanation_tells_the_plan_and_what_it_touched(corpus):
    explanation = corpus.collection.explain(corpus.queries[0], where=F["random"] < 0.5)
    assert explanation.documents == ROWS
    assert explanation.matching == ROWS // 2
    assert explanation.selectivity == 0.5
    assert explanation.hits == 10
    assert 0.98 <= explanation.predicted_recall <= 1.0
    few = corpus.collection.explain(corpus.queries[0], where=F["random"] < 0.001)
    assert few.predicted_recall == 1.0
    assert few.compared == few.matching == ROWS // 1000


def test_deletes_and_updates_cost_no_recall_before_or_after_maintenance(tmp_path):
    corpus = Corpus(tmp_path, "cosine")
    rng = np.random.default_rng(9)
    order = rng.permutation(ROWS)
    deleted, updated = order[: ROWS * 3 // 10], order[ROWS * 3 // 10 : ROWS * 6 // 10]
    assert corpus.collection.delete([f"{i}" for i in deleted]) == len(deleted)
    corpus.vectors[updated] = clustered(rng, len(updated))
    documents = [Document("new", id=f"{i}") for i in updated]
    corpus.collection.upsert(documents, vectors=corpus.vectors[updated])
    left = np.setdiff1d(np.arange(ROWS), deleted)
    assert corpus.recall(10, left) >= 0.98
    assert corpus.collection.maintain() >= 1
    assert corpus.collection.stats()["index"]["rows"] == len(left)
    assert corpus.recall(10, left) >= 0.98
    assert corpus.collection.check().ok


def test_tuning_holds_the_recall_that_was_named_and_remembers_it(tmp_path):
    corpus = Corpus(tmp_path, "cosine")
    costs = {}
    for target in (0.9, 0.99):
        report = corpus.collection.tune(target_recall=target)
        assert report.met, report.shortfalls
        assert report.target_recall == target
        assert report.recall.low <= report.recall.mean <= report.recall.high
        assert (
            sum(trade.chosen for trade in report.front)
            == corpus.collection.stats()["index"]["segments"]
        )
        assert corpus.recall(10, np.arange(ROWS)) >= target - 0.02
        costs[target] = corpus.collection.explain(corpus.queries[0]).steps[0].reranked
    assert costs[0.9] <= costs[0.99]
    corpus.collection.close()
    reopened = connect(tmp_path, policy=POLICY).open("c")
    assert reopened.stats()["index"]["target_recall"] == 0.99


def test_a_recall_of_one_compares_every_vector(tmp_path):
    corpus = Corpus(tmp_path, "euclidean")
    report = corpus.collection.tune(target_recall=1.0)
    assert report.recall.mean == 1.0
    assert corpus.recall(10, np.arange(ROWS)) == 1.0
    assert corpus.collection.explain(corpus.queries[0]).predicted_recall == 1.0


def test_what_cannot_be_met_is_said(tmp_path):
    corpus = Corpus(tmp_path, "cosine")
    report = corpus.collection.tune(target_recall=0.99, latency_ms=1e-6, memory_bytes=10)
    assert not report.met
    assert len(report.shortfalls) == 2
    assert corpus.recall(10, np.arange(ROWS)) >= 0.98  # recall is not what gives way


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("indexed")
    with every_index():
        made = Corpus(folder, "cosine")
        made.collection.tune(target_recall=0.9)
    made.collection.close()
    return folder, made


@pytest.mark.parametrize("kind", list(PlanKind))
@pytest.mark.parametrize("k", [1, 10, 20, 50, 200])
def test_a_plan_that_was_measured_for_ten_holds_its_recall_for_any_k(indexed, kind, k, monkeypatch):
    def of_one_kind(*arguments, **options):
        points = plans.cheapest_of_each_kind(*arguments, **options)
        # So few rows would rather be compared all, were it not for nothing.
        return [replace(point, cost_us=0.0) for point in points if point.kind is kind]

    monkeypatch.setattr(segments, "cheapest_of_each_kind", of_one_kind)
    folder, corpus = indexed
    with connect(folder, policy=POLICY).open("c") as corpus.collection:
        for_ten, step = (
            corpus.collection.explain(corpus.queries[0], k=each).steps[0] for each in (10, k)
        )
        assert kind in step.plan
        assert step.reranked >= for_ten.reranked * k / 10 or k < 10
        if kind is PlanKind.GRAPH:  # so few rows are found even by too short a walk
            assert step.compared >= for_ten.compared * k / 10 or k < 10
        assert corpus.recall(k, np.arange(ROWS)) >= 0.9


def test_memory_decides_which_indexes_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(ladder, "_PAYS", 1e9)  # so few rows would need no graph otherwise
    corpus = Corpus(tmp_path, "cosine")
    free = corpus.collection.tune(target_recall=0.9)
    bound = corpus.collection.tune(target_recall=0.9, memory_bytes=free.memory_bytes // 2)
    plans = corpus.collection.stats()["index"]["plans"]
    assert any("graph" in trade.plan for trade in free.front)
    assert not any("graph" in trade.plan for trade in bound.front)
    assert bound.memory_bytes < free.memory_bytes
    assert all("scan" in plan for plan in plans)
    assert corpus.recall(10, np.arange(ROWS)) >= 0.88


def test_given_queries_are_what_recall_is_measured_with(tmp_path):
    corpus = Corpus(tmp_path, "cosine")
    report = corpus.collection.tune(target_recall=0.95, queries=corpus.queries)
    assert report.recall.queries == len(corpus.queries)


def test_a_share_of_the_searches_is_repeated_exactly(tmp_path):
    corpus = Corpus(tmp_path, "cosine")
    corpus.collection.tune(recheck_share=1.0)
    for query in corpus.queries:
        corpus.collection.search(query)
    corpus.collection._store._monitor.close()  # waits for the one under way
    live = corpus.collection.stats()["index"]["live_recall"]
    assert live["queries"] >= 1
    assert live["mean"] >= 0.9


@pytest.mark.parametrize(
    "options",
    [
        {"target_recall": 1.5},
        {"target_recall": "high"},
        {"target_recall": float("nan")},
        {"latency_ms": 0},
        {"memory_bytes": -1},
        {"recheck_share": 2},
        {"queries": []},
        {"queries": [[1.0, 2.0]]},
    ],
)
def test_bad_targets_are_refused(tmp_path, options):
    collection = connect(tmp_path, policy=POLICY).create("c", dimension=DIMENSION)
    with pytest.raises(nearfield.errors.InvalidInputError):
        collection.tune(**options)


def test_what_is_deleted_leaves_the_disk_and_an_empty_collection_can_be_tuned(tmp_path):
    corpus = Corpus(tmp_path, "cosine")
    corpus.collection.delete([f"{i}" for i in range(ROWS)])
    report = corpus.collection.tune()  # maintains first
    assert (report.recall.mean, report.recall.queries) == (1.0, 0)
    index = corpus.collection.stats()["index"]
    assert (index["segments"], index["rows"], index["index_bytes"]) == (0, 0, 0)
    assert corpus.collection.search(corpus.queries[0]) == []
    assert corpus.collection.tune(queries=corpus.queries).recall.queries == 0
