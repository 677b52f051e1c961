"""Reranking: the best candidates of a search, judged by a model that reads them with the query."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.embedders import HashingEmbedder
from tests.models import save_random_cross_encoder
from tests.rerankers import OverlapReranker, overlap

import nearfield
from nearfield import Document
from nearfield.errors import (
    InvalidInputError,
    MissingDependencyError,
    NearfieldError,
    RerankingError,
)
from nearfield.ranking import maximal_marginal_relevance
from nearfield.rerankers import CrossEncoderReranker, Reranker, contract, load

WORDS = "wing flow shock heat plate layer drag lift jet body nose cone".split()
QUERY = "heat flow over a plate"


def made_documents(count=120, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Document(
            " ".join(rng.choice(WORDS, rng.integers(1, 7))),
            id=f"d{number}",
            metadata={"even": number % 2 == 0},
        )
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    with nearfield.open(
        tmp_path_factory.mktemp("db"), embedder=HashingEmbedder(32), durability="normal"
    ) as opened:
        opened.upsert(made_documents())
        yield opened


@pytest.fixture
def reranker():
    return OverlapReranker()


def by_hand(hits, query, k):
    """Rerank hits the obvious way."""
    judged = [(overlap(query, hit.text), hit.id) for hit in hits]
    return sorted(judged, key=lambda pair: (-pair[0], pair[1]))[:k]


def scored(hits):
    return [(hit.score, hit.id) for hit in hits]


# ── what comes back ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", ["vector", "keyword", "hybrid"])
@pytest.mark.parametrize("options", [{}, {"where": {"even": True}}, {"ids": ["d1", "d4", "d7"]}])
def test_the_best_candidates_of_each_mode_are_judged_anew(collection, reranker, mode, options):
    candidates = collection.search(QUERY, k=30, mode=mode, **options)
    hits = collection.search(QUERY, k=5, mode=mode, rerank=reranker, candidates=30, **options)
    assert scored(hits) == by_hand(candidates, QUERY, 5)
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    assert [hit.relevance for hit in hits] == [hit.score for hit in hits]
    assert {hit.id: hit.document for hit in candidates}.items() >= {
        hit.id: hit.document for hit in hits
    }.items()
    assert reranker.calls == [(QUERY, len(candidates))]


def test_four_candidates_a_hit_are_judged_unless_told_and_fifty_at_least(collection, reranker):
    collection.search(QUERY, k=3, rerank=reranker)
    collection.search(QUERY, k=20, rerank=reranker)
    collection.search(QUERY, k=20, rerank=reranker, candidates=5)  # never fewer than k
    assert [count for _, count in reranker.calls] == [50, 80, 20]


def test_the_weight_of_the_vectors_decides_which_candidates_are_found(collection, reranker):
    for alpha in (0.0, 1.0):
        options = {"mode": "hybrid", "alpha": alpha}
        candidates = collection.search(QUERY, k=8, **options)
        hits = collection.search(QUERY, k=8, candidates=8, rerank=reranker, **options)
        assert scored(hits) == by_hand(candidates, QUERY, 8)


@settings(max_examples=40)
@given(
    query=st.lists(st.sampled_from([*WORDS, "none"]), min_size=1, max_size=5).map(" ".join),
    k=st.integers(1, 130),
    even=st.sampled_from([None, True, False]),
    least=st.sampled_from([None, 0.0, 0.2, 0.5, 1.1]),
)
def test_with_candidates_enough_the_result_is_the_full_order_of_the_reranker(
    collection, query, k, even, least
):
    where = None if even is None else {"even": even}
    expected = sorted(
        (
            (overlap(query, document.text), document.id)
            for document in collection.scan(where=where)
            if least is None or overlap(query, document.text) >= least
        ),
        key=lambda pair: (-pair[0], pair[1]),
    )
    hits = collection.search(
        query, k=k, where=where, min_score=least, rerank=OverlapReranker(), candidates=120
    )
    assert scored(hits) == expected[:k]


def test_a_minimum_score_is_held_against_the_reranker(collection, reranker):
    # The cosine of no document comes near 0.99, which is no reason to leave it out.
    hits = collection.search("wing flow", k=100, rerank=reranker, min_score=0.6)
    assert hits
    assert min(hit.score for hit in hits) >= 0.6
    assert collection.search("wing flow", rerank=reranker, min_score=1.5) == []


@pytest.mark.parametrize("include", [(), ("metadata",), ("embedding",), ("text", "embedding")])
def test_only_the_parts_that_were_asked_for_come_back(collection, reranker, include):
    plain = {hit.id: hit for hit in collection.search(QUERY, k=50, include=include)}
    for diversity in (None, 0.3):
        hits = collection.search(QUERY, k=5, rerank=reranker, diversity=diversity, include=include)
        for hit in hits:
            assert hit.document == plain[hit.id].document
            given, expected = hit.document.embedding, plain[hit.id].document.embedding
            assert (given is None) == (expected is None)
            if given is not None:
                np.testing.assert_array_equal(given, expected)
    assert all(hit.score > 0 for hit in hits)  # it had texts to read


def test_diversity_is_traded_against_the_rerankers_relevance(collection, reranker):
    pool = collection.search(
        QUERY, k=40, rerank=reranker, candidates=40, include=("text", "embedding")
    )
    order = maximal_marginal_relevance(
        [hit.score for hit in pool], np.stack([hit.document.embedding for hit in pool]), 6, 0.5
    )
    hits = collection.search(QUERY, k=6, rerank=reranker, candidates=40, diversity=0.5)
    assert [hit.id for hit in hits] == [pool[index].id for index in order]
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5, 6]
    assert hits[0].score == max(hit.score for hit in pool)


def test_the_text_of_an_example_is_the_query(collection, reranker):
    text = collection.get("d3").text
    candidates = collection.search(like="d3", k=10)
    hits = collection.search(like="d3", k=4, rerank=reranker, candidates=10)
    assert scored(hits) == by_hand(candidates, text, 4)
    assert "d3" not in {hit.id for hit in hits}
    collection.search(like="d3", k=4, rerank=reranker, candidates=10, where={"even": True})
    assert reranker.calls == [(text, 10), (text, 10)]  # also where it would not be among them


def test_a_text_with_a_vector_of_its_own_can_be_reranked(collection, reranker):
    [vector] = HashingEmbedder(32).embed_queries(["lift"])
    candidates = collection.search(vector, k=10)
    hits = collection.search(QUERY, vector=vector, k=3, rerank=reranker, candidates=10)
    assert scored(hits) == by_hand(candidates, QUERY, 3)


def test_several_queries_are_judged_each_by_its_own_text(collection, reranker):
    queries = [QUERY, "shock on a cone", "zzzz"]
    for mode in ("vector", "keyword", "hybrid"):
        many = collection.search_many(queries, k=4, mode=mode, rerank=reranker)
        one_by_one = [collection.search(q, k=4, mode=mode, rerank=reranker) for q in queries]
        assert many == one_by_one


# ── what is refused, and what is not asked ───────────────────────────────────────────────────────


def test_a_vector_alone_cannot_be_reranked(collection, reranker):
    vector = np.ones(32, np.float32)
    for search in (
        lambda: collection.search(vector, rerank=reranker),
        lambda: collection.search(vector=vector, rerank=reranker),
        lambda: collection.search_many([vector, vector], rerank=reranker),
    ):
        with pytest.raises(InvalidInputError, match="rerank= reads texts"):
            search()
    assert reranker.calls == []


def test_an_example_without_a_text_cannot_be_reranked(tmp_path, reranker):
    with nearfield.open(tmp_path, dimension=2) as opened:
        opened.upsert(
            [Document(text, id=name) for text, name in [(" ", "a"), ("wing", "b")]],
            vectors=np.eye(2),
        )
        assert opened.search(like="b", rerank=reranker)[0].id == "a"
        with pytest.raises(InvalidInputError, match="'a' has no text"):
            opened.search(like="a", rerank=reranker)
    assert len(reranker.calls) == 1


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("cross-encoder:some-model", "load it once and keep it"),
        (OverlapReranker, "expected an object"),
        (True, "of type bool"),
        (HashingEmbedder(4), "of type HashingEmbedder"),
    ],
)
def test_what_is_no_reranker_is_refused(collection, value, told):
    with pytest.raises(InvalidInputError, match=told):
        collection.search(QUERY, rerank=value)


def test_candidates_without_a_reason_are_refused(collection):
    with pytest.raises(InvalidInputError, match="rerank= or diversity="):
        collection.search(QUERY, candidates=20)


def test_without_a_candidate_the_model_is_not_asked(collection, reranker):
    assert collection.search("zzzz", mode="keyword", rerank=reranker) == []
    assert collection.search(QUERY, where={"even": "maybe"}, rerank=reranker) == []
    assert collection.search_many(["zzzz"], mode="keyword", rerank=reranker) == [[]]
    assert collection.search_many([], rerank=reranker) == []
    assert reranker.calls == []


class Returning:
    """A reranker that returns what it was made with."""

    name = "returning"

    def __init__(self, value):
        self.value = value

    def rerank(self, *_):
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([0.5], r"shape \(1,\) for 2 texts"),
        ([[0.5, 0.5]], r"shape \(1, 2\)"),
        ([0.5, float("nan")], "nan for text 1 of 2"),
        ([0.5, float("inf")], "inf for text 1 of 2"),
        ([-0.1, 0.5], "-0.1 for text 0 of 2"),
        ([0.5, 7.25], "7.25 for text 1 of 2.*logistic"),
        (["0.5", "0.5"], "array of shape"),
        ([True, False], "bool array"),
        ([[0.5], [0.5, 0.5]], "a list"),
        (None, "shape"),
        (OSError("no such model"), "failed on 2 texts: OSError: no such model"),
    ],
)
def test_what_a_reranker_returns_is_checked(value, told):
    with pytest.raises(RerankingError, match=told) as refusal:
        contract.rerank(Returning(value), "query", ["a", "b"])
    assert "'returning'" in str(refusal.value)


def test_nearfields_own_errors_pass_through():
    error = InvalidInputError("the text is too long")
    with pytest.raises(InvalidInputError, match="too long"):
        contract.rerank(Returning(error), "query", ["a", "b"])


def test_relevances_of_any_number_type_become_float64_in_range():
    for value in ([0, 1], np.array([0, 1], np.float16), (-1e-7, 1 + 1e-7)):
        relevances = contract.rerank(Returning(value), "query", ["a", "b"])
        assert relevances.dtype == np.float64
        assert relevances.tolist() == [0.0, 1.0]


# ── threads and tasks ────────────────────────────────────────────────────────────────────────────


async def test_asynchronous_searches_rerank_on_another_thread(collection, reranker):
    expected = collection.search(QUERY, k=5, rerank=OverlapReranker())
    assert await collection.asearch(QUERY, k=5, rerank=reranker) == expected
    assert await collection.asearch_many([QUERY], k=5, rerank=reranker) == [expected]
    like = collection.search(like="d3", k=5, rerank=OverlapReranker())
    assert await collection.asearch(like="d3", k=5, rerank=reranker) == like
    assert len(reranker.calls) == 3
    assert threading.get_ident() not in reranker.threads
    with pytest.raises(InvalidInputError, match="rerank= reads texts"):
        await collection.asearch(np.ones(32, np.float32), rerank=reranker)


async def test_the_event_loop_goes_on_while_a_reranker_works(collection):
    released = threading.Event()

    class Waiting(OverlapReranker):
        def rerank(self, query, texts):
            if not released.wait(30):
                raise TimeoutError
            return super().rerank(query, texts)

    search = asyncio.create_task(collection.asearch(QUERY, rerank=Waiting()))
    await asyncio.sleep(0)  # were the loop blocked, nothing could release the reranker
    released.set()
    assert len(await search) == 10


def test_eight_threads_at_once_get_what_one_gets(collection, reranker):
    queries = [f"{first} {second}" for first in WORDS for second in WORDS[:3]]
    expected = [collection.search(query, k=5, rerank=reranker) for query in queries]
    with ThreadPoolExecutor(8) as pool:
        found = list(
            pool.map(lambda query: collection.search(query, k=5, rerank=reranker), queries)
        )
    assert found == expected


# ── names ────────────────────────────────────────────────────────────────────────────────────────


def test_a_reranker_is_loaded_as_it_is(reranker):
    assert isinstance(reranker, Reranker)
    assert load(reranker) is reranker


@pytest.mark.parametrize("spec", ["minilm", "cross-encoder", "cross-encoder:", "other:name"])
def test_an_unknown_name_is_refused(spec):
    with pytest.raises(InvalidInputError, match="'cross-encoder:NAME'"):
        load(spec)


@pytest.mark.parametrize("option", ["max_length=long", "colour=red", "batch_size="])
def test_an_unknown_option_is_refused(option):
    with pytest.raises(InvalidInputError, match="expected some of device=NAME"):
        load(f"cross-encoder:some-model?{option}")


def test_without_its_package_a_cross_encoder_says_what_to_install(monkeypatch):
    monkeypatch.setattr("nearfield.rerankers.cross_encoder.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"nearfield\[sentence-transformers\]"):
        load("cross-encoder:some-model")


# ── cross-encoders ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def cross_encoder_folder(tmp_path_factory):
    """Plumbing alone: models with random weights, one that ranks and one that classifies."""
    folder = tmp_path_factory.mktemp("cross-encoders")
    save_random_cross_encoder(folder / "ranker", WORDS)
    save_random_cross_encoder(folder / "classifier", WORDS, labels=3)
    return folder


TEXTS = ["heat flow over a plate", "wing", "", "shock cone " * 40, "drag", "heat heat lift"]


def test_a_cross_encoder_judges_by_the_logistic_function_of_its_logit(cross_encoder_folder):
    from sentence_transformers import CrossEncoder
    from torch import nn

    model = CrossEncoder(str(cross_encoder_folder / "ranker"), device="cpu")
    logits = model.predict([(QUERY, text) for text in TEXTS], activation_fn=nn.Identity())
    reranker = CrossEncoderReranker(cross_encoder_folder / "ranker", device="cpu")
    relevances = contract.rerank(reranker, QUERY, TEXTS)
    np.testing.assert_allclose(relevances, 1 / (1 + np.exp(-logits.astype(float))), atol=1e-6)
    assert np.ptp(relevances) > 0.01
    passed_in = CrossEncoderReranker(model)
    np.testing.assert_allclose(contract.rerank(passed_in, QUERY, TEXTS), relevances, atol=1e-6)


def test_a_cross_encoders_judgement_does_not_depend_on_the_other_texts(cross_encoder_folder):
    reranker = CrossEncoderReranker(cross_encoder_folder / "ranker", batch_size=4)
    together = reranker.rerank(QUERY, TEXTS)
    alone = [reranker.rerank(QUERY, [text])[0] for text in TEXTS]
    np.testing.assert_allclose(alone, together, atol=2e-6)
    assert reranker.rerank(QUERY, []).shape == (0,)


def test_a_cross_encoder_is_loaded_at_its_first_use_and_used_by_any_thread(
    cross_encoder_folder, collection
):
    reranker = load(f"cross-encoder:{cross_encoder_folder / 'ranker'}?batch_size=8&device=cpu")
    assert isinstance(reranker, Reranker)
    assert reranker.name.endswith("ranker")
    assert reranker._model is None
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: collection.search(QUERY, k=5, rerank=reranker), range(4)))
    assert all([hit.id for hit in hits] == [hit.id for hit in found[0]] for hits in found)
    assert [hit.score for hit in found[0]] == sorted((hit.score for hit in found[0]), reverse=True)


def test_a_shorter_sequence_cuts_what_a_cross_encoder_reads(cross_encoder_folder):
    folder = cross_encoder_folder / "ranker"
    short = load(f"cross-encoder:{folder}?max_length=8").rerank(
        "heat", ["wing " * 20, "wing " * 30]
    )
    whole = load(f"cross-encoder:{folder}").rerank("heat", ["wing " * 3, "wing " * 10])
    assert short[0] == pytest.approx(short[1], abs=1e-6)
    assert abs(whole[0] - whole[1]) > 1e-4


def test_weights_of_half_precision_judge_nearly_alike(cross_encoder_folder):
    folder = cross_encoder_folder / "ranker"
    full = CrossEncoderReranker(folder, dtype="float32", device="cpu").rerank(QUERY, TEXTS)
    half = CrossEncoderReranker(folder, dtype="bfloat16", device="cpu").rerank(QUERY, TEXTS)
    np.testing.assert_allclose(half, full, atol=0.05)
    assert not np.array_equal(half, full)


def test_a_model_that_classifies_or_is_not_there_is_refused(cross_encoder_folder):
    for model, told in [("classifier", "has 3 labels, expected one"), ("absent", "could not load")]:
        reranker = CrossEncoderReranker(cross_encoder_folder / model)
        with pytest.raises(RerankingError, match=told):
            reranker.rerank(QUERY, ["a"])


def test_bad_options_of_a_cross_encoder_are_refused(cross_encoder_folder):
    from sentence_transformers import CrossEncoder

    folder = cross_encoder_folder / "ranker"
    for options in ({"batch_size": 0}, {"max_length": 0}, {"dtype": "int4"}):
        with pytest.raises(InvalidInputError, match=next(iter(options))):
            CrossEncoderReranker(folder, **options)
    with pytest.raises(InvalidInputError, match="loaded by its name"):
        CrossEncoderReranker(CrossEncoder(str(folder)), max_length=12)
    with pytest.raises(NearfieldError, match="surrogate"):
        CrossEncoderReranker(folder).rerank("bro\ud800ken", ["a"])
