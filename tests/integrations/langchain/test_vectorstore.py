"""The LangChain vector store: what its users expect, and what others' stores let them down in."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("langchain_core", reason="langchain-core is not installed")

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.structured_query import Comparator, Comparison, StructuredQuery
from tests.embedders import HashingEmbedder

import nearfield
from langchain_nearfield import NearfieldEmbeddings, NearfieldVectorStore
from nearfield import F
from nearfield.errors import (
    ClosedError,
    CollectionNotFoundError,
    DimensionMismatchError,
    EmbedderMismatchError,
    FilterError,
    InvalidInputError,
    ReadOnlyError,
)

TEXTS = [
    "the kettle boils water in the kitchen",
    "cats purr at night",
    "a cat and a kettle in the kitchen",
    "mountains are covered with snow",
    "snow melts to water in spring",
]
METADATAS = [
    {"n": n, "room": "kitchen" if "kitchen" in text else None} for n, text in enumerate(TEXTS)
]


@pytest.fixture
def store(tmp_path):
    with NearfieldVectorStore(tmp_path / "data", embedding=HashingEmbedder(256)) as store:
        yield store


@pytest.fixture
def filled(store):
    store.add_texts(TEXTS, METADATAS, ids=list("abcde"))
    return store


class Slow(Embeddings):
    """Embeddings that can only be awaited, as those behind a network are."""

    def __init__(self):
        self.own = NearfieldEmbeddings(HashingEmbedder(32))
        self.awaited = 0

    def embed_query(self, text):
        raise AssertionError(f"{text!r} was embedded without await")

    embed_documents = embed_query

    async def aembed_documents(self, texts):
        self.awaited += 1
        await asyncio.sleep(0)
        return self.own.embed_documents(texts)

    async def aembed_query(self, text):
        self.awaited += 1
        await asyncio.sleep(0)
        return self.own.embed_query(text)


def texts_of(documents):
    return [document.page_content for document in documents]


# ── writing ──────────────────────────────────────────────────────────────────────────────────────


def test_what_was_added_is_found_and_comes_back_whole(store):
    when = datetime(2024, 5, 1, tzinfo=UTC)
    metadata = {"n": 1, "x": 0.5, "ok": True, "none": None, "tags": ["a", "b"], "at": {"deep": [1]}}
    [name] = store.add_documents([Document(TEXTS[0], metadata={**metadata, "when": when})])
    [found] = store.similarity_search("a kettle", k=3)
    assert found == Document(TEXTS[0], metadata={**metadata, "when": when.isoformat()}, id=name)


def test_writing_an_id_again_replaces_text_and_metadata_whole(store):
    store.add_texts(["cats purr"], [{"old": 1}], ids=["a"])
    store.add_texts(["dogs bark"], [{"new": 2}], ids=["a"])
    assert store.get_by_ids(["a"]) == [Document("dogs bark", metadata={"new": 2}, id="a")]
    assert store.similarity_search("cats", filter={"old": 1}) == []


def test_any_string_is_an_id(store):
    names = ["1", "a b", "ключ", "x" * 300, "../../etc", "'; DROP TABLE documents; --"]
    assert store.add_texts([f"text {name}" for name in names], ids=names) == names
    assert [found.id for found in store.get_by_ids(names)] == names


def test_generators_are_read_whole(store):
    documents = (Document(text) for text in TEXTS)
    assert len(store.add_documents(documents)) == 5
    assert len(store.add_texts((text for text in TEXTS), (m for m in METADATAS))) == 5
    assert store.collection.count() == 10


async def test_generators_are_read_whole_by_the_async_twins(store):
    assert len(await store.aadd_documents(Document(text) for text in TEXTS)) == 5
    assert len(await store.aadd_texts(text for text in TEXTS)) == 5
    assert await store.collection.acount() == 10


def test_documents_with_and_without_ids_mix(store):
    names = store.add_documents(
        [Document("one", id="1"), Document("two"), Document("three", id="3")]
    )
    assert (names[0], names[2]) == ("1", "3")
    assert names[1]
    assert texts_of(store.get_by_ids(names)) == ["one", "two", "three"]


def test_ids_that_are_passed_come_before_those_of_the_documents(store):
    assert store.add_documents([Document("one", id="1")], ids=["x"]) == ["x"]
    assert store.add_documents([Document("one", id="1")], ids=None) == ["1"]


def test_lengths_that_differ_are_refused_and_nothing_is_written(store):
    for arguments in (
        {"metadatas": [{}]},
        {"ids": ["a"]},
        {"metadatas": []},
        {"ids": ["a", "b", "c"]},
    ):
        with pytest.raises(InvalidInputError, match="2 texts"):
            store.add_texts(["one", "two"], **arguments)
    assert store.collection.count() == 0


def test_empty_batches_are_nothing_to_do(store, tmp_path):
    assert store.add_texts([]) == []
    assert store.add_documents([]) == []
    assert store.add_embeddings([]) == []
    assert store.get_by_ids([]) == []
    with NearfieldVectorStore.from_texts([], HashingEmbedder(8), url=tmp_path / "none") as empty:
        assert empty.similarity_search("anything") == []


def test_an_argument_that_is_not_known_is_refused(store):
    with pytest.raises(InvalidInputError, match="docs"):
        store.add_texts(["one"], docs=1)
    with pytest.raises(TypeError, match="nprobe"):
        store.similarity_search("one", nprobe=3)
    assert store.collection.count() == 0


def test_six_thousand_texts_are_one_call(store):
    assert len(store.add_texts(f"text {n}" for n in range(6_000))) == 6_000
    assert store.collection.count() == 6_000


def test_batches_are_written_as_they_are_ready(store):
    class Failing(HashingEmbedder):
        def embed_documents(self, texts):
            if "last" in texts:
                raise OSError("the network is gone")
            return super().embed_documents(texts)

    store.collection._embedder = Failing(256)
    with pytest.raises(RuntimeError, match="network"):
        store.add_texts(["one", "two", "three", "last"], batch_size=2)
    assert sorted(found.text for found in store.collection.scan()) == ["one", "two"]
    with pytest.raises(RuntimeError, match="network"):
        store.add_texts(["four", "last"])
    assert store.collection.count() == 2


def test_what_the_caller_passes_stays_as_it_was(filled):
    metadatas, where = copy.deepcopy(METADATAS), {"$and": [{"n": {"$gte": 1}}, {"n": {"$lt": 3}}]}
    documents = [Document("one", metadata=metadatas[0])]
    kept = copy.deepcopy((metadatas, where, documents))
    filled.add_documents(documents)
    filled.add_texts(TEXTS, metadatas)
    [first, *_] = filled.similarity_search("one", filter=where)
    first.metadata["mine"] = 1
    assert (metadatas, where, documents) == kept
    assert "mine" not in filled.similarity_search("one", filter=where)[0].metadata


def test_embeddings_can_be_given(store):
    embedder = HashingEmbedder(256)
    pairs = [(text, embedder.embed_documents([text])[0].tolist()) for text in TEXTS]
    assert store.add_embeddings(iter(pairs), METADATAS, ids=list("abcde")) == list("abcde")
    [(found, score)] = store.similarity_search_with_score_by_vector(pairs[1][1], k=1)
    assert (found.id, score) == ("b", pytest.approx(1.0))
    with pytest.raises(DimensionMismatchError, match="256"):
        store.add_embeddings([("short", [1.0, 2.0])])


def test_an_acknowledged_text_survives_kill_9(tmp_path):
    code = """
        import os, signal, sys
        from langchain_nearfield import NearfieldVectorStore
        from tests.embedders import HashingEmbedder
        store = NearfieldVectorStore(sys.argv[1], embedding=HashingEmbedder(32))
        store.add_texts(["acknowledged"], ids=["a"])
        os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        cwd=Path(__file__).parents[3],
        check=False,
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL
    with NearfieldVectorStore(tmp_path, embedding=HashingEmbedder(32)) as store:
        assert texts_of(store.get_by_ids(["a"])) == ["acknowledged"]


