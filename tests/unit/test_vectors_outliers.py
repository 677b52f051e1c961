"""Outliers: planted ones are found, by a score that is what its formula says."""

from __future__ import annotations

import numpy as np
import pytest

from nearfield.errors import InvalidInputError, InvalidVectorError
from nearfield.vectors import OutlierRule, find_outliers


def sample(seed=0, rows=600, dimension=16):
    return np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)


def robust(distances):
    deviations = distances - np.median(distances)
    return deviations / (np.median(np.abs(deviations)) / 0.6744897501960817)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("offset", [0, 100])
@pytest.mark.parametrize("rule", ["neighbours", "centroid"])
def test_planted_outliers_are_found_the_farthest_first(rule, offset, scale):
    some = sample()
    some[17] = 30
    some[400] = -60
    found = find_outliers((some + offset).astype(np.float32) * np.float32(scale), rule=rule)
    assert found.rows[:2].tolist() == [400, 17]
    assert len(found.rows) < 15
    assert found.rule is OutlierRule(rule)
    assert found.scores[400] > found.scores[17] > 20


def test_what_lies_between_clusters_is_found_by_neighbours_alone():
    some = sample(rows=500) * 0.1
    some[:250, 0] += 5
    some[250:, 0] -= 5
    some[-1] = 0
    assert find_outliers(some, rule="neighbours").rows[0] == 499
    assert 499 not in find_outliers(some, rule="centroid").rows


def test_scores_by_the_centroid_are_what_the_formula_says():
    some = sample()
    found = find_outliers(some, rule="centroid", threshold=2)
    distances = np.linalg.norm(
        some.astype(np.float64) - some.mean(axis=0, dtype=np.float64), axis=1
    )
    np.testing.assert_allclose(found.distances, distances, rtol=1e-5)
    np.testing.assert_allclose(found.scores, robust(distances), atol=1e-4)
    assert set(found.rows) == set(np.flatnonzero(robust(distances) > 2))
    assert (np.diff(found.scores[found.rows]) <= 0).all()
    assert found.threshold == 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("neighbours", [1, 5, 599, 5000])
def test_scores_by_neighbours_are_what_the_formula_says(neighbours, dtype):
    some = sample().astype(dtype) + dtype(100)
    found = find_outliers(some, neighbours=neighbours)
    wide = some.astype(np.float64)
    every = np.sort(np.linalg.norm(wide[:, None] - wide[None], axis=2), axis=1)
    distances = every[:, 1 : neighbours + 1].mean(axis=1)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-5)
    np.testing.assert_allclose(found.scores, robust(distances), atol=1e-3)


def test_far_from_zero_the_same_neighbours_are_found():
    some = np.round(sample() * 8) / 8  # as exact after the shift
    expected = find_outliers(some)
    found = find_outliers(some + np.float32(1e5))
    np.testing.assert_allclose(found.distances, expected.distances, rtol=1e-5)


def test_distances_to_neighbours_agree_with_scikit_learn():
    neighbors = pytest.importorskip("sklearn.neighbors", reason="pip install nearfield[quality]")
    some = sample(rows=5000, dimension=8)
    model = neighbors.NearestNeighbors(n_neighbors=10).fit(some.astype(np.float64))
    expected = model.kneighbors()[0].mean(axis=1)
    np.testing.assert_allclose(find_outliers(some).distances, expected, rtol=1e-5)


def test_the_robust_score_agrees_with_scipy():
    stats = pytest.importorskip("scipy.stats", reason="pip install nearfield[quality]")
    found = find_outliers(sample())
    spread = stats.median_abs_deviation(found.distances, scale="normal")
    expected = (found.distances - np.median(found.distances)) / spread
    np.testing.assert_allclose(found.scores, expected, rtol=1e-9)


