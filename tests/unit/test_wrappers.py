"""Truncation, quantisation, and what wrappers pass on."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.embedders import HashingEmbedder

import nearfield
from nearfield.documents import EmbeddingInfo, EmbeddingKind, Metric
from nearfield.embedders import (
    AsyncEmbedder,
    CachedEmbedder,
    CallableEmbedder,
    CombinedEmbedder,
    ImageEmbedder,
    QuantizedEmbedder,
    RateLimitedEmbedder,
    RetryingEmbedder,
    Sliced,
    TruncatedEmbedder,
    contract,
)
from nearfield.embedders.base import TokenCounter
from nearfield.errors import (
    EmbedderMismatchError,
    EmbedderRequiredError,
    EmbeddingError,
    InvalidInputError,
    UnsupportedOperationError,
)

DIMENSION = 6
RANGES = [[-1.0] * DIMENSION, [1.0] * DIMENSION]
WRAPPERS = {
    "cached": lambda inner, folder: CachedEmbedder(inner, folder / "embeddings.sqlite3"),
    "truncated": lambda inner, _folder: TruncatedEmbedder(inner, 4),
    "int8": lambda inner, _folder: QuantizedEmbedder(inner, ranges=RANGES),
    "binary": lambda inner, _folder: QuantizedEmbedder(inner, "binary"),
    "rate-limited": lambda inner, _folder: RateLimitedEmbedder(inner, texts_per_minute=10_000),
    "retrying": lambda inner, _folder: RetryingEmbedder(inner),
    "combined": lambda inner, _folder: CombinedEmbedder([inner, inner], "concatenate"),
}


class PlainEmbedder:
    """Has nothing beyond what an embedder must have."""

    info = EmbeddingInfo(
        "plain", DIMENSION, max_tokens=12, metric=Metric.DOT, fingerprint="plain/1"
    )

    def embed_documents(self, texts):
        return 0.1 + HashingEmbedder(DIMENSION).embed_documents(texts)

    def embed_queries(self, texts):
        return -self.embed_documents(texts)


class AbleEmbedder(PlainEmbedder):
    """Can do all there is, and remembers what was asked of it."""

    info = EmbeddingInfo("able", DIMENSION, kind=EmbeddingKind.MULTIMODAL, fingerprint="able/1")
    slice_size = 7

    def __init__(self):
        self.awaited = []

    def count_tokens(self, text):
        return len(text.split())

    def embed_images(self, images):
        return self.embed_documents([image.decode() for image in images])

    async def aembed_documents(self, texts):
        self.awaited += texts
        return self.embed_documents(texts)

    async def aembed_queries(self, texts):
        self.awaited += texts
        return self.embed_queries(texts)


def given_vectors(vectors, **options):
    """Embed the texts "0", "1", … as given vectors."""
    vectors = np.asarray(vectors)
    return CallableEmbedder(
        lambda texts: vectors[[int(text) for text in texts]],
        name="given",
        dimension=vectors.shape[1],
        **options,
    )


def numbers(vectors):
    return [str(i) for i in range(len(vectors))]


# ── what is passed on ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_abilities_are_passed_on_where_the_wrapped_one_has_them(wrap, tmp_path):
    able, plain = wrap(AbleEmbedder(), tmp_path), wrap(PlainEmbedder(), tmp_path)
    assert able.count_tokens("three little words") == 3
    assert able.slice_size == 7
    assert isinstance(able, TokenCounter)
    assert isinstance(able, Sliced)
    assert isinstance(able, ImageEmbedder)
    assert not isinstance(plain, TokenCounter)
    assert not isinstance(plain, ImageEmbedder)
    assert isinstance(plain, Sliced) == isinstance(plain, RateLimitedEmbedder)


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_images_come_to_the_space_of_the_documents(wrap, tmp_path):
    wrapper = wrap(AbleEmbedder(), tmp_path)
    images = contract.embed_images(wrapper, [b"a fox", b"a wing"])
    np.testing.assert_array_equal(images, wrapper.embed_documents(["a fox", "a wing"]))
    assert wrapper.info.kind is EmbeddingKind.MULTIMODAL


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
async def test_what_reads_images_alone_does_so_in_a_wrapper_and_refuses_texts(wrap, tmp_path):
    class ImagesAlone:
        info = EmbeddingInfo("images", DIMENSION, kind=EmbeddingKind.IMAGE, fingerprint="images/1")
        embed_images = AbleEmbedder().embed_images

    wrapper = wrap(ImagesAlone(), tmp_path)
    assert len(contract.embed_images(wrapper, [b"a fox"])) == 1
    for embed in (wrapper.embed_documents, wrapper.embed_queries):
        with pytest.raises(UnsupportedOperationError, match="'images'"):
            embed(["a fox"])
    for aembed in (wrapper.aembed_documents, wrapper.aembed_queries):
        with pytest.raises(UnsupportedOperationError, match="'images'"):
            await aembed(["a fox"])


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
async def test_what_can_be_awaited_is_awaited(wrap, tmp_path):
    inner = AbleEmbedder()
    wrapper = wrap(inner, tmp_path)
    assert isinstance(wrapper, AsyncEmbedder)
    documents = await wrapper.aembed_documents(["one text"])
    queries = await wrapper.aembed_queries(["a query"])
    assert set(inner.awaited) == {"one text", "a query"}
    np.testing.assert_array_equal(documents, wrapper.embed_documents(["one text"]))
    np.testing.assert_array_equal(queries, wrapper.embed_queries(["a query"]))


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapper_of_what_has_no_fingerprint_has_none(wrap, tmp_path):
    class Nameless(PlainEmbedder):
        info = EmbeddingInfo("nameless", DIMENSION)

    assert wrap(Nameless(), tmp_path).info.fingerprint == ""


@pytest.mark.parametrize("name", ["cached", "rate-limited", "retrying"])
def test_what_changes_no_vector_changes_nothing_in_the_info(name, tmp_path):
    inner = AbleEmbedder()
    wrapper = WRAPPERS[name](inner, tmp_path)
    assert wrapper.info is inner.info
    np.testing.assert_array_equal(wrapper.embed_queries(["q"]), inner.embed_queries(["q"]))


@pytest.mark.parametrize("name", ["truncated", "int8", "binary", "combined"])
def test_a_collection_of_changed_vectors_is_opened_by_the_same_wrapper_alone(name, tmp_path):
    def wrapper():
        return WRAPPERS[name](AbleEmbedder(), tmp_path)

    with nearfield.open(tmp_path, "texts", embedder=wrapper()) as collection:
        collection.upsert(["a fox", "a wing"])
    with nearfield.open(tmp_path, "texts", embedder=wrapper()) as collection:
        assert collection.search("a fox", k=2)
    with pytest.raises(EmbedderMismatchError):
        nearfield.open(tmp_path, "texts", embedder=AbleEmbedder())
    with nearfield.open(tmp_path, "texts") as collection, pytest.raises(EmbedderRequiredError):
        collection.search("a fox")


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapper_lets_go_of_what_it_wraps(wrap, tmp_path):
    inner = AbleEmbedder()
    alive = weakref.ref(inner)
    wrapper = wrap(inner, tmp_path)
    wrapper.embed_documents(["a"])
    del inner, wrapper
    gc.collect()
    assert alive() is None


# ── truncation ───────────────────────────────────────────────────────────────────────────────────


def test_truncation_keeps_the_first_components_and_normalises_again_what_was_normalised():
    vectors = np.random.default_rng(0).standard_normal((20, 10))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    plain = TruncatedEmbedder(given_vectors(vectors), 4)
    normal = TruncatedEmbedder(given_vectors(vectors, normalize=True), 4)
    expected = unit[:, :4] / np.linalg.norm(unit[:, :4], axis=1, keepdims=True)
    np.testing.assert_allclose(plain.embed_documents(numbers(vectors)), vectors[:, :4], rtol=1e-6)
    np.testing.assert_allclose(normal.embed_documents(numbers(vectors)), expected, atol=1e-6)
    np.testing.assert_allclose(normal.embed_queries(numbers(vectors)), expected, atol=1e-6)
    assert normal.info.model == "truncated(callable:given, 4)"
    assert (normal.info.dimension, normal.info.normalized, plain.info.normalized) == (
        4,
        True,
        False,
    )


def test_a_dimension_that_is_none_or_too_large_is_refused():
    with pytest.raises(InvalidInputError, match="dimension must be at least 1"):
        TruncatedEmbedder(PlainEmbedder(), 0)
    too_long = TruncatedEmbedder(PlainEmbedder(), DIMENSION + 1)
    with pytest.raises(InvalidInputError, match="have 6 components"):
        _ = too_long.info
    with pytest.raises(InvalidInputError, match="have 6 components"):
        too_long.embed_documents(["a"])


def test_a_text_whose_first_components_are_all_zero_is_named():
    vectors = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    embedder = TruncatedEmbedder(given_vectors(vectors, normalize=True), 2)
    with pytest.raises(EmbeddingError, match=r"text 1 is zero.*first 2 components"):
        embedder.embed_documents(["0", "1"])


# ── int8 ─────────────────────────────────────────────────────────────────────────────────────────


def finite(shape, bound=1e6):
    return hnp.arrays(np.float32, shape, elements=st.floats(-bound, bound, width=32))


@given(finite((2, 5)), hnp.arrays(np.float64, (8, 5), elements=st.floats(0, 1)))
@settings(max_examples=200, deadline=None)
def test_within_its_range_a_component_moves_by_half_a_step_at_most(ends, shares):
    ranges = np.sort(ends, axis=0)
    low, high = ranges.astype(np.float64)
    vectors = (low + shares * (high - low)).astype(np.float32)
    embedder = QuantizedEmbedder(given_vectors(vectors), ranges=ranges)
    codes = embedder.encode(vectors)
    decoded = embedder.decode(codes)
    assert codes.dtype == np.int8
    rounding = 1e-6 * np.abs(ranges).max()
    assert (np.abs(decoded - vectors) <= (high - low) / 255 / 2 + rounding).all()
    # What lies on the grid stays there.
    np.testing.assert_array_equal(embedder.decode(embedder.encode(decoded)), decoded)


@given(finite((4, 3)))
@settings(max_examples=50, deadline=None)
def test_beyond_its_range_a_component_is_clipped_to_the_end(vectors):
    embedder = QuantizedEmbedder(given_vectors(vectors), ranges=[[-1, -1, 0], [1, 2, 0]])
    decoded = embedder.decode(embedder.encode(vectors))
    clipped = np.clip(vectors, [-1, -1, 0], [1, 2, 0])
    assert (np.abs(decoded - clipped) <= np.array([1 / 255, 1.5 / 255, 0]) + 1e-6).all()


def test_ranges_are_those_of_the_samples_and_a_tenth_more():
    vectors = np.array([[0.0, 5.0], [1.0, -5.0], [0.5, 0.0]])
    fitted = QuantizedEmbedder.fitted(given_vectors(vectors), numbers(vectors))
    assert fitted.ranges is not None
    np.testing.assert_allclose(fitted.ranges, [[-0.1, -6.0], [1.1, 6.0]], atol=1e-6)
    assert not fitted.ranges.flags.writeable
    again = QuantizedEmbedder(given_vectors(vectors), ranges=fitted.ranges)
    assert again.info == fitted.info
    np.testing.assert_allclose(fitted.embed_documents(["2"]), [[0.5, 0.0]], atol=0.03)


def test_the_caller_may_change_the_array_of_ranges_afterwards():
    ranges = np.array(RANGES, np.float32)
    embedder = QuantizedEmbedder(PlainEmbedder(), ranges=ranges)
    before = embedder.info
    ranges[:] = 0
    assert embedder.info == before


def test_queries_stay_as_they_are_unless_they_are_to_be_quantised():
    vectors = np.random.default_rng(0).standard_normal((5, DIMENSION)).astype(np.float32)
    for precision, options in (("int8", {"ranges": RANGES}), ("binary", {})):
        kept = QuantizedEmbedder(given_vectors(vectors), precision, **options)
        changed = QuantizedEmbedder(
            given_vectors(vectors), precision, quantize_queries=True, **options
        )
        texts = numbers(vectors)
        np.testing.assert_array_equal(kept.embed_queries(texts), vectors)
        np.testing.assert_array_equal(changed.embed_queries(texts), kept.embed_documents(texts))
        assert kept.info.fingerprint != changed.info.fingerprint


@pytest.mark.parametrize(
    ("precision", "options", "complaint"),
    [
        ("int8", {}, "'int8' takes ranges="),
        ("binary", {"ranges": RANGES}, "'binary' takes none"),
        ("int4", {}, "precision is 'int4', expected one of: int8, binary"),
        ("int8", {"ranges": [1.0, 2.0]}, r"shape \(2,\)"),
        ("int8", {"ranges": np.zeros((3, DIMENSION))}, r"shape \(3, 6\)"),
        ("int8", {"ranges": np.zeros((2, 0))}, r"shape \(2, 0\)"),
        ("int8", {"ranges": RANGES[::-1]}, "a low above its high"),
        ("int8", {"ranges": [[0.0] * 6, [np.nan] * 6]}, "NaN"),
        ("int8", {"ranges": [[0.0] * 6, [1e300] * 6]}, "infinity"),
        ("int8", {"ranges": "wide"}, "ranges is str"),
        ("int8", {"ranges": [[1.0], [1.0, 2.0]]}, "ranges is list"),
    ],
)
def test_a_precision_or_ranges_that_do_not_fit_are_refused_at_once(precision, options, complaint):
    with pytest.raises(InvalidInputError, match=complaint):
        QuantizedEmbedder(PlainEmbedder(), precision, **options)


def test_ranges_for_another_dimension_are_refused_and_so_is_fitting_to_nothing():
    embedder = QuantizedEmbedder(PlainEmbedder(), ranges=[[0.0], [1.0]])
    for use in (lambda: embedder.info, lambda: embedder.embed_documents(["a"])):
        with pytest.raises(InvalidInputError, match="for 1 components, but"):
            use()
    with pytest.raises(InvalidInputError, match="texts is empty"):
        QuantizedEmbedder.fitted(PlainEmbedder(), [])


@pytest.mark.parametrize("options", [{"ranges": RANGES}, {"precision": "binary"}])
def test_arrays_of_another_width_are_neither_encoded_nor_decoded(options):
    embedder = QuantizedEmbedder(PlainEmbedder(), **options)
    for turn in (embedder.encode, embedder.decode):
        for shape in ((2, 4), (6,), (1, 2, 6)):
            with pytest.raises(InvalidInputError, match="expected \\(n, "):
                turn(np.zeros(shape, np.int8))


# ── binary ───────────────────────────────────────────────────────────────────────────────────────


@given(finite((4, 13)))
@settings(max_examples=100, deadline=None)
def test_of_a_component_its_sign_is_left(vectors):
    embedder = QuantizedEmbedder(given_vectors(vectors), "binary")
    codes = embedder.encode(vectors)
    decoded = embedder.decode(codes)
    assert codes.shape == (4, 2)
    np.testing.assert_array_equal(decoded > 0, vectors > 0)
    np.testing.assert_allclose(np.abs(decoded), 13**-0.5, rtol=1e-6)
    np.testing.assert_array_equal(codes, np.packbits(vectors > 0, axis=1))


def test_the_cosine_of_binary_vectors_orders_as_the_hamming_distance_does():
    vectors = np.random.default_rng(1).standard_normal((30, 24)).astype(np.float32)
    embedder = QuantizedEmbedder(given_vectors(vectors), "binary")
    decoded = embedder.embed_documents(numbers(vectors))
    distances = np.unpackbits(embedder.encode(vectors) ^ embedder.encode(vectors[:1]), axis=1)
    np.testing.assert_allclose(decoded @ decoded[0], 1 - 2 * distances.sum(axis=1) / 24, atol=1e-5)


def test_binary_vectors_are_compared_by_cosine_and_normalised_where_queries_are():
    plain, able = PlainEmbedder(), given_vectors(np.eye(6), normalize=True)
    assert QuantizedEmbedder(plain, "binary").info.metric is Metric.COSINE
    assert not QuantizedEmbedder(plain, "binary").info.normalized
    assert QuantizedEmbedder(plain, "binary", quantize_queries=True).info.normalized
    assert QuantizedEmbedder(able, "binary").info.normalized
    assert QuantizedEmbedder(plain, ranges=RANGES).info.metric is Metric.DOT
    assert QuantizedEmbedder(plain, "binary").info.model == "binary(plain)"


@pytest.mark.parametrize("kind", WRAPPERS)
@pytest.mark.parametrize("given", ["minilm", None, HashingEmbedder])
def test_what_is_no_embedder_is_refused_when_the_wrapper_is_made(kind, given, tmp_path):
    with pytest.raises(InvalidInputError, match="expected an embedder"):
        WRAPPERS[kind](given, tmp_path)


def test_the_fingerprints_of_a_mismatch_can_be_told_apart(tmp_path):
    inner = HashingEmbedder(DIMENSION)
    halves = [CombinedEmbedder([inner, inner], weights=weights) for weights in ([1, 2], [2, 1])]
    with nearfield.open(tmp_path, "texts", embedder=halves[0]):
        pass
    digests = [half.info.fingerprint.partition("/")[2][:12] for half in halves]
    with pytest.raises(EmbedderMismatchError, match=f"{digests[0]}.*{digests[1]}"):
        nearfield.open(tmp_path, "texts", embedder=halves[1])