# ── deleting and fetching ────────────────────────────────────────────────────────────────────────


def test_deletion_by_id_filter_or_both(filled):
    assert filled.delete(["a", "no such id"]) is True
    assert filled.delete(["b", "c"], filter=F.n == 2) is True
    assert [found.id for found in filled.get_by_ids(list("abcde"))] == ["b", "d", "e"]
    assert filled.delete(filter={"n": {"$gte": 3}}) is True
    assert [found.id for found in filled.get_by_ids(list("abcde"))] == ["b"]
    assert filled.delete([]) is True
    assert filled.collection.count() == 1


async def test_nothing_is_deleted_by_leaving_something_out(filled):
    for arguments in ({}, {"ids": None}, {"ids": None, "filter": None}, {"filter": {}}):
        with pytest.raises(InvalidInputError, match="drop"):
            filled.delete(**arguments)
        with pytest.raises(InvalidInputError, match="drop"):
            await filled.adelete(**arguments)
    assert filled.collection.count() == 5


def test_documents_come_back_in_the_order_asked_for(filled):
    assert [found.id for found in filled.get_by_ids(["e", "no", "a", "c"])] == ["e", "a", "c"]


# ── searching ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("where", [{"n": {"$in": [1, 3]}}, F.n.in_([1, 3])])
def test_a_filter_never_costs_results(filled, where):
    filled.add_texts(["the kettle boils"] * 200, [{"n": 100}] * 200)
    found = filled.similarity_search("kettle", k=2, filter=where)
    assert sorted(document.metadata["n"] for document in found) == [1, 3]


