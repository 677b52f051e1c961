"""The exact search finds exactly the best, however unkind the numbers are to float32."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.oracle import exact_score

from nearfield.documents import Metric
from nearfield.stores.local.flat import exact_scores, top_k_many, top_k_one

METRICS = list(Metric)


def normal(numbers, n, d):
    return numbers.standard_normal((n, d))


def far_from_the_origin(numbers, n, d):
    return 1e4 + numbers.standard_normal((n, d)) * 1e-3


def very_far_from_the_origin(numbers, n, d):
    return 3e7 + numbers.integers(-4, 5, (n, d)) * 4.0


def huge(numbers, n, d):
    return numbers.standard_normal((n, d)) * 1e17 / np.sqrt(d)


def tiny(numbers, n, d):
    return numbers.standard_normal((n, d)) * 1e-11


def tinier(numbers, n, d):
    return numbers.standard_normal((n, d)) * 1e-23


def subnormal(numbers, n, d):
    return numbers.integers(-5, 6, (n, d)) * 1e-42


def of_all_lengths(numbers, n, d):
    return numbers.standard_normal((n, d)) * 10.0 ** numbers.integers(-11, 16, (n, 1))


def one_giant(numbers, n, d):
    rows = numbers.standard_normal((n, d))
    rows[n // 2] *= 1e16
    return rows


def nearly_parallel(numbers, n, d):
    return numbers.standard_normal(d) + numbers.standard_normal((n, d)) * 1e-6


def nearly_orthogonal(numbers, n, d):
    rows = numbers.standard_normal((n, d)) * 1e-6
    rows[:, 0] = 1.0
    return rows


def small_integers(numbers, n, d):
    return numbers.integers(-1, 2, (n, d))


def few_distinct(numbers, n, d):
    return numbers.standard_normal((5, d))[numbers.integers(0, 5, n)]


def scaled_copies(numbers, n, d):
    rows = numbers.integers(-3, 4, (1 + n // 3, d))
    return np.concatenate([rows, 3 * rows, 4096 * rows])[:n]


def cancelling(numbers, n, d):
    rows = np.tile([1e8, -1e8], (n, d // 2 + 1))[:, :d]
    return rows + numbers.integers(-2, 3, (n, d))


def mostly_zero(numbers, n, d):
    return numbers.standard_normal((n, d)) * (numbers.random((n, d)) < 1.5 / d)


KINDS = [
    normal,
    far_from_the_origin,
    very_far_from_the_origin,
    huge,
    tiny,
    tinier,
    subnormal,
    of_all_lengths,
    one_giant,
    nearly_parallel,
    nearly_orthogonal,
    small_integers,
    few_distinct,
    scaled_copies,
    cancelling,
    mostly_zero,
]


def lengths(vectors):
    return np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1)).astype(np.float32)


def usable(vectors, metric):
    """Turn to float32 the rows that a collection of this metric would take."""
    vectors = np.ascontiguousarray(vectors, np.float32)
    norms = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1))
    good = norms <= 1e18
    if metric is Metric.COSINE:
        good &= norms >= 1e-12
    return np.ascontiguousarray(vectors[good])


def by_scoring_all(vectors, query, k, metric, positions):
    """Score every row and sort: the k best, and all that tie with the last of them."""
    rows = np.arange(len(vectors)) if positions is None else positions
    scores = exact_scores(vectors[rows], query, metric)
    order = np.argsort(-scores, kind="stable")
    if len(order) > k:
        order = [i for i in order if scores[i] >= scores[order[k - 1]]]
    return rows[order].tolist(), scores[order].tolist()


def check_both(vectors, queries, k, metric, positions):
    norms = lengths(vectors)
    expected = [by_scoring_all(vectors, query, k, metric, positions) for query in queries]
    one = [
        top_k_one(vectors, norms, query[np.newaxis], k, metric=metric, positions=positions)[0]
        for query in queries
    ]
    many = top_k_many(vectors, norms, queries, k, metric=metric, positions=positions)
    assert [(rows.tolist(), scores.tolist()) for rows, scores in one] == expected
    assert [(rows.tolist(), scores.tolist()) for rows, scores in many] == expected


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_best_are_found_among_unkind_vectors(kind, metric, soak):
    numbers = np.random.default_rng([KINDS.index(kind), METRICS.index(metric)])
    for round_ in range(25 * soak):
        d = int(numbers.choice([1, 2, 3, 4, 8, 12, 17, 64, 100]))
        rows = usable(kind(numbers, 400, d), metric)
        if len(rows) < 3:
            continue
        vectors, queries = rows[:-2], rows[-2:]
        k = int(numbers.choice([1, 2, 10, 100, len(vectors), 10**9]))
        some = np.sort(numbers.choice(len(vectors), max(1, len(vectors) // 3), replace=False))
        positions = [None, some, some[:1], np.arange(len(vectors))][round_ % 4]
        check_both(vectors, np.ascontiguousarray(queries), k, metric, positions)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_strange_queries_find_the_best_too(kind, metric):
    numbers = np.random.default_rng(KINDS.index(kind))
    vectors = usable(normal(numbers, 300, 16), metric)
    queries = usable(kind(numbers, 6, 16), metric)
    if len(queries):
        check_both(vectors, queries, 10, metric, None)
        check_both(vectors, queries, 10, metric, np.arange(0, 300, 7))


components = st.one_of(
    st.integers(-3, 3).map(float),
    st.floats(-100, 100, width=32),
    st.floats(-(2.0**-100), 2.0**-100, width=32),
    st.floats(-(2.0**56), 2.0**56, width=32),
)


@given(
    st.data(),
    st.sampled_from(METRICS),
    st.integers(1, 5),
    st.integers(1, 25),
)
def test_any_vectors_at_all(data, metric, dimension, k):
    row = st.lists(components, min_size=dimension, max_size=dimension)
    drawn = np.array(data.draw(st.lists(row, min_size=2, max_size=20)), np.float32)
    rows = usable(drawn, metric)
    if len(rows) < 2:
        return
    vectors, queries = rows[:-1], np.ascontiguousarray(rows[-1:])
    chosen = data.draw(st.lists(st.integers(0, len(vectors) - 1), unique=True).map(sorted))
    check_both(vectors, queries, k, metric, None)
    if chosen:
        check_both(vectors, queries, k, metric, np.array(chosen, np.int64))


@pytest.mark.parametrize("metric", METRICS)
def test_all_that_tie_with_the_last_come_back(metric):
    vectors = np.tile(np.array([[1, 2, 2]], np.float32), (900, 1))
    vectors[[5, 700]] = [[2, 4, 4], [1, 2, 3]]
    vectors[[3, 300, 899]] = [0, 0, 1]
    query = np.array([[1, 2, 2]], np.float32)
    for search in (top_k_one, top_k_many):
        ((rows, scores),) = search(
            vectors, lengths(vectors), query, 10, metric=metric, positions=None
        )
        if metric is Metric.COSINE:  # [2, 4, 4] points the same way
            assert rows.tolist() == [i for i in range(900) if i not in {3, 300, 700, 899}]
            assert set(scores) == {1.0}
        elif metric is Metric.DOT:
            assert rows.tolist()[:2] == [5, 700]
            assert rows.tolist()[2:] == [i for i in range(900) if i not in {3, 5, 300, 700, 899}]
        else:
            assert rows.tolist() == [i for i in range(900) if i not in {3, 5, 300, 700, 899}]
            assert set(scores) == {1.0}


@pytest.mark.parametrize("metric", METRICS)
def test_a_batch_is_cut_into_blocks_without_a_seam(metric, monkeypatch):
    monkeypatch.setattr("nearfield.stores.local.flat._BATCH_SCORES", 700)
    numbers = np.random.default_rng(0)
    vectors = usable(normal(numbers, 300, 8), metric)
    check_both(vectors, usable(normal(numbers, 11, 8), metric), 5, metric, None)
    check_both(vectors, usable(normal(numbers, 11, 8), metric), 5, metric, np.arange(0, 300, 2))


@pytest.mark.parametrize("metric", METRICS)
def test_nothing_is_found_among_nothing(metric):
    query = np.ones((2, 3), np.float32)
    none, some = np.empty((0, 3), np.float32), np.ones((2, 3), np.float32)
    nowhere = np.empty(0, np.int64)
    for vectors, positions in ((none, None), (none, nowhere), (some, nowhere)):
        norms = lengths(vectors)
        for queries, search in ((query[:1], top_k_one), (query, top_k_many)):
            found = search(vectors, norms, queries, 3, metric=metric, positions=positions)
            assert [rows.tolist() for rows, _ in found] == [[]] * len(queries)


@pytest.mark.parametrize("metric", METRICS)
def test_positions_are_of_the_whole_and_not_of_the_subset(metric):
    vectors = np.array([[1, 0], [0, 1], [1, 1], [1, 0.5]], np.float32)
    query = np.array([[0, 1]], np.float32)
    for search in (top_k_one, top_k_many):
        ((rows, _),) = search(
            vectors, lengths(vectors), query, 2, metric=metric, positions=np.array([0, 2, 3])
        )
        assert rows.tolist() == [2, 3]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_exact_scores_agree_with_sums_that_are_rounded_once(kind, metric):
    numbers = np.random.default_rng(KINDS.index(kind))
    rows = usable(kind(numbers, 60, 33), metric)
    for row in rows[1:]:
        expected = exact_score(metric, row, rows[0])
        (score,) = exact_scores(row[np.newaxis], rows[0], metric)
        if metric is Metric.DOT:
            scale = float(np.abs(row.astype(np.float64) * rows[0]).sum())
            assert abs(score - expected) <= 1e-14 * scale
        else:
            tolerance = 1e-12 if metric is Metric.EUCLIDEAN else 1e-7
            assert score == pytest.approx(expected, rel=tolerance)
            assert (-1.0 if metric is Metric.COSINE else 0.0) <= score <= 1.0


@pytest.mark.parametrize("metric", METRICS)
def test_a_score_depends_on_the_two_vectors_alone(metric):
    numbers = np.random.default_rng(1)
    for d in (1, 3, 7, 8, 9, 127, 128, 129, 1000):
        rows = usable(normal(numbers, 50, d), metric)
        together = exact_scores(rows, rows[0], metric)
        alone = [exact_scores(rows[i : i + 1], rows[0], metric)[0] for i in range(50)]
        backwards = exact_scores(np.ascontiguousarray(rows[::-1]), rows[0], metric)[::-1]
        assert together.tolist() == alone == backwards.tolist()


def test_vectors_that_differ_only_in_length_tie_under_cosine():
    numbers = np.random.default_rng(2)
    rows = numbers.integers(-100, 101, (200, 16)).astype(np.float32)
    query = numbers.standard_normal(16).astype(np.float32)
    plain = exact_scores(rows, query, Metric.COSINE).tolist()
    for factor in (3, 7, 2.0**-20, 1e5):
        assert exact_scores(rows * np.float32(factor), query, Metric.COSINE).tolist() == plain
