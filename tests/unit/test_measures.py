"""The measures of a ranking are trec_eval's, and what could be chance is told as scipy tells it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearfield.errors import InvalidInputError
from nearfield.evaluation import measure
from nearfield.evaluation.measures import measure_names
from nearfield.evaluation.resampling import bootstrap_intervals, randomisation_p_value

# Names that sort in another order as text than as numbers.
IDENTIFIERS = [str(number) for number in range(25)]
TREC_NAMES = {"nDCG": "ndcg_cut", "Recall": "recall", "MRR": "recip_rank", "MAP": "map_cut"}


# ── definitions ──────────────────────────────────────────────────────────────────────────────────


def test_a_ranking_worked_out_by_hand():
    judged = {"a": 3, "b": 1, "c": 0, "d": 2}
    values = measure(["c", "a", "x", "b"], judged, ks=(2, 10))
    ideal = 3 + 2 / math.log2(3) + 1 / 2
    assert values["nDCG@2"] == pytest.approx(3 / math.log2(3) / (3 + 2 / math.log2(3)))
    assert values["nDCG@10"] == pytest.approx((3 / math.log2(3) + 1 / math.log2(5)) / ideal)
    assert values["Recall@2"] == pytest.approx(1 / 3)
    assert values["Recall@10"] == pytest.approx(2 / 3)
    assert values["MRR@2"] == values["MRR@10"] == 0.5
    assert values["MAP@2"] == pytest.approx(0.5 / 3)
    assert values["MAP@10"] == pytest.approx((1 / 2 + 2 / 4) / 3)


def test_the_best_order_measures_one_and_nothing_found_measures_zero():
    judged = {"a": 2, "b": 1, "c": -1}
    assert set(measure(["a", "b", "c"], judged).values()) == {1.0}
    assert set(measure(["c", "x"], judged).values()) == {0.0}
    assert set(measure([], judged).values()) == {0.0}


@pytest.mark.parametrize("judged", [{}, {"a": 0}, {"a": -1, "b": 0}])
def test_without_a_relevant_document_nothing_can_be_measured(judged):
    with pytest.raises(InvalidInputError, match="no document is relevant"):
        measure(["a"], judged)


# ── as trec_eval does ────────────────────────────────────────────────────────────────────────────

judgements = st.dictionaries(
    st.sampled_from(IDENTIFIERS), st.integers(-1, 4), min_size=1, max_size=len(IDENTIFIERS)
)
runs = st.dictionaries(
    st.sampled_from(IDENTIFIERS), st.integers(-3, 3).map(float), max_size=len(IDENTIFIERS)
)


@given(
    asked=st.lists(st.tuples(judgements, runs), min_size=1, max_size=4),
    ks=st.lists(st.integers(1, 30), min_size=1, max_size=3, unique=True),
)
def test_measures_are_those_of_trec_eval_with_graded_judgements_and_ties(asked, ks):
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="pytrec-eval-terrier is not installed")
    qrels = {str(query): judged for query, (judged, _) in enumerate(asked)}
    wanted = {f"{TREC_NAMES[name]}.{k}" for name in ("nDCG", "Recall", "MAP") for k in ks}
    for k in ks:
        evaluator = pytrec_eval.RelevanceEvaluator(qrels, wanted | {"recip_rank"})
        cut = {str(query): cut_run(run, k) for query, (_, run) in enumerate(asked)}
        expected = evaluator.evaluate(cut)
        for query, (judged, run) in enumerate(asked):
            if max(judged.values()) <= 0 or not run:
                continue  # left out of an evaluation; trec_eval leaves out what found nothing
            values = measure(trec_order(run), judged, ks)
            theirs = expected[str(query)]
            for name, trec_name in TREC_NAMES.items():
                key = trec_name if name == "MRR" else f"{trec_name}_{k}"
                assert values[f"{name}@{k}"] == pytest.approx(theirs[key], abs=1e-12), name


def trec_order(run):
    """Order by score, ties by id backwards, as trec_eval does."""
    return sorted(sorted(run, reverse=True), key=lambda identifier: -run[identifier])


def cut_run(run, k):
    return {identifier: run[identifier] for identifier in trec_order(run)[:k]}


def test_each_measure_is_named_by_its_depth():
    names = measure_names((10, 100))
    assert list(measure(["a"], {"a": 1}, (10, 100))) == list(names)
    assert names[0] == "nDCG@10"
    assert names[-1] == "MAP@100"


# ── chance ───────────────────────────────────────────────────────────────────────────────────────


def test_intervals_agree_with_those_of_scipy():
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    values = np.random.default_rng(1).beta(2, 3, (150, 2))
    low, high = bootstrap_intervals(values, seed=0)
    for column in range(2):
        interval = stats.bootstrap(
            (values[:, column],), np.mean, method="percentile", rng=np.random.default_rng(5)
        ).confidence_interval
        assert low[column] == pytest.approx(interval.low, abs=2e-3)
        assert high[column] == pytest.approx(interval.high, abs=2e-3)


def test_intervals_hold_the_true_mean_about_as_often_as_they_say():
    rng = np.random.default_rng(2)
    values = rng.random((60, 400))  # each column a sample of its own, of mean 0.5
    low, high = bootstrap_intervals(values, seed=0)
    covered = np.mean((low <= 0.5) & (high >= 0.5))
    assert 0.91 <= covered <= 0.98


def test_an_interval_follows_from_its_seed_and_bounded_memory_changes_nothing():
    values = np.random.default_rng(3).random((3000, 1))  # drawn in more than one slice
    first, again = bootstrap_intervals(values, seed=7), bootstrap_intervals(values, seed=7)
    np.testing.assert_array_equal(first, again)
    assert bootstrap_intervals(values, seed=8)[0][0] != first[0][0]
    assert first[0][0] < values.mean() < first[1][0]


def test_one_query_has_no_spread():
    low, high = bootstrap_intervals(np.array([[0.25]]), seed=0)
    assert low[0] == high[0] == 0.25


def test_p_values_agree_with_all_the_ways_that_signs_can_fall():
    differences = np.array([0.1, 0.3, -0.05, 0.2, 0.0, 0.25, -0.1, 0.15, 0.3, 0.05])
    ways = (np.arange(1 << 10)[:, np.newaxis] >> np.arange(10) & 1) * 2 - 1
    extreme = abs(ways @ differences) >= abs(differences.sum()) - 1e-12
    assert randomisation_p_value(differences, seed=0) == pytest.approx(extreme.mean(), abs=0.01)


def test_no_difference_is_sure_to_be_chance_and_a_constant_one_is_not():
    assert randomisation_p_value(np.zeros(50), seed=0) == 1.0
    assert randomisation_p_value(np.full(50, 0.1), seed=0) == pytest.approx(1 / 10_001)
