"""One collection, many doors: the same cases through each give the same ids, order and scores."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

pytest.importorskip("langchain_core", reason="langchain-core is not installed")
pytest.importorskip("llama_index.core", reason="llama-index-core is not installed")

from langchain_core.documents import Document as LangChainDocument
from langchain_core.structured_query import Comparator, Comparison, Operation
from langchain_core.structured_query import Operator as LangChainOperator
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from tests.embedders import HashingEmbedder

import nearfield
from langchain_nearfield import NearfieldVectorStore as LangChainStore
from llama_index.vector_stores.nearfield import NearfieldVectorStore as LlamaIndexStore
from nearfield import Document, F
from nearfield.errors import ClosedError, DimensionMismatchError

EMBEDDER = HashingEmbedder(64)
WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath"]
ROWS = 300
METRICS = ["cosine", "dot", "euclidean"]


def corpus():
    rng = np.random.default_rng(5)
    documents = []
    for n in range(ROWS):
        text = " ".join(rng.choice(WORDS, size=rng.integers(3, 9)))
        metadata = {"n": n, "group": f"g{n % 7}", "word": text.split()[0], "tags": text.split()[:2]}
        if n % 5 == 0:
            metadata["rare"] = n / 2
        documents.append(Document(text, id=f"doc-{n:03}", metadata=metadata))
    return documents


DOCUMENTS = corpus()
VECTORS = EMBEDDER.embed_documents([d.text for d in DOCUMENTS]) + np.random.default_rng(6).normal(
    scale=0.02, size=(ROWS, 64)
).astype(np.float32)
QUERIES = ["amber fjord", "a grove of birch", "heath", "nothing of this"]


class Nearfield:
    """The core itself."""

    def __init__(self, collection):
        self.collection = collection

    def write(self, documents, vectors):
        self.collection.upsert(documents, vectors=vectors)

    def delete(self, ids):
        self.collection.delete(ids)

    def get(self, ids):
        return [(d.id, d.text, dict(d.metadata)) for d in self.collection.get(ids) if d]

    def search(self, query, *, k, mode="vector", where=None, diversity=None, alpha=0.5):
        hits = self.collection.search(
            query,
            vector=None if mode == "keyword" else EMBEDDER.embed_queries([query])[0],
            k=k,
            mode=mode,
            where=where,
            alpha=alpha,
            diversity=diversity,
            candidates=None if diversity is None else 30,
        )
        return [(hit.id, hit.score, hit.text, dict(hit.metadata)) for hit in hits]


class LangChain(Nearfield):
    def __init__(self, collection):
        super().__init__(collection)
        self.store = LangChainStore.from_collection(collection)

    def write(self, documents, vectors):
        pairs = [(d.text, v.tolist()) for d, v in zip(documents, vectors, strict=True)]
        self.store.add_embeddings(
            pairs, [d.metadata for d in documents], ids=[d.id for d in documents]
        )

    def delete(self, ids):
        self.store.delete(ids)

    def get(self, ids):
        return [(d.id, d.page_content, d.metadata) for d in self.store.get_by_ids(ids)]

    def search(self, query, *, k, mode="vector", where=None, diversity=None, alpha=0.5):
        options = {"k": k, "filter": self.spelling(where)}
        if diversity is not None:
            options |= {"fetch_k": 30, "lambda_mult": 1 - diversity}
            found = self.store.max_marginal_relevance_search(query, **options)
            scores = {
                d.id: s
                for d, s in self.store.similarity_search_with_score(
                    query, k=30, filter=options["filter"]
                )
            }
            return [(d.id, scores[d.id], d.page_content, d.metadata) for d in found]
        if mode != "vector":
            options |= {"mode": mode, "alpha": alpha}
        found = self.store.similarity_search_with_score(query, **options)
        return [(d.id, score, d.page_content, d.metadata) for d, score in found]

    def spelling(self, where):
        return where


class LangChainDirectives(LangChain):
    """LangChain, with filters as its query constructors write them."""

    def spelling(self, where):
        return None if where is None else directive(where)


class LlamaIndex(Nearfield):
    def __init__(self, collection):
        super().__init__(collection)
        self.store = LlamaIndexStore.from_collection(collection)

    def write(self, documents, vectors):
        self.store.add(
            [
                TextNode(id_=d.id, text=d.text, metadata=d.metadata, embedding=v.tolist())
                for d, v in zip(documents, vectors, strict=True)
            ]
        )

    def delete(self, ids):
        self.store.delete_nodes(ids)

    def get(self, ids):
        return [(n.node_id, n.text, n.metadata) for n in self.store.get_nodes(ids)]

    def search(self, query, *, k, mode="vector", where=None, diversity=None, alpha=0.5):
        names = {"vector": "default", "keyword": "text_search", "hybrid": "hybrid"}
        options = {}
        if diversity is not None:
            options = {"mmr_threshold": 1 - diversity, "mmr_prefetch_k": 30}
        found = self.store.query(
            VectorStoreQuery(
                query_str=query,
                query_embedding=EMBEDDER.embed_queries([query])[0].tolist(),
                similarity_top_k=k,
                mode=names[mode] if diversity is None else "mmr",
                alpha=alpha,
                filters=None if where is None else metadata_filters(where),
            ),
            **options,
        )
        return [
            (node.node_id, score, node.text, node.metadata)
            for node, score in zip(found.nodes, found.similarities, strict=True)
        ]


def directive(where):
    """Spell a filter of FILTERS as LangChain's directives."""
    match where:
        case nearfield.filters.And(children=children):
            return Operation(LangChainOperator.AND, [directive(child) for child in children])
        case nearfield.filters.Or(children=children):
            return Operation(LangChainOperator.OR, [directive(child) for child in children])
        case nearfield.filters.Not(child=child):
            return Operation(LangChainOperator.NOT, [directive(child)])
    name = {"contains": "contain", "text_match": "contain"}.get(where.operator, where.operator)
    value = list(where.value) if isinstance(where.value, tuple) else where.value
    return Comparison(Comparator(str(name)), where.field, value)


