"""Fusion, diversity and relevance, against their formulas computed plainly."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearfield.documents import Metric, SearchMode
from nearfield.ranking import (
    RRF_K,
    fusion_depth,
    maximal_marginal_relevance,
    reciprocal_rank_fusion,
    relevance,
)

# ── reciprocal rank fusion ───────────────────────────────────────────────────────────────────────

rankings = st.lists(st.lists(st.integers(0, 30), unique=True, max_size=20), max_size=4)


def test_fused_scores_are_sums_of_reciprocal_ranks():
    fused = reciprocal_rank_fusion([["a", "b", "c"], ["c", "a"]])
    assert fused == pytest.approx(
        {"a": 1 / 61 + 1 / 62, "b": 1 / 62, "c": 1 / 63 + 1 / 61}, rel=1e-15
    )


@given(rankings)
def test_fusion_agrees_with_exact_fractions(lists):
    expected: dict[int, Fraction] = {}
    for ranking in lists:
        for place, key in enumerate(ranking):
            expected[key] = expected.get(key, Fraction(0)) + Fraction(1, RRF_K + place + 1)
    fused = reciprocal_rank_fusion(lists)
    assert fused.keys() == expected.keys()
    assert all(fused[key] == pytest.approx(float(value)) for key, value in expected.items())


@given(st.lists(st.integers(), unique=True, max_size=50))
def test_fusing_one_ranking_keeps_its_order(ranking):
    fused = reciprocal_rank_fusion([ranking])
    assert sorted(fused, key=fused.__getitem__, reverse=True) == ranking
    assert len(set(fused.values())) == len(ranking)


@given(
    st.lists(st.integers(0, 9), unique=True, max_size=10),
    st.lists(st.integers(0, 9), unique=True, max_size=10),
)
def test_the_order_of_two_rankings_does_not_matter(one, other):
    assert reciprocal_rank_fusion([one, other]) == reciprocal_rank_fusion([other, one])


def test_nothing_fuses_to_nothing():
    assert reciprocal_rank_fusion([]) == {}
    assert reciprocal_rank_fusion([], []) == {}
    assert reciprocal_rank_fusion([[], []]) == {}


def test_weighted_fusion_multiplies_each_list_and_leaves_out_those_of_no_weight():
    fused = reciprocal_rank_fusion([["a", "b"], ["b"], ["c"]], [2.0, 0.5, 0.0])
    assert fused == {
        "a": pytest.approx(2 / 61),
        "b": pytest.approx(2 / 62 + 0.5 / 61),
    }


@given(st.integers(1, 10_000))
def test_fusion_looks_deep_enough_for_every_hit(k):
    assert fusion_depth(k) >= 2 * k
    assert fusion_depth(k) >= 100
    assert fusion_depth(k + 1) >= fusion_depth(k)


# ── maximal marginal relevance ───────────────────────────────────────────────────────────────────


def plain_mmr(relevances, vectors, k, diversity):
    """Carbonell and Goldstein's formula, one comparison at a time."""

    def cosine(x, y):
        lengths = math.hypot(*x) * math.hypot(*y)
        return math.fsum(a * b for a, b in zip(x, y, strict=True)) / lengths if lengths else 0.0

    picked: list[int] = []
    left = list(range(len(relevances)))
    while left and len(picked) < k:
        if not picked:
            best = max(left, key=lambda i: (relevances[i], -i))
        else:
            value = {
                i: (1 - diversity) * relevances[i]
                - diversity * max(cosine(vectors[i], vectors[j]) for j in picked)
                for i in left
            }
            highest = max(value.values())
            best = next(i for i in left if value[i] >= highest - 1e-6)
        picked.append(best)
        left.remove(best)
    return picked


@given(st.integers(0, 2**32), st.integers(1, 12), st.floats(0, 1))
def test_picks_agree_with_the_formula(seed, k, diversity):
    numbers = np.random.default_rng(seed)
    vectors = numbers.standard_normal((10, 4)).astype(np.float32)
    relevances = np.sort(numbers.random(10))[::-1].tolist()
    picked = maximal_marginal_relevance(relevances, vectors, k, diversity)
    expected = plain_mmr(relevances, vectors.tolist(), k, diversity)
    assert picked == expected


