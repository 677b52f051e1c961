"""nearfield's embedders as LlamaIndex's, and the other way round."""

from __future__ import annotations

import asyncio
import pickle

import numpy as np
import pytest

pytest.importorskip("llama_index.core", reason="needs llama-index-core")

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.schema import TextNode
from llama_index.core.storage.kvstore import SimpleKVStore
from tests.embedders import HashingEmbedder

import nearfield
from llama_index.embeddings.nearfield import LlamaIndexEmbedder, NearfieldEmbedding, to_embedder
from llama_index.vector_stores.nearfield import NearfieldVectorStore
from nearfield.embedders import AsyncEmbedder, MiniLMEmbedder
from nearfield.errors import EmbedderMismatchError, EmbeddingError, InvalidInputError

TEXTS = ["a red fox", "a cat", "", "a whale"]


class Counting(BaseEmbedding):
    """A model of LlamaIndex that embeds by lengths and counts how it was called."""

    sync_calls: int = 0
    async_calls: int = 0
    lengths: tuple[int, ...] = (3,)

    @classmethod
    def class_name(cls):
        return "Counting"

    def _vector(self, text, marker):
        return [float(len(text)), marker, 1.0][: self.lengths[len(text) % len(self.lengths)]]

    def _get_query_embedding(self, query):
        self.sync_calls += 1
        return self._vector(query, 2.0)

    async def _aget_query_embedding(self, query):
        await asyncio.sleep(0)
        self.async_calls += 1
        return self._vector(query, 2.0)

    def _get_text_embedding(self, text):
        self.sync_calls += 1
        return self._vector(text, 3.0)

    async def _aget_text_embedding(self, text):
        await asyncio.sleep(0)
        self.async_calls += 1
        return self._vector(text, 3.0)


# ── nearfield's embedders in LlamaIndex ──────────────────────────────────────────────────────────


class Prompted(HashingEmbedder):
    """Queries and documents apart, as many models have them."""

    def embed_queries(self, texts):
        return super().embed_queries([f"query: {text}" for text in texts])


async def test_embeddings_are_the_embedders_own():
    embedder = Prompted()
    model = NearfieldEmbedding(embedder, embed_batch_size=2)
    documents = embedder.embed_documents(TEXTS).tolist()
    queries = embedder.embed_queries(TEXTS).tolist()
    assert model.get_text_embedding_batch(TEXTS) == documents
    assert await model.aget_text_embedding_batch(TEXTS) == documents
    assert [model.get_text_embedding(text) for text in TEXTS] == documents
    assert [await model.aget_text_embedding(text) for text in TEXTS] == documents
    assert [model.get_query_embedding(text) for text in TEXTS] == queries
    assert [await model.aget_query_embedding(text) for text in TEXTS] == queries
    assert model.get_text_embedding_batch([]) == []


async def test_an_async_embedder_is_awaited(embedder):
    class Remote(HashingEmbedder):
        def embed_documents(self, texts):
            raise NotImplementedError

        embed_queries = embed_documents

        async def aembed_documents(self, texts):
            return embedder.embed_documents(texts)

        async def aembed_queries(self, texts):
            return embedder.embed_queries(texts)

    model = NearfieldEmbedding(Remote())
    expected = embedder.embed_documents(TEXTS).tolist()
    assert await model.aget_text_embedding_batch(TEXTS) == expected
    assert await model.aget_query_embedding(TEXTS[0]) == expected[0]


async def test_nodes_are_embedded_as_a_transformation(embedder):
    model = NearfieldEmbedding(embedder)
    made = [TextNode(text=text, metadata={"a": "word"}) for text in TEXTS]
    expected = embedder.embed_documents([node.get_content("embed") for node in made]).tolist()
    assert [node.embedding for node in model(made)] == expected
    assert [node.embedding for node in await model.acall(made)] == expected


def test_the_default_model_is_nearfields_own_and_works_offline():
    model = NearfieldEmbedding()
    assert model.model_name == "minilm"
    assert isinstance(model.embedder, MiniLMEmbedder)
    fox, wolf, sofa = map(model.get_query_embedding, ("a fox", "a wolf", "a sofa"))
    assert model.similarity(fox, wolf) > model.similarity(fox, sofa)
    assert len(fox) == 384


