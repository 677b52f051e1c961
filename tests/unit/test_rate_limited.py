"""What a minute sees, counted with a clock that only moves when someone waits."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.embedders import HashingEmbedder

from nearfield.embedders import CallableEmbedder, RateLimitedEmbedder, rate_limited
from nearfield.errors import InvalidDocumentError, InvalidInputError

TEXTS = [f"text {i}" for i in range(10)]


class Clock:
    """Stands in for the module ``time``: it moves only when told, or when someone sleeps."""

    def __init__(self, *, moves: bool = True):
        self.now = 1000.0
        self.moves = moves
        self.waits: list[float] = []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        assert seconds >= 0
        self.waits.append(seconds)
        self.now += seconds if self.moves else 0


class Loop:
    """Stands in for the module ``asyncio``."""

    def __init__(self, clock):
        self.clock = clock

    async def sleep(self, seconds):
        self.clock.sleep(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def clock(monkeypatch):
    return use(Clock(), monkeypatch)


def use(clock, monkeypatch):
    monkeypatch.setattr(rate_limited, "time", clock)
    monkeypatch.setattr(rate_limited, "asyncio", Loop(clock))
    return clock


class Service:
    """Answers, and writes down when it was asked for how many texts."""

    def __init__(self, clock):
        self.clock = clock
        self.requests: list[tuple[float, int]] = []

    def embedder(self, **options):
        return CallableEmbedder(self.answer, name="service", dimension=4, **options)

    def answer(self, texts):
        self.requests.append((self.clock.now, len(texts)))
        return HashingEmbedder(4).embed_documents(texts)


def busiest(requests, *, of):
    """Return the most that any 60 seconds saw."""
    return max(
        sum(of(count) for when, count in requests if start <= when < start + 60)
        for start, _ in requests
    )


def each(_count):
    return 1


def texts(count):
    return count


# ── what a minute sees ───────────────────────────────────────────────────────────────────────────


def test_no_minute_sees_more_requests_than_allowed(clock):
    service = Service(clock)
    limited = RateLimitedEmbedder(service.embedder(), requests_per_minute=3)
    for text in TEXTS:
        limited.embed_documents([text])
        clock.now += 1
    assert busiest(service.requests, of=each) == 3
    assert [when - 1000 for when, _ in service.requests] == [
        0,
        1,
        2,
        60,
        61,
        62,
        120,
        121,
        122,
        180,
    ]


def test_no_minute_sees_more_texts_than_allowed_and_a_large_call_is_split(clock):
    service = Service(clock)
    limited = RateLimitedEmbedder(service.embedder(), texts_per_minute=4)
    vectors = limited.embed_documents(TEXTS)
    assert service.requests == [(1000, 4), (1060, 4), (1120, 2)]
    np.testing.assert_array_equal(vectors, HashingEmbedder(4).embed_documents(TEXTS))
    assert limited.slice_size == 4


def test_documents_queries_and_awaited_calls_share_the_allowance(clock):
    service = Service(clock)
    limited = RateLimitedEmbedder(service.embedder(), requests_per_minute=2)
    limited.embed_documents(["a"])
    limited.embed_queries(["b"])
    asyncio.run(limited.aembed_documents(["c"]))
    asyncio.run(limited.aembed_queries(["d"]))
    limited.embed_documents(["e"])
    assert [when - 1000 for when, _ in service.requests] == [0, 0, 60, 60, 120]


def test_the_batch_size_is_what_the_embedder_takes_unless_it_is_named(clock):
    service = Service(clock)
    RateLimitedEmbedder(service.embedder(batch_size=5), requests_per_minute=99).embed_documents(
        TEXTS
    )
    RateLimitedEmbedder(service.embedder(), requests_per_minute=99, batch_size=6).embed_queries(
        TEXTS
    )
    assert [count for _, count in service.requests] == [5, 5, 6, 4]
    assert clock.waits == [0] * 4


def test_nothing_is_waited_for_where_nothing_is_sent(clock):
    service = Service(clock)
    limited = RateLimitedEmbedder(service.embedder(), requests_per_minute=1)
    limited.embed_documents(["a"])
    assert limited.embed_documents([]).shape == (0, 4)
    assert clock.waits == [0, 0]


@given(
    st.integers(1, 5),
    st.integers(3, 9),
    st.lists(st.tuples(st.floats(0, 90), st.integers(1, 3)), min_size=1, max_size=40),
)
@settings(max_examples=200, deadline=None)
def test_whatever_comes_no_minute_sees_too_much_and_turns_keep_their_order(most, many, calls):
    with pytest.MonkeyPatch.context() as monkeypatch:
        clock = use(Clock(moves=False), monkeypatch)
        limited = RateLimitedEmbedder(
            HashingEmbedder(4), requests_per_minute=most, texts_per_minute=many
        )
        turns = []
        for pause, count in calls:
            clock.now += pause
            wait = limited._reserve(count)
            earlier = [*turns, (clock.now + wait, count)]
            if wait:  # not a moment too long: with this one, the minute before is full
                rounding = 1e-6
                minute = [one for one in earlier if one[0] > clock.now + wait - 60 - rounding]
                assert len(minute) > most or sum(count for _, count in minute) > many
            turns = earlier
    assert turns == sorted(turns, key=lambda turn: turn[0])
    rounded = [(round(when, 6), count) for when, count in turns]
    assert busiest(rounded, of=each) <= most
    assert busiest(rounded, of=texts) <= many


def test_threads_share_the_allowance(monkeypatch):
    clock = use(Clock(moves=False), monkeypatch)
    service = Service(clock)
    limited = RateLimitedEmbedder(service.embedder(), requests_per_minute=5)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(limited.embed_documents, [[text] for text in TEXTS * 4]))
    assert len(service.requests) == 40
    assert sorted(clock.waits) == [60.0 * (place // 5) for place in range(40)]


async def test_tasks_share_the_allowance(monkeypatch):
    clock = use(Clock(moves=False), monkeypatch)
    service = Service(clock)
    limited = RateLimitedEmbedder(service.embedder(), requests_per_minute=5)
    await asyncio.gather(*(limited.aembed_queries([text]) for text in TEXTS))
    assert clock.waits == [0] * 5 + [60] * 5


async def test_a_task_that_is_cancelled_while_it_waits_sends_nothing():
    service = Service(Clock())
    limited = RateLimitedEmbedder(service.embedder(), requests_per_minute=1)
    await limited.aembed_documents(["a"])
    task = asyncio.create_task(limited.aembed_documents(["b"]))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(service.requests) == 1


# ── what is refused, and what comes through ──────────────────────────────────────────────────────


def test_a_limit_has_to_be_given_and_to_be_at_least_one():
    with pytest.raises(InvalidInputError, match="requests_per_minute, texts_per_minute or both"):
        RateLimitedEmbedder(HashingEmbedder(4))
    for name in ("requests_per_minute", "texts_per_minute"):
        with pytest.raises(InvalidInputError, match=f"{name} must be at least 1, got 0"):
            RateLimitedEmbedder(HashingEmbedder(4), **{name: 0})
    with pytest.raises(InvalidInputError, match="batch_size must be at least 1"):
        RateLimitedEmbedder(HashingEmbedder(4), requests_per_minute=1, batch_size=0)


def test_a_fault_is_named_by_its_place_among_all_texts(clock):
    limited = RateLimitedEmbedder(Service(clock).embedder(), texts_per_minute=4)
    with pytest.raises(InvalidDocumentError, match="document 9 of the batch") as refusal:
        limited.embed_documents([*TEXTS[:9], "bro\ud800ken"])
    assert refusal.value.position == 9
