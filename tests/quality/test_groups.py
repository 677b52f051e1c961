"""Clusters, and the drift between two sets."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import adjusted_rand_score, silhouette_score
from tests.quality.spaces import gaussian, planted

from nearfield.errors import DimensionMismatchError, InvalidInputError
from nearfield.vectors.quality import NotMeasurableError, Space, clusters, drift


@pytest.mark.parametrize("planted_clusters", [2, 5, 12])
def test_planted_clusters_are_found(planted_clusters):
    vectors, truth = planted(planted_clusters, 60)
    space = Space(vectors, metric="euclidean")
    found = clusters(space)
    assert found.k == planted_clusters
    assert found.silhouette > 0.5
    assert adjusted_rand_score(truth[space.sample_rows], found.assignments) > 0.99
    assert sum(cluster.share for cluster in found.clusters) == pytest.approx(1)
    centres = [truth[cluster.centre_row] for cluster in found.clusters]
    assert sorted(centres) == list(range(planted_clusters))


def test_the_silhouette_is_that_of_scikit_learn():
    vectors, _ = planted(4, 50, spread=0.9)
    space = Space(vectors, metric="euclidean")
    found = clusters(space, k=4)
    expected = silhouette_score(space.sample, found.assignments)
    assert found.silhouette == pytest.approx(expected, abs=1e-3)
    assert found.tried == ((4, found.silhouette),)


def test_rows_without_clusters_are_said_to_have_none():
    assert clusters(Space(gaussian(800, 32))).silhouette < 0.1


def test_outliers_do_not_become_clusters():
    vectors, _ = planted(3, 100)
    vectors[:2] = 40 * gaussian(2, 32, seed=3)
    assert clusters(Space(vectors, metric="euclidean")).k == 3


def test_clusters_are_found_in_a_sample_as_in_the_whole():
    vectors, _ = planted(5, 400)
    whole = clusters(Space(vectors))
    part = clusters(Space(vectors, sample=300))
    assert whole.k == part.k == 5
    assert abs(whole.silhouette - part.silhouette) < 4 * part.silhouette_std + 0.02


@pytest.mark.parametrize("k", [2, 11])
def test_more_clusters_than_rows_can_fill_are_refused(k):
    pair = np.repeat(gaussian(2, 8), 20, axis=0)
    with pytest.raises(NotMeasurableError, match="cannot be judged"):
        clusters(Space(pair if k == 2 else gaussian(30, 8)), k=k)


# ── drift ────────────────────────────────────────────────────────────────────────────────────────


def test_one_distribution_is_not_said_to_differ_more_often_than_agreed():
    alarms, aucs = 0, []
    for seed in range(20):
        both = gaussian(300, 16, seed=100 + seed)
        found = drift(Space(both[:150]), Space(both[150:]), alpha=0.05)
        alarms += found.differs
        assert abs(found.auc - 0.5) < 5 * found.auc_std
        assert found.energy < 0.02
        assert found.far_share < 0.08
        assert found.unrelated_share < 0.02
        aucs.append(found.auc)
    assert alarms <= 4  # 1 is expected; 5 or more have a probability of .003
    assert abs(np.mean(aucs) - 0.5) < 3 * np.std(aucs) / np.sqrt(20)


@pytest.mark.parametrize("seed", range(3))
def test_a_shift_is_found(seed):
    found = drift(Space(gaussian(400, 16, seed=seed)), Space(gaussian(400, 16, seed=50) + 0.3))
    assert found.differs
    assert found.p_value == 0.001
    assert found.auc > 0.75


def test_a_change_of_the_mean_direction_shows_in_the_centroids():
    one, other = gaussian(300, 16), gaussian(300, 16, seed=1)
    one[:, 0] += 3
    other[:, 1] += 3
    assert abs(drift(Space(one), Space(other)).centroid_cosine) < 0.15


def test_a_change_of_spread_alone_is_found():
    narrow = 0.5 * gaussian(400, 8, seed=4)
    found = drift(Space(gaussian(400, 8), metric="euclidean"), Space(narrow, metric="euclidean"))
    assert found.differs
    assert found.auc < 0.65  # no plane tells them apart: why the test is not the classifier's


def test_rows_that_nothing_here_is_near_to_are_named():
    vectors, _ = planted(4, 100)
    other, _ = planted(4, 30)  # the same clusters
    other[[5, 50]] = 3 * gaussian(2, 32, seed=8)
    found = drift(Space(vectors, metric="euclidean"), Space(other, metric="euclidean"))
    assert set(found.far_rows[:2]) == {5, 50}
    assert found.far_share < 0.1


def test_what_is_far_does_not_depend_on_copies():
    vectors = gaussian(600, 16)
    once = drift(Space(vectors[:400]), Space(vectors[400:]))
    copies = vectors[:400] + 1e-3 * gaussian(400, 16, seed=1)
    twice = drift(Space(np.vstack([vectors[:400], copies])), Space(vectors[400:]))
    assert once.far_share == pytest.approx(0.01, abs=0.03)
    assert twice.far_share == pytest.approx(once.far_share, abs=0.01)


def test_far_is_far_from_every_row_and_not_from_those_of_the_sample():
    vectors = gaussian(3_000, 32)
    found = drift(Space(vectors, sample=100), Space(vectors[-500:] + 1e-4))
    assert found.far_share == found.unrelated_share == 0
    assert found.looked_up == 500
    assert found.compared == (100, 500)


def test_a_new_topic_is_far_and_another_language_unrelated():
    centres = gaussian(41, 32, seed=2)
    noise = 0.4 * gaussian(440, 32)
    language = 5 * np.eye(32)[0]  # what all rows here share
    here = centres[np.arange(400) % 40] + noise[:400] + language
    topic = centres[40] + noise[400:] + language
    foreign = centres[40] + noise[400:] - language
    assert drift(Space(here), Space(topic)).far_share > 0.5
    assert drift(Space(here), Space(topic)).unrelated_share < 0.1
    assert drift(Space(here), Space(foreign)).unrelated_share == 1


def test_the_energy_is_what_it_says():
    one, other = gaussian(60, 4), gaussian(50, 4, seed=1) + 0.5
    found = drift(Space(one, metric="euclidean"), Space(other, metric="euclidean"))
    across, within, there = cdist(one, other), cdist(one, one), cdist(other, other)
    energy = 2 * across.mean() - within.mean() - there.mean()
    assert found.energy == pytest.approx(energy / (2 * across.mean()), rel=1e-4)


def test_sets_that_cannot_be_compared_are_refused():
    space = Space(gaussian(20, 4))
    with pytest.raises(DimensionMismatchError, match="the reference rows have dimension 4"):
        drift(space, Space(gaussian(20, 5)))
    with pytest.raises(InvalidInputError, match="metric"):
        drift(space, Space(gaussian(20, 4), metric="euclidean"))
    with pytest.raises(InvalidInputError, match="alpha"):
        drift(space, space, alpha=0)
    with pytest.raises(NotMeasurableError, match="at least 10 rows"):
        drift(space, Space(gaussian(9, 4)))
