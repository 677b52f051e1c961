"""What every embedder promises, on every embedder there is."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests.conformance.embedders import CASES

from nearfield.embedders import AsyncEmbedder, Embedder, contract
from nearfield.embedders.wrapper import Wrapper
from nearfield.errors import InvalidDocumentError

TEXTS = [
    "",
    " ",
    "The quick brown fox jumps over the lazy dog.",
    "A NUL \0 in the middle, and \ufffe a noncharacter",
    "自然言語処理",
    "👩‍👩‍👧 e\u0301 é \u200b\u202e",
    "x" * 20_000,
    "many words " * 5_000,
    "The quick brown fox jumps over the lazy dog.",
    "short",
]
SHORT_TEXTS = ["one text", "another text", "and a third", "a fourth one", "the fifth"]


class InPairs(Wrapper):
    """Has an embedder's texts embedded two by two."""

    def __init__(self, embedder):
        super().__init__(embedder)
        self.slice_size = 2


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture(scope="module")
def embedder(case, tmp_path_factory):
    made = case.make(tmp_path_factory.mktemp("embedder"))
    yield made
    if hasattr(made, "close"):
        made.close()


@pytest.fixture(params=["documents", "queries"])
def embed(request, embedder):
    return embedder.embed_documents if request.param == "documents" else embedder.embed_queries


@pytest.fixture
def assert_same(case):
    def check(vectors, expected):
        np.testing.assert_allclose(vectors, expected, rtol=0, atol=case.tolerance)

    return check


# ── vectors ──────────────────────────────────────────────────────────────────────────────────────


def test_it_is_an_embedder(embedder):
    assert isinstance(embedder, Embedder)


def test_vectors_have_the_shape_and_type_that_the_info_promises(embedder, embed):
    vectors = embed(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.info.dimension)
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    assert np.isfinite(vectors).all()


def test_no_texts_give_no_vectors_of_the_right_dimension(embedder, embed):
    vectors = embed([])
    assert vectors.shape == (0, embedder.info.dimension)
    assert vectors.dtype == np.float32


def test_a_normalised_embedder_gives_vectors_of_length_one(embedder, embed):
    if not embedder.info.normalized:
        pytest.skip("this embedder does not normalise")
    np.testing.assert_allclose(np.linalg.norm(embed(TEXTS), axis=1), 1, atol=1e-5)


def test_a_vector_does_not_depend_on_its_neighbours_or_its_place(embed, assert_same):
    together = embed(TEXTS)
    assert_same(np.concatenate([embed([text]) for text in TEXTS]), together)
    assert_same(embed(TEXTS[::-1])[::-1], together)


def test_the_same_text_gives_the_same_vector_and_another_text_another(embed, assert_same):
    first, again = embed(TEXTS), embed(TEXTS)
    assert_same(first, again)
    assert_same(first[2], first[8])
    assert np.abs(first[2] - first[9]).max() > 1e-2


def test_a_tuple_of_texts_does_as_well_as_a_list_and_neither_is_changed(embed, assert_same):
    texts = TEXTS[:3]
    assert_same(embed(tuple(texts)), embed(texts))
    assert texts == TEXTS[:3]


def test_the_caller_may_write_into_the_vectors(embed, assert_same):
    first = embed(SHORT_TEXTS)
    expected = first.copy()
    first *= 0
    assert_same(embed(SHORT_TEXTS), expected)


def test_the_vectors_pass_the_contract(embedder):
    assert len(contract.embed_documents(embedder, TEXTS)) == len(TEXTS)
    assert len(contract.embed_queries(embedder, TEXTS)) == len(TEXTS)


# ── bad input ────────────────────────────────────────────────────────────────────────────────────


def test_a_lone_surrogate_is_refused_with_its_place(case, embedder, embed):
    if not case.refuses_surrogates:
        pytest.skip("this embedder reads bytes, and a surrogate has some")
    if case.embeds_queries_one_by_one and embed == embedder.embed_queries:
        pytest.skip("this embedder takes queries one by one")
    with pytest.raises(InvalidDocumentError, match=r"surrogate.*document 3 of") as refusal:
        embed([*SHORT_TEXTS[:3], "bro\ud800ken"])
    assert refusal.value.position == 3


def test_a_place_is_that_among_all_texts_also_when_they_are_embedded_in_slices(case, embedder):
    if not case.refuses_surrogates:
        pytest.skip("this embedder reads bytes, and a surrogate has some")
    with pytest.raises(InvalidDocumentError, match=r"surrogate.*document 3 of") as refusal:
        InPairs(embedder).embed_documents([*SHORT_TEXTS[:3], "bro\ud800ken"])
    assert refusal.value.position == 3


# ── several at once ──────────────────────────────────────────────────────────────────────────────


def test_eight_threads_at_once_get_what_one_gets(embed, assert_same):
    expected = embed(TEXTS)
    orders = [np.random.default_rng(seed).permutation(len(TEXTS)) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda order: embed([TEXTS[i] for i in order]), orders))
    for order, vectors in zip(orders, results, strict=True):
        assert_same(vectors, expected[order])


async def test_awaited_vectors_are_the_same(embedder, assert_same):
    assert_same(await contract.aembed_documents(embedder, TEXTS), embedder.embed_documents(TEXTS))
    assert_same(await contract.aembed_queries(embedder, TEXTS), embedder.embed_queries(TEXTS))