def test_neighbours_among_a_sample_do_not_count_the_vector_itself():
    some = sample(rows=300)
    some[7] = 50
    found = find_outliers(some, sample=100, seed=3, neighbours=4)
    drawn = np.sort(np.random.default_rng(3).choice(300, 100, replace=False))
    wide = some.astype(np.float64)
    for row in (0, int(drawn[0]), int(drawn[-1]), 299, 7):
        others = drawn[drawn != row]
        distances = np.sort(np.linalg.norm(wide[others] - wide[row], axis=1))[:4]
        assert found.distances[row] == pytest.approx(distances.mean(), rel=1e-5)
    assert found.rows[0] == 7
    assert (find_outliers(some, sample=100, seed=3, neighbours=4).scores == found.scores).all()
    assert (find_outliers(some, sample=100, seed=4, neighbours=4).scores != found.scores).any()


def test_a_copy_of_a_vector_is_its_neighbour():
    some = sample(rows=60)
    some[1:30] = some[0]
    distances = find_outliers(some, neighbours=5).distances
    assert (distances[:30] == 0).all()
    assert (distances[30:] > 1).all()


def test_where_most_distances_are_equal_the_mean_deviation_is_the_scale():
    some = np.zeros((100, 3), np.float32)
    some[5], some[6] = 1, 3
    found = find_outliers(some, rule="neighbours", neighbours=1)
    assert found.rows.tolist() == [6, 5]
    scale = np.sqrt(np.pi / 2) * found.distances.mean()
    np.testing.assert_allclose(found.scores, found.distances / scale, rtol=1e-12)


@pytest.mark.parametrize("rule", list(OutlierRule))
def test_where_nothing_differs_nothing_is_an_outlier(rule):
    corners = np.vstack([np.eye(8), -np.eye(8)]).astype(np.float32)
    for some in (np.ones((50, 8)), np.zeros((50, 8), np.float32), corners + 1000, [[1.0, 2.0]]):
        found = find_outliers(some, rule=rule)
        assert (found.scores == 0).all()
        assert found.rows.tolist() == []


@pytest.mark.parametrize("rule", list(OutlierRule))
def test_no_vectors_have_no_outliers(rule):
    for empty in ([], np.empty((0, 4))):
        found = find_outliers(empty, rule=rule)
        assert (len(found.rows), len(found.scores), len(found.distances)) == (0, 0, 0)


@pytest.mark.parametrize("rule", list(OutlierRule))
def test_what_is_not_finite_is_not_an_outlier_but_an_error(rule):
    some = sample()
    some[500, 3] = np.nan
    with pytest.raises(InvalidVectorError, match=r"^vector 500 has nan at component 3"):
        find_outliers(some, rule=rule)


@pytest.mark.parametrize(
    "options",
    [
        {"rule": "nearest"},
        {"neighbours": 0},
        {"neighbours": 2.5},
        {"sample": 0},
        {"threshold": 0},
        {"threshold": float("nan")},
        {"threshold": float("inf")},
        {"threshold": "high"},
        {"threshold": True},
        {"seed": -1},
        {"seed": 1.5},
        {"seed": None},
    ],
    ids=str,
)
def test_options_that_cannot_be_used_are_refused(options):
    with pytest.raises(InvalidInputError, match=str(next(iter(options)))):
        find_outliers(sample(rows=5), **options)


@pytest.mark.parametrize("rule", list(OutlierRule))
def test_memory_may_lie_any_way(rule):
    some = sample()
    expected = find_outliers(some, rule=rule)
    for same in (np.asfortranarray(some), some[::-1][::-1], some.repeat(2, axis=1)[:, ::2]):
        found = find_outliers(same, rule=rule)
        np.testing.assert_allclose(found.distances, expected.distances, rtol=1e-6)


def test_what_is_looked_through_is_not_changed():
    some = sample()
    before = some.copy()
    some.setflags(write=False)
    for rule in OutlierRule:
        find_outliers(some, rule=rule)
    assert (some == before).all()
