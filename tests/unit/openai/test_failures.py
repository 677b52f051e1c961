"""The OpenAI embedder where the server fails: what is tried again, what is said, what is not."""

from __future__ import annotations

import asyncio
import email.utils
import json
import logging
import socket
import ssl
import threading
import time
import traceback

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("openai", minversion="3", reason="openai is not installed")

import httpx2
import msgspec
import openai
from tests.openai_server import KEY, MODEL, Fault, connect, encode_base64

from nearfield.embedders import OpenAIEmbedder, RateLimitedEmbedder, RetryingEmbedder, contract
from nearfield.embedders.openai import failures
from nearfield.embedders.openai.answers import read_answer
from nearfield.errors import EmbeddingError, InvalidDocumentError

TEXTS = ["wing flow", "shock wave", "heat plate", "boundary layer"]
SOON = {"retry-after": "0.01"}


@pytest.fixture(params=["threads", "event loop"])
def embed(request, embedder):
    """Both ways to embed; each test is to hold for both."""
    return runner(embedder, request.param)


def runner(embedder, way):
    if way == "threads":
        return embedder.embed_documents
    return lambda texts: asyncio.run(embedder.aembed_documents(texts))


# ── what is tried again ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
def test_a_failure_that_passes_is_tried_again(server, embedder, embed, status):
    server.faults.extend([Fault(status, headers=SOON)] * 2)
    np.testing.assert_allclose(embed(TEXTS), server.embedder.embed_documents(TEXTS), atol=1e-7)
    assert [request.texts for request in server.requests] == [TEXTS] * 3
    assert (embedder.usage.requests, embedder.usage.retries) == (3, 2)


def test_a_connection_that_is_reset_is_tried_again(server, embedder, embed):
    server.faults.append(Fault(reset=True))
    assert len(embed(TEXTS)) == 4
    assert embedder.usage.retries == 1


@pytest.mark.parametrize("way", ["threads", "event loop"])
def test_an_answer_that_is_late_is_asked_for_again(server, way):
    server.faults.append(Fault(pause_s=1.0))
    with connect(server, timeout_s=0.2) as embedder:
        assert len(runner(embedder, way)(TEXTS)) == 4
        assert embedder.usage.retries >= 1


@pytest.mark.parametrize("way", ["threads", "event loop"])
def test_an_answer_that_trickles_in_is_late_as_a_whole(server, way):
    server.faults.append(Fault(drip_s=0.05))  # never silent for as long as the timeout
    with (
        connect(server, timeout_s=0.3, max_retries=0) as embedder,
        pytest.raises(EmbeddingError, match="no answer in time"),
    ):
        runner(embedder, way)(TEXTS)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 409, 422, 501])
def test_any_other_failure_is_not_tried_again(server, embedder, embed, status):
    server.faults.append(Fault(status, headers={"x-should-retry": "true", **SOON}))
    with pytest.raises(EmbeddingError, match=f"HTTP {status}: A fault was ordered"):
        embed(TEXTS)
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", [Fault(429), Fault(503), Fault(reset=True)])
def test_a_wrapper_may_do_the_repeating(server, fault):
    pytest.importorskip("tenacity", reason="tenacity is not installed")
    server.faults.append(fault)
    with connect(server, max_retries=0) as embedder:
        retrying = RetryingEmbedder(embedder, attempts=2, first_wait_s=0.01)
        assert len(retrying.embed_documents(TEXTS)) == len(TEXTS)
    assert len(server.requests) == 2


def test_a_wrapper_does_not_repeat_what_will_not_pass(server):
    pytest.importorskip("tenacity", reason="tenacity is not installed")
    with connect(server, api_key="sk-another-key", max_retries=0) as embedder:
        retrying = RetryingEmbedder(embedder, first_wait_s=0.01)
        with pytest.raises(EmbeddingError, match="HTTP 401"):
            retrying.embed_documents(TEXTS)
    assert len(server.requests) == 1


def test_a_rate_limit_around_it_counts_its_requests(server):
    with connect(server, batch_size=2) as embedder:
        limited = RateLimitedEmbedder(embedder, requests_per_minute=99)
        limited.embed_documents(TEXTS)
        assert limited.slice_size == 2
        assert RateLimitedEmbedder(limited, texts_per_minute=99).slice_size == 2
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429, message="You exceeded your current quota.", code="insufficient_quota"),
        Fault(503, headers={"x-should-retry": "false"}),
        Fault(429, headers={"retry-after": "900"}),
    ],
)
def test_what_would_not_pass_in_time_is_not_tried_again(server, embedder, embed, fault):
    server.faults.append(fault)
    with pytest.raises(EmbeddingError):
        embed(TEXTS)
    assert len(server.requests) == 1


