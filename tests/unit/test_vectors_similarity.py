"""Vectors compared, row by row and each with each, against float64 and scipy."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nearfield.errors import DimensionMismatchError, InvalidInputError, InvalidVectorError
from nearfield.vectors import (
    cosine,
    dot,
    euclidean,
    manhattan,
    pairwise_cosine,
    pairwise_dot,
    pairwise_euclidean,
    pairwise_manhattan,
)

PAIRWISE = [pairwise_cosine, pairwise_dot, pairwise_euclidean, pairwise_manhattan]
BY_ROW = [cosine, dot, euclidean, manhattan]
TWINS = list(zip(BY_ROW, PAIRWISE, strict=True))
SCIPY_NAMES = {
    pairwise_cosine: "cosine",
    pairwise_euclidean: "euclidean",
    pairwise_manhattan: "cityblock",
}
SMALLEST = float(np.finfo(np.float32).smallest_subnormal)


def name(function):
    return function.__name__


def exact(function, a, b):
    """Compute all pairs in float64, from differences, each pair on its own."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if function in (pairwise_dot, dot):
        return np.array([[sum(u * v) for v in y] for u in x])
    if function in (pairwise_cosine, cosine):
        peaks = [np.abs(rows).max(axis=1, keepdims=True) for rows in (x, y)]
        x, y = (rows / np.where(p == 0, 1, p) for rows, p in zip((x, y), peaks, strict=True))
        products = np.array([[sum(u * v) for v in y] for u in x])
        sizes = np.outer(np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1))
        return np.divide(products, sizes, out=np.zeros_like(products), where=sizes > 0)
    differences = np.abs(x[:, None] - y[None])
    if function in (pairwise_manhattan, manhattan):
        return differences.sum(axis=2)
    peaks = differences.max(axis=2, keepdims=True)
    scaled = differences / np.where(peaks == 0, 1, peaks)
    return peaks[:, :, 0] * np.sqrt((scaled**2).sum(axis=2))


def tolerance(function, a, b, expected, *, relative=1e-5, smallest=SMALLEST):
    """What a result may be off by: relative to itself for distances, to ‖x‖ ‖y‖ for dot."""
    if function in (pairwise_cosine, cosine):
        return np.full_like(expected, relative)
    if function in (pairwise_dot, dot):
        sizes = [np.linalg.norm(np.asarray(rows, np.float64), axis=1) for rows in (a, b)]
        return relative * np.outer(*sizes) + np.asarray(a).shape[1] * 2.0**-126
    return relative * expected + np.asarray(a).shape[1] * smallest


def sample(seed=0, rows=40, dimension=48):
    return np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)


def nearly_equal(count, seed):
    """Vectors that differ from their partner in the last bits."""
    base = sample(0) + 3
    rng = np.random.default_rng(seed)
    return (base * (1 + rng.integers(-3, 4, base.shape) * 2.0**-23)).astype(np.float32)[:count]


def clusters(seed):
    """Two tight clusters far apart: half of all pairs are near."""
    rng = np.random.default_rng(seed)
    centers = np.where(rng.integers(0, 2, 40) > 0, 50.0, -50.0)[:, None]
    return (centers + 0.01 * rng.standard_normal((40, 48))).astype(np.float32)


def mixed_magnitudes(seed):
    factors = 10.0 ** np.random.default_rng(seed).integers(-30, 15, 40)[:, None]
    return (sample(seed) * factors).astype(np.float32)


def with_zeros(seed):
    several = sample(seed)
    several[::3] = 0
    return several


