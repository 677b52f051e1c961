"""Trying again what failed on the way to a server."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

tenacity = pytest.importorskip("tenacity", reason="tenacity is not installed")

from nearfield.stores import attempts as module  # noqa: E402
from nearfield.stores.attempts import attempts  # noqa: E402


class AskingError(Exception):
    """An error that says when to return."""

    def __init__(self, retry_after: float) -> None:
        super().__init__()
        self.retry_after = retry_after


@pytest.fixture
def clock(monkeypatch):
    """A clock that only waiting moves."""
    waits: list[float] = []
    fake = SimpleNamespace(monotonic=lambda: sum(waits), sleep=waits.append)
    for user in (module, tenacity, tenacity.nap):
        monkeypatch.setattr(user, "time", fake)
    monkeypatch.setattr("tenacity.wait.random.uniform", lambda _low, high: high)
    return waits


def failing(errors):
    """Return an operation that fails with some errors and then returns the seconds left."""
    left = list(errors)

    def operation(left_s):
        if left:
            raise left.pop(0)
        return left_s

    return operation


def always(_error):
    return True


def test_waits_double_and_the_time_that_is_left_is_told(clock):
    assert attempts(1.0, failing([OSError()] * 4), always) == pytest.approx(0.7)
    assert clock == [0.02, 0.04, 0.08, 0.16]


def test_what_does_not_pass_is_raised_at_once(clock):
    with pytest.raises(KeyError):
        attempts(
            1.0, failing([OSError(), KeyError()]), lambda error: not isinstance(error, KeyError)
        )
    assert clock == [0.02]


def test_no_wait_goes_beyond_the_time_and_none_is_longer_than_four_seconds(clock):
    with pytest.raises(OSError, match="999"):
        attempts(30.0, failing([OSError(999)] * 99), always)
    assert sum(clock) <= 30.0
    assert max(clock) == 4.0


def test_a_server_that_says_when_to_return_is_heeded_if_there_is_time(clock):
    attempts(1.0, failing([AskingError(0.5)]), always)
    assert clock == [0.5]
    with pytest.raises(AskingError):
        attempts(1.0, failing([AskingError(60.0)]), always)


def test_an_operation_always_has_a_moment(clock):
    assert attempts(0.0, failing([]), always) == 0.001
    with pytest.raises(OSError, match="once"):
        attempts(0.0, failing([OSError("once")]), always)