def test_retries_end_after_max_retries(server, embed):
    server.faults.extend([Fault(500, headers=SOON)] * 9)
    with connect(server, max_retries=2) as embedder:
        with pytest.raises(EmbeddingError, match="HTTP 500"):
            embedder.embed_documents(TEXTS)
        assert len(server.requests) == 3
    with (
        connect(server, max_retries=0) as embedder,
        pytest.raises(EmbeddingError, match="HTTP 500"),
    ):
        asyncio.run(embedder.aembed_documents(TEXTS))
    assert len(server.requests) == 4


def test_retries_end_with_the_deadline(server):
    server.faults.extend([Fault(503, headers={"retry-after": "0.3"})] * 99)
    with connect(server, max_retries=99, deadline_s=2.0) as embedder, pytest.raises(EmbeddingError):
        embedder.embed_documents(TEXTS)
    assert 2 <= len(server.requests) <= 7


def test_as_long_is_waited_as_the_server_asks_for(server, embedder, embed):
    server.faults.append(Fault(429, headers={"retry-after-ms": "400", "retry-after": "9"}))
    before = time.monotonic()
    embed(TEXTS)
    assert time.monotonic() - before >= 0.4


def test_a_batch_that_fails_for_good_ends_the_others(server):
    server.faults.extend([Fault(503, headers={"retry-after": "60"}), Fault(404)])
    with connect(server, batch_size=1, concurrency=2) as embedder:
        with pytest.raises(EmbeddingError, match="HTTP 404"):  # and not in a minute
            embedder.embed_documents(TEXTS)
        server.faults.extend([Fault(503, headers={"retry-after": "60"}), Fault(404)])
        with pytest.raises(EmbeddingError, match="HTTP 404"):
            asyncio.run(embedder.aembed_documents(TEXTS))
        assert len(embedder.embed_documents(TEXTS)) == 4  # all places are free again


@given(retry=st.integers(0, 2000))
def test_pauses_grow_up_to_a_bound_and_differ(retry):
    error = openai.APIConnectionError(request=httpx2.Request("POST", "http://127.0.0.1"))
    full = min(0.5 * 2.0 ** min(retry, 10), 30.0)
    pauses = [failures.wait_s(error, retry) for _ in range(20)]
    assert full / 2 <= min(pauses) < max(pauses) <= full
    assert len(set(pauses)) > 10


def status_error(status=429, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    request = httpx2.Request("POST", "http://127.0.0.1")
    response = httpx2.Response(status, headers=headers, request=request)
    return openai.APIStatusError("", response=response, body=None)


@pytest.mark.parametrize(
    ("value", "seconds"), [("0", 0), ("3", 3), ("1.5", 1.5), ("7200", 7200), (" 2 ", 2)]
)
def test_no_less_is_waited_than_the_header_says_and_not_much_more(value, seconds):
    pauses = [failures.wait_s(status_error(retry_after=value), 0) for _ in range(50)]
    assert seconds <= min(pauses) < max(pauses) <= seconds + 0.25 * max(seconds, 1)


def test_the_header_may_be_a_date():
    header = email.utils.formatdate(time.time() + 20, usegmt=True)
    assert 15 < failures.wait_s(status_error(retry_after=header), 0) < 26
    past = email.utils.formatdate(time.time() - 20, usegmt=True)
    assert failures.wait_s(status_error(retry_after=past), 0) <= 0.25


@pytest.mark.parametrize("value", ["", "soon", "nan", "inf", "-1", "1e999", "Mon, 99 Foo 2020"])
def test_a_header_that_makes_no_sense_is_passed_over(value):
    assert 0.25 <= failures.wait_s(status_error(retry_after=value), 0) <= 0.5


def test_a_bad_certificate_and_an_unknown_host_are_not_tried_again():
    request = httpx2.Request("POST", "http://127.0.0.1")
    causes = [
        (ssl.SSLCertVerificationError("self-signed"), False),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), False),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), True),
        (ConnectionRefusedError(111, "Connection refused"), True),
        (ConnectionResetError(104, "Connection reset by peer"), True),
    ]
    for cause, transient in causes:
        middle = httpx2.ConnectError("")
        middle.__cause__ = cause
        error = openai.APIConnectionError(request=request)
        error.__cause__ = middle
        assert failures.is_transient(error) is transient