PAIRS = {
    "ordinary": (sample(1), sample(2)),
    "one row each": (sample(1, rows=1), sample(2, rows=1)),
    "one row and many": (sample(1, rows=1), sample(2)),
    "one dimension": (sample(1, dimension=1), sample(2, dimension=1)),
    "4,096 dimensions": (sample(1, 5, 4096), sample(2, 7, 4096)),
    "far from zero": (sample(1) + 1e4, sample(2) + 1e4),
    "very far from zero": (sample(1) + 1e7, sample(2) + 1e7),
    "themselves": (sample(1), sample(1)),
    "nearly equal": (nearly_equal(40, 1), nearly_equal(39, 2)),
    "two clusters": (clusters(1), clusters(2)),
    "tiny": (sample(1) * np.float32(1e-30), sample(2) * np.float32(1e-30)),
    "tiny, with squares that lose bits": (
        sample(1) * np.float32(2e-22),
        sample(2) * np.float32(2e-22),
    ),
    "denormal": (sample(1) * np.float32(1e-41), sample(2) * np.float32(1e-41)),
    "large": (sample(1) * np.float32(1e17), sample(2) * np.float32(1e17)),
    "mixed magnitudes": (mixed_magnitudes(1), mixed_magnitudes(2)),
    "zeros": (with_zeros(1), with_zeros(2)),
    "nothing but zeros": (np.zeros((3, 5), np.float32), np.zeros((4, 5), np.float32)),
    "more than one tile": (sample(1, 1030, 3), sample(2, 2060, 3)),
}


@pytest.mark.parametrize("case", PAIRS)
@pytest.mark.parametrize("function", PAIRWISE, ids=name)
def test_all_pairs_agree_with_float64(function, case):
    a, b = PAIRS[case]
    if case == "more than one tile":  # the reference is slow: look at some
        rows, columns = np.r_[0:3, 1022:1030], np.r_[0:3, 2046:2060]
        got = function(a, b)[np.ix_(rows, columns)]
        a, b = a[rows], b[columns]
    else:
        got = function(a, b)
    expected = exact(function, a, b)
    assert got.dtype == np.float32
    assert got.shape == expected.shape
    assert (np.abs(got - expected) <= tolerance(function, a, b, expected)).all()


@pytest.mark.parametrize("case", PAIRS)
@pytest.mark.parametrize("function", BY_ROW, ids=name)
def test_row_by_row_agrees_with_float64(function, case):
    a, b = PAIRS[case]
    count = min(len(a), len(b))
    a, b = a[:count], b[:count]
    got = function(a, b)
    some = np.r_[0 : min(count, 40), max(0, count - 8) : count]
    expected = np.array([exact(function, a[i : i + 1], b[i : i + 1])[0, 0] for i in some])
    allowed = [
        tolerance(function, a[i : i + 1], b[i : i + 1], expected[n : n + 1, None])[0, 0]
        for n, i in enumerate(some)
    ]
    assert got.dtype == np.float32
    assert got.shape == (count,)
    assert (np.abs(got[some] - expected) <= allowed).all()


@pytest.mark.parametrize("case", PAIRS)
@pytest.mark.parametrize("by_row", [True, False])
@pytest.mark.parametrize("function", SCIPY_NAMES, ids=name)
def test_distances_agree_with_scipy(function, by_row, case):
    distance = pytest.importorskip(
        "scipy.spatial.distance", reason="pip install nearfield[quality]"
    )
    a, b = (np.asarray(rows, np.float64) for rows in PAIRS[case])
    if SCIPY_NAMES[function] == "cosine":
        a, b = (rows[np.linalg.norm(rows, axis=1) > 1e-150] for rows in (a, b))  # NaN in scipy
    expected = distance.cdist(a, b, SCIPY_NAMES[function])
    narrow = a.astype(np.float32), b.astype(np.float32)
    if by_row:
        count = min(len(a), len(b))
        got = dict(map(reversed, TWINS))[function](narrow[0][:count], narrow[1][:count])
        expected = np.diagonal(expected)
    else:
        got = function(*narrow)
    if SCIPY_NAMES[function] == "cosine":
        assert np.abs((1 - got) - expected).max(initial=0) <= 1e-5
    else:
        allowed = 1e-5 * expected + a.shape[1] * SMALLEST
        assert (np.abs(got - expected) <= allowed).all()