def metadata_filters(where):
    """Spell a filter of FILTERS as LlamaIndex's."""
    match where:
        case nearfield.filters.And(children=children):
            nested = [metadata_filters(child) for child in children]
            return MetadataFilters(filters=nested, condition=FilterCondition.AND)
        case nearfield.filters.Or(children=children):
            nested = [metadata_filters(child) for child in children]
            return MetadataFilters(filters=nested, condition=FilterCondition.OR)
        case nearfield.filters.Not(child=child):
            return MetadataFilters(filters=[metadata_filters(child)], condition=FilterCondition.NOT)
    names = {"eq": "==", "ne": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
    operator = FilterOperator(names.get(str(where.operator), str(where.operator)))
    value = list(where.value) if isinstance(where.value, tuple) else where.value
    return MetadataFilters(
        filters=[MetadataFilter(key=where.field, operator=operator, value=value)]
    )


FILTERS = {
    "everything": None,
    "one": F.n == 42,
    "none": F.n == -1,
    "range": (F.n >= 100) & (F.n < 150),
    "not equal": F.group != "g3",
    "one of": F.group.in_(["g1", "g4"]),
    "none of": F.group.nin(["g1", "g4"]),
    "a missing field": F.rare > 10,
    "not with a missing field": F.rare != 10,
    "an element": F.tags.contains("amber"),
    "part of a text": F.word.text_match("mbe"),
    "nested": ~((F.group == "g1") | ((F.n < 200) & ~(F.word == "amber"))),
}
DOORS = [LangChain, LangChainDirectives, LlamaIndex]


@pytest.fixture(scope="module", params=METRICS)
def reference(request, tmp_path_factory):
    with opened(tmp_path_factory.mktemp("reference"), metric=request.param) as collection:
        core = Nearfield(collection)
        core.write(DOCUMENTS, VECTORS)
        yield core


def opened(url, metric="cosine"):
    return nearfield.open(url, embedder=EMBEDDER, metric=metric)


@pytest.fixture(scope="module", params=DOORS)
def door(request, reference, tmp_path_factory):
    """Another collection, written through a door."""
    with opened(tmp_path_factory.mktemp("door"), reference.collection.info.metric) as collection:
        door = request.param(collection)
        door.write(DOCUMENTS, VECTORS)
        yield door


def assert_same(found, expected):
    assert [row[0] for row in found] == [row[0] for row in expected]
    assert [row[1] for row in found] == pytest.approx([row[1] for row in expected], rel=1e-6)
    assert [row[2:] for row in found] == [row[2:] for row in expected]


@pytest.mark.parametrize("mode", ["vector", "keyword", "hybrid"])
@pytest.mark.parametrize("name", FILTERS)
def test_a_search_finds_the_same(door, reference, name, mode):
    where = FILTERS[name]
    matching = ROWS if where is None else reference.collection.count(where)
    for query in QUERIES:
        for k in (1, 10, 400):
            expected = reference.search(query, k=k, mode=mode, where=where)
            assert_same(door.search(query, k=k, mode=mode, where=where), expected)
            if mode != "keyword":
                assert len(expected) == min(k, matching)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_a_weighted_hybrid_search_finds_the_same(door, reference, alpha):
    for query in QUERIES:
        expected = reference.search(query, k=10, mode="hybrid", alpha=alpha)
        assert_same(door.search(query, k=10, mode="hybrid", alpha=alpha), expected)


@pytest.mark.parametrize("diversity", [0.0, 0.4, 1.0])
def test_a_diverse_search_finds_the_same(door, reference, diversity):
    for query in QUERIES:
        expected = reference.search(query, k=8, diversity=diversity, where=F.n < 200)
        assert_same(door.search(query, k=8, diversity=diversity, where=F.n < 200), expected)


@pytest.mark.parametrize("kind", DOORS)
def test_a_door_reads_what_another_wrote(reference, kind):
    door = kind(reference.collection)
    names = ["doc-007", "no such id", "doc-001"]
    assert door.get(names) == reference.get(names)
    assert len(door.get(names)) == 2
    for query in QUERIES:
        assert_same(door.search(query, k=10), reference.search(query, k=10))


@pytest.mark.parametrize("writer", [Nearfield, *DOORS])
@pytest.mark.parametrize("reader", [Nearfield, *DOORS])
def test_a_write_is_seen_through_every_open_door_at_its_next_call(tmp_path, writer, reader):
    with opened(tmp_path) as one, opened(tmp_path) as other:
        write, read = writer(one), reader(other)
        assert read.search("amber", k=3) == []
        write.write(DOCUMENTS[:3], VECTORS[:3])
        assert [row[0] for row in read.search("amber", k=3, where=F.n == 1)] == ["doc-001"]
        write.write([Document("other words", id="doc-001", metadata={"m": 1})], VECTORS[1:2])
        assert read.get(["doc-001"]) == [("doc-001", "other words", {"m": 1})]
        write.delete(["doc-001", "no such id"])
        assert read.get(["doc-001"]) == []
        assert one.count() == 2


@pytest.mark.parametrize("kind", [Nearfield, *DOORS])
def test_types_of_metadata_survive(tmp_path, kind):
    metadata = {
        "text": "ünï\u0000code",
        "whole": 2**53 + 1,
        "real": 0.1,
        "yes": True,
        "none": None,
        "list": [1, "a", None, [True]],
        "nested": {"a": {"b.c": [1]}},
        "": "empty key",
        "dotted.key": 1,
        "_underscored": 1,
    }
    with opened(tmp_path) as collection:
        door = kind(collection)
        door.write([Document("text", id="a", metadata=metadata)], VECTORS[:1])
        for reader in (Nearfield, *DOORS):
            assert reader(collection).get(["a"]) == [("a", "text", metadata)]


@pytest.mark.parametrize("kind", [Nearfield, *DOORS])
def test_times_are_kept_as_text_and_compared_as_instants(tmp_path, kind):
    when = datetime(2024, 5, 1, 12, tzinfo=UTC)
    with opened(tmp_path) as collection:
        document = Document("text", id="a", metadata={"when": when.isoformat()})
        kind(collection).write([document], VECTORS[:1])
        hits = collection.search(VECTORS[0], where=F.when == when)
        assert [hit.id for hit in hits] == ["a"]


@pytest.mark.parametrize("kind", [Nearfield, *DOORS])
def test_a_wrong_dimension_is_a_typed_error_and_nothing_is_written(tmp_path, kind):
    with opened(tmp_path) as collection:
        with pytest.raises(DimensionMismatchError, match="64"):
            kind(collection).write(DOCUMENTS[:2], np.ones((2, 63), np.float32))
        assert collection.count() == 0


@pytest.mark.parametrize("kind", [Nearfield, *DOORS])
def test_a_closed_collection_refuses_every_door(tmp_path, kind):
    collection = opened(tmp_path)
    door = kind(collection)
    collection.close()
    with pytest.raises(ClosedError):
        door.search("amber", k=1)
    with pytest.raises(ClosedError):
        door.write(DOCUMENTS[:1], VECTORS[:1])


class LangChainDocuments(LangChain):
    """Writes documents, which LangChain's embeddings then turn into vectors."""

    def write(self, documents, vectors):
        del vectors
        self.store.add_documents(
            [LangChainDocument(d.text, id=d.id, metadata=dict(d.metadata)) for d in documents]
        )


def test_texts_are_embedded_alike_through_every_door(tmp_path):
    with opened(tmp_path / "a") as one, opened(tmp_path / "b") as other:
        one.upsert(DOCUMENTS)
        LangChainDocuments(other).write(DOCUMENTS, None)
        for query in QUERIES:
            assert_same(Nearfield(other).search(query, k=10), Nearfield(one).search(query, k=10))
            assert [hit.score for hit in one.search(query)] == [
                hit.score for hit in other.search(query)
            ]
