"""Vectors normalised and averaged, against float64 and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nearfield.errors import InvalidInputError, InvalidVectorError
from nearfield.vectors import Norm, centroid, centroids, normalize

ORDERS = {"l1": 1, "l2": 2, "max": np.inf}


def sample(seed=0, rows=40, dimension=48):
    return np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)


# ── normalize ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("scale", [1e-44, 1e-40, 1e-20, 1.0, 1e20, 3e37])
@pytest.mark.parametrize("norm", ORDERS)
def test_normalised_vectors_have_length_one_at_any_magnitude(norm, scale):
    some = (sample() * scale).astype(np.float32)
    some[5] = 0
    wide = some.astype(np.float64)
    sizes = np.linalg.norm(wide / wide.max(), ORDERS[norm], axis=1, keepdims=True)
    sizes[sizes == 0] = 1
    got = normalize(some, norm=norm)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wide / wide.max() / sizes, rtol=1e-5, atol=1e-7)
    assert (got[5] == 0).all()


@pytest.mark.parametrize("scale", [1e-310, 1e-200, 1e200, 1e307])
@pytest.mark.parametrize("norm", ORDERS)
def test_float64_vectors_are_normalised_in_float64(norm, scale):
    some = np.random.default_rng(0).standard_normal((9, 20))
    sizes = np.linalg.norm(some, ORDERS[norm], axis=1, keepdims=True)
    got = normalize(some * scale, norm=norm)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, some / sizes, rtol=1e-12 if scale > 1e-300 else 1e-8)


@pytest.mark.parametrize("norm", ORDERS)
def test_normalising_agrees_with_scikit_learn(norm):
    preprocessing = pytest.importorskip(
        "sklearn.preprocessing", reason="pip install nearfield[quality]"
    )
    some = sample(rows=600)
    some[::7] = 0
    some[::5] *= 1e6
    expected = preprocessing.normalize(some.astype(np.float64), norm=norm)
    np.testing.assert_allclose(normalize(some, norm=norm), expected, atol=1e-6)


def test_shapes_are_kept():
    assert normalize([3, 4]).tolist() == [0.6, 0.8]
    assert normalize([[3.0, 4.0]], norm=Norm.MAX).tolist() == [[0.75, 1.0]]
    assert normalize([3, -1], norm="l1").tolist() == [0.75, -0.25]
    assert normalize([0, 0]).tolist() == [0, 0]
    assert normalize(np.empty((0, 5))).shape == (0, 5)
    assert normalize([]).shape == (0, 0)


def test_what_is_normalised_is_not_changed_nor_shared():
    some = sample()
    before = some.copy()
    got = normalize(some)
    assert not np.shares_memory(got, some)
    assert (some == before).all()


@pytest.mark.parametrize("norm", ORDERS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_cannot_be_normalised(norm, bad):
    some = sample(rows=2000, dimension=3)
    some[1999, 2] = bad
    with pytest.raises(InvalidVectorError, match=r"^vector 1999 has -?(nan|inf) at component 2"):
        normalize(some, norm=norm)


def test_an_unknown_norm_is_refused():
    with pytest.raises(InvalidInputError, match="norm is 'l3', expected one of: l1, l2, max"):
        normalize([1, 2], norm="l3")


finite = st.floats(-(2.0**100), 2.0**100, width=32)
matrices = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2), elements=finite)


@given(matrices, st.sampled_from(list(ORDERS)))
def test_normalising_again_changes_nothing(some, norm):
    once = normalize(some, norm=norm)
    np.testing.assert_allclose(normalize(once, norm=norm), once, rtol=1e-5, atol=1e-38)


@given(matrices, st.sampled_from(list(ORDERS)))
def test_normalising_keeps_signs_and_gives_norm_one_or_zero(some, norm):
    got = normalize(some, norm=norm).astype(np.float64)
    sizes = np.linalg.norm(got, ORDERS[norm], axis=1)
    np.testing.assert_allclose(sizes, some.any(axis=1).astype(float), rtol=1e-5)
    assert (got * np.sign(some) >= 0).all()


# ── centroids ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("offset", [0, 1e4, 1e7])
@pytest.mark.parametrize("rows", [1, 127, 128, 129, 50_000])
def test_a_centroid_is_the_mean(rows, offset):
    some = sample(rows=rows, dimension=6) + np.float32(offset)
    wide = some.astype(np.float64)
    scale = np.abs(wide).max()
    got = centroid(some)
    assert got.dtype == np.float32
    assert got.shape == (6,)
    np.testing.assert_allclose(got, wide.mean(axis=0), atol=1e-6 * scale, rtol=0)
    weights = np.random.default_rng(1).random(rows) + 0.01
    expected = np.average(wide, axis=0, weights=weights)
    np.testing.assert_allclose(centroid(some, weights=weights), expected, atol=1e-6 * scale, rtol=0)


def test_a_float32_sum_of_many_rows_would_not_do():
    some = np.full((300_000, 2), [1.1, 1e6 + 0.1], np.float32)
    np.testing.assert_allclose(centroid(some), some[0], rtol=1e-6)
    assert abs(some.sum(axis=0) / 300_000 - some[0]).max() > 1


def test_extreme_magnitudes_have_centroids():
    for value in (3e38, 1e-44):
        some = np.full((1000, 3), value, np.float32)
        assert (centroid(some) == some[0]).all()
        assert (centroids(some, np.zeros(1000)).vectors == some[0]).all()
        assert (centroid(some, weights=np.full(1000, 1e300)) == some[0]).all()


def test_weights_count_in_proportion():
    some = [[0.0, 0.0], [4.0, 8.0]]
    assert centroid(some, weights=[3, 1]).tolist() == [1, 2]
    assert centroid(some, weights=[0, 5]).tolist() == [4, 8]
    assert centroid(some, weights=np.array([1e-300, 1e-300])).tolist() == [2, 4]
    assert centroid([4.0, 8.0]).tolist() == [4, 8]


@pytest.mark.parametrize("offset", [0, 1e6])
@pytest.mark.parametrize("weighted", [False, True])
def test_centroids_by_label_are_those_of_each_label_alone(weighted, offset):
    rng = np.random.default_rng(0)
    some = sample(rows=5000, dimension=7) + np.float32(offset)
    labels = np.array(["pear", "apple", "fig", "plum"])[rng.integers(0, 4, 5000)]
    weights = rng.random(5000) if weighted else None
    found = centroids(some, labels, weights=weights)
    assert found.labels.tolist() == ["apple", "fig", "pear", "plum"]
    for label, vector, count in zip(found.labels, found.vectors, found.counts, strict=True):
        own = labels == label
        expected = np.average(
            some[own].astype(np.float64), axis=0, weights=None if weights is None else weights[own]
        )
        assert count == own.sum()
        np.testing.assert_allclose(vector, expected, rtol=2e-7, atol=1e-6)


def test_as_many_labels_as_vectors_give_the_vectors():
    some = sample(rows=3000, dimension=3)
    order = np.random.default_rng(0).permutation(3000)
    found = centroids(some, order)
    assert (found.vectors[order] == some).all()
    assert found.vectors.dtype == np.float32


@given(hnp.arrays(np.float32, (7, 3), elements=st.floats(-1e3, 1e3, width=32)), st.randoms())
def test_the_order_of_vectors_does_not_matter(some, random):
    order = list(range(7))
    random.shuffle(order)
    labels = np.array([0, 0, 1, 1, 1, 2, 2])
    scale = max(1.0, float(np.abs(some).max()))
    np.testing.assert_allclose(centroid(some), centroid(some[order]), atol=1e-6 * scale)
    one, other = centroids(some, labels), centroids(some[order], labels[order])
    np.testing.assert_allclose(one.vectors, other.vectors, atol=1e-6 * scale)
    assert (one.counts == other.counts).all()


def test_no_vectors_have_no_centroid():
    for empty in ([], np.empty((0, 4))):
        with pytest.raises(InvalidInputError, match="give at least one"):
            centroid(empty)
    found = centroids(np.empty((0, 4), np.float32), [])
    assert (found.labels.shape, found.vectors.shape, found.counts.shape) == ((0,), (0, 4), (0,))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_has_no_centroid(bad):
    some = sample(rows=300, dimension=3)
    some[299, 1] = bad
    for call in (
        lambda: centroid(some),
        lambda: centroid(some, weights=np.ones(300)),
        lambda: centroids(some, np.arange(300) % 3),
    ):
        with pytest.raises(InvalidVectorError, match=r"^vector 299 has -?(nan|inf) at component 1"):
            call()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], r"weights have shape \(2,\), expected \(3,\)"),
        ([1, -1, 1], "weight 1 is -1.0"),
        ([1, 1, np.nan], "weight 2 is nan"),
        ([0, 0, 0], "all weights are 0"),
        (["a", "b", "c"], "not real numbers"),
        ([[1], [1, 2], 3], "not real numbers"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(weights, message):
    with pytest.raises(InvalidInputError, match=message):
        centroid(np.ones((3, 2)), weights=weights)
    with pytest.raises(InvalidInputError, match=message):
        centroids(np.ones((3, 2)), [1, 1, 2], weights=weights)


def test_labels_that_cannot_be_used_are_refused():
    with pytest.raises(InvalidInputError, match=r"labels have shape \(2,\), expected \(3,\)"):
        centroids(np.ones((3, 2)), [1, 2])
    with pytest.raises(InvalidInputError, match="labels cannot be sorted"):
        centroids(np.ones((2, 2)), np.array([1, "a"], object))
    with pytest.raises(InvalidInputError, match="the weights of label 'b' are all 0"):
        centroids(np.ones((3, 2)), ["a", "b", "b"], weights=[1, 0, 0])