@pytest.mark.parametrize("scale", [1e-170, 1e-160, 1e-5, 1.0, 1e150, 1e170, 1e300])
@pytest.mark.parametrize("function", [*PAIRWISE, *BY_ROW], ids=name)
def test_float64_is_computed_in_float64(function, scale):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 9, 30)) * scale
    b[:3] = a[:3] * (1 + 1e-9)
    if "dot" in function.__name__:
        if scale > 1e160:
            with pytest.raises(InvalidVectorError, match="too large for float64"):
                function(a, b)
            return
        if scale < 1e-150:
            assert (np.abs(function(a, b)) < 1e-300).all()
            return
    expected = exact(function, a, b)
    got = function(a, b)
    allowed = tolerance(function, a, b, expected, relative=1e-9, smallest=0)
    if function in BY_ROW:
        expected, allowed = np.diagonal(expected), np.diagonal(allowed)
    assert got.dtype == np.float64
    assert (np.abs(got - expected) <= allowed).all()


@pytest.mark.parametrize("function", [*PAIRWISE, *BY_ROW], ids=name)
@pytest.mark.parametrize(
    ("dtype", "result"),
    [
        (np.float16, np.float32),
        (np.int8, np.float32),
        (np.uint16, np.float32),
        (np.int32, np.float64),
        (np.int64, np.float64),
        (np.float64, np.float64),
        (np.longdouble, np.float64),
        (">f4", np.float32),
        (list, np.float64),
    ],
)
def test_any_real_numbers_will_do(function, dtype, result):
    values = np.random.default_rng(0).integers(0, 50, (2, 6, 5))
    a, b = values.tolist() if dtype is list else values.astype(dtype)
    expected = exact(function, a, b)
    if function in BY_ROW:
        expected = np.diagonal(expected)
    got = function(a, b)
    assert got.dtype == result
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


def test_integers_beyond_float32_are_not_rounded():
    assert euclidean([2**24], [2**24 + 1]) == 1
    assert pairwise_manhattan([[2**40]], [[2**40 + 1]])[0, 0] == 1


@pytest.mark.parametrize("function", [*PAIRWISE, *BY_ROW], ids=name)
def test_memory_may_lie_any_way(function):
    a, b = sample(1), sample(2)
    expected = function(a, b)
    wide = np.zeros((80, 96), np.float32)
    wide[::2, 1::2] = a
    for x in (wide[::2, 1::2], np.asfortranarray(a), a[::-1][::-1], a[:, ::-1][:, ::-1]):
        got = function(x, b)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("function", [*PAIRWISE, *BY_ROW], ids=name)
@pytest.mark.parametrize("case", ["ordinary", "zeros", "two clusters", "tiny", "large"])
def test_what_is_compared_is_not_changed(function, case):
    a, b = (rows.copy() for rows in PAIRS[case])
    before = a.copy(), b.copy()
    a.setflags(write=False)
    function(a, b)
    assert (a == before[0]).all()
    assert (b == before[1]).all()


# ── zeros ────────────────────────────────────────────────────────────────────────────────────────


def test_a_zero_vector_has_cosine_zero_with_every_vector():
    some = [[0.0, 0.0], [3.0, 4.0], [-0.0, 0.0]]
    assert pairwise_cosine(some).tolist() == [[0, 0, 0], [0, pytest.approx(1), 0], [0, 0, 0]]
    assert cosine(some, [3.0, 4.0]).tolist() == [0, pytest.approx(1), 0]
    assert cosine([0, 0], some).tolist() == [0, 0, 0]


def test_the_distance_to_zero_is_the_length():
    assert euclidean([3, 4], [0, 0]) == 5
    assert manhattan([3, -4], [0, 0]) == 7
    assert dot([3, 4], [0, 0]) == 0


@pytest.mark.parametrize("case", PAIRS)
def test_cosines_stay_within_their_bounds(case):
    for cosines in (pairwise_cosine(*PAIRS[case]), pairwise_cosine(PAIRS[case][0])):
        assert (np.abs(cosines) <= 1).all()


# ── shapes ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("by_row", "pairwise"), TWINS, ids=[name(one) for one, _ in TWINS])
def test_row_by_row_is_the_diagonal_of_all_pairs(by_row, pairwise):
    a, b = sample(1), sample(2)
    expected = np.diagonal(pairwise(a, b))
    np.testing.assert_allclose(by_row(a, b), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [1, 7, 5000])