@given(st.integers(0, 2**32), st.integers(1, 30), st.floats(0, 1))
def test_picks_are_distinct_and_as_many_as_there_can_be(seed, k, diversity):
    vectors = np.random.default_rng(seed).integers(-1, 2, (15, 2)).astype(np.float32)
    picked = maximal_marginal_relevance([1.0] * 15, vectors, k, diversity)
    assert len(picked) == len(set(picked)) == min(k, 15)
    assert set(picked) <= set(range(15))


@given(st.integers(0, 2**32), st.integers(1, 20))
def test_without_diversity_the_order_is_kept_even_where_relevances_tie(seed, k):
    numbers = np.random.default_rng(seed)
    relevances = np.sort(numbers.integers(0, 4, 20) / 3)[::-1].tolist()
    vectors = numbers.standard_normal((20, 3)).astype(np.float32)
    assert maximal_marginal_relevance(relevances, vectors, k, 0.0) == list(range(k))


def test_all_diversity_picks_the_most_relevant_and_then_the_farthest():
    vectors = np.array([[1, 0], [1, 0.1], [0, 1], [-1, 0]], np.float32)
    assert maximal_marginal_relevance([0.9, 0.8, 0.7, 0.1], vectors, 4, 1.0) == [0, 3, 2, 1]


def test_vectors_of_length_zero_can_be_picked():
    vectors = np.array([[0, 0], [1, 0], [0, 0]], np.float32)
    assert sorted(maximal_marginal_relevance([0.5, 0.4, 0.3], vectors, 3, 0.5)) == [0, 1, 2]


def test_there_is_nothing_to_pick_from_nothing():
    assert maximal_marginal_relevance([], np.empty((0, 3), np.float32), 5, 0.5) == []


# ── relevance ────────────────────────────────────────────────────────────────────────────────────

finite = st.floats(allow_nan=False, allow_infinity=False)
POSSIBLE = {
    (SearchMode.VECTOR, Metric.COSINE): st.floats(-1, 1),
    (SearchMode.VECTOR, Metric.EUCLIDEAN): st.floats(0, 1),
    (SearchMode.VECTOR, Metric.DOT): finite,
    (SearchMode.KEYWORD, Metric.COSINE): st.floats(0, 1e300),
    (SearchMode.HYBRID, Metric.DOT): st.floats(0, 2 / 61),
}


@pytest.mark.parametrize("space", POSSIBLE, ids=" ".join)
@given(data=st.data())
def test_relevance_is_from_0_to_1_and_never_decreases(space, data):
    low, high = sorted(data.draw(st.tuples(POSSIBLE[space], POSSIBLE[space])))
    assert 0.0 <= relevance(low, *space) <= relevance(high, *space) <= 1.0


def test_relevance_of_telling_scores():
    cases = [
        (1.0, SearchMode.VECTOR, Metric.COSINE, 1.0),
        (0.25, SearchMode.VECTOR, Metric.COSINE, 0.25),
        (-0.5, SearchMode.VECTOR, Metric.COSINE, 0.0),
        (0.5, SearchMode.VECTOR, Metric.EUCLIDEAN, 0.5),
        (0.0, SearchMode.VECTOR, Metric.DOT, 0.5),
        (math.log(3), SearchMode.VECTOR, Metric.DOT, 0.75),  # the logistic function
        (3.0, SearchMode.KEYWORD, Metric.DOT, 0.75),
        (2 / 61, SearchMode.HYBRID, Metric.COSINE, 1.0),
        (1 / 61, SearchMode.HYBRID, Metric.EUCLIDEAN, 0.5),
    ]
    for score, mode, metric, expected in cases:
        assert relevance(score, mode, metric) == pytest.approx(expected)
