"""The OpenAI embedder with texts that are too long for the model, or too many for a request."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openai", minversion="3", reason="openai is not installed")

from tests.openai_server import TEXTS, Fault, OpenAIServer, connect

import nearfield
from nearfield import Document
from nearfield.embedders import OpenAIEmbedder, contract
from nearfield.embedders.openai import tokens
from nearfield.embedders.openai.exchange import shorter
from nearfield.errors import (
    InvalidDocumentError,
)

LONG = " ".join(["word"] * 90)


@pytest.fixture
def short_reader():
    with OpenAIServer(max_tokens=50) as server:
        yield server


def test_a_text_that_the_server_finds_too_long_is_refused_by_its_place(short_reader):
    with (
        connect(short_reader, batch_size=100) as embedder,
        pytest.raises(InvalidDocumentError, match=r"too long.*document 77 of the batch") as refusal,
    ):
        embedder.embed_documents([*TEXTS[:77], LONG, *TEXTS[77:99]])
    assert refusal.value.position == 77
    assert "maximum context length is 50 tokens" in str(refusal.value)
    assert embedder.usage.tokens == 0  # the halves with the long text were sent first
    assert len(short_reader.requests) == 7


def test_its_place_is_right_in_a_later_slice_too(short_reader):
    with (
        connect(short_reader, batch_size=4, concurrency=2) as embedder,
        pytest.raises(InvalidDocumentError, match="document 30 of the batch") as refusal,
    ):
        contract.embed_documents(embedder, [*TEXTS[:30], LONG], progress=lambda *_: None)
    assert refusal.value.position == 30


def test_a_text_that_is_too_long_is_cut_in_half_until_it_fits(short_reader):
    texts = [*TEXTS[:5], LONG, *TEXTS[5:9], LONG * 4]
    expected = [*TEXTS[:5], shorter(LONG), *TEXTS[5:9], shorter(shorter(shorter(LONG * 4)))]
    with connect(short_reader, over_long="truncate") as embedder:
        vectors = embedder.embed_documents(texts)
    expected_vectors = short_reader.embedder.embed_documents(expected)
    np.testing.assert_allclose(vectors, expected_vectors, atol=1e-7)


def test_a_limit_on_the_texts_of_a_request_is_kept_to_once_it_is_found():
    with OpenAIServer(max_inputs=32) as server, connect(server) as embedder:
        vectors = embedder.embed_documents(TEXTS[:256])
        expected = server.embedder.embed_documents(TEXTS[:256])
        np.testing.assert_allclose(vectors, expected, atol=1e-7)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (413, "Payload Too Large"),
        (413, "inputs must have less than 512 tokens. Given: 600"),
        (422, "batch size 256 > maximum allowed batch size 32"),
        (500, "input is too large to process. increase the physical batch size"),
        (429, "Request too large for text-embedding-3-large: Limit 40000, Requested 75000."),
    ],
)
def test_servers_say_too_long_in_many_ways(server, embedder, status, message):
    server.faults.append(Fault(status, message=message))
    vectors = embedder.embed_documents(TEXTS[:4])
    assert [len(request.texts) for request in server.requests] == [4, 2, 2]
    assert embedder.usage.retries == 0
    expected = server.embedder.embed_documents(TEXTS[:4])
    np.testing.assert_allclose(vectors, expected, atol=1e-7)


@pytest.fixture
def vocabulary(monkeypatch):
    """The folder where LlamaIndex brings the vocabulary of OpenAI's models along."""
    pytest.importorskip("tiktoken", reason="tiktoken is not installed")
    package = importlib.util.find_spec("llama_index.core")
    if package is None or package.origin is None:
        pytest.skip("llama-index-core, which brings OpenAI's vocabulary, is not installed")
    folder = Path(package.origin).parent / "_static" / "tiktoken_cache"
    if not (folder / "9b5ad71b2ce5302211f9c61530b329a4922fc6a4").exists():
        pytest.skip("this llama-index-core brings no vocabulary of OpenAI's models")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
    return folder


