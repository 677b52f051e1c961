"""LangChain's own test suites for vector stores, embeddings, retrievers and document indexes."""

from __future__ import annotations

import pytest

pytest.importorskip("langchain_tests", reason="langchain-tests is not installed")

from langchain_core.documents import Document
from langchain_tests.integration_tests import (
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
    VectorStoreIntegrationTests,
)
from langchain_tests.integration_tests.indexer import (
    AsyncDocumentIndexTestSuite,
    DocumentIndexerTestSuite,
)
from langchain_tests.unit_tests import EmbeddingsUnitTests
from tests.embedders import HashingEmbedder

from langchain_nearfield import (
    NearfieldDocumentIndex,
    NearfieldEmbeddings,
    NearfieldRetriever,
    NearfieldVectorStore,
)

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")


class TestVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture(params=["cosine", "dot", "euclidean"])
    def vectorstore(self, tmp_path, request):
        with NearfieldVectorStore(
            tmp_path, embedding=self.get_embeddings(), metric=request.param
        ) as store:
            yield store


class DefaultEmbeddings:
    @property
    def embeddings_class(self):
        return NearfieldEmbeddings

    @property
    def embedding_model_params(self):
        return {"embedder": "minilm"}


class TestEmbeddingsUnit(DefaultEmbeddings, EmbeddingsUnitTests):
    pass


class TestEmbeddingsIntegration(DefaultEmbeddings, EmbeddingsIntegrationTests):
    pass


class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True, params=["similarity", "mmr", "keyword", "hybrid"])
    def filled(self, tmp_path, request):
        with NearfieldVectorStore(tmp_path, embedding=HashingEmbedder(64)) as store:
            store.add_texts([f"the kettle of house {n} boils water" for n in range(9)])
            self.store, self.search_type = store, request.param
            yield

    @property
    def retriever_constructor(self):
        return NearfieldRetriever

    @property
    def retriever_constructor_params(self):
        return {"vectorstore": self.store, "search_type": self.search_type}

    @property
    def retriever_query_example(self):
        return "boil water in a kettle"


class TestDocumentIndex(DocumentIndexerTestSuite):
    @pytest.fixture
    def index(self, tmp_path):
        with NearfieldVectorStore(tmp_path, embedding=HashingEmbedder(64)) as store:
            yield NearfieldDocumentIndex(vectorstore=store)

    def test_it_retrieves_too(self, index):
        index.upsert([Document("the kettle boils"), Document("cats purr")])
        assert index.invoke("a kettle", k=1)[0].page_content == "the kettle boils"


class TestDocumentIndexAsync(AsyncDocumentIndexTestSuite):
    @pytest.fixture
    async def index(self, tmp_path):
        async with NearfieldVectorStore(tmp_path, embedding=HashingEmbedder(64)) as store:
            yield NearfieldDocumentIndex(vectorstore=store)
