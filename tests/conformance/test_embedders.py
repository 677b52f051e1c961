"""What every embedder promises, on every embedder there is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests.embedders import HashingEmbedder
from tests.models import sentence_transformer_folder

from nearfield.embedders import (
    AsyncEmbedder,
    CachedEmbedder,
    Embedder,
    MiniLMEmbedder,
    SentenceTransformerEmbedder,
    contract,
)
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


@pytest.fixture(
    scope="module",
    params=[
        "minilm",
        "minilm-one-thread",
        "cached",
        "sentence-transformers",
        "truncated",
        "hashing",
        "langchain",
    ],
)
def embedder(request, tmp_path_factory):
    if request.param == "minilm":
        yield MiniLMEmbedder(threads=3)
    elif request.param == "minilm-one-thread":
        yield MiniLMEmbedder(threads=1)
    elif request.param == "hashing":
        yield HashingEmbedder(32)
    elif request.param == "langchain":
        langchain = pytest.importorskip("langchain_nearfield", reason="langchain is not installed")
        yield langchain.LangChainEmbedder(langchain.NearfieldEmbeddings("minilm"))
    elif request.param == "cached":
        path = tmp_path_factory.mktemp("cache") / "embeddings.db"
        with CachedEmbedder(MiniLMEmbedder(), path) as cached:
            yield cached
    else:
        dimension = 128 if request.param == "truncated" else None
        yield SentenceTransformerEmbedder(sentence_transformer_folder(), truncate_dim=dimension)


@pytest.fixture(params=["documents", "queries"])
def embed(request, embedder):
    return embedder.embed_documents if request.param == "documents" else embedder.embed_queries


@pytest.fixture
def tolerance(embedder):
    """Bit for bit, but for PyTorch, which sums in another order for another batch."""
    return 2e-6 if isinstance(embedder, SentenceTransformerEmbedder) else 0


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


def test_a_vector_does_not_depend_on_its_neighbours_or_its_place(embed, tolerance):
    together = embed(TEXTS)
    alone = np.concatenate([embed([text]) for text in TEXTS])
    backwards = embed(TEXTS[::-1])[::-1]
    np.testing.assert_allclose(alone, together, rtol=0, atol=tolerance)
    np.testing.assert_allclose(backwards, together, rtol=0, atol=tolerance)


def test_the_same_text_gives_the_same_vector_and_another_text_another(embed, tolerance):
    first, again = embed(TEXTS), embed(TEXTS)
    np.testing.assert_allclose(first, again, rtol=0, atol=tolerance)
    np.testing.assert_allclose(first[2], first[8], rtol=0, atol=tolerance)
    assert np.abs(first[2] - first[9]).max() > 1e-2


def test_a_tuple_of_texts_does_as_well_as_a_list(embed, tolerance):
    np.testing.assert_allclose(embed(tuple(TEXTS[:3])), embed(TEXTS[:3]), rtol=0, atol=tolerance)


def test_eight_threads_at_once_get_what_one_gets(embed, tolerance):
    expected = embed(TEXTS)
    orders = [np.random.default_rng(seed).permutation(len(TEXTS)) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda order: embed([TEXTS[i] for i in order]), orders))
    for order, vectors in zip(orders, results, strict=True):
        np.testing.assert_allclose(vectors, expected[order], rtol=0, atol=tolerance)


def test_the_info_is_stable_and_has_a_fingerprint(embedder):
    before = embedder.info
    embedder.embed_documents(["a text"])
    assert embedder.info == before
    assert before.fingerprint


def test_the_vectors_pass_the_contract(embedder):
    assert len(contract.embed_documents(embedder, TEXTS)) == len(TEXTS)
    assert len(contract.embed_queries(embedder, TEXTS)) == len(TEXTS)


async def test_asynchronous_methods_give_the_same_vectors(embedder, tolerance):
    if not isinstance(embedder, AsyncEmbedder):
        pytest.skip("this embedder has no asynchronous methods")
    documents = await contract.aembed_documents(embedder, TEXTS)
    queries = await contract.aembed_queries(embedder, TEXTS)
    expected = embedder.embed_documents(TEXTS), embedder.embed_queries(TEXTS)
    np.testing.assert_allclose(documents, expected[0], rtol=0, atol=tolerance)
    np.testing.assert_allclose(queries, expected[1], rtol=0, atol=tolerance)


def test_a_lone_surrogate_is_refused_with_its_place(embedder, embed):
    if isinstance(embedder, HashingEmbedder):
        pytest.skip("this embedder reads bytes, and a surrogate has some")
    if embedder.info.model.startswith("langchain:") and embed == embedder.embed_queries:
        pytest.skip("LangChain embeds queries one by one")
    if isinstance(embedder, CachedEmbedder) and embed == embedder.embed_queries:
        pytest.skip("the embedder behind it is tested by itself")
    with pytest.raises(InvalidDocumentError, match="surrogate") as refusal:
        embed(["fine", "bro\ud800ken"])
    assert refusal.value.position == 1


def test_counted_tokens_are_what_decides_where_a_text_is_cut(embedder):
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
    np.testing.assert_allclose(vectors[0], vectors[1], rtol=0, atol=1e-6)
    assert np.abs(vectors[0] - vectors[2]).max() > 1e-4
