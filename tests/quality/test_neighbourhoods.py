"""Hubness, coherence, distances, outliers and duplicates of known spaces."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from tests.quality.spaces import gaussian, planted

from nearfield.errors import InvalidInputError
from nearfield.vectors import find_outliers
from nearfield.vectors.quality import (
    NotMeasurableError,
    Space,
    coherence,
    distance_statistics,
    duplicates,
    hubness,
    label_coherence,
    outliers,
)


def units(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def nearest_by_brute_force(rows, k):
    table = cdist(rows.astype(np.float64), rows.astype(np.float64))
    np.fill_diagonal(table, np.inf)
    order = np.argsort(table, axis=1)[:, :k]
    return order, np.take_along_axis(table, order, axis=1)


# ── neighbours ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_neighbours_are_those_of_brute_force(metric):
    vectors = gaussian(400, 24)
    space = Space(vectors, metric=metric)
    rows = units(vectors) if metric == "cosine" else vectors
    order, distances = nearest_by_brute_force(rows, 10)
    place = np.argsort(space.sample_rows)
    assert (space.sample_rows[space.neighbours.indices[place]] == order).mean() > 0.999
    np.testing.assert_allclose(space.neighbours.distances[place], distances, rtol=1e-4)


def test_neighbours_among_all_rows_are_those_of_brute_force():
    vectors = gaussian(3_000, 24)
    space = Space(vectors, sample=300)
    order, distances = nearest_by_brute_force(units(vectors), 10)
    probes = space.probes
    assert len(probes.rows) == 300
    assert (probes.indices == order[probes.rows]).mean() > 0.999
    np.testing.assert_allclose(probes.distances, distances[probes.rows], rtol=1e-4)


def test_a_common_shift_does_not_blur_small_distances():
    vectors = gaussian(300, 8)
    near = Space(vectors, metric="euclidean")
    far = Space(vectors.astype(np.float64) + 1_000, metric="euclidean")
    np.testing.assert_allclose(far.neighbours.distances, near.neighbours.distances, rtol=1e-3)


def test_the_last_digit_of_a_sample_is_decided_by_the_seed():
    vectors = gaussian(2_000, 8)
    one, same, other = (Space(vectors, sample=100, seed=seed) for seed in (1, 1, 2))
    assert (one.sample_rows == same.sample_rows).all()
    assert (one.sample_rows != other.sample_rows).any()
    assert len(np.unique(one.sample_rows)) == 100


# ── hubs ─────────────────────────────────────────────────────────────────────────────────────────


def test_many_dimensions_have_hubs_and_few_have_none():
    many = hubness(Space(gaussian(2_000, 300), metric="euclidean"))
    few = hubness(Space(gaussian(2_000, 3), metric="euclidean"))
    assert many.skewness > 3
    assert many.anti_hubs > 0.2
    assert abs(few.skewness) < 0.5
    assert few.anti_hubs < 0.01
    assert many.top_share > 3 * few.top_share


def test_a_planted_hub_is_named():
    vectors = units(gaussian(500, 200))
    vectors[123] = vectors.mean(axis=0)  # near everything
    found = hubness(Space(vectors, metric="euclidean"))
    assert found.hubs[0].row == 123
    assert found.hubs[0].occurrences > 400


def test_under_the_inner_product_long_rows_are_hubs():
    vectors = gaussian(500, 20)
    vectors[7] *= 20
    assert hubness(Space(vectors, metric="dot")).hubs[0].row == 7
    assert hubness(Space(vectors, metric="cosine")).hubs[0].row != 7


def test_each_row_gives_k_occurrences():
    found = hubness(Space(gaussian(300, 8), neighbours=7))
    assert found.k == 7
    assert found.rows == 300


# ── coherence ────────────────────────────────────────────────────────────────────────────────────


def test_neighbours_in_clusters_are_coherent_and_noise_is_not():
    clustered, _ = planted(8, 60)
    assert coherence(Space(clustered)).score > 0.8
    assert coherence(Space(gaussian(480, 300))).score < 0.25


def test_coherence_is_what_it_says():
    vectors = units(gaussian(300, 16))
    _order, distances = nearest_by_brute_force(vectors, 10)
    nearest = (1 - distances**2 / 2).mean()
    random = (vectors @ vectors.T)[np.triu_indices(300, 1)].mean()
    found = coherence(Space(vectors))
    assert found.nearest == pytest.approx(nearest, abs=1e-5)
    assert found.random == pytest.approx(random, abs=1e-5)
    assert found.score == pytest.approx((nearest - random) / (1 - random), abs=1e-5)


def test_labels_that_follow_the_vectors_agree():
    vectors, truth = planted(6, 80)
    found = label_coherence(Space(vectors), truth.tolist())
    assert found.agreement > 0.99
    assert found.adjusted > 0.99
    assert found.within < 0.5 * found.between
    assert found.labels == 6
    assert found.labelled == 1


def test_shuffled_labels_agree_as_chance_has_it():
    vectors, truth = planted(6, 80)
    shuffled = np.random.default_rng(1).permutation(truth).tolist()
    found = label_coherence(Space(vectors), shuffled)
    assert abs(found.adjusted) < 0.05
    assert abs(found.agreement - found.chance) < 4 * found.agreement_std + 0.02
    assert found.within == pytest.approx(found.between, rel=0.02)


def test_rows_without_a_label_do_not_count():
    vectors, truth = planted(6, 80)
    labels = [None if row % 3 == 0 else int(label) for row, label in enumerate(truth)]
    found = label_coherence(Space(vectors), labels)
    assert found.agreement > 0.99
    assert found.labelled == pytest.approx(2 / 3)


def test_the_label_that_is_spread_is_the_weakest():
    vectors, truth = planted(6, 80)
    labels = [f"topic {label}" for label in truth]
    for row in range(0, len(labels), 10):
        labels[row] = "anywhere"
    assert label_coherence(Space(vectors), labels).weakest[0].label == "anywhere"


def test_labels_that_cannot_be_judged_are_refused():
    space = Space(gaussian(50, 4))
    with pytest.raises(InvalidInputError, match="cannot be compared"):
        label_coherence(space, [[]] * 50)
    with pytest.raises(InvalidInputError, match="49 labels for 50 rows"):
        label_coherence(space, ["a"] * 49)
    with pytest.raises(NotMeasurableError, match="two different labels"):
        label_coherence(space, ["a"] * 50)
    with pytest.raises(NotMeasurableError, match="two different labels"):
        label_coherence(space, [None] * 50)


# ── distances ────────────────────────────────────────────────────────────────────────────────────


def test_the_distances_are_those_of_brute_force():
    vectors = units(gaussian(300, 16))
    _, distances = nearest_by_brute_force(vectors, 10)
    pairs = cdist(vectors, vectors)[np.triu_indices(300, 1)]
    found = distance_statistics(Space(vectors))
    assert found.pairs.p50 == pytest.approx(np.median(pairs), rel=1e-5)
    assert found.nearest.p5 == pytest.approx(np.quantile(distances[:, 0], 0.05), rel=1e-5)
    assert found.kth.p95 == pytest.approx(np.quantile(distances[:, -1], 0.95), rel=1e-5)
    assert found.relative_contrast == pytest.approx(pairs.mean() / distances[:, 0].mean(), rel=1e-5)


def test_contrast_vanishes_in_many_dimensions():
    few, many = (
        distance_statistics(Space(gaussian(1_000, d), metric="euclidean")) for d in (2, 500)
    )
    assert few.relative_contrast > 20
    assert many.relative_contrast < 1.2


def test_a_crowd_beside_a_void_shows_in_the_density():
    crowd = 0.01 * gaussian(400, 8)
    void = gaussian(400, 8, seed=1)
    even = distance_statistics(Space(void, metric="euclidean")).density_ratio
    uneven = distance_statistics(Space(np.vstack([crowd, void]), metric="euclidean")).density_ratio
    assert uneven > 20 * even


# ── outliers ─────────────────────────────────────────────────────────────────────────────────────


def test_planted_outliers_are_found_and_named():
    vectors, _ = planted(5, 200)
    places = [11, 222, 333]
    vectors[places] = 4 * gaussian(3, 32, seed=9)
    found = outliers(Space(vectors, metric="euclidean"))
    assert {one.row for one in found.listed[:3]} == set(places)
    assert found.count <= 5
    assert found.listed[0].score > found.threshold


def test_outliers_are_those_of_the_vector_operation():
    vectors = gaussian(400, 8)
    vectors[:20] *= np.linspace(1.5, 4, 20, dtype=np.float32)[:, np.newaxis]
    space = Space(vectors, metric="euclidean")
    expected = find_outliers(space.sample)
    found = outliers(space)
    assert [one.row for one in found.listed] == space.sample_rows[expected.rows[:20]].tolist()
    assert found.count == len(expected.rows) > 5
    np.testing.assert_allclose(space.isolation_scores, expected.scores, atol=1e-3)
    score = float(space.isolation_scores[expected.rows[3]])
    assert outliers(space, threshold=score).count == 3  # above it, not from it


@pytest.mark.parametrize("dimension", [8, 64, 300])
def test_evenly_spread_rows_have_hardly_any_outliers(dimension):
    assert outliers(Space(gaussian(2_000, dimension))).share <= 0.003


# ── duplicates ───────────────────────────────────────────────────────────────────────────────────


def test_exact_duplicates_are_all_found_beyond_the_sample():
    vectors = gaussian(5_000, 16)
    vectors[4_000:4_040] = vectors[:40]
    vectors[[100, 200, 300, 400]] = vectors[50]
    found = duplicates(Space(vectors, sample=200))
    assert found.exact == 44
    assert found.exact_share == 44 / 5_000
    assert found.exact_groups[0].rows == (50, 100, 200, 300, 400)
    assert found.exact_groups[0].size == 5
    assert {group.rows for group in found.exact_groups[1:]} <= {
        (row, row + 4_000) for row in range(40)
    }


def test_many_copies_of_one_row_are_one_group():
    vectors = np.repeat(gaussian(2, 8), [3_000, 1], axis=0)
    found = duplicates(Space(vectors, sample=50))
    assert found.exact == 2_999
    assert [(group.size, group.rows[:2]) for group in found.exact_groups] == [(3_000, (0, 1))]


def test_zero_and_minus_zero_are_equal():
    vectors = gaussian(30, 3)
    vectors[3, 1], vectors[9] = 0.0, vectors[3]
    vectors[9, 1] = -0.0
    assert duplicates(Space(vectors)).exact_groups[0].rows == (3, 9)


def test_near_duplicates_are_found_in_groups():
    vectors = units(gaussian(1_000, 64))
    for row in (10, 20, 30):
        vectors[row + 500] = vectors[row] + 0.01 * gaussian(1, 64, seed=row)[0]
        vectors[row + 600] = vectors[row] + 0.01 * gaussian(1, 64, seed=row + 1)[0]
    found = duplicates(Space(vectors))
    assert found.exact == 0
    assert found.near_share == 9 / 1_000
    assert found.near_low == found.near_high == found.near_share
    assert {group.rows for group in found.near_groups} == {
        (row, row + 500, row + 600) for row in (10, 20, 30)
    }
    assert all(0.98 <= group.similarity < 1 for group in found.near_groups)


def test_the_share_of_near_duplicates_in_a_sample_has_the_truth_in_its_interval():
    vectors = units(gaussian(4_000, 32))
    vectors[3_000:3_600] = vectors[:600] + 0.01 * gaussian(600, 32, seed=5)  # 30 %
    truth = 0.3
    found = [duplicates(Space(vectors, sample=400, seed=seed)) for seed in range(20)]
    assert all(0.05 < one.near_high - one.near_low < 0.12 for one in found)
    assert sum(one.near_low <= truth <= one.near_high for one in found) >= 15


def test_near_is_measured_against_the_spread_where_lengths_matter():
    vectors = 100 + gaussian(500, 16)
    vectors[7] = vectors[8] + 0.05
    assert duplicates(Space(vectors, metric="cosine")).near_share > 0.9  # one direction
    found = duplicates(Space(vectors, metric="euclidean"))
    assert found.near_share == 2 / 500
    assert found.near_groups[0].rows == (7, 8)


@pytest.mark.parametrize("near", [0, 1, -0.5, float("nan")])
def test_a_threshold_that_is_no_similarity_is_refused(near):
    with pytest.raises(InvalidInputError, match="near is"):
        duplicates(Space(gaussian(20, 4)), near=near)
