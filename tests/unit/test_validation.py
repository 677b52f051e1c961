"""One vector is checked in another way than many, and by the same limits."""

from __future__ import annotations

import numpy as np
import pytest

from nearfield import Metric
from nearfield.errors import InvalidVectorError
from nearfield.validation import MAX_NORM, MIN_COSINE_NORM, check_vectors

DIMENSION = 384
LENGTHS = [
    limit * factor
    for limit in (MIN_COSINE_NORM, MAX_NORM)
    for factor in (1e-20, 0.25, 0.5, 0.99, 1.01, 2.0, 4.0, 1e15)
]


def is_accepted(vectors, metric):
    try:
        check_vectors(vectors, dimension=DIMENSION, metric=metric)
    except InvalidVectorError:
        return False
    return True


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("length", [0.0, 1.0, *LENGTHS])
def test_a_vector_passes_alone_if_and_only_if_it_passes_among_others(length, metric):
    direction = np.random.default_rng(7).standard_normal(DIMENSION)
    vector = (length / np.linalg.norm(direction) * direction).astype(np.float32)
    expected = length <= MAX_NORM and (length >= MIN_COSINE_NORM or metric is not Metric.COSINE)
    assert is_accepted(vector, metric) is expected
    assert is_accepted(np.stack([vector, np.ones(DIMENSION, np.float32)]), metric) is expected


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_refused_alone_as_among_others(value):
    vector = np.ones(DIMENSION, np.float32)
    vector[3] = value
    with pytest.raises(InvalidVectorError, match="component 3"):
        check_vectors(vector, dimension=DIMENSION, metric=Metric.DOT)
    with pytest.raises(InvalidVectorError, match=r"vector 1 .*component 3"):
        check_vectors(
            np.stack([np.ones(DIMENSION, np.float32), vector]),
            dimension=DIMENSION,
            metric=Metric.DOT,
        )
