"""What Pinecone's adapter writes and asks, on needledb, which others wrote in Pinecone's image.

It has no way to fetch by metadata or to describe a namespace, makes indexes by another request and
numbers no writes, so that records, filters and searches are tried there, not the whole suite.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from hypothesis import given, settings
from tests.oracle import Oracle
from tests.property.test_filter_congruence import BASE, is_refused_by_chroma, near_base

from nearfield import Document, EmbeddingInfo, Metric, SearchMode
from nearfield.errors import UnsupportedFilterError
from nearfield.stores.base import CollectionInfo, Include, SearchRequest

pytest.importorskip("pinecone", reason="pinecone is not installed")
pytest.importorskip("needledb", reason="needledb is not installed")

from nearfield.stores.pinecone.address import METRICS, Address
from nearfield.stores.pinecone.connections import Handle
from nearfield.stores.pinecone.fields import DIALECT
from nearfield.stores.pinecone.indexes import PineconeIndex
from nearfield.stores.pinecone.store import PineconeStore

_START_S = 60
EVERYTHING = Include(text=True, metadata=True, embedding=True)


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """Where a needledb listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("needledb")
    command = [sys.executable, "-m", "needledb", "serve", "--no-auth", "--log-level", "error"]
    command += ["--port", str(port), "--data", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + _START_S
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
        yield port
        process.terminate()


@pytest.fixture
def make(port):
    """Make a store in an index of its own."""
    stores = []

    def store(dimension, metric):
        name = f"i{time.time_ns()}"
        body = {"name": name, "dimension": dimension, "metric": METRICS[metric]}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/indexes",
            json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=_START_S).close()
        address = Address.at(
            f"pinecone://127.0.0.1:{port}?ssl=false", timeout_s=10, read_only=False
        )
        index = PineconeIndex(name, f"http://127.0.0.1:{port}/indexes/{name}", dimension)
        handle = Handle(address, index, "x")
        info = CollectionInfo("x", EmbeddingInfo("given vectors", dimension), metric)
        stores.append(PineconeStore(handle, info))
        return stores[-1]

    yield store
    for each in stores:
        each.close()


@pytest.mark.parametrize("metric", Metric)
def test_documents_come_back_and_searches_are_exact(make, metric):
    store, oracle = make(16, metric), Oracle(metric)
    rows = np.random.default_rng(0).standard_normal((1_500, 16)).astype(np.float32)
    documents = [
        Document(f"text {i}", id=f"é{i}", metadata={"n": [i, None]}, embedding=row)
        for i, row in enumerate(rows)
    ]
    store.upsert(documents)
    oracle.upsert(documents)
    assert len(store.get(["é0", "é1499"], include=EVERYTHING)) == 2
    assert store.get(["no"], include=EVERYTHING) == [None]
    for document, read in zip(
        documents, store.get([each.id for each in documents], include=EVERYTHING), strict=True
    ):
        assert (read.id, read.text, read.metadata) == (
            document.id,
            document.text,
            document.metadata,
        )
        # Of a vector that is compared by cosine, needledb keeps direction and length apart.
        assert read.embedding == pytest.approx(document.embedding, rel=1e-6)
    assert store.delete(ids=["é7", "no"]) == oracle.delete(["é7"]) == 1
    for query in rows[:5] + 0.1:
        (hits,) = store.search(SearchRequest(SearchMode.VECTOR, 10, vectors=query[np.newaxis]))
        expected = oracle.search(query, 10)
        assert [hit.id for hit in hits] == [name for name, _ in expected]
        assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected])
    assert not store.capabilities.read_your_writes


def test_an_upsert_takes_the_place_of_the_record_with_all_its_fields(make):
    store = make(2, Metric.COSINE)
    vector = np.array([1, 0], np.float32)
    store.upsert([Document("old", id="a", metadata={"old": 1}, embedding=vector)])
    store.upsert([Document("", id="a", metadata={"new": 1}, embedding=vector)])
    (record,) = store._handle.fetch(["a"])
    assert not any("old" in str(each) for each in record.metadata.items())


def test_filters_take_the_documents_that_they_should(make, soak):
    store = make(2, Metric.DOT)
    store.upsert(BASE)

    @settings(max_examples=40 * soak)
    @given(near_base)
    def agree(where):
        try:
            clause = DIALECT.clause(where)
        except UnsupportedFilterError:
            assert is_refused_by_chroma(where, 24)
            return
        expected = {each.id for each in BASE if where.matches(each.metadata)}
        if isinstance(clause, bool):
            assert expected == ({each.id for each in BASE} if clause else set())
            return
        found = store._handle.query(vector=[1.0, 1.0], top_k=1_000, filter=clause).matches
        assert {match.id for match in found} == expected

    agree()
