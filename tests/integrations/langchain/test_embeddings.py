"""nearfield's embedders as LangChain's embeddings, and the other way round."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("langchain_core", reason="langchain-core is not installed")

from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from tests.embedders import HashingEmbedder

import nearfield
from langchain_nearfield import LangChainEmbedder, NearfieldEmbeddings
from nearfield.embedders import AsyncEmbedder, MiniLMEmbedder
from nearfield.errors import EmbedderMismatchError, EmbeddingError, InvalidInputError

TEXTS = ["the kettle boils", "", "cats purr"]


class Model(Embeddings):
    """Embeddings that say which model they are, as most do."""

    def __init__(self, model, dimensions=None, size=4):
        self.model = model
        self.dimensions = dimensions
        self._size = size

    def embed_documents(self, texts):
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text):
        return [float(len(text) + 1)] * self._size


async def test_embeddings_are_the_embedders_own_in_every_call():
    embedder = HashingEmbedder(32)
    embeddings = NearfieldEmbeddings(embedder)
    expected = embedder.embed_documents(TEXTS).tolist()
    assert embeddings.embed_documents(TEXTS) == expected
    assert await embeddings.aembed_documents(TEXTS) == expected
    assert embeddings.embed_query(TEXTS[0]) == expected[0]
    assert await embeddings.aembed_query(TEXTS[0]) == expected[0]
    assert embeddings.embed_documents([]) == []


def test_an_embedder_is_taken_by_name_and_the_default_works_offline():
    default = NearfieldEmbeddings()
    assert isinstance(default.embedder, MiniLMEmbedder)
    assert NearfieldEmbeddings("minilm").model == default.model == "minilm"
    with pytest.raises(InvalidInputError, match="minilm"):
        NearfieldEmbeddings("no such model")


def test_langchains_embeddings_are_an_embedder():
    fake = DeterministicFakeEmbedding(size=12)
    embedder = LangChainEmbedder(fake)
    assert isinstance(embedder, AsyncEmbedder)
    assert embedder.info.dimension == 12
    np.testing.assert_allclose(
        embedder.embed_documents(TEXTS), np.float32(fake.embed_documents(TEXTS))
    )
    np.testing.assert_allclose(
        embedder.embed_queries(TEXTS[:1])[0], fake.embed_query(TEXTS[0]), 1e-6
    )


def test_a_collection_tells_models_apart_by_name_and_dimensions(tmp_path):
    nearfield.open(tmp_path, embedder=LangChainEmbedder(Model("small"))).close()
    nearfield.open(tmp_path, embedder=LangChainEmbedder(Model("small"))).close()
    others = [Model("large"), Model("small", dimensions=4), DeterministicFakeEmbedding(size=4)]
    for other in others:
        with pytest.raises(EmbedderMismatchError, match="langchain:small"):
            nearfield.open(tmp_path, embedder=LangChainEmbedder(other))


def test_dimensions_and_models_behind_a_cache_are_told_apart(tmp_path):
    class Cache(Model):
        def __init__(self, underlying):
            super().__init__(None)
            self.underlying_embeddings = underlying

    def fingerprint(embeddings):
        return LangChainEmbedder(embeddings).info.fingerprint

    assert fingerprint(Model(None, size=4)) != fingerprint(Model(None, size=8))
    assert fingerprint(Cache(Model("small"))) != fingerprint(Cache(Model("large")))
    assert fingerprint(Cache(Model("small"))) == fingerprint(Model("small"))


def test_a_model_can_be_named_where_its_attributes_do_not_tell():
    one, other = Model(None), Model(None)
    named = [LangChainEmbedder(one, model="a"), LangChainEmbedder(other, model="b")]
    assert named[0].info.fingerprint != named[1].info.fingerprint
    assert LangChainEmbedder(one).info.model == "langchain:Model"
    assert LangChainEmbedder(one).info.fingerprint == LangChainEmbedder(other).info.fingerprint


def test_a_wrong_dimension_is_an_error_that_names_both(tmp_path):
    embedder = LangChainEmbedder(Model("small", size=4), dimension=8)
    with (
        nearfield.open(tmp_path, embedder=embedder) as collection,
        pytest.raises(EmbeddingError, match=r"\(1, 4\).*\(1, 8\)"),
    ):
        collection.upsert("text")


def test_what_is_no_embeddings_is_refused():
    for value in (HashingEmbedder(8), None, "minilm"):
        with pytest.raises(InvalidInputError, match="LangChain Embeddings"):
            LangChainEmbedder(value)
