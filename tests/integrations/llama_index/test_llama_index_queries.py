"""The query modes: what each finds, in which order, with which scores."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("llama_index.core", reason="needs llama-index-core")

from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from llama_index.vector_stores.nearfield import NearfieldVectorStore
from nearfield.errors import (
    DimensionMismatchError,
    EmbedderRequiredError,
    InvalidInputError,
    InvalidVectorError,
    UnsupportedOperationError,
)

DIMENSION = 8


def vectors(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, DIMENSION)).tolist()


def source(name):
    return {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=name)}


@pytest.fixture
def store(tmp_path):
    """Sixty nodes; every third one speaks of foxes, and the fewer words the better it matches."""
    with NearfieldVectorStore(tmp_path, "nodes") as store:
        store.add(
            [
                TextNode(
                    id_=f"{n:02}",
                    text=("fox " if n % 3 == 0 else "cat ") + "word " * n,
                    metadata={"n": n},
                    relationships=source(f"doc{n % 4}"),
                    embedding=vector,
                )
                for n, vector in enumerate(vectors(60))
            ]
        )
        yield store


def ask(store, mode="default", k=5, options=None, **fields):
    fields.setdefault("query_embedding", vectors(1, seed=1)[0])
    query = VectorStoreQuery(similarity_top_k=k, mode=VectorStoreQueryMode(mode), **fields)
    return store.query(query, **(options or {}))


def cosine(a, b):
    return float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


def test_the_default_mode_finds_what_the_collection_finds(store):
    query = vectors(1, seed=1)[0]
    result = ask(store)
    hits = store.client.search(query, k=5)
    assert result.ids == [hit.id for hit in hits]
    assert result.similarities == [hit.score for hit in hits]
    assert [node.node_id for node in result.nodes] == result.ids
    exact = sorted((cosine(query, vector) for vector in vectors(60)), reverse=True)
    assert result.similarities == pytest.approx(exact[:5], abs=1e-6)


def test_filters_never_cost_results(store):
    few = MetadataFilters(filters=[MetadataFilter(key="n", value=[5, 17, 33], operator="in")])
    assert sorted(ask(store, k=3, filters=few).ids) == ["05", "17", "33"]
    for mode in ("default", "mmr", "hybrid", "semantic_hybrid"):
        assert len(ask(store, mode, k=3, filters=few, query_str="fox").ids) == 3
    foxes = ask(store, "text_search", k=5, filters=few, query_str="fox").ids
    assert foxes == ["33"]


def test_documents_restrict_a_query(store):
    result = ask(store, k=60, doc_ids=["doc1", "doc3"])
    assert len(result.ids) == 30
    assert {node.ref_doc_id for node in result.nodes} == {"doc1", "doc3"}
    assert ask(store, doc_ids=["no such"]).ids == []
    assert ask(store, doc_ids=[]).ids == []
    filters = MetadataFilters(filters=[MetadataFilter(key="n", value=10, operator="<")])
    assert sorted(ask(store, k=9, doc_ids=["doc1"], filters=filters).ids) == ["01", "05", "09"]


@pytest.mark.parametrize("mode", ["text_search", "sparse"])
def test_text_modes_match_words_and_need_no_embedding(store, mode):
    result = ask(store, mode, k=3, query_str="fox", query_embedding=None)
    assert result.ids == ["00", "03", "06"]
    hits = store.client.search("fox", k=3, mode="keyword")
    assert result.similarities == [hit.score for hit in hits]
    assert len(ask(store, mode, query_str="fox", sparse_top_k=12).ids) == 12
    assert ask(store, mode, query_str="").ids == []


def test_alpha_weighs_words_against_vectors(store):
    meaning, words = ask(store).ids, ask(store, "text_search", query_str="fox").ids
    assert ask(store, "hybrid", query_str="fox", alpha=1.0).ids == meaning
    assert ask(store, "hybrid", query_str="fox", alpha=0.0).ids == words
    both = ask(store, "hybrid", k=6, query_str="fox")
    assert both.ids == ask(store, "hybrid", k=6, query_str="fox", alpha=0.5).ids
    assert both.ids[0] in meaning + words
    assert both.similarities == sorted(both.similarities, reverse=True)
    assert len(ask(store, "hybrid", query_str="fox", hybrid_top_k=9).ids) == 9


def test_semantic_hybrid_puts_the_hybrid_hits_in_the_order_of_meaning(store):
    hybrid = ask(store, "hybrid", query_str="fox", alpha=0.2)
    result = ask(store, "semantic_hybrid", query_str="fox", alpha=0.2)
    assert sorted(result.ids) == sorted(hybrid.ids)
    query = vectors(1, seed=1)[0]
    similarity = {f"{n:02}": cosine(query, vector) for n, vector in enumerate(vectors(60))}
    assert result.ids == sorted(result.ids, key=similarity.get, reverse=True)
    assert result.similarities == pytest.approx([similarity[i] for i in result.ids], abs=1e-6)
    assert ask(store, "semantic_hybrid", k=2, query_str="fox", hybrid_top_k=9).ids != result.ids[:2]


class Shortest(BaseNodePostprocessor):
    """Prefer short texts: a reranker that needs no model."""

    def _postprocess_nodes(self, nodes, query_bundle=None):
        assert query_bundle.query_str == "fox"
        for item in nodes:
            item.score = -float(len(item.node.text))
        return sorted(nodes, key=lambda item: -item.score)


async def test_a_reranker_orders_a_semantic_hybrid(tmp_path, store):
    with NearfieldVectorStore(tmp_path, "nodes", reranker=Shortest()) as reranking:
        assert len(ask(reranking, "semantic_hybrid", k=3, query_str="fox").ids) == 3
        result = ask(reranking, "semantic_hybrid", k=3, query_str="fox", hybrid_top_k=60)
        assert result.ids == ["00", "01", "02"]
        assert result.similarities == [-4.0, -9.0, -14.0]
        assert [node.node_id for node in result.nodes] == result.ids
        query = VectorStoreQuery(
            query_embedding=vectors(1, seed=1)[0],
            query_str="fox",
            similarity_top_k=3,
            hybrid_top_k=60,
            mode=VectorStoreQueryMode.SEMANTIC_HYBRID,
        )
        assert await reranking.aquery(query) == result


def test_mmr_threshold_one_is_relevance_alone_and_less_is_variety(tmp_path):
    rng = np.random.default_rng(0)
    with NearfieldVectorStore(tmp_path) as store:
        near = [[1.0, 0.01 * rng.random(), 0.0] for _ in range(5)]
        apart = [[0.6, 0.8, 0.0], [0.6, 0.0, 0.8]]
        store.add(
            [
                TextNode(id_=f"{n}", text="t", embedding=vector)
                for n, vector in enumerate(near + apart)
            ]
        )

        def ids(options=None, **fields):
            result = ask(store, "mmr", k=3, query_embedding=[1, 0, 0], options=options, **fields)
            assert len(result.similarities) == 3
            return set(result.ids)

        assert ids({"mmr_threshold": 1.0}) == set(ask(store, k=3, query_embedding=[1, 0, 0]).ids)
        assert {"5", "6"} < ids({"mmr_threshold": 0.2})
        assert {"5", "6"} < ids(mmr_threshold=0.2)
        assert ids() == ids({"mmr_threshold": 0.5})
        # Only the best are picked from, so the two that differ are out of reach.
        assert ids({"mmr_threshold": 0.2, "mmr_prefetch_k": 3}).isdisjoint({"5", "6"})
        assert ids({"mmr_threshold": 0.2, "mmr_prefetch_factor": 1.0}).isdisjoint({"5", "6"})


def test_similarities_of_mmr_are_those_to_the_query(store):
    result = ask(store, "mmr", options={"mmr_threshold": 0.3})
    everything = ask(store, k=60)
    similarity = dict(zip(everything.ids, everything.similarities, strict=True))
    assert result.similarities == [similarity[identifier] for identifier in result.ids]


@pytest.mark.parametrize("mode", ["svm", "logistic_regression", "linear_regression"])
def test_a_mode_that_does_not_exist_here_is_refused(store, mode):
    with pytest.raises(UnsupportedOperationError, match=f"no query mode '{mode}'; it has: default"):
        ask(store, mode)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"k": 0}, "k must be at least 1"),
        ({"mode": "mmr", "k": 0}, "similarity_top_k must be at least 1"),
        ({"query_embedding": None}, "neither query_embedding nor query_str"),
        ({"mode": "sparse"}, "mode 'sparse' matches words, and the query has none"),
        ({"mode": "hybrid"}, "mode 'hybrid' matches words"),
        ({"mode": "semantic_hybrid"}, "matches words"),
        ({"mode": "hybrid", "query_str": "a", "alpha": 1.5}, "alpha"),
        ({"mode": "mmr", "mmr_threshold": 2}, "mmr_threshold is 2, expected a number from 0 to 1"),
        ({"mode": "mmr", "options": {"mmr_prefetch_factor": 0.5}}, "mmr_prefetch_factor is 0.5"),
        ({"mode": "mmr", "options": {"mmr_prefetch_k": 0}}, "mmr_prefetch_k must be at least 1"),
        (
            {"mode": "mmr", "options": {"mmr_prefetch_k": 9, "mmr_prefetch_factor": 2}},
            "not both",
        ),
        ({"options": {"mmr_treshold": 0.5}}, "has 'mmr_treshold', expected any of: mmr_prefetch"),
        ({"mode": "semantic_hybrid", "query_str": "a", "hybrid_top_k": -1}, "hybrid_top_k"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused(store, fields, message):
    with pytest.raises(InvalidInputError, match=message):
        ask(store, **fields)


def test_a_query_embedding_that_does_not_fit_is_refused(store):
    with pytest.raises(DimensionMismatchError, match="dimension 3, but this collection"):
        ask(store, query_embedding=[1.0, 2.0, 3.0])
    with pytest.raises(InvalidVectorError, match="nan"):
        ask(store, query_embedding=[float("nan")] * DIMENSION)


def test_a_text_is_embedded_where_the_collection_knows_how(tmp_path, embed_model, embedded, store):
    with pytest.raises(EmbedderRequiredError):
        ask(store, query_embedding=None, query_str="fox")
    with NearfieldVectorStore(tmp_path, "texts", embed_model=embed_model) as texts:
        texts.add(embedded(TextNode(text="a red fox", id_="fox"), TextNode(text="a cat")))
        for mode in ("default", "mmr", "hybrid", "semantic_hybrid"):
            result = ask(texts, mode, k=1, query_embedding=None, query_str="red fox")
            assert result.ids == ["fox"]


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_similarities_are_higher_for_what_is_nearer_under_every_metric(tmp_path, metric):
    with NearfieldVectorStore(tmp_path, metric=metric) as store:
        store.add(
            [
                TextNode(id_=name, text="t", embedding=vector)
                for name, vector in {"near": [1.0, 0.1], "far": [-1.0, 0.5]}.items()
            ]
        )
        result = ask(store, query_embedding=[1.0, 0.0])
        assert result.ids == ["near", "far"]
        assert result.similarities[0] > result.similarities[1]
        expected = {
            "cosine": [1 / 1.01**0.5, -1 / 1.25**0.5],
            "dot": [1.0, -1.0],
            "euclidean": [1 / 1.1, 1 / (1 + 4.25**0.5)],
        }
        assert result.similarities == pytest.approx(expected[metric], abs=1e-6)