async def test_its_own_asynchronous_methods_give_the_same_vectors(embedder, assert_same):
    if not isinstance(embedder, AsyncEmbedder):
        pytest.skip("this embedder has no asynchronous methods")
    vectors = await embedder.aembed_documents(SHORT_TEXTS)
    assert_same(vectors, embedder.embed_documents(SHORT_TEXTS))
    vectors = await embedder.aembed_queries(SHORT_TEXTS)
    assert_same(vectors, embedder.embed_queries(SHORT_TEXTS))
    assert (await embedder.aembed_documents([])).shape == (0, embedder.info.dimension)


async def test_tasks_at_once_get_what_one_gets(embedder, assert_same):
    calls = [contract.aembed_documents(embedder, SHORT_TEXTS[start:]) for start in range(5)]
    expected = embedder.embed_documents(SHORT_TEXTS)
    for start, vectors in enumerate(await asyncio.gather(*calls)):
        assert_same(vectors, expected[start:])


# ── progress and cancellation ────────────────────────────────────────────────────────────────────


async def test_progress_is_told_slice_by_slice_and_changes_no_vector(embedder, assert_same):
    told = []
    pairs = InPairs(embedder)
    expected = embedder.embed_documents(SHORT_TEXTS)
    tell = lambda done, total: told.append((done, total))  # noqa: E731
    assert_same(contract.embed_documents(pairs, SHORT_TEXTS, progress=tell), expected)
    assert_same(await contract.aembed_documents(pairs, SHORT_TEXTS, progress=tell), expected)
    assert told == [(2, 5), (4, 5), (5, 5)] * 2


async def test_what_the_progress_callback_raises_ends_the_work_and_comes_through(embedder):
    told = []

    def refuse(done, total):
        told.append(done)
        raise ValueError("enough")

    with pytest.raises(ValueError, match=r"^enough$"):
        contract.embed_documents(InPairs(embedder), SHORT_TEXTS, progress=refuse)
    with pytest.raises(ValueError, match=r"^enough$"):
        await contract.aembed_documents(InPairs(embedder), SHORT_TEXTS, progress=refuse)
    assert told == [2, 2]


async def test_a_cancelled_task_embeds_no_further_slice_and_leaves_the_embedder_well(
    embedder, assert_same
):
    expected = embedder.embed_documents(SHORT_TEXTS)
    told = []

    def cancel(done, total):
        told.append(done)
        task.cancel()

    task = asyncio.create_task(
        contract.aembed_documents(InPairs(embedder), SHORT_TEXTS, progress=cancel)
    )
    with pytest.raises(asyncio.CancelledError):
        await task
    assert told == [2]
    for turns in range(3):  # and at other moments: before it began, and at work
        task = asyncio.create_task(contract.aembed_documents(embedder, SHORT_TEXTS))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert_same(await contract.aembed_documents(embedder, SHORT_TEXTS), expected)
    assert_same(embedder.embed_documents(SHORT_TEXTS), expected)


# ── what it says of itself ───────────────────────────────────────────────────────────────────────


def test_the_info_is_stable_and_has_a_fingerprint(embedder):
    before = embedder.info
    embedder.embed_documents(["a text"])
    assert embedder.info == before
    family, _, digest = before.fingerprint.partition("/")
    assert digest or len(family) == 64


def test_the_fingerprint_stays_with_options_that_change_no_vector(
    case, embedder, assert_same, tmp_path
):
    for make in case.alike:
        other = make(tmp_path)
        assert other.info.fingerprint == embedder.info.fingerprint
        assert_same(other.embed_documents(SHORT_TEXTS), embedder.embed_documents(SHORT_TEXTS))
        assert_same(other.embed_queries(SHORT_TEXTS), embedder.embed_queries(SHORT_TEXTS))


def test_the_fingerprint_changes_with_each_option_that_changes_a_vector(case, embedder, tmp_path):
    others = [make(tmp_path) for make in case.unlike]
    fingerprints = {each.info.fingerprint for each in [embedder, *others]}
    assert len(fingerprints) == 1 + len(others)
    for other in others:
        assert not (
            np.array_equal(other.embed_documents(TEXTS[:6]), embedder.embed_documents(TEXTS[:6]))
            and np.array_equal(other.embed_queries(TEXTS[:6]), embedder.embed_queries(TEXTS[:6]))
        )


def test_counted_tokens_are_what_decides_where_a_text_is_cut(case, embedder):
    if not hasattr(embedder, "count_tokens") or embedder.info.max_tokens is None:
        pytest.skip("this embedder counts no tokens, or has no limit")
    longest = embedder.info.max_tokens
    words = ["word"] * (2 * longest)
    count = next(
        n for n in range(1, len(words)) if embedder.count_tokens(" ".join(words[:n])) == longest
    )
    whole, cut = " ".join(words[:count]), " ".join([*words[:count], "unread"])
    shorter = " ".join([*words[: count - 1], "other"])
    vectors = embedder.embed_documents([whole, cut, shorter])
    if not case.reads_beyond_its_limit:
        np.testing.assert_allclose(vectors[0], vectors[1], rtol=0, atol=1e-6)
    assert np.abs(vectors[0] - vectors[2]).max() > 1e-4
