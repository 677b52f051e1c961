"""Retrievers: types of search, arguments, scores, and how they run."""

from __future__ import annotations

import asyncio
import time

import pytest

pytest.importorskip("langchain_core", reason="langchain-core is not installed")

from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import VectorStoreRetriever
from tests.embedders import HashingEmbedder
from tests.rerankers import OverlapReranker, overlap

from langchain_nearfield import NearfieldRetriever, NearfieldVectorStore, SearchType
from nearfield import F
from nearfield.errors import InvalidInputError

TEXTS = ["the kettle boils", "the kettle is old", "cats purr", "an old cat", "snow falls"]


@pytest.fixture
def store(tmp_path):
    with NearfieldVectorStore(tmp_path, embedding=HashingEmbedder(256)) as store:
        store.add_texts(TEXTS, [{"n": n} for n in range(5)], ids=list("abcde"))
        yield store


def ids(documents):
    return [document.id for document in documents]


@pytest.mark.parametrize("search_type", list(SearchType))
def test_every_type_is_found_by_its_name_and_works_both_ways(store, search_type):
    retriever = store.as_retriever(
        search_type=search_type.value,
        search_kwargs={"k": 2, "score_threshold": 0.0, "filter": F.n < 4},
    )
    found = retriever.invoke("the old kettle")
    assert ids(found)[0] == "b"
    assert asyncio.run(retriever.ainvoke("the old kettle")) == found
    assert retriever.batch(["the old kettle"] * 3) == [found] * 3


@pytest.mark.parametrize("search_type", ["similarity", "similarity_score_threshold", "hybrid"])
def test_a_reranker_goes_with_the_other_arguments(store, search_type):
    options = {"k": 2, "rerank": OverlapReranker(), "score_threshold": 0.1}
    retriever = store.as_retriever(
        search_type=search_type, search_kwargs=options, score_key="score"
    )
    found = retriever.invoke("an old kettle")
    judged = zip((-overlap("an old kettle", text) for text in TEXTS), "abcde", strict=True)
    assert [(-each.metadata["score"], each.id) for each in found] == sorted(judged)[:2]
    assert asyncio.run(retriever.ainvoke("an old kettle")) == found


def test_a_retriever_returns_four_documents_unless_told(store):
    assert len(store.as_retriever().invoke("kettle")) == 4
    assert len(store.as_retriever(k=1).invoke("kettle")) == 1
    assert len(NearfieldRetriever(vectorstore=store, k=5).invoke("kettle", k=2)) == 2


def test_arguments_of_a_call_come_before_those_of_the_retriever(store):
    retriever = store.as_retriever(search_kwargs={"filter": {"n": 0}})
    assert ids(retriever.invoke("kettle")) == ["a"]
    assert ids(retriever.invoke("kettle", filter={"n": 1})) == ["b"]


def test_a_threshold_cuts_by_relevance_in_every_type(store):
    for search_type in ("similarity", "similarity_score_threshold", "hybrid", "mmr"):
        retriever = store.as_retriever(
            search_type=search_type, search_kwargs={"score_threshold": 0.6}
        )
        assert "e" not in ids(retriever.invoke("the kettle boils"))
        assert ids(retriever.invoke("the kettle boils"))[0] == "a"
    whole = store.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": 1}
    )
    assert len(whole.invoke("something else")) == 0


def test_scores_are_in_the_metadata_on_request(store):
    retriever = store.as_retriever(score_key="score", k=2)
    found = retriever.invoke("the kettle boils")
    assert [d.metadata["score"] for d in found] == [
        score for _, score in store.similarity_search_with_score("the kettle boils", k=2)
    ]
    assert found[0].metadata["n"] == 0
    assert "score" not in store.as_retriever().invoke("kettle")[0].metadata


@pytest.mark.parametrize(
    "arguments",
    [
        {"search_type": "closest"},
        {"search_type": "similarity_score_threshold"},
        {"search_type": "similarity_score_threshold", "search_kwargs": {"score_threshold": 1.5}},
        {"search_kwargs": {"score_threshold": "high"}},
    ],
)
def test_a_bad_retriever_is_refused_when_it_is_made(store, arguments):
    with pytest.raises(ValueError, match=r"search_type is|score_threshold is"):
        store.as_retriever(**arguments)


def test_it_is_a_vector_store_retriever_with_tags_and_tracing_parameters(store):
    retriever = store.as_retriever()
    assert isinstance(retriever, VectorStoreRetriever)
    assert retriever.tags == ["NearfieldVectorStore", "NearfieldEmbeddings"]
    parameters = retriever._get_ls_params()
    assert parameters["ls_vector_store_provider"] == "NearfieldVectorStore"
    assert parameters["ls_embedding_provider"] == "NearfieldEmbeddings"


def test_documents_can_be_added_through_a_retriever(store):
    retriever = store.as_retriever()
    [found] = retriever.invoke("the kettle boils", k=1)
    found.page_content = "zebras run"
    assert retriever.add_documents([found]) == ["a"]
    assert ids(retriever.invoke("zebras", k=1)) == ["a"]


def test_it_composes_with_runnables(store):
    chain = {"context": store.as_retriever(k=1), "question": RunnablePassthrough()}
    answer = (RunnablePassthrough() | chain).invoke("cats purr")
    assert ids(answer["context"]) == ["c"]
    assert answer["question"] == "cats purr"


async def test_searches_on_one_loop_do_not_wait_for_each_other(store):
    class Slow(HashingEmbedder):
        def embed_queries(self, texts):
            time.sleep(0.05)
            return super().embed_queries(texts)

    store.collection._embedder = Slow(256)
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    ticking = asyncio.create_task(tick())
    await asyncio.gather(*(store.as_retriever().ainvoke("kettle") for _ in range(8)))
    ticking.cancel()
    assert ticks > 5


def test_a_field_that_the_retriever_does_not_have_is_refused(store):
    with pytest.raises(ValueError, match="filter"):
        store.as_retriever(filter={"n": 1})


@pytest.mark.parametrize("share", [-0.1, 1.1, "half"])
def test_a_lambda_mult_out_of_range_is_refused_by_its_name(store, share):
    with pytest.raises(InvalidInputError, match="lambda_mult"):
        store.as_retriever(search_type="mmr", search_kwargs={"lambda_mult": share}).invoke("cat")
    with pytest.raises(InvalidInputError, match="lambda_mult"):
        store.max_marginal_relevance_search("cat", lambda_mult=share)
    with pytest.raises(InvalidInputError, match="lambda_mult"):
        asyncio.run(store.amax_marginal_relevance_search("cat", lambda_mult=share))