def test_every_spelling_of_a_filter_finds_the_same(filled):
    comparison = Comparison(Comparator.GTE, "n", 3)
    spellings = [
        F.n >= 3,
        {"n": {"$gte": 3}},
        comparison,
        StructuredQuery("water", comparison),
    ]
    found = [filled.similarity_search("water", filter=each) for each in spellings]
    assert [document.id for document in found[0]] == ["e", "d"]
    assert all(each == found[0] for each in found)


@pytest.mark.parametrize(
    "where", [lambda metadata: "n" in metadata, "n = 3", {"n": {"$regex": "x"}}, {"n": [1]}, 7]
)
def test_what_is_no_filter_is_refused(filled, where):
    with pytest.raises(FilterError):
        filled.similarity_search("water", filter=where)


@pytest.mark.parametrize(
    "key", ["n' OR 1=1 --", 'n"]', "$.n", "n; DROP TABLE documents", "a') OR ('1"]
)
def test_nothing_in_a_filter_becomes_part_of_a_statement(filled, key):
    for value in (1, key):
        assert filled.similarity_search("water", filter=F[key] == value) == []
        assert len(filled.similarity_search("water", k=9, filter=~(F[key] == value))) == 5
    assert filled.collection.check().ok


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_scores_rise_with_similarity_and_relevance_stays_between_0_and_1(tmp_path, metric):
    embedding = DeterministicFakeEmbedding(size=16)  # of any length and sign
    with NearfieldVectorStore(tmp_path, embedding=embedding, metric=metric) as store:
        store.add_texts([f"text {n}" for n in range(60)])
        query = np.array(embedding.embed_query("text 7"))
        stored = {
            text: np.array(embedding.embed_query(text)) for text in map("text {}".format, range(60))
        }
        similarity = {
            "cosine": lambda v: v @ query / np.linalg.norm(v) / np.linalg.norm(query),
            "dot": lambda v: v @ query,
            "euclidean": lambda v: 1 / (1 + np.linalg.norm(v - query)),
        }[metric]
        expected = sorted(((similarity(v), text) for text, v in stored.items()), reverse=True)
        found = store.similarity_search_with_score("text 7", k=60)
        assert texts_of(document for document, _ in found) == [text for _, text in expected]
        assert [score for _, score in found] == pytest.approx(
            [s for s, _ in expected], rel=1e-4, abs=1e-5
        )
        relevance = [r for _, r in store.similarity_search_with_relevance_scores("text 7", k=60)]
        assert relevance == sorted(relevance, reverse=True)
        assert 0 <= relevance[-1] < relevance[0] <= 1
        by_function = store._select_relevance_score_fn()
        assert [by_function(score) for _, score in found] == pytest.approx(relevance)


