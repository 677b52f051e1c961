"""Intrinsic dimension, dimension efficiency and isotropy of known spaces."""

from __future__ import annotations

import numpy as np
import pytest
from tests.quality.spaces import cube, embedded, gaussian, sphere, swiss_roll

from nearfield.vectors.quality import (
    NotMeasurableError,
    Space,
    dimension_efficiency,
    intrinsic_dimension,
    isotropy,
)

ROWS = 1_500


@pytest.mark.parametrize(
    ("vectors", "dimension", "tolerance"),
    [
        (cube(ROWS, 2), 2, 0.2),
        (cube(ROWS, 5), 5, 0.6),
        (cube(ROWS, 10), 10, 2.2),  # both are known to fall short here
        (sphere(ROWS, 5), 5, 0.5),
        (swiss_roll(ROWS), 2, 0.2),
    ],
    ids=["cube 2", "cube 5", "cube 10", "sphere 5", "swiss roll"],
)
def test_the_intrinsic_dimension_is_found(vectors, dimension, tolerance):
    found = intrinsic_dimension(Space(vectors, metric="euclidean"))
    assert found.two_nn == pytest.approx(dimension, abs=tolerance)
    assert found.correlation == pytest.approx(dimension, abs=tolerance)
    assert found.rows == ROWS


def test_the_intrinsic_dimension_does_not_depend_on_where_the_space_is():
    vectors = cube(1_000, 5)
    here = intrinsic_dimension(Space(vectors, metric="euclidean"))
    far = intrinsic_dimension(Space(vectors * 1e3 + 1e5, metric="euclidean"))
    assert far.two_nn == pytest.approx(here.two_nn, rel=0.05)
    assert far.correlation == pytest.approx(here.correlation, rel=0.05)


def test_copies_do_not_change_the_intrinsic_dimension():
    vectors = cube(1_000, 5)
    once = intrinsic_dimension(Space(vectors, metric="euclidean"))
    twice = intrinsic_dimension(Space(np.vstack([vectors, vectors]), metric="euclidean"))
    assert twice.two_nn == pytest.approx(once.two_nn, rel=1e-6)


def test_the_standard_errors_are_about_the_spread_over_samples():
    found = [
        intrinsic_dimension(Space(cube(600, 5, seed), metric="euclidean")) for seed in range(12)
    ]
    for estimates, errors in (
        ([one.two_nn for one in found], [one.two_nn_std for one in found]),
        ([one.correlation for one in found], [one.correlation_std for one in found]),
    ):
        assert 0.4 < np.std(estimates, ddof=1) / np.mean(errors) < 2.5


def test_a_sample_has_the_dimension_of_the_whole_within_its_error():
    vectors = swiss_roll(2_500)
    whole = intrinsic_dimension(Space(vectors, metric="euclidean"))
    part = intrinsic_dimension(Space(vectors, metric="euclidean", sample=1_000))
    assert abs(whole.two_nn - part.two_nn) < 4 * part.two_nn_std
    assert abs(whole.correlation - part.correlation) < 4 * part.correlation_std


def test_all_dimensions_are_used_by_isotropic_rows():
    space = Space(gaussian(5_000, 16))
    found = dimension_efficiency(space)
    assert found.efficiency > 0.99
    assert found.unused == 0
    assert isotropy(space).iso_score > 0.98
    assert abs(isotropy(space).mean_cosine) < 0.005


def test_few_directions_are_seen_as_few():
    found = dimension_efficiency(Space(embedded(gaussian(2_000, 8)), metric="euclidean"))
    assert found.effective_rank == pytest.approx(8, abs=0.1)
    assert found.participation_ratio == pytest.approx(8, abs=0.1)
    assert found.efficiency == pytest.approx(8 / 64, abs=0.01)
    assert found.components_99 == 8
    assert found.unused == 56


def test_the_effective_rank_is_that_of_the_formula():
    scales = np.array([3.0, 2.0, 1.0, 0.5])
    vectors = gaussian(20_000, 4) * scales
    shares = scales**2 / (scales**2).sum()
    found = dimension_efficiency(Space(vectors, metric="euclidean", sample=20_000))
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert abs(found.effective_rank - expected) < 4 * 4 * found.efficiency_std
    assert found.participation_ratio == pytest.approx(1 / (shares**2).sum(), rel=0.03)


def test_a_cone_is_not_isotropic():
    lean = gaussian(3_000, 64)
    lean[:, 0] += 20
    found = isotropy(Space(lean))
    assert found.mean_cosine > 0.8
    assert found.iso_score > 0.9  # it does not see the mean: what the other figure is for


def test_one_direction_has_no_isotropy():
    rows = gaussian(1_000, 1) * np.ones(32, dtype=np.float32)
    assert isotropy(Space(rows, metric="euclidean")).iso_score == pytest.approx(0, abs=1e-6)


def iso_score_by_its_definition(points):
    """Rudman et al. (2022), steps 1 to 6 with the covariance's eigenvalues."""
    dimension = points.shape[1]
    variances = np.linalg.eigvalsh(np.cov(points.T))
    normed = np.sqrt(dimension) * variances / np.linalg.norm(variances)
    defect = np.linalg.norm(normed - 1) / np.sqrt(2 * (dimension - np.sqrt(dimension)))
    used = (dimension - defect**2 * (dimension - np.sqrt(dimension))) ** 2 / dimension**2
    return (dimension * used - 1) / (dimension - 1)


def test_iso_score_is_what_its_six_steps_come_to():
    points = gaussian(500, 12) * np.linspace(0.2, 3, 12, dtype=np.float32)
    found = isotropy(Space(points, metric="euclidean"))
    assert found.iso_score == pytest.approx(iso_score_by_its_definition(points), rel=1e-5)


def test_the_mean_cosine_is_that_of_all_pairs():
    rows = gaussian(200, 8) + 0.5
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = (units @ units.T)[np.triu_indices(200, 1)]
    assert isotropy(Space(rows)).mean_cosine == pytest.approx(pairs.mean(), abs=1e-5)


def test_one_neighbour_is_too_few_for_the_ratio_of_two():
    with pytest.raises(NotMeasurableError, match="neighbours is 1; give at least 2"):
        intrinsic_dimension(Space(gaussian(100, 4), neighbours=1))


def test_a_lattice_has_no_dimension_by_two_neighbours():
    grid = np.stack(np.meshgrid(np.arange(40.0), np.arange(40.0)), axis=-1).reshape(-1, 2)
    with pytest.raises(NotMeasurableError, match="equally far"):
        intrinsic_dimension(Space(grid, metric="euclidean"))