def openai_like(server, **options):
    """An embedder whose model the server calls otherwise than OpenAI does."""
    return connect(server, space="text-embedding-ada-002", **options)


def test_tokens_are_counted_where_the_vocabulary_is_there(vocabulary):
    assert OpenAIEmbedder().count_tokens("tiktoken is great!") == 6
    assert OpenAIEmbedder(document_prompt="passage: ").count_tokens("tiktoken is great!") == 8
    assert not hasattr(OpenAIEmbedder("e5", base_url="http://127.0.0.1:1/v1"), "count_tokens")


def test_the_vocabulary_is_never_fetched(vocabulary, monkeypatch, tmp_path):
    assert tokens.is_vocabulary_here()
    [name] = [path.name for path in vocabulary.iterdir() if path.name.startswith("9b5ad")]
    whole = (vocabulary / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:-1])  # tiktoken would delete it, and fetch another
    for folder in (tmp_path, tmp_path / "none", ""):
        monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
        assert not tokens.is_vocabulary_here()
        assert not hasattr(OpenAIEmbedder(), "count_tokens")
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR")
    monkeypatch.setenv("DATA_GYM_CACHE_DIR", str(tmp_path))
    assert not tokens.is_vocabulary_here()
    (tmp_path / name).write_bytes(whole)
    assert tokens.is_vocabulary_here()
    monkeypatch.delenv("DATA_GYM_CACHE_DIR")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert not tokens.is_vocabulary_here()
    shutil.copytree(vocabulary, tmp_path / "data-gym-cache")
    assert tokens.is_vocabulary_here()


def test_what_is_too_long_is_known_before_it_is_sent_where_tokens_are_counted(vocabulary, server):
    fits, too_long = "word " * 8000, "word " * 9000
    with (
        openai_like(server) as embedder,
        pytest.raises(InvalidDocumentError, match="text of 9001 tokens is too long") as refusal,
    ):
        embedder.embed_documents([fits, too_long])
    assert refusal.value.position == 1
    assert not server.requests


@pytest.mark.parametrize("counted", [True, False])
def test_what_is_cut_does_not_depend_on_who_counts(request, counted, monkeypatch, tmp_path):
    if counted:
        request.getfixturevalue("vocabulary")
    else:
        monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    texts = ["word " * 40_000, "word " * 8000, "short"]
    with (
        OpenAIServer(dimension=1536) as server,
        openai_like(server, over_long="truncate") as embedder,
    ):
        assert hasattr(embedder, "count_tokens") is counted
        vectors = embedder.embed_documents(texts)
        expected = server.embedder.embed_documents([texts[0][:25_000], *texts[1:]])
        assert len(server.requests) == (1 if counted else 6)
    np.testing.assert_allclose(vectors, expected, atol=1e-7)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (500, "CUDA out of memory, the batch is too large"),
        (429, "Request too large: Limit 40000, Requested 75000."),
    ],
)
def test_a_single_text_is_not_cut_for_a_failure_that_may_pass(server, status, message):
    server.faults.append(Fault(status, message=message, headers={"retry-after": "0.01"}))
    with connect(server, over_long="truncate") as embedder:
        embedder.embed_documents(["wing flow"])
    assert server.texts == ["wing flow"] * 2


@pytest.mark.parametrize(
    "upsert",
    [
        lambda collection, documents: collection.upsert(documents),
        lambda collection, documents: asyncio.run(collection.aupsert(documents)),
    ],
    ids=["called", "awaited"],
)
def test_a_collection_names_it_by_its_place_among_all_documents(short_reader, tmp_path, upsert):
    documents = [
        Document("has a vector", embedding=np.ones(32)),
        Document("was written again", id="twice"),
        Document("and counts now", id="twice"),
        Document(LONG, id="long"),
    ]
    with (
        connect(short_reader) as embedder,
        nearfield.open(tmp_path, "texts", embedder=embedder) as collection,
    ):
        with pytest.raises(InvalidDocumentError, match="document 3 of the batch") as refusal:
            upsert(collection, documents)
        assert refusal.value.position == 3
        assert len(collection) == 0