def test_lambda_mult_1_is_relevance_and_0_is_difference(filled):
    plain = filled.similarity_search("kettle kitchen water", k=3)
    same = filled.max_marginal_relevance_search("kettle kitchen water", k=3, lambda_mult=1.0)
    assert same == plain
    filled.add_texts([TEXTS[0]] * 5, [{"n": 0}] * 5)
    relevant = filled.max_marginal_relevance_search(TEXTS[0], k=4, fetch_k=10, lambda_mult=1.0)
    different = filled.max_marginal_relevance_search(TEXTS[0], k=4, fetch_k=10, lambda_mult=0.0)
    assert set(texts_of(relevant)) == {TEXTS[0]}
    assert len(set(texts_of(different))) == 4


def test_mmr_picks_from_fetch_k_documents(filled):
    best = texts_of(filled.similarity_search("kettle", k=3))
    picked = filled.max_marginal_relevance_search("kettle", k=3, fetch_k=3, lambda_mult=0.0)
    assert sorted(texts_of(picked)) == sorted(best)
    by_vector = filled.max_marginal_relevance_search_by_vector(
        filled.embeddings.embed_query("kettle"), k=3, fetch_k=3, lambda_mult=0.0
    )
    assert by_vector == picked


def test_words_and_both_are_searched_too(filled):
    assert texts_of(filled.similarity_search("a mountain", mode="keyword")) == [TEXTS[3]]
    hybrid = filled.similarity_search("purr kettle", k=3, mode="hybrid", alpha=0.2)
    assert TEXTS[1] in texts_of(hybrid)


def test_a_search_can_be_kept_among_ids(filled):
    assert {d.id for d in filled.similarity_search("kettle", ids=["b", "d"])} == {"b", "d"}


def test_search_takes_every_type_by_name(filled):
    for search_type in ("similarity", "mmr", "keyword", "hybrid"):
        assert filled.search("kettle water", search_type, k=2)
    assert filled.search("kettle", "similarity_score_threshold", score_threshold=0.9) == []
    with pytest.raises(InvalidInputError, match="mmr"):
        filled.search("kettle", "closest")


async def test_fetch_k_of_other_stores_is_taken_and_not_needed(filled):
    plain = filled.similarity_search("kettle", k=2)
    assert filled.similarity_search("kettle", k=2, fetch_k=50) == plain
    assert await filled.asimilarity_search("kettle", k=2, fetch_k=1) == plain
    assert [d for d, _ in filled.similarity_search_with_score("kettle", k=2, fetch_k=1)] == plain
    assert filled.as_retriever(search_kwargs={"k": 2, "fetch_k": 1}).invoke("kettle") == plain


@pytest.mark.parametrize("k", [0, -1, 1.5, "4", None])
def test_a_bad_k_is_refused(filled, k):
    with pytest.raises(InvalidInputError, match="k"):
        filled.similarity_search("kettle", k=k)


# ── opening ──────────────────────────────────────────────────────────────────────────────────────


def test_a_store_is_there_again_without_a_call_to_save_it(tmp_path):
    embedding = DeterministicFakeEmbedding(size=16)
    NearfieldVectorStore.from_texts(TEXTS, embedding, METADATAS, url=tmp_path).close()
    with NearfieldVectorStore.from_existing(tmp_path, embedding=embedding) as store:
        assert len(store.similarity_search("cats", k=9)) == 5
        assert store.embeddings is embedding


