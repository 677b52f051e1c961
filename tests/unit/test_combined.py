"""Several embedders as one: known answers, weights, what is refused and what is passed on."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.embedders import HashingEmbedder

from nearfield.documents import EmbeddingKind, Metric
from nearfield.embedders import CallableEmbedder, CombinedEmbedder, contract
from nearfield.errors import EmbeddingError, InvalidInputError

TEXTS = ["one", "two words", "and three words"]
RNG = np.random.default_rng(7)
FIRST = RNG.standard_normal((3, 5))
SECOND = 4 * RNG.standard_normal((3, 5))
THIRD = RNG.standard_normal((3, 2))


def giving(vectors, name="given", **options):
    """Embed TEXTS as given vectors."""
    vectors = np.asarray(vectors)
    rows = dict(zip(TEXTS, vectors, strict=True))
    return CallableEmbedder(
        lambda texts: [rows[text] for text in texts],
        name=name,
        dimension=vectors.shape[1],
        **options,
    )


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def embed(*parts, **options):
    embedder = CombinedEmbedder([giving(part) for part in parts], **options)
    vectors = contract.embed_documents(embedder, TEXTS)
    np.testing.assert_array_equal(contract.embed_queries(embedder, TEXTS), vectors)
    return vectors


# ── known answers ────────────────────────────────────────────────────────────────────────────────


def test_the_average_is_that_of_the_directions():
    expected = unit(unit(FIRST) + unit(SECOND))
    np.testing.assert_allclose(embed(FIRST, SECOND), expected, atol=1e-6)


def test_weights_say_how_much_each_direction_counts():
    expected = unit(0.25 * unit(FIRST) + 0.75 * unit(SECOND))
    np.testing.assert_allclose(embed(FIRST, SECOND, weights=[1, 3]), expected, atol=1e-6)


def test_without_normalising_the_vectors_themselves_are_averaged():
    expected = 0.25 * FIRST + 0.75 * SECOND
    vectors = embed(FIRST, SECOND, weights=[2, 6], normalize=False)
    np.testing.assert_allclose(vectors, expected, rtol=1e-6)


def test_the_cosine_of_concatenations_is_the_weighted_mean_of_the_cosines():
    vectors = embed(FIRST, THIRD, method="concatenate", weights=[3, 1])
    cosines = [unit(part) @ unit(part).T for part in (FIRST, THIRD)]
    assert vectors.shape == (3, 7)
    np.testing.assert_allclose(
        vectors @ vectors.T, 0.75 * cosines[0] + 0.25 * cosines[1], atol=1e-6
    )


def test_an_unweighted_concatenation_without_normalising_is_the_plain_one():
    vectors = embed(FIRST, THIRD, method="concatenate", normalize=False)
    np.testing.assert_allclose(vectors, np.hstack([FIRST, THIRD]), rtol=1e-6)


def test_max_takes_the_largest_of_each_component():
    expected = np.maximum(unit(FIRST), unit(SECOND))
    np.testing.assert_allclose(embed(FIRST, SECOND, method="max"), unit(expected), atol=1e-6)
    vectors = embed(FIRST, SECOND, method="max", normalize=False)
    np.testing.assert_allclose(vectors, np.maximum(FIRST, SECOND), rtol=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
def test_attention_by_norm_lets_longer_vectors_count_for_more(normalize):
    vectors = embed(FIRST, SECOND, method="norm_attention", normalize=normalize)
    for row in range(3):
        norms = np.array([np.linalg.norm(FIRST[row]), np.linalg.norm(SECOND[row])])
        attention = np.exp(norms / norms.mean())
        attention /= attention.sum()
        parts = [FIRST[row], SECOND[row]]
        if normalize:
            parts = [part / norm for part, norm in zip(parts, norms, strict=True)]
        expected = attention[0] * parts[0] + attention[1] * parts[1]
        if normalize:
            expected /= np.linalg.norm(expected)
        np.testing.assert_allclose(vectors[row], expected, atol=1e-5)


def test_attention_by_norm_over_normalised_embedders_is_the_average():
    parts = unit(FIRST), unit(SECOND)
    np.testing.assert_allclose(embed(*parts, method="norm_attention"), embed(*parts), atol=1e-6)


def test_a_weight_of_zero_leaves_a_part_out():
    np.testing.assert_allclose(embed(FIRST, SECOND, weights=[1, 0]), unit(FIRST), atol=1e-6)


@given(
    st.lists(st.floats(0.01, 100), min_size=2, max_size=4),
    st.floats(1e-3, 1e3),
    st.sampled_from(["average", "concatenate"]),
)
@settings(max_examples=50, deadline=None)
def test_only_the_ratio_of_weights_counts(weights, factor, method):
    parts = np.random.default_rng(0).standard_normal((len(weights), 3, 4))
    scaled = [weight * factor for weight in weights]
    first = embed(*parts, method=method, weights=weights)
    np.testing.assert_allclose(embed(*parts, method=method, weights=scaled), first, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-6)


# ── vectors without a direction ──────────────────────────────────────────────────────────────────


def test_a_part_without_a_direction_counts_for_nothing():
    silent = FIRST.copy()
    silent[1] = 0
    for method in ("average", "norm_attention"):
        vectors = embed(silent, SECOND, method=method)
        np.testing.assert_allclose(vectors[1], unit(SECOND)[1], atol=1e-6)
    np.testing.assert_allclose(
        embed(silent, SECOND, method="concatenate")[1], [0] * 5 + list(unit(SECOND)[1]), atol=1e-6
    )


@pytest.mark.parametrize("method", ["average", "concatenate", "max", "norm_attention"])
def test_where_all_parts_are_zero_the_text_is_named(method):
    silent = FIRST.copy()
    silent[2] = 0
    with pytest.raises(EmbeddingError, match="text 2 is zero"):
        embed(silent, silent, method=method)
    assert not embed(silent, silent, method=method, normalize=False)[2].any()


def test_where_parts_cancel_out_the_text_is_named():
    opposite = SECOND.copy()
    opposite[1] = -FIRST[1]
    with pytest.raises(EmbeddingError, match=r"text 1 is zero.*cancel out"):
        embed(FIRST, opposite)


# ── what is refused ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"weights": [1]}, "expected 2 finite"),
        ({"weights": [1, 2, 3]}, "expected 2 finite"),
        ({"weights": [1, -1]}, "at least 0"),
        ({"weights": [0, 0]}, "not all 0"),
        ({"weights": [1, float("nan")]}, "finite"),
        ({"weights": [1, float("inf")]}, "finite"),
        ({"weights": [1, "x"]}, "finite"),
        ({"weights": 1}, "weights"),
        ({"method": "max", "weights": [1, 1]}, "takes no weights"),
        ({"method": "norm_attention", "weights": [1, 1]}, "takes no weights"),
        ({"method": "sum"}, "method is 'sum', expected one of: average, concatenate, max"),
    ],
)
def test_a_method_or_weights_that_do_not_fit_are_refused_at_once(options, complaint):
    with pytest.raises(InvalidInputError, match=complaint):
        CombinedEmbedder([giving(FIRST), giving(SECOND)], **options)


def test_one_embedder_alone_is_refused():
    with pytest.raises(InvalidInputError, match="at least two"):
        CombinedEmbedder([giving(FIRST)])


@pytest.mark.parametrize("method", ["average", "max", "norm_attention"])
def test_different_dimensions_are_refused_by_name_where_they_have_to_be_equal(method):
    embedder = CombinedEmbedder([giving(FIRST, "five"), giving(THIRD, "two")], method)
    with pytest.raises(InvalidInputError, match=r"'callable:five' 5, 'callable:two' 2"):
        _ = embedder.info
    with pytest.raises(InvalidInputError, match="one dimension"):
        embedder.embed_documents(TEXTS)


# ── what it says of itself ───────────────────────────────────────────────────────────────────────


def test_the_info_speaks_for_all_parts():
    short = giving(FIRST, "a", max_tokens=100, metric="dot")
    long = giving(SECOND, "b", max_tokens=300, metric="dot")
    combined = CombinedEmbedder([short, long, giving(FIRST, "c", metric="dot")])
    info = combined.info
    assert info.model == "average(callable:a, callable:b, callable:c)"
    assert (info.dimension, info.max_tokens, info.normalized) == (5, 100, True)
    assert (info.metric, info.kind) == (Metric.COSINE, EmbeddingKind.TEXT)
    assert CombinedEmbedder([short, long], normalize=False).info.metric is Metric.DOT
    mixed = CombinedEmbedder([short, giving(FIRST)], normalize=False)
    assert mixed.info.metric is Metric.COSINE


def test_a_text_that_fits_by_the_count_is_read_whole_by_every_part():
    def counting(factor, limit):
        return giving(FIRST, max_tokens=limit, count_tokens=lambda text: factor * len(text.split()))

    combined = CombinedEmbedder([counting(1, 100), counting(5, 250)])
    for words in range(1, 120):
        fits = combined.count_tokens("x " * words) <= combined.info.max_tokens
        assert fits == (words <= 50)


def test_tokens_are_counted_where_a_part_counts_them_and_others_with_a_limit_by_bytes():
    counting = HashingEmbedder(5, max_tokens=9)
    unlimited, limited = giving(FIRST), giving(FIRST, max_tokens=18)
    assert CombinedEmbedder([counting, unlimited]).count_tokens("a b") == 2
    assert CombinedEmbedder([HashingEmbedder(5), unlimited]).count_tokens("a b c") == 3
    combined = CombinedEmbedder([counting, limited])
    assert combined.info.max_tokens == 9
    assert combined.count_tokens("a b") == 6  # (3 bytes + 8) of 18, in units of 9
    assert combined.count_tokens("é") == 5
    assert combined.count_tokens("x" * 11) == 10  # and is cut off
    assert not hasattr(CombinedEmbedder([unlimited, unlimited]), "count_tokens")
    assert not hasattr(CombinedEmbedder([limited, unlimited]), "count_tokens")


def test_a_slice_is_as_large_as_the_part_with_the_largest_takes():
    assert CombinedEmbedder([giving(FIRST, batch_size=9), HashingEmbedder(5)]).slice_size == 9
    assert not hasattr(CombinedEmbedder([HashingEmbedder(5)] * 2), "slice_size")


# ── at the same time ─────────────────────────────────────────────────────────────────────────────


def test_the_parts_work_at_the_same_time():
    meeting = threading.Barrier(2, timeout=30)

    def meet(texts):
        meeting.wait()
        return np.ones((len(texts), 2))

    parts = [CallableEmbedder(meet, name=name, dimension=2) for name in "ab"]
    assert CombinedEmbedder(parts).embed_documents(["x"]).shape == (1, 2)


async def test_awaited_parts_work_at_the_same_time_and_a_failure_cancels_the_others():
    arrived, cancelled = asyncio.Event(), []

    async def wait(texts):
        arrived.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def fail(_texts):
        await arrived.wait()
        raise ConnectionError("gone")

    parts = [
        CallableEmbedder(call, name=name, dimension=2)
        for name, call in {"a": wait, "b": fail}.items()
    ]
    with pytest.raises(EmbeddingError, match=r"'callable:b' failed on 1 texts.*gone"):
        await CombinedEmbedder(parts).aembed_documents(["x"])
    assert cancelled == [True]


def test_what_a_part_raises_names_the_part():
    def fail(_texts):
        raise OSError("no model")

    parts = [giving(FIRST), CallableEmbedder(fail, name="broken", dimension=5)]
    with pytest.raises(EmbeddingError, match=r"'callable:broken' failed.*no model"):
        CombinedEmbedder(parts).embed_documents(TEXTS)