def test_a_server_that_is_not_there_is_named(embedder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (
        OpenAIEmbedder(MODEL, base_url=f"http://127.0.0.1:{port}/v1", max_retries=1) as lost,
        pytest.raises(EmbeddingError, match=rf"127\.0\.0\.1:{port}/v1 .*refused.*check base_url"),
    ):
        lost.embed_documents(TEXTS)
    assert lost.usage.requests == 2


# ── what is said ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        (Fault(401), "check the key"),
        (Fault(403), "check the key"),
        (Fault(404), "check the model's name, 'hashing', and base_url"),
        (Fault(400), "check the model and the options"),
        (Fault(429, code="insufficient_quota"), "quota is used up: check its plan and billing"),
        (Fault(429), "lower concurrency or batch_size"),
        (Fault(500), "try again later"),
        (Fault(502, body="<html><h1>Bad Gateway</h1></html>"), "Bad Gateway"),
        (Fault(400, body='{"detail": [{"msg": "field required"}]}'), "field required"),
        (Fault(400, body='{"error": "not loaded"}'), "not loaded"),
        (Fault(400, body='{"message": "no such thing"}'), "no such thing"),
        (Fault(400, body="[]"), "HTTP 400"),
        (Fault(599, body=" "), "no reason given"),
        (Fault(400, message="x" * 5000), "x{300}…"),
    ],
)
def test_an_error_says_what_happened_and_what_to_do(server, fault, remedy):
    server.faults.append(fault)
    with (
        connect(server, max_retries=0) as embedder,
        pytest.raises(EmbeddingError, match=remedy) as error,
    ):
        embedder.embed_documents(TEXTS)
    assert server.url.partition("://")[2] in str(error.value)
    assert len(str(error.value)) < 600


def test_without_a_key_the_error_tells_where_keys_come_from(server):
    with (
        connect(server, api_key=None) as embedder,
        pytest.raises(EmbeddingError, match="no key was sent: pass api_key="),
    ):
        embedder.embed_documents(TEXTS)


def test_a_wrong_path_is_told(server):
    with (
        connect(server, base_url=server.url.removesuffix("/v1")) as embedder,
        pytest.raises(EmbeddingError, match="most often ends in /v1"),
    ):
        embedder.embed_documents(TEXTS)


def test_an_unknown_model_is_told(server):
    with (
        OpenAIEmbedder("unheard-of", api_key=KEY, base_url=server.url) as embedder,
        pytest.raises(EmbeddingError, match=r"does not exist.*check the model's name"),
    ):
        embedder.embed_documents(TEXTS)


# ── answers that cannot be trusted ───────────────────────────────────────────────────────────


def change(**rows):
    """Make a fault that changes fields of the first row."""

    def spoil(answer):
        answer["data"][0].update(rows)
        return answer

    return Fault(spoil=spoil)


