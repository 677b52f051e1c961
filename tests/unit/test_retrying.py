"""Faults that pass and faults that do not, injected into a function."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tenacity
from tests.embedders import HashingEmbedder

from nearfield.embedders import CallableEmbedder, RetryingEmbedder, TruncatedEmbedder, retrying
from nearfield.embedders.retrying import may_pass
from nearfield.errors import EmbeddingError, InvalidDocumentError, InvalidInputError

TEXTS = [f"text {i}" for i in range(5)]


class StatusError(Exception):
    """As HTTP clients raise it."""

    def __init__(self, status, *, on_response=False):
        super().__init__(f"status {status}")
        if on_response:
            self.response = type("Response", (), {"status_code": status})()
        else:
            self.status_code = status


class Service:
    """Fails as it is told, call by call, and answers otherwise."""

    def __init__(self, *faults):
        self.faults = list(faults)
        self.asked = []

    def answer(self, texts):
        self.asked.append(list(texts))
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault
        return HashingEmbedder(4).embed_documents(texts)

    async def aanswer(self, texts):
        await asyncio.sleep(0)
        return self.answer(texts)

    def embedder(self, *, awaited=False, **options):
        function = self.aanswer if awaited else self.answer
        return CallableEmbedder(function, name="service", dimension=4, **options)


@pytest.fixture
def waits(monkeypatch):
    """Collect how long is waited, wait for nothing, and draw the longest of what can be drawn."""
    waited: list[float] = []

    async def sleep(seconds):
        waited.append(seconds)

    monkeypatch.setattr(retrying, "time", SimpleNamespace(sleep=waited.append))
    monkeypatch.setattr(retrying, "asyncio", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(tenacity.wait.random, "uniform", lambda _low, high: high)
    return waited


@pytest.fixture(params=["called", "awaited"])
def embed(request):
    """Embed documents, by either kind of method."""
    if request.param == "called":
        return lambda embedder, texts: embedder.embed_documents(texts)
    return lambda embedder, texts: asyncio.run(embedder.aembed_documents(texts))


# ── what is tried again ──────────────────────────────────────────────────────────────────────────


def test_a_fault_that_passes_costs_time_and_nothing_else(waits, embed):
    service = Service(ConnectionResetError("reset"), TimeoutError("slow"), StatusError(503))
    vectors = embed(RetryingEmbedder(service.embedder()), TEXTS)
    np.testing.assert_array_equal(vectors, HashingEmbedder(4).embed_documents(TEXTS))
    assert service.asked == [TEXTS] * 4
    assert waits == [0.5, 1.0, 2.0]


def test_an_asynchronous_function_is_awaited_again(waits):
    service = Service(ConnectionResetError("reset"))
    embedder = RetryingEmbedder(service.embedder(awaited=True))
    assert asyncio.run(embedder.aembed_queries(TEXTS)).shape == (5, 4)
    assert len(service.asked) == 2


def test_only_the_slice_that_failed_is_repeated(waits, embed):
    service = Service(None, ConnectionError("gone"), None)
    embed(RetryingEmbedder(service.embedder(batch_size=2)), TEXTS)
    assert service.asked == [TEXTS[:2], TEXTS[2:4], TEXTS[2:4], TEXTS[4:]]


def test_queries_are_tried_again_too(waits):
    service = Service(ConnectionError("gone"))
    RetryingEmbedder(service.embedder()).embed_queries(["q"])
    assert service.asked == [["q"], ["q"]]


def test_a_fault_is_known_through_the_wrappers_it_came_by(waits, embed):
    service = Service(ConnectionError("gone"), EmbeddingError("busy"))
    inner = TruncatedEmbedder(service.embedder(), 2)
    with pytest.raises(EmbeddingError, match="busy"):
        embed(RetryingEmbedder(inner), TEXTS)
    assert len(service.asked) == 2


def test_waits_double_up_to_the_longest(waits):
    service = Service(*[ConnectionError("gone")] * 7)
    embedder = RetryingEmbedder(service.embedder(), attempts=8, max_wait_s=5, deadline_s=None)
    embedder.embed_documents(TEXTS)
    assert waits == [0.5, 1, 2, 4, 5, 5, 5]


def test_waits_are_drawn_at_random_from_nothing_to_the_longest(monkeypatch):
    drawn = []
    monkeypatch.setattr(tenacity.wait.random, "uniform", lambda *ends: drawn.append(ends) or 0.0)
    service = Service(*[ConnectionError("gone")] * 3)
    RetryingEmbedder(service.embedder()).embed_documents(TEXTS)
    assert drawn == [(0, 0.5), (0, 1.0), (0, 2.0)]


# ── where it ends ────────────────────────────────────────────────────────────────────────────────


def test_after_the_last_attempt_the_fault_comes_through_with_how_often_it_was_tried(waits, embed):
    service = Service(*[ConnectionError("no route")] * 9)
    with pytest.raises(EmbeddingError, match=r"after 3 of 3 attempts.*no route") as failure:
        embed(RetryingEmbedder(service.embedder(), attempts=3), TEXTS)
    assert len(service.asked) == 3
    causes = list(retrying._causes(failure.value))
    assert isinstance(causes[-1], ConnectionError)


def test_no_repetition_begins_after_the_deadline(waits, embed, monkeypatch):
    # A clock that stands still but for what is waited.
    monkeypatch.setattr(tenacity, "time", SimpleNamespace(monotonic=lambda: float(sum(waits))))
    service = Service(*[ConnectionError("gone")] * 9)
    embedder = RetryingEmbedder(service.embedder(), attempts=99, first_wait_s=4, deadline_s=10)
    with pytest.raises(EmbeddingError, match=r"after 2 of 99 attempts, 4\.0 s after the first"):
        embed(embedder, TEXTS)
    assert waits == [4]  # the next would be 8


@pytest.mark.parametrize(
    "fault",
    [
        InvalidInputError("too long"),
        InvalidDocumentError("bad", position=0),
        ValueError("a bug"),
        EmbeddingError("out of credit"),
        StatusError(401),
        StatusError(400, on_response=True),
    ],
)
def test_what_does_not_pass_by_itself_is_not_tried_again(waits, embed, fault):
    service = Service(fault)
    with pytest.raises((EmbeddingError, InvalidInputError), match=str(fault)):
        embed(RetryingEmbedder(service.embedder()), TEXTS)
    assert len(service.asked) == 1
    assert waits == []


def test_bad_input_is_not_tried_again_whoever_is_asked(waits):
    embedder = RetryingEmbedder(Service().embedder(), retry_on=lambda _error: True)
    with pytest.raises(InvalidDocumentError, match="document 1 of"):
        embedder.embed_documents(["fine", "bro\ud800ken"])
    service = Service(InvalidInputError("too long"))
    with pytest.raises(InvalidInputError, match="too long"):
        RetryingEmbedder(service.embedder(), retry_on=lambda _error: True).embed_documents(TEXTS)
    assert len(service.asked) == 1


def test_the_caller_says_what_else_to_try_again(waits, embed):
    class OwnError(Exception):
        pass

    service = Service(OwnError(), ConnectionError("gone"))
    embedder = RetryingEmbedder(
        service.embedder(), retry_on=lambda error: isinstance(error, OwnError)
    )
    with pytest.raises(EmbeddingError, match="gone"):
        embed(embedder, TEXTS)
    assert len(service.asked) == 2


async def test_a_task_that_is_cancelled_between_attempts_tries_no_more(monkeypatch):
    waiting = asyncio.Event()

    async def sleep(_seconds):
        waiting.set()
        await asyncio.sleep(3600)

    monkeypatch.setattr(retrying, "asyncio", SimpleNamespace(sleep=sleep))
    service = Service(*[ConnectionError("gone")] * 9)
    task = asyncio.create_task(RetryingEmbedder(service.embedder()).aembed_documents(TEXTS))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(service.asked) == 1


def test_an_interrupt_is_not_tried_again(waits):
    service = Service(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        RetryingEmbedder(service.embedder(), retry_on=lambda _error: True).embed_documents(TEXTS)
    assert len(service.asked) == 1


# ── which faults pass ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("on_response", [True, False])
def test_a_status_of_http_tells_whether_a_fault_may_pass(on_response):
    passing = [s for s in range(100, 600) if may_pass(StatusError(s, on_response=on_response))]
    assert passing == [408, 425, 429, 500, 502, 503, 504]
    assert not may_pass(StatusError([429], on_response=on_response))


def test_an_error_that_names_itself_as_its_cause_is_looked_at_once(waits):
    error = RuntimeError("round and round")
    error.__cause__ = error
    assert list(retrying._causes(error)) == [error]


# ── construction ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"attempts": 0}, "attempts must be at least 1"),
        ({"first_wait_s": -1}, "first_wait_s is -1"),
        ({"max_wait_s": float("nan")}, "max_wait_s is nan"),
        ({"deadline_s": "soon"}, "deadline_s is 'soon'"),
    ],
)
def test_numbers_out_of_range_are_refused_at_once(options, complaint):
    with pytest.raises(InvalidInputError, match=complaint):
        RetryingEmbedder(HashingEmbedder(4), **options)


def test_without_tenacity_the_command_that_installs_it_is_named():
    code = (
        "import sys; sys.modules['tenacity'] = None\n"
        "from nearfield.embedders import RetryingEmbedder, load\n"
        "from nearfield.errors import MissingDependencyError\n"
        "try: RetryingEmbedder(load('minilm'))\n"
        "except MissingDependencyError as error: print(error)"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert 'pip install "nearfield[retry]"' in result.stdout
