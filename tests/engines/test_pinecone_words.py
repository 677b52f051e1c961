"""Keyword search in Pinecone: ties, long texts, large answers, and indexes without words."""

from __future__ import annotations

import random

import numpy as np
import pytest
from tests.pinecone_emulator import MAX_SPARSE

import nearfield
from nearfield import Document, F, SearchMode
from nearfield.errors import UnsupportedOperationError

pytest.importorskip("pinecone", reason="pinecone is not installed")

INDEX = "nearfield-2-dot"


@pytest.fixture
def collection(own_pinecone):
    with nearfield.open(own_pinecone.url(), dimension=2, metric="dot") as made:
        yield made


def names(hits):
    return [hit.id for hit in hits]


@pytest.mark.parametrize("most_candidates", [20, 100, 10_000])
def test_of_many_that_tie_those_with_the_least_ids_are_found(
    collection, monkeypatch, most_candidates
):
    monkeypatch.setattr("nearfield.stores.pinecone.keywords.MOST_CANDIDATES", most_candidates)
    ids = random.Random(1).sample([f"{i:03}" for i in range(300)], 300)
    better = {"100", "200", "299"}
    collection.upsert(
        [
            Document("the same, the same" if name in better else "same it is", id=name)
            for name in ids
        ],
        vectors=np.random.default_rng(1).standard_normal((300, 2)) * 1e6,
    )
    collection.upsert(Document("not this", id="other"), vectors=[1e9, 1e9])
    expected = [*sorted(better), *sorted(set(ids) - better)]
    for k in (1, 2, 4, 10, 40, 299, 300, 400):
        hits = collection.search("same", mode="keyword", k=k)
        assert names(hits) == expected[:k]
        assert all(hit.text for hit in hits)
    assert len({hit.score for hit in hits}) == 2


def test_a_word_of_few_is_found_among_many(own_pinecone, collection):
    count = 2_000
    texts = ["amber birch", "birch", "amber amber cedar"] + ["delta fjord"] * (count - 3)
    documents = [Document(text, id=f"{i:04}", metadata={"n": i}) for i, text in enumerate(texts)]
    collection.upsert(documents, vectors=np.ones((count, 2)))
    own_pinecone.behave()
    assert names(collection.search("ambers", mode="keyword")) == ["0002", "0000"]
    asked = [each["path"].rpartition("/")[2] for each in own_pinecone.behave()]
    assert asked == ["query"]  # and the others are not looked through
    assert names(collection.search("amber", mode="keyword", where=F.n < 2)) == ["0000"]
    assert collection.search("amber", mode="keyword", where=F.n > 2) == []
    assert names(collection.search("amber", mode="keyword", ids=["0000", "0001"])) == ["0000"]


def test_of_a_text_of_very_many_words_the_weightiest_are_searched(collection):
    words = [f"word{i}" for i in range(MAX_SPARSE + 200)]
    frequent = words[-100:]
    long = Document(" ".join(words + frequent), id="long")
    collection.upsert([long, Document("word5", id="short")], vectors=np.ones((2, 2)))
    assert collection.get("long") == long
    answers = collection.search_many(words, mode="keyword")
    found = {word for word, hits in zip(words, answers, strict=True) if "long" in names(hits)}
    assert len(found) == MAX_SPARSE
    assert found >= set(frequent)


def test_large_answers_are_fetched_in_parts(collection):
    numbers = random.Random(2)
    texts = [
        " ".join(f"word{numbers.randrange(5000)}" for _ in range(2_000)) + " common" * (i % 7)
        for i in range(250)
    ]
    documents = [Document(text, id=f"{i:03}") for i, text in enumerate(texts)]
    collection.upsert(documents, vectors=np.ones((250, 2)))
    hits = collection.search("common", mode="keyword", k=200)
    assert len(hits) == 200
    assert {hit.id for hit in hits} <= {f"{i:03}" for i in range(250) if i % 7}
    assert all(hit.text == texts[int(hit.id)] for hit in hits)
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)


def test_an_index_that_others_made_without_sparse_vectors_has_no_words(own_pinecone):
    import pinecone

    with pinecone.Pinecone("any", host=f"http://127.0.0.1:{own_pinecone.port}") as client:
        client.indexes.create(
            name=INDEX,
            schema={
                "fields": {
                    "_values": {"type": "dense_vector", "dimension": 2, "metric": "dotproduct"}
                }
            },
            deployment={"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"},
            timeout=-1,
        )
    with nearfield.open(own_pinecone.url(), dimension=2, metric="dot") as collection:
        assert collection.modes == {SearchMode.VECTOR}
        collection.upsert(Document("a kettle", id="a"), vectors=[1, 0])
        assert names(collection.search([1, 0])) == ["a"]
        for mode in ("keyword", "hybrid"):
            with pytest.raises(UnsupportedOperationError, match=f"no {mode} search"):
                collection.search("kettle", vector=[1, 0], mode=mode)


@pytest.mark.parametrize(
    ("sparse", "words"),
    [
        ({"indices": [], "values": []}, "some"),
        ({"indices": [1], "values": [1.0, 2.0]}, "as many"),
        ({"indices": [1, 1], "values": [1.0, 2.0]}, "different"),
        ({"indices": [2**32], "values": [1.0]}, "uint32"),
        ({"indices": [1], "values": [None]}, "numbers"),
        ({"indices": [*range(1001)], "values": [1.0] * 1001}, "limit is 1000"),
    ],
)
def test_the_emulator_refuses_what_the_service_refuses(own_pinecone, collection, sparse, words):
    import pinecone

    vector = {"id": "a", "values": [1.0, 0.0]}
    with pinecone.Index(
        host=f"http://127.0.0.1:{own_pinecone.port}/i/{INDEX}", api_key="any"
    ) as index:
        with pytest.raises(pinecone.errors.ApiError, match=words):
            index._http.post(
                "/vectors/upsert", json={"vectors": [vector | {"sparseValues": sparse}]}
            )
        with pytest.raises(pinecone.errors.ApiError, match=words):
            index._http.post(
                "/query", json={"vector": [1.0, 0.0], "topK": 1, "sparseVector": sparse}
            )
    with nearfield.open(own_pinecone.url(), "other", dimension=2):
        host = f"http://127.0.0.1:{own_pinecone.port}/i/nearfield-2-cosine"
        sparse = {"indices": [1], "values": [1.0]}
        with pinecone.Index(host=host, api_key="any") as index:
            with pytest.raises(pinecone.errors.ApiError, match="unknown fields"):
                index._http.post(
                    "/vectors/upsert", json={"vectors": [vector | {"sparseValues": sparse}]}
                )
            with pytest.raises(pinecone.errors.ApiError, match="no sparse"):
                index._http.post(
                    "/query", json={"vector": [1.0, 0.0], "topK": 1, "sparseVector": sparse}
                )