def embedding(*components):
    return encode_base64(np.array(components, dtype=np.float32))


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        (Fault(spoil=lambda answer: {"data": answer["data"][:-1]}), "3 embeddings for 4 texts"),
        (Fault(spoil=lambda answer: {"data": answer["data"] * 2}), "8 embeddings for 4 texts"),
        (Fault(spoil=lambda _: {"data": []}), "0 embeddings for 4 texts"),
        (Fault(spoil=lambda _: {"error": {"message": "?"}}), "no answer of the embeddings"),
        (Fault(spoil=lambda _: b"<html>"), "no answer of the embeddings API"),
        (Fault(spoil=lambda _: b""), "no answer of the embeddings API"),
        (Fault(spoil=lambda _: b"\xff\xfe"), "no answer of the embeddings API"),
        (Fault(spoil=lambda answer: json.dumps(answer)[:-9].encode()), "no answer"),
        (change(embedding=None), "no answer of the embeddings API"),
        (change(embedding=["x"]), "no answer of the embeddings API"),
        (change(embedding="!!!!"), "no base64 of float32"),
        (change(embedding="abcd"), "no base64 of float32"),
        (change(embedding=[]), "embeddings of 0 and 32 components"),
        (change(embedding=[1.0] * 31), "embeddings of 31 and 32 components"),
        (change(embedding=embedding(*[np.nan] * 32)), "NaN or infinity"),
        (change(embedding=embedding(np.inf, *[0] * 31)), "NaN or infinity"),
        (change(embedding=[1e300] * 32), "NaN or infinity"),
        (change(embedding=[0] * 32), "zeros, which has no direction"),
        (change(index=1), "did not number its 4 embeddings from 0 to 3"),
        (change(index=4), "did not number"),
        (change(index=-1), "did not number"),
        (change(index=None), "did not number"),
        (change(index="0"), "no answer of the embeddings API"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused(server, embedder, embed, fault, complaint):
    server.faults.append(fault)
    with pytest.raises(EmbeddingError, match=complaint):
        embed(TEXTS)
    assert len(server.requests) == 1


def test_vectors_of_another_dimension_than_before_are_refused(server, embedder, embed):
    embed(TEXTS)
    vectors = [{"index": n, "embedding": [1.0] * 31} for n in range(4)]
    server.faults.append(Fault(spoil=lambda _: {"data": vectors}))
    with pytest.raises(EmbeddingError, match="31 components for 'hashing', expected 32"):
        embed(TEXTS)


def test_a_server_that_ignores_dimensions_is_found_out(server):
    with (
        connect(server, dimensions=64) as embedder,
        pytest.raises(EmbeddingError, match="expected 64"),
    ):
        embedder.embed_documents(TEXTS)


def test_answers_out_of_order_are_put_in_order(server, embedder, embed):
    def shuffle(answer):
        answer["data"] = [answer["data"][place] for place in (2, 0, 3, 1)]
        return answer

    server.faults.append(Fault(spoil=shuffle))
    np.testing.assert_allclose(embed(TEXTS), server.embedder.embed_documents(TEXTS), atol=1e-7)


def test_answers_without_numbers_are_taken_in_their_order(server, embedder, embed):
    def bare(answer):
        return {"data": [{"embedding": row["embedding"]} for row in answer["data"]]}

    server.faults.append(Fault(spoil=bare))
    np.testing.assert_allclose(embed(TEXTS), server.embedder.embed_documents(TEXTS), atol=1e-7)


@given(body=st.binary(max_size=200) | st.text(max_size=50).map(lambda text: text.encode()))
def test_no_answer_whatever_brings_it_down(body):
    with pytest.raises(EmbeddingError):
        read_answer(body, count=1, server="a server")


@given(
    vectors=st.lists(
        st.lists(
            st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3
        ),
        min_size=1,
        max_size=6,
    ),
    data=st.data(),
)
def test_numbers_survive_the_way_bit_for_bit(vectors, data):
    expected = np.array(vectors, dtype=np.float32)
    order = data.draw(st.permutations(range(len(vectors))))
    for encode in (encode_base64, lambda vector: [float(value) for value in vector]):
        rows = [{"index": place, "embedding": encode(expected[place])} for place in order]
        body = json.dumps({"data": rows}).encode()
        read, _ = read_answer(body, count=len(vectors), server="a server")
        assert read.tobytes() == expected.tobytes()


# ── what is not said ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", ["threads", "event loop"])
def test_the_key_is_nowhere_to_be_seen(server, caplog, way):
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "httpx2", "httpcore2", "asyncio", "nearfield"):
        caplog.set_level(logging.DEBUG, logger=name)
    masked = f"{KEY[:8]}****{KEY[-4:]}"
    said = f"Incorrect API key provided: {KEY} ({masked}), Bearer {KEY}. {TEXTS[0]}"
    faults = [
        [Fault(401, message=said)],
        [Fault(429, message=said, headers=SOON), Fault(400, message=said)],
        [Fault(400, body=said)],
        [Fault(413, message=said)] * 9,
        [Fault(reset=True), Fault(spoil=lambda _: json.dumps({"data": said}).encode())],
    ]
    seen = []
    embedder = connect(server)
    checked = contract.embed_documents
    if way == "event loop":
        checked = lambda *given: asyncio.run(contract.aembed_documents(*given))  # noqa: E731
    for row in faults:
        server.faults.extend(row)
        with pytest.raises((EmbeddingError, InvalidDocumentError)) as error:
            checked(embedder, TEXTS)
        server.faults.clear()
        assert error.value.__cause__ is None
        context = error.value.__context__  # not the client's error, which holds the request
        assert context is None or isinstance(context, msgspec.MsgspecError)
        seen += [str(error.value), repr(error.value), *traceback.format_exception(error.value)]
    embedder.embed_documents(TEXTS)
    seen += [repr(embedder), str(vars(embedder)), str(embedder.info), str(embedder.info.to_dict())]
    seen += [repr(part) for part in embedder._connection or ()]
    seen += [str(vars(embedder._connection[0]))]
    embedder.close()
    assert server.requests[-1].headers["authorization"] == f"Bearer {KEY}"  # it was sent
    assert any("127.0.0.1" in record.getMessage() for record in caplog.records)
    ours = [record.getMessage() for record in caplog.records if "nearfield" in record.name]
    assert any("retry 1 of 6" in message for message in ours)
    for text in [caplog.text, *seen]:
        assert KEY not in text
        assert masked not in text
    for message in ours:
        assert TEXTS[0] not in message


def test_threads_that_wait_for_a_retry_leave_with_the_call(server):
    server.faults.extend([Fault(503, headers={"retry-after": "5"}), Fault(401)])
    with connect(server, batch_size=2, concurrency=2) as embedder, pytest.raises(EmbeddingError):
        embedder.embed_documents(TEXTS)
    assert len(server.requests) == 2  # and no retry
    assert not [thread for thread in threading.enumerate() if "nearfield-openai" in thread.name]
