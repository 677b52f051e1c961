"""Stores and models for the tests of the LlamaIndex door; frameworks are imported when used."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import warnings

import pytest
from tests.embedders import HashingEmbedder


@pytest.fixture(scope="session", autouse=True)
def bridges():
    """Import what the framework tries to import by itself, warnings aside."""
    with warnings.catch_warnings(), contextlib.suppress(ImportError):
        warnings.filterwarnings("ignore", "`langchain-community` is being sunset")
        importlib.import_module("llama_index.core.bridge.langchain")


@pytest.fixture
def event_loop_to_close():
    """Give the framework's synchronous calls an event loop; of one they make they never let go."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture
def embedder():
    return HashingEmbedder()


@pytest.fixture
def embed_model(embedder):
    from llama_index.embeddings.nearfield import NearfieldEmbedding

    return NearfieldEmbedding(embedder)


@pytest.fixture
def store(tmp_path, embed_model):
    from llama_index.vector_stores.nearfield import NearfieldVectorStore

    with NearfieldVectorStore(tmp_path / "database", "nodes", embed_model=embed_model) as store:
        yield store


@pytest.fixture
def embedded(embedder):
    """Give nodes the embeddings of their texts, and return them."""
    from llama_index.core.schema import MetadataMode

    def embed(*nodes):
        vectors = embedder.embed_documents([node.get_content(MetadataMode.EMBED) for node in nodes])
        for node, vector in zip(nodes, vectors.tolist(), strict=True):
            node.embedding = vector
        return list(nodes)

    return embed
