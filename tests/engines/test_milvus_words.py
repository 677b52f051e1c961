"""Keyword search in Milvus Lite: scores that stay, ties, long texts, and collections without it."""

from __future__ import annotations

import random

import numpy as np
import pytest

import nearfield
from nearfield import Document, F, SearchMode
from nearfield.copying import copy
from nearfield.errors import UnsupportedOperationError

pytest.importorskip("pymilvus", reason="pymilvus is not installed")
pytest.importorskip("milvus_lite", reason="milvus-lite is not installed")


@pytest.fixture
def url(tmp_path):
    return f"milvus://{(tmp_path / 'database.db').as_posix()}"


def bare(collection):
    """The client of a collection, and Milvus's name for it."""
    handle = collection._store._handle
    return handle._lease.client, handle.name


def scores(hits):
    return {hit.id: hit.score for hit in hits}


def test_keyword_scores_are_the_same_whatever_else_is_written_sealed_or_filtered(url):
    numbers = random.Random(3)
    texts = [
        " ".join(numbers.choices(["amber", "birch", "cedar", "delta"], k=numbers.randint(1, 40)))
        for _ in range(300)
    ]
    documents = [Document(text, id=f"{i:03}", metadata={"n": i}) for i, text in enumerate(texts)]
    with nearfield.open(url, dimension=2) as collection:
        client, name = bare(collection)
        collection.upsert(documents[:100], vectors=np.ones((100, 2)))
        first = scores(collection.search("amber cedars", mode="keyword", k=100))
        client.flush(name)
        assert scores(collection.search("amber cedars", mode="keyword", k=100)) == first
        for start in (100, 200):  # each in a segment of its own, the last in none yet
            collection.upsert(documents[start : start + 100], vectors=np.ones((100, 2)))
            if start == 100:
                client.flush(name)
        found = collection.search("amber cedars", mode="keyword", k=300)
        assert {name: score for name, score in scores(found).items() if name < "100"} == first
        ranked = [(hit.id, hit.score) for hit in found]
        assert ranked == sorted(ranked, key=lambda pair: (-pair[1], pair[0]))
        among = collection.search("amber cedars", mode="keyword", k=300, where=F.n >= 150)
        assert [(hit.id, hit.score) for hit in among] == [
            pair for pair in ranked if pair[0] >= "150"
        ]
        collection.delete([f"{i:03}" for i in range(0, 300, 2)])
        left = collection.search("amber cedars", mode="keyword", k=300)
        assert [(hit.id, hit.score) for hit in left] == [
            pair for pair in ranked if int(pair[0]) % 2
        ]


def test_scores_are_sums_that_32_bits_hold_whatever_their_order():
    from nearfield.stores.sparse_words import asked_words, text_words

    numbers = random.Random(5)
    words = [f"word{i}" for i in range(400)]
    text = " ".join(words + numbers.choices(words, k=600))
    (weights,) = text_words([text])
    asked = asked_words(" ".join(words))
    assert len(asked) == 256
    matching = [weights[word] for word in asked]
    exact = sum(matching)
    for _ in range(20):
        numbers.shuffle(matching)
        assert float(np.cumsum(np.array(matching, np.float32), dtype=np.float32)[-1]) == exact


@pytest.mark.parametrize(("limit", "value"), [("MOST_HITS", 50), ("_TIES", 2), ("_TIES", 16)])
def test_of_many_that_tie_those_with_the_least_ids_are_found(url, monkeypatch, limit, value):
    monkeypatch.setattr(f"nearfield.stores.milvus.keywords.{limit}", value)
    names = random.Random(1).sample([f"{i:03}" for i in range(300)], 300)
    better = {"100", "200", "299"}
    with nearfield.open(url, dimension=2) as collection:
        collection.upsert(
            [
                Document("the same, the same" if name in better else "same it is", id=name)
                for name in names
            ],
            vectors=np.ones((300, 2)),
        )
        collection.upsert(Document("not this", id="other"), vectors=[1, 0])
        expected = [*sorted(better), *sorted(set(names) - better)]
        for k in (1, 2, 4, 10, 40, 150, 299, 300, 400):
            hits = collection.search("same", mode="keyword", k=k)
            assert [hit.id for hit in hits] == expected[:k]
            assert all(hit.text for hit in hits)
        assert len(set(scores(hits).values())) == 2


def test_keywords_are_of_the_first_150_000_characters_of_a_text(url):
    long = f"first {'x ' * 74_990}"
    assert len(long) < 150_000
    with nearfield.open(url, dimension=2) as collection:
        collection.upsert(
            [Document(f"{long} inner {'x ' * 9} outer", id="long"), Document("outer", id="short")],
            vectors=np.ones((2, 2)),
        )
        for word, expected in (("first", ["long"]), ("inner", ["long"]), ("outer", ["short"])):
            assert [hit.id for hit in collection.search(word, mode="keyword")] == expected
        assert collection.get("long").text.endswith("outer")


def test_a_collection_without_words_refuses_to_search_them_and_a_copy_has_them(
    url, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:  # as on a server of version 2.3
        patch.setattr("nearfield.stores.milvus.schema._HAS_WORDS", (99, 0))
        nearfield.open(url, dimension=2).close()
    with nearfield.open(url, create=False) as collection:
        assert collection.modes == {SearchMode.VECTOR}
        collection.upsert(Document("a kettle", id="a"), vectors=[1, 0])
        assert [hit.id for hit in collection.search([1, 0])] == ["a"]
        for mode in ("keyword", "hybrid"):
            with pytest.raises(UnsupportedOperationError, match=r"no .* search.*nearfield copy"):
                collection.search("kettle", vector=[1, 0], mode=mode)
    other = f"milvus://{(tmp_path / 'other.db').as_posix()}"
    copy(nearfield.connect(url), nearfield.connect(other), "default")
    with nearfield.open(other, create=False) as collection:
        assert collection.modes == set(SearchMode)
        assert [hit.id for hit in collection.search("kettles", mode="keyword")] == ["a"]


def test_an_index_of_words_whose_making_was_broken_off_is_finished(url):
    with nearfield.open(url, dimension=2) as collection:
        collection.upsert(Document("a kettle", id="a"), vectors=[1, 0])
        client, name = bare(collection)
        client.release_collection(name)
        client.drop_index(name, "words")
        with nearfield.open(url, create=False) as again:
            assert [hit.id for hit in again.search("kettle", mode="keyword")] == ["a"]
