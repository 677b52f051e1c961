"""Fewer dimensions: principal components and random projections."""

from __future__ import annotations

import dataclasses
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearfield.errors import DimensionMismatchError, InvalidInputError, InvalidVectorError
from nearfield.vectors import PCA, RandomProjection, johnson_lindenstrauss_dimension


def spread(rows=3000, dimension=12, seed=0, offset=0.0, ratio=1e-2):
    """Vectors with well separated variances, the least ``ratio`` of the largest, and a mean."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((dimension, dimension)))[0]
    deviations = np.sqrt(np.geomspace(1, ratio, dimension))
    some = (rng.standard_normal((rows, dimension)) * deviations) @ turn + offset
    return some.astype(np.float32)


def decomposed(some):
    """Variances and components by singular values in float64."""
    wide = np.asarray(some, np.float64)
    _, singular, directions = np.linalg.svd(wide - wide.mean(axis=0), full_matrices=False)
    signs = np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)])
    return singular**2 / (len(wide) - 1), directions * signs[:, None]


# ── PCA ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e25])
@pytest.mark.parametrize("offset", [0, 100])
@pytest.mark.parametrize("ratio", [0.1, 1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("rows", [13, 3000])
def test_components_are_those_of_a_float64_decomposition(rows, ratio, offset, scale):
    some = spread(rows, offset=offset, ratio=ratio) * np.float32(scale)
    variances, directions = decomposed(some)
    pca = PCA.fit(some)
    np.testing.assert_allclose(pca.variances, variances, rtol=1e-5)
    np.testing.assert_allclose(pca.components, directions, atol=1e-4)
    np.testing.assert_allclose(pca.variance_ratios, variances / variances.sum(), rtol=1e-5)
    np.testing.assert_allclose(pca.mean, np.asarray(some, np.float64).mean(axis=0), rtol=1e-5,
                               atol=1e-6 * scale)  # fmt: skip


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize(("rows", "components"), [(3000, 5), (3000, None), (8, 4)])
def test_it_agrees_with_scikit_learn(rows, components, whiten):
    decomposition = pytest.importorskip(
        "sklearn.decomposition", reason="pip install nearfield[quality]"
    )
    some, others = spread(rows, offset=3), spread(50, seed=1, offset=3)
    theirs = decomposition.PCA(components, whiten=whiten, svd_solver="full")
    theirs.fit(some.astype(np.float64))
    ours = PCA.fit(some, components, whiten=whiten)
    kept = slice(0, 7) if rows == 8 else slice(None)  # of 8 vectors, 7 directions vary
    signs = np.sign((ours.components * theirs.components_).sum(axis=1))[kept]
    np.testing.assert_allclose(ours.variances, theirs.explained_variance_, rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(
        ours.variance_ratios, theirs.explained_variance_ratio_, rtol=1e-5, atol=1e-12
    )
    np.testing.assert_allclose(
        ours.transform(others)[:, kept] * signs,
        theirs.transform(others.astype(np.float64))[:, kept],
        atol=1e-5 * (10 if whiten else 1),
    )
    coordinates = ours.transform(others)
    np.testing.assert_allclose(
        ours.inverse(coordinates),
        theirs.inverse_transform(coordinates.astype(np.float64) * np.r_[signs, np.ones(
            coordinates.shape[1] - len(signs))]),
        atol=1e-4,
    )  # fmt: skip


def test_all_components_give_the_vectors_back():
    some = spread(offset=1000)
    for whiten in (False, True):
        pca = PCA.fit(some, whiten=whiten)
        np.testing.assert_allclose(pca.inverse(pca.transform(some)), some, rtol=1e-6)


def test_a_few_components_give_the_nearest_vectors_of_their_subspace():
    some = spread()
    pca = PCA.fit(some, 3)
    lost = some - pca.inverse(pca.transform(some))
    assert np.abs(lost @ pca.components.T).max() < 1e-5
    expected = pca.total_variance - pca.variances.sum()
    assert (lost.astype(np.float64) ** 2).sum() / (len(some) - 1) == pytest.approx(expected, 1e-4)


def test_whitened_coordinates_have_variance_one_and_do_not_correlate():
    some = spread(offset=5)
    coordinates = PCA.fit(some, 6, whiten=True).transform(some)
    np.testing.assert_allclose(np.cov(coordinates.T), np.eye(6), atol=1e-4)


def test_directions_that_do_not_vary_are_whitened_to_zero():
    flat = np.zeros((200, 4), np.float32)
    flat[:, :2] = spread(200, 2)
    for some in (flat, np.ones((9, 4)), flat[:3]):
        pca = PCA.fit(some, whiten=True)
        coordinates = pca.transform(some)
        assert np.isfinite(coordinates).all()
        assert (pca.transform(some + 1)[:, pca.variances < 1e-9] == 0).all()
        np.testing.assert_allclose(pca.inverse(coordinates), some, atol=1e-5)
    constant = PCA.fit(np.ones((9, 4)))
    assert constant.variance_ratios.tolist() == [0, 0, 0, 0]


def test_far_from_zero_little_is_lost():
    some = spread(offset=0) + np.float32(1e6)  # a float32 has steps of 1/16 there
    variances, directions = decomposed(some)
    pca = PCA.fit(some, 4)
    np.testing.assert_allclose(pca.variances, variances[:4], rtol=1e-5)
    wide = (some.astype(np.float64) - some.mean(axis=0, dtype=np.float64)) @ directions[:4].T
    np.testing.assert_allclose(pca.transform(some), wide, atol=1e-3)


def test_nothing_in_it_is_random_and_signs_are_fixed():
    some = spread()
    one, other = PCA.fit(some, 5), PCA.fit(some, 5)
    assert (one.components == other.components).all()
    largest = np.abs(one.components).argmax(axis=1)
    assert (one.components[np.arange(5), largest] > 0).all()
    np.testing.assert_allclose(PCA.fit(-some, 5).components, one.components, atol=1e-5)


@given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 1000))
def test_components_are_orthonormal_and_variances_fall(rows, dimension, seed):
    some = np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)
    pca = PCA.fit(some)
    count = min(rows, dimension)
    assert pca.components.shape == (count, dimension)
    np.testing.assert_allclose(pca.components @ pca.components.T, np.eye(count), atol=1e-9)
    assert (np.diff(pca.variances) <= 0).all()
    assert pca.variances.sum() == pytest.approx(pca.total_variance, rel=1e-6)
    assert (pca.variances >= 0).all()


@pytest.mark.parametrize("dtype", [np.float16, np.int16, np.float64])
def test_any_real_numbers_can_be_fitted_and_transformed(dtype):
    some = (spread() * 100).astype(dtype)
    pca = PCA.fit(np.asfortranarray(some)[:, ::-1], 3)
    expected = PCA.fit(some.astype(np.float64)[:, ::-1], 3)
    np.testing.assert_allclose(pca.variances, expected.variances, rtol=1e-5)
    got = pca.transform(some[:, ::-1])
    assert got.dtype == (np.float64 if dtype is np.float64 else np.float32)
    assert pca.transform(some[0]).shape == (3,)
    assert pca.inverse(got[0]).shape == (12,)
    assert pca.transform([]).shape == (0, 3)
    assert pca.inverse([]).shape == (0, 12)


def test_a_model_cannot_be_changed():
    pca = PCA.fit(spread(), 3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        pca.total_variance = 1.0
    for array in (pca.mean, pca.components, pca.variances):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    projection = RandomProjection.draw(4, 2, seed=0)
    with pytest.raises(ValueError, match="read-only"):
        projection.matrix[...] = 0


def test_fitting_needs_little_memory_however_many_vectors():
    some = np.random.default_rng(0).standard_normal((200_000, 16)).astype(np.float16)
    PCA.fit(some[:100])
    tracemalloc.start()
    try:
        PCA.fit(some, 3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2e6  # 12.8 MB as float32


def test_what_is_not_finite_cannot_be_fitted_nor_transformed():
    some = spread()
    pca = PCA.fit(some, 3)
    for rows in (3000, 9):
        bad = some[:rows].copy()
        bad[rows - 1, 4] = np.inf
        for call in (PCA.fit, pca.transform, RandomProjection.draw(12, 3, seed=0).transform):
            with pytest.raises(InvalidVectorError, match=f"^vector {rows - 1} has inf at comp"):
                call(bad)
    with pytest.raises(InvalidVectorError, match=r"^vector 0 has nan"):
        pca.inverse([[np.nan, 0, 0]])


def test_what_cannot_be_fitted_is_refused():
    for few in ([], [[1.0, 2.0]], [1.0, 2.0]):
        with pytest.raises(InvalidInputError, match="do not vary; give at least 2"):
            PCA.fit(few)
    for components in (0, -1, 13, 2.5, True):
        with pytest.raises(InvalidInputError, match="components"):
            PCA.fit(spread(), components)
    with pytest.raises(InvalidInputError, match="have at most 4"):
        PCA.fit(spread(4), 5)


def test_another_dimension_is_refused():
    pca, projection = PCA.fit(spread(), 3), RandomProjection.draw(12, 3, seed=0)
    for call in (pca.transform, pca.inverse, projection.transform):
        with pytest.raises(DimensionMismatchError, match="vector has dimension 5, but the vectors"):
            call(np.ones((2, 5)))


# ── random projection ────────────────────────────────────────────────────────────────────────────


def test_the_same_seed_draws_the_same_projection():
    one, other = (RandomProjection.draw(30, 5, seed=7) for _ in range(2))
    assert (one.matrix == other.matrix).all()
    assert (RandomProjection.draw(30, 5, seed=8).matrix != one.matrix).any()
    assert (one.dimension, one.components, one.seed) == (30, 5, 7)


def test_a_projection_is_a_matrix_product():
    some = spread(5000, offset=10)
    projection = RandomProjection.draw(12, 4, seed=0)
    expected = some.astype(np.float64) @ projection.matrix
    got = projection.transform(some)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(projection.transform(some[0]), expected[0], rtol=1e-4)
    assert projection.transform([]).shape == (0, 4)
    assert projection.transform(some.astype(np.float64)).dtype == np.float64


def test_the_numbers_drawn_are_normal_with_variance_one_over_the_components():
    matrix = RandomProjection.draw(2000, 50, seed=1).matrix * math.sqrt(50)
    assert abs(matrix.mean()) < 0.02
    assert abs(matrix.std() - 1) < 0.02
    assert abs((matrix**4).mean() - 3) < 0.1


def test_distances_are_nearly_kept_by_as_many_components_as_the_lemma_asks_for():
    epsilon, count = 0.4, 60
    components = johnson_lindenstrauss_dimension(count, epsilon=epsilon)
    some = np.random.default_rng(0).standard_normal((count, 2000))
    projected = RandomProjection.draw(2000, components, seed=0).transform(some)
    first, second = np.triu_indices(count, 1)
    before = ((some[first] - some[second]) ** 2).sum(axis=1)
    after = ((projected[first] - projected[second]) ** 2).sum(axis=1)
    assert (np.abs(after / before - 1) <= epsilon).all()
    assert np.mean(after / before) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("count", [2, 100, 10**6])
@pytest.mark.parametrize("epsilon", [0.05, 0.1, 0.5, 0.99])
def test_the_lemma_asks_for_as_many_components_as_scikit_learn_says(count, epsilon):
    projection = pytest.importorskip(
        "sklearn.random_projection", reason="pip install nearfield[quality]"
    )
    expected = projection.johnson_lindenstrauss_min_dim(count, eps=epsilon)  # it rounds down
    assert johnson_lindenstrauss_dimension(count, epsilon=epsilon) - expected in {0, 1}


def test_the_lemma_on_known_values():
    assert johnson_lindenstrauss_dimension(1, epsilon=0.5) == 1
    assert johnson_lindenstrauss_dimension(1000, epsilon=0.5) == math.ceil(
        4 * math.log(1000) / (0.125 - 0.125 / 3)
    )


def test_projections_that_cannot_be_drawn_are_refused():
    for bad in ({"dimension": 0}, {"components": 0}, {"seed": -1}, {"seed": 1.5}, {"seed": True}):
        with pytest.raises(InvalidInputError, match=next(iter(bad))):
            RandomProjection.draw(**{"dimension": 3, "components": 2, "seed": 0, **bad})
    for epsilon in (0, 1, -1, 2, math.nan):
        with pytest.raises(InvalidInputError, match="epsilon"):
            johnson_lindenstrauss_dimension(10, epsilon=epsilon)
    with pytest.raises(InvalidInputError, match="count"):
        johnson_lindenstrauss_dimension(0, epsilon=0.5)