@pytest.mark.parametrize(("by_row", "pairwise"), TWINS, ids=[name(one) for one, _ in TWINS])
def test_one_vector_is_compared_with_each_of_many(by_row, pairwise, count):
    query, many = sample(1)[0], sample(2, rows=count)
    expected = pairwise(query, many)[0]
    for got in (by_row(query, many), by_row(many, query)):
        assert got.shape == (count,)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("function", BY_ROW, ids=name)
def test_two_single_vectors_give_a_number(function):
    result = function([1.0, 2.0], [3.0, 5.0])
    assert result.shape == ()
    assert float(result) == pytest.approx(
        {"cosine": 13 / 170**0.5, "dot": 13, "euclidean": 13**0.5, "manhattan": 5}[name(function)]
    )


@pytest.mark.parametrize("function", PAIRWISE, ids=name)
def test_without_a_second_set_the_first_is_compared_with_itself(function):
    a = sample(1)
    assert (function(a) == function(a, a)).all()


def test_equal_vectors_have_distance_zero():
    for a in (sample(1), sample(1) + 1e4, clusters(1), sample(1) * np.float32(1e-30)):
        assert (np.diagonal(pairwise_euclidean(a)) == 0).all()
        assert (np.diagonal(pairwise_manhattan(a)) == 0).all()
        assert (euclidean(a, a) == 0).all()


@pytest.mark.parametrize("empty", [[], np.empty((0, 48)), np.empty((0, 48), np.float32)])
def test_no_vectors_give_no_results(empty):
    for function in PAIRWISE:
        assert function(empty, sample(1)).shape == (0, 40)
        assert function(sample(1), empty).shape == (40, 0)
        assert function(empty, empty).shape == (0, 0)
    for function in BY_ROW:
        assert function(empty, empty).shape == (0,)
        assert function(sample(1)[0], empty).shape == (0,)


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("function", [*PAIRWISE, *BY_ROW], ids=name)
def test_what_is_not_finite_is_refused_and_named(function, dtype, bad):
    good = sample(1, rows=5000, dimension=3).astype(dtype)
    several = good.copy()
    several[4321, 2] = bad
    few = good if function in BY_ROW else good[:2]
    with pytest.raises(InvalidVectorError, match=r"^vector 4321 has -?(nan|inf) at component 2"):
        function(several, few)
    with pytest.raises(InvalidVectorError, match=r"^other vector 4321 has -?(nan|inf) at comp"):
        function(few, several)
    with pytest.raises(InvalidVectorError, match=r"^vector has -?(nan|inf) at component 2"):
        function(several[4321], good)
    if function in BY_ROW:
        with pytest.raises(InvalidVectorError, match=r"^other vector 4321 has"):
            function(good[0], several)


@pytest.mark.parametrize(
    "bad",
    [
        [[1.0, 2.0], [3.0]],
        [["a", "b"]],
        [[1 + 1j, 2]],
        [[True, False]],
        np.zeros((2, 2, 2)),
        np.zeros((2, 0)),
        3.0,
        None,
        [[None, 1.0]],
        [[10**400, 1]],
    ],
    ids=["ragged", "text", "complex", "bool", "3-D", "no components", "number", "None", "holes",
         "a huge int"],
)  # fmt: skip
@pytest.mark.parametrize("function", [*PAIRWISE, *BY_ROW], ids=name)
def test_what_is_not_a_matrix_of_real_numbers_is_refused(function, bad):
    with pytest.raises(InvalidVectorError):
        function(bad, [[1.0, 2.0]])
    if bad is not None or function in BY_ROW:
        with pytest.raises(InvalidVectorError):
            function([[1.0, 2.0]], bad)


@pytest.mark.parametrize("function", [*PAIRWISE, *BY_ROW], ids=name)
def test_another_dimension_is_refused(function):
    with pytest.raises(DimensionMismatchError, match="dimension 2, but the first have dimension 3"):
        function(np.ones((2, 3)), np.ones((2, 2)))


