"""The values that go in and come out."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearfield import Document, EmbeddingInfo, EmbeddingKind, Hit, Metric, SearchMode
from nearfield.documents import make_document, make_hit, new_id

# ── ids ──────────────────────────────────────────────────────────────────────────────────────────


def test_an_id_is_a_uuid_of_version_7():
    for _ in range(1000):
        identifier = new_id()
        parsed = uuid.UUID(identifier)
        assert str(parsed) == identifier
        assert parsed.version == 7
        assert parsed.variant == uuid.RFC_4122


def test_an_id_carries_the_time_it_was_made():
    before = time.time_ns() // 1_000_000
    milliseconds = uuid.UUID(new_id()).int >> 80
    assert before <= milliseconds <= time.time_ns() // 1_000_000


def test_ids_of_later_milliseconds_sort_after_earlier_ones():
    made = []
    for _ in range(20):
        made.append(new_id())
        start = time.time_ns() // 1_000_000
        while time.time_ns() // 1_000_000 == start:
            pass
    assert made == sorted(made)


def test_ids_made_at_once_all_differ():
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: new_id(), range(20_000)))
    assert len(set(made)) == len(made)


def test_every_random_bit_of_an_id_varies():
    values = [uuid.UUID(new_id()).int for _ in range(300)]
    either = all_ones = values[0]
    for value in values:
        either |= value
        all_ones &= value
    random_bits = ((1 << 76) - 1) & ~(0x3 << 62)  # beside time, version and variant
    assert (either & ~all_ones) & random_bits == random_bits


# ── documents and hits ───────────────────────────────────────────────────────────────────────────


def test_a_document_needs_a_text_alone():
    one, other = Document("a"), Document("a")
    assert one.id != other.id
    assert (one.metadata, one.embedding, one.created_at) == ({}, None, None)
    assert one.metadata is not other.metadata


def test_documents_are_equal_by_id_text_and_metadata():
    plain = Document("a", id="1", metadata={"k": 1})
    full = Document(
        "a",
        id="1",
        metadata={"k": 1},
        embedding=np.ones(3, np.float32),
        created_at=datetime(2024, 1, 1, tzinfo=UTC),
    )
    assert plain == full
    assert plain != Document("b", id="1", metadata={"k": 1})
    assert plain != Document("a", id="2", metadata={"k": 1})
    assert plain != Document("a", id="1", metadata={"k": 2})


def test_a_documents_repr_does_not_spill_its_embedding():
    document = Document("a", id="1", embedding=np.ones(384, np.float32))
    assert repr(document) == "Document(text='a', id='1', metadata={})"


@pytest.mark.parametrize(
    "value",
    [
        Document("a", id="1", metadata={"k": [1]}),
        EmbeddingInfo("m", 3),
        Hit(Document("a", id="1"), 0.5, 1, 0.5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_are_immutable_and_can_be_copied_and_sent(value):
    name = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, None)
    assert not hasattr(value, "__dict__")
    assert copy.deepcopy(value) == value
    assert pickle.loads(pickle.dumps(value)) == value


def test_a_hit_passes_on_what_its_document_holds():
    document = Document("a", id="1", metadata={"k": 1})
    hit = Hit(document, 0.5, 1, 0.5)
    assert (hit.id, hit.text, hit.metadata) == ("1", "a", {"k": 1})


# ── embedding spaces ─────────────────────────────────────────────────────────────────────────────

infos = st.builds(
    EmbeddingInfo,
    model=st.text(),
    dimension=st.integers(1, 10_000),
    kind=st.sampled_from(EmbeddingKind),
    normalized=st.booleans(),
    metric=st.sampled_from(Metric),
    max_tokens=st.none() | st.integers(1, 100_000),
    fingerprint=st.text(),
)


@given(infos)
def test_an_embedding_space_survives_json(info):
    values = json.loads(json.dumps(info.to_dict()))
    again = EmbeddingInfo.from_dict(values)
    assert again == info
    assert (type(again.kind), type(again.metric)) == (EmbeddingKind, Metric)
    assert all(type(value) in {str, int, bool, type(None)} for value in info.to_dict().values())


def test_an_embedding_space_with_unknown_values_is_refused():
    good = EmbeddingInfo("m", 3).to_dict()
    for bad in ({"metric": "no"}, {"kind": "no"}):
        with pytest.raises(ValueError, match="no"):
            EmbeddingInfo.from_dict(good | bad)
    with pytest.raises(TypeError):
        EmbeddingInfo.from_dict(good | {"unknown": 1})


def test_metrics_and_modes_are_their_names():
    assert [str(metric) for metric in Metric] == ["cosine", "dot", "euclidean"]
    assert [str(mode) for mode in SearchMode] == ["vector", "keyword", "hybrid"]
    assert Metric("dot") is Metric.DOT


# ── made by a store ──────────────────────────────────────────────────────────────────────────────


def test_what_a_store_makes_is_what_anyone_would():
    parts = ("a text", "a", {"k": 1}, np.ones(3, np.float32), datetime(2024, 5, 1, tzinfo=UTC))
    document = make_document(*parts)
    assert type(document) is Document
    assert document == Document(*parts)
    assert [getattr(document, field.name) for field in dataclasses.fields(Document)] == list(parts)
    hit = make_hit(document, 0.5, 1, 0.25)
    assert type(hit) is Hit
    assert hit == Hit(document, 0.5, 1, 0.25)
    with pytest.raises(dataclasses.FrozenInstanceError):
        document.text = "another"
    assert dataclasses.replace(document, text="another").text == "another"