def test_a_named_model_is_data(embedder):
    model = NearfieldEmbedding("minilm", embed_batch_size=7)
    for again in (
        NearfieldEmbedding.from_dict(model.to_dict()),
        pickle.loads(pickle.dumps(model)),
    ):
        assert (again.model_name, again.embed_batch_size) == ("minilm", 7)
        assert again.get_text_embedding("fox") == model.get_text_embedding("fox")
    own = pickle.loads(pickle.dumps(NearfieldEmbedding(embedder)))
    assert own.get_text_embedding("fox") == embedder.embed_documents(["fox"])[0].tolist()


def test_the_frameworks_cache_is_used(embedder):
    model = NearfieldEmbedding(embedder, embeddings_cache=SimpleKVStore())
    first = model.get_text_embedding_batch(TEXTS)
    assert model.get_text_embedding_batch(TEXTS) == first
    assert len(model.embeddings_cache.get_all(collection="embeddings")) == len(TEXTS)


def test_bad_names_and_broken_embedders_are_refused(embedder):
    with pytest.raises(InvalidInputError, match="no embedder is called 'no-such-model'"):
        NearfieldEmbedding("no-such-model")

    class Broken(HashingEmbedder):
        def embed_documents(self, texts):
            return np.full((len(texts), 64), np.nan, np.float32)

    with pytest.raises(EmbeddingError, match="NaN"):
        NearfieldEmbedding(Broken()).get_text_embedding("fox")


# ── LlamaIndex's models in nearfield ─────────────────────────────────────────────────────────────


async def test_a_model_of_llama_index_is_an_embedder():
    embedder = LlamaIndexEmbedder(Counting(model_name="lengths"))
    assert isinstance(embedder, AsyncEmbedder)
    assert embedder.info.dimension == 3
    assert embedder.info.model == "llama-index:Counting:lengths"
    documents = embedder.embed_documents(TEXTS)
    assert documents.dtype == np.float32
    assert documents.tolist() == [[len(text), 3, 1] for text in TEXTS]
    assert embedder.embed_queries(TEXTS).tolist() == [[len(text), 2, 1] for text in TEXTS]
    assert (await embedder.aembed_documents(TEXTS)).tolist() == documents.tolist()
    assert (await embedder.aembed_queries(TEXTS))[:, 1].tolist() == [2.0] * 4
    assert embedder.embed_documents([]).shape == (0, 3)
    assert (await embedder.aembed_queries([])).shape == (0, 3)


async def test_its_async_methods_are_awaited(tmp_path):
    model = Counting()
    embedder = LlamaIndexEmbedder(model, dimension=3)
    async with nearfield.open(tmp_path, embedder=embedder) as collection:
        await collection.aupsert(TEXTS)
        hits = await collection.asearch("a car", k=1)
        assert len(hits) == 1
    assert (model.sync_calls, model.async_calls) == (0, 5)


def test_a_model_is_asked_for_its_dimension_once_and_only_if_need_be():
    model = Counting()
    embedder = LlamaIndexEmbedder(model)
    assert model.sync_calls == 0
    assert [embedder.info.dimension for _ in range(3)] == [3, 3, 3]
    assert model.sync_calls == 1
    assert LlamaIndexEmbedder(MockEmbedding(embed_dim=5), dimension=5).info.dimension == 5
    with pytest.raises(InvalidInputError, match="dimension"):
        LlamaIndexEmbedder(model, dimension=0)


def test_a_collection_remembers_a_model_of_llama_index(tmp_path):
    NearfieldVectorStore(tmp_path, embed_model=Counting(model_name="one")).close()
    NearfieldVectorStore(tmp_path, embed_model=Counting(model_name="one"), dimension=3).close()
    with pytest.raises(EmbedderMismatchError, match="llama-index:Counting:one"):
        NearfieldVectorStore(tmp_path, embed_model=Counting(model_name="two"))


def test_embeddings_of_different_lengths_are_refused():
    embedder = LlamaIndexEmbedder(Counting(lengths=(3, 2)), dimension=3)
    with pytest.raises(EmbeddingError, match="different lengths"):
        embedder.embed_documents(["a", "ab"])


def test_what_is_wrapped_is_unwrapped(embedder):
    assert to_embedder(NearfieldEmbedding(embedder)) is embedder
    assert to_embedder(embedder) is embedder
    assert isinstance(to_embedder("minilm"), MiniLMEmbedder)
    assert isinstance(to_embedder(Counting()), LlamaIndexEmbedder)