def test_a_store_that_is_not_there_is_only_made_when_asked(tmp_path):
    with pytest.raises(CollectionNotFoundError):
        NearfieldVectorStore.from_existing(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_other_embeddings_are_refused_before_anything_is_written(tmp_path):
    NearfieldVectorStore.from_texts(
        TEXTS, DeterministicFakeEmbedding(size=16), url=tmp_path
    ).close()
    for other in (DeterministicFakeEmbedding(size=8), "minilm", HashingEmbedder(16)):
        with pytest.raises(EmbedderMismatchError, match="DeterministicFakeEmbedding"):
            NearfieldVectorStore(tmp_path, embedding=other)


def test_a_read_only_store_refuses_writes(tmp_path):
    NearfieldVectorStore.from_texts(TEXTS, HashingEmbedder(16), url=tmp_path).close()
    with NearfieldVectorStore(tmp_path, embedding=HashingEmbedder(16), read_only=True) as store:
        assert store.similarity_search("cats", k=1)
        for call in (lambda: store.add_texts(["x"]), lambda: store.delete(["x"])):
            with pytest.raises(ReadOnlyError):
                call()


def test_without_a_folder_the_store_is_temporary(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = NearfieldVectorStore.from_documents([Document("cats purr")], HashingEmbedder(16))
    other = NearfieldVectorStore.from_texts(["dogs bark"], HashingEmbedder(16))
    assert len(list(tmp_path.iterdir())) == 2
    assert texts_of(store.similarity_search("cats")) == ["cats purr"]
    store.close()
    assert len(list(tmp_path.iterdir())) == 1
    del other
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_leaves_no_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(InvalidInputError):
        NearfieldVectorStore.from_texts(["x"], HashingEmbedder(16), [{}, {}])
    with pytest.raises(InvalidInputError):
        NearfieldVectorStore.from_texts(["x"], "no such embedder")
    assert not list(tmp_path.iterdir())


def test_an_open_collection_can_be_wrapped(tmp_path):
    collection = nearfield.open(tmp_path, embedder=HashingEmbedder(16))
    collection.upsert(nearfield.Document("cats purr", id="c", metadata={"n": 1}))
    with NearfieldVectorStore.from_collection(collection) as store:
        assert store.similarity_search("cats") == [Document("cats purr", id="c", metadata={"n": 1})]
        assert isinstance(store.embeddings, NearfieldEmbeddings)
    with pytest.raises(ClosedError):
        collection.count()


def test_a_collection_of_given_vectors_has_no_embeddings_until_told(tmp_path):
    with NearfieldVectorStore(tmp_path, dimension=16) as store:
        assert store.embeddings is None
        store.add_embeddings([("cats", [1.0] + [0.0] * 15)])
        with pytest.raises(RuntimeError, match="vectors"):
            store.add_texts(["dogs"])
        assert texts_of(store.similarity_search_by_vector([1.0] * 16)) == ["cats"]
    with NearfieldVectorStore(tmp_path, embedding=DeterministicFakeEmbedding(size=16)) as store:
        assert texts_of(store.similarity_search("cats")) == ["cats"]
    with pytest.raises(EmbedderMismatchError, match="16"):
        NearfieldVectorStore(tmp_path, embedding=DeterministicFakeEmbedding(size=8))


async def test_after_closing_every_call_says_so(filled):
    retriever = filled.as_retriever()
    filled.close()
    await filled.aclose()
    for call in (
        lambda: filled.add_texts(["x"]),
        lambda: filled.similarity_search("x"),
        lambda: filled.get_by_ids(["x"]),
        lambda: filled.delete(["x"]),
        lambda: retriever.invoke("x"),
    ):
        with pytest.raises(ClosedError):
            call()
    with pytest.raises(ClosedError):
        await filled.asimilarity_search("x")


# ── async, threads, processes ────────────────────────────────────────────────────────────────────


async def test_async_calls_await_the_embeddings_and_answer_as_the_others_do(tmp_path):
    slow = Slow()
    store = await NearfieldVectorStore.afrom_documents(
        [Document(text, id=name) for text, name in zip(TEXTS, "abcde", strict=True)],
        nearfield_embedder(slow),
        url=tmp_path,
    )
    async with store:
        assert slow.awaited == 1
        twin = NearfieldVectorStore(tmp_path, embedding=nearfield_embedder(slow.own))
        query, vector = "a kettle", slow.own.embed_query("a kettle")
        for name, arguments in {
            "similarity_search": (query, 3),
            "similarity_search_with_score": (query, 3),
            "similarity_search_with_relevance_scores": (query, 3),
            "similarity_search_by_vector": (vector, 3),
            "similarity_search_with_score_by_vector": (vector, 3),
            "max_marginal_relevance_search": (query, 3),
            "max_marginal_relevance_search_by_vector": (vector, 3),
            "get_by_ids": (["c", "a"],),
            "search": (query, "hybrid"),
        }.items():
            found = await getattr(store, f"a{name}")(*arguments)
            assert found
            assert found == getattr(twin, name)(*arguments)
        twin.close()


def nearfield_embedder(embeddings):
    from langchain_nearfield import LangChainEmbedder

    return LangChainEmbedder(embeddings, model="slow", dimension=32)


def test_eight_threads_write_and_search_at_once(filled):
    barrier = threading.Barrier(8)

    def work(number):
        barrier.wait()
        for turn in range(10):
            name = f"{number}-{turn}"
            filled.add_texts([f"unique{number}x{turn} word"], ids=[name])
            found = filled.similarity_search(f"unique{number}x{turn} word", k=9)
            assert name in {document.id for document in found}
            if turn % 2:
                filled.delete([name])

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work, number) for number in range(8)]:
            future.result()
    assert filled.collection.count() == 5 + 8 * 5