@pytest.mark.parametrize("function", BY_ROW, ids=name)
def test_another_number_of_rows_is_refused(function):
    for a, b in ((np.ones((2, 3)), np.ones((4, 3))), (np.ones((1, 3)), np.ones((4, 3)))):
        with pytest.raises(InvalidInputError, match="cannot be compared row by row with 4"):
            function(a, b)


@pytest.mark.parametrize("function", [f for f in [*PAIRWISE, *BY_ROW] if "cos" not in name(f)])
def test_a_result_beyond_the_dtype_is_refused_and_float64_holds_it(function):
    big = np.full((2, 4), 3e38, np.float32)
    with pytest.raises(InvalidVectorError, match="too large for float32; give float64"):
        function(big, -big)
    assert np.isfinite(function(big.astype(np.float64), -big)).all()


def test_an_overflow_on_the_way_does_not_show():
    big = np.full((1, 2), 3e30, np.float32)
    assert dot(big, big * [1, -1]) == 0
    assert pairwise_dot(big, (big * np.float32([1, -1])))[0, 0] == 0
    assert euclidean(big, -big)[0] == pytest.approx(6e30 * 2**0.5, rel=1e-6)
    assert pairwise_euclidean(big, -big)[0, 0] == pytest.approx(6e30 * 2**0.5, rel=1e-6)


# ── properties ───────────────────────────────────────────────────────────────────────────────────

numbers = st.floats(-1e3, 1e3, width=32).map(lambda value: value if abs(value) > 1e-3 else 0.0)
matrices = hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.just(4)), elements=numbers)


@given(matrices, matrices)
def test_measures_are_symmetric(a, b):
    for function in PAIRWISE:
        one, other = function(a, b), function(b, a).T
        scale = max(1.0, float(np.abs(one).max()))
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * scale)


@given(matrices)
def test_distances_obey_the_triangle_inequality(a):
    for function in (pairwise_euclidean, pairwise_manhattan):
        distances = function(a).astype(np.float64)
        detours = distances[:, :, None] + distances[None]
        assert (distances[:, None] <= detours.swapaxes(1, 2) * (1 + 1e-5)).all()


@given(matrices, matrices, st.integers(-10, 10))
def test_cosine_does_not_depend_on_the_length(a, b, exponent):
    expected = pairwise_cosine(a, b)
    np.testing.assert_allclose(
        pairwise_cosine(a * np.float32(10.0**exponent), b), expected, atol=1e-5
    )


@given(matrices, matrices)
def test_euclidean_distance_is_right_to_1e_5_of_itself(a, b):
    expected = exact(pairwise_euclidean, a, b)
    np.testing.assert_allclose(pairwise_euclidean(a, b), expected, rtol=1e-5, atol=0)


@given(st.lists(st.tuples(st.integers(-99, 99), st.integers(-99, 99)), min_size=1, max_size=8))
def test_dot_and_manhattan_agree_with_exact_fractions(components):
    x, y = ([Fraction(one) for one in several] for several in zip(*components, strict=True))
    a, b = ([float(one) for one in several] for several in (x, y))
    assert float(dot(a, b)) == float(sum(u * v for u, v in zip(x, y, strict=True)))
    assert float(manhattan(a, b)) == float(sum(abs(u - v) for u, v in zip(x, y, strict=True)))


# ── cost ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("function", PAIRWISE, ids=name)
def test_all_pairs_need_little_beside_their_result(function):
    function(sample(1), sample(2))  # imports are done
    a, b = sample(1, 100, 16), sample(2, 100_000, 16).astype(np.float16)
    tracemalloc.start()
    try:
        result = function(a, b)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak - result.nbytes < 6e6  # the second set is 6.4 MB as float32, a tile .8 MB


def test_importing_the_package_does_not_load_vector_operations_nor_these_heavy_libraries():
    code = (
        "import sys, nearfield; print('nearfield.vectors' in sys.modules)\n"
        "import nearfield.vectors\n"
        "print([m for m in ('faiss', 'scipy', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["False", "[]"]