async def test_fifty_tasks_write_and_search_at_once(filled):
    async def work(number):
        name = f"task{number}"
        await filled.aadd_texts([f"unique{number} word"], ids=[name])
        found = await filled.asimilarity_search(f"unique{number} word", k=9)
        assert name in {document.id for document in found}
        assert await filled.adelete([name])

    await asyncio.gather(*(work(number) for number in range(50)))
    assert await filled.collection.acount() == 5


def test_another_process_sees_what_was_written_at_its_next_call(filled, tmp_path):
    code = """
        import sys
        from langchain_nearfield import NearfieldVectorStore
        from tests.embedders import HashingEmbedder
        store = NearfieldVectorStore(sys.argv[1], embedding=HashingEmbedder(256))
        assert len(store.similarity_search("cats", k=9)) == 5
        store.add_texts(["zebras run"], ids=["z"])
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "data")],
        cwd=Path(__file__).parents[3],
        check=True,
        timeout=60,
        env=dict(os.environ),
    )
    assert filled.similarity_search("zebras", k=1)[0].id == "z"


def test_what_is_of_another_kind_is_refused(filled):
    for given in (["text"], [("text",)], [("text", [1.0], "more")]):
        with pytest.raises(InvalidInputError, match="pair"):
            filled.add_embeddings(given)
    for search in (
        filled.similarity_search_by_vector,
        filled.similarity_search_with_score_by_vector,
        filled.max_marginal_relevance_search_by_vector,
    ):
        with pytest.raises(InvalidInputError, match="expected a vector"):
            search("kettle")
    with pytest.raises(InvalidInputError, match="expected what"):
        NearfieldVectorStore.from_collection("data")
    with pytest.raises(ValueError, match="score_threshold"):
        filled.as_retriever(search_kwargs={"score_threshold": True})
    assert filled.as_retriever(search_kwargs=None).invoke("kettle")
    assert filled.collection.count() == 5


def test_one_id_in_place_of_a_list_is_one_id(tmp_path):
    with NearfieldVectorStore(tmp_path, embedding=HashingEmbedder(16)) as store:
        store.add_texts(["one", "two"], ids=["first", "second"])
        assert [found.id for found in store.get_by_ids("first")] == ["first"]
        assert [found.id for found in asyncio.run(store.aget_by_ids("second"))] == ["second"]
        store.delete("first")
        assert store.get_by_ids(["first"]) == []
