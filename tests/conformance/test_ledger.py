"""What a ledger keeps, and when a record counts."""

from __future__ import annotations

import multiprocessing
import threading
import time
import uuid

import numpy as np
import pytest

import nearfield
from nearfield import Document
from nearfield.errors import ClosedError, InvalidInputError, ReadOnlyError
from nearfield.stores.base import Checkable, LedgerDrift

DIMENSION = 4


@pytest.fixture(params=["a folder", "postgresql", "three postgresql"])
def url(request, tmp_path):
    if request.param == "a folder":
        return str(tmp_path / "database")
    fixture = "postgres_trio" if request.param == "three postgresql" else "postgres"
    return f"{request.getfixturevalue(fixture).url()}?schema={uuid.uuid4().hex}"


@pytest.fixture
def collection(url):
    with nearfield.open(url, dimension=DIMENSION, durability="normal") as opened:
        yield opened


def is_sound(collection):
    """Whether a check finds nothing, where the store can be checked from here."""
    return not isinstance(collection._store, Checkable) or collection.check().ok


def write(collection, *ids, text="text"):
    vectors = np.eye(len(ids), DIMENSION, dtype=np.float32) + 1
    collection.upsert([Document(text, id=identifier) for identifier in ids], vectors=vectors)


# ── which records count ──────────────────────────────────────────────────────────────────────────


def test_a_record_counts_while_its_document_is_there_unchanged(collection):
    write(collection, "a", "b")
    ledger = collection.ledger()
    assert ledger.recorded(["a", "b"]) == [False, False]
    assert ledger.record(["a"]) == 1
    assert ledger.recorded(["b", "a", "b", "a"]) == [False, True, False, True]


def test_a_record_of_a_deleted_document_does_not_count(collection):
    write(collection, "a", "b")
    ledger = collection.ledger()
    ledger.record(["a", "b"])
    collection.delete("a")
    assert ledger.recorded(["a", "b"]) == [False, True]
    assert ledger.list() == ["b"]


def test_a_record_of_a_replaced_document_does_not_count_but_is_listed(collection):
    write(collection, "a")
    ledger = collection.ledger()
    ledger.record(["a"])
    write(collection, "a", text="another")
    assert ledger.recorded(["a"]) == [False]
    assert ledger.list() == ["a"]
    ledger.record(["a"])
    assert ledger.recorded(["a"]) == [True]


def test_writing_the_same_document_again_is_a_replacement_too(collection):
    write(collection, "a")
    ledger = collection.ledger()
    ledger.record(["a"])
    write(collection, "a")
    assert ledger.recorded(["a"]) == [False]


def test_a_document_that_is_deleted_and_comes_back_is_not_recorded(collection):
    write(collection, "a")
    ledger = collection.ledger()
    ledger.record(["a"])
    collection.delete("a")
    write(collection, "a")
    assert ledger.recorded(["a"]) == [False]


def test_documents_that_are_not_there_are_not_recorded(collection):
    write(collection, "a")
    ledger = collection.ledger()
    assert ledger.record(["gone", "a"]) == 1
    assert ledger.record(["gone"]) == 0
    write(collection, "gone")
    assert ledger.recorded(["gone", "a"]) == [False, True]


def test_namespaces_keep_their_records_apart(collection):
    write(collection, "a", "b")
    one, two = collection.ledger("one"), collection.ledger("two")
    one.record(["a"], groups=["x"])
    two.record(["a", "b"], groups=["y", "x"])
    assert one.list() == ["a"]
    assert two.list(groups=["x"]) == ["b"]
    assert two.forget(["a"]) == 1
    assert one.recorded(["a"]) == [True]
    assert two.recorded(["a", "b"]) == [False, True]


def test_forgetting_a_record_leaves_the_document(collection):
    write(collection, "a")
    ledger = collection.ledger()
    ledger.record(["a"])
    assert ledger.forget(["a", "never there"]) == 1
    assert ledger.recorded(["a"]) == [False]
    assert collection.get("a") is not None


def test_records_outlive_the_collection_that_wrote_them(tmp_path):
    with nearfield.open(tmp_path / "database", dimension=DIMENSION) as first:
        write(first, "a")
        first.ledger().record(["a"], groups=["x"])
    with nearfield.open(tmp_path / "database", create=False) as second:
        assert second.ledger().recorded(["a"]) == [True]
        second.backup(tmp_path / "backup")
    with nearfield.open(tmp_path / "backup", create=False) as copy:
        assert copy.ledger().list(groups=["x"]) == ["a"]


def test_records_go_with_the_collection(url):
    with nearfield.open(url, dimension=DIMENSION) as first:
        write(first, "a")
        first.ledger().record(["a"])
    nearfield.connect(url).drop("default")
    with nearfield.open(url, dimension=DIMENSION) as second:
        write(second, "a")
        assert second.ledger().recorded(["a"]) == [False]


def test_maintenance_leaves_records_alone(collection):
    write(collection, "a")
    ledger = collection.ledger()
    ledger.record(["a"])
    collection.maintain()
    assert ledger.recorded(["a"]) == [True]
    assert ledger.drift().ok


# ── groups ───────────────────────────────────────────────────────────────────────────────────────


def test_recording_without_groups_keeps_them(collection):
    write(collection, "a", "b", "c")
    ledger = collection.ledger()
    ledger.record(["a", "b"], groups=["x", None])
    ledger.record(["a", "b", "c"])
    assert ledger.list(groups=["x"]) == ["a"]
    ledger.record(["a"], groups=[None])
    assert ledger.list(groups=["x"]) == []


def test_of_an_id_given_twice_the_last_group_counts(collection):
    write(collection, "a")
    ledger = collection.ledger()
    assert ledger.record(["a", "a"], groups=["x", "y"]) == 1
    assert ledger.list(groups=["y"]) == ["a"]
    assert ledger.list(groups=["x"]) == []


def test_no_groups_match_nothing(collection):
    write(collection, "a")
    ledger = collection.ledger()
    ledger.record(["a"], groups=["x"])
    assert ledger.list(groups=[]) == []


def test_no_group_is_not_the_group_without_a_name(collection):
    write(collection, "a", "b")
    ledger = collection.ledger()
    ledger.record(["a", "b"], groups=["", None])
    assert ledger.list(groups=[None]) == []
    assert ledger.list(groups=["", None]) == ["a"]


def test_any_limit_may_be_asked_for(collection):
    write(collection, "a")
    ledger = collection.ledger()
    ledger.record(["a"])
    assert ledger.list(limit=10**20) == ["a"]


def test_thousands_of_groups_are_asked_for_at_once(collection):
    ids = [f"id{number:04}" for number in range(1300)]
    collection.upsert(
        [Document("t", id=each) for each in ids],
        vectors=np.ones((len(ids), DIMENSION), dtype=np.float32),
    )
    ledger = collection.ledger()
    ledger.record(ids, groups=[f"group {each}" for each in reversed(ids)])
    assert ledger.recorded([*ids, "gone"]) == [True] * len(ids) + [False]
    wanted = [f"group {each}" for each in ids if each != "id0000"]
    assert ledger.list(groups=wanted + wanted) == ids[:-1]
    assert ledger.list(groups=wanted, limit=3) == ids[:3]


@pytest.mark.parametrize("text", ["", "a'b\"; --", "\0", "ä\n", "𝕏", "%", "?" * 3000])
def test_any_text_is_an_id_a_group_and_a_namespace(collection, text):
    identifier = text or "id"
    write(collection, identifier)
    ledger = collection.ledger(text)
    ledger.record([identifier], groups=[text])
    assert ledger.recorded([identifier]) == [True]
    assert ledger.list(groups=[text]) == [identifier]
    assert is_sound(collection)


# ── times ────────────────────────────────────────────────────────────────────────────────────────


def test_times_increase_with_every_call_and_record(collection):
    write(collection, "a", "b")
    ledger = collection.ledger()
    before = ledger.now_us()
    ledger.record(["a"])
    between = collection.ledger("another").now_us()
    ledger.record(["b"], at_least_us=between)
    after = ledger.now_us()
    assert before < between < after
    assert ledger.list(before_us=between) == ["a"]
    assert ledger.list(after_us=between) == ["b"]
    assert ledger.list(after_us=before, before_us=after) == ["a", "b"]
    assert ledger.list(after_us=after) == []


def test_time_goes_on_where_the_systems_clock_goes_back(collection, monkeypatch):
    write(collection, "a")
    ledger = collection.ledger()
    start = ledger.now_us()
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - 3_600_000_000_000)
    assert ledger.now_us() == start + 1
    ledger.record(["a"], at_least_us=start)
    assert ledger.list(after_us=start) == ["a"]


def test_before_and_after_leave_out_the_moment_itself(collection, monkeypatch):
    write(collection, "a")
    ledger = collection.ledger()
    monkeypatch.setattr(time, "time_ns", lambda: 0)  # so that times count up by one
    recorded_at = ledger.now_us() + 1
    ledger.record(["a"])
    assert ledger.list(before_us=recorded_at) == []
    assert ledger.list(after_us=recorded_at) == []
    assert ledger.list(before_us=recorded_at + 1, after_us=recorded_at - 1) == ["a"]


def test_a_time_in_the_future_is_refused_and_nothing_recorded(collection):
    write(collection, "a")
    ledger = collection.ledger()
    with pytest.raises(InvalidInputError, match="in the future"):
        ledger.record(["a"], at_least_us=ledger.now_us() + 10**12)
    assert ledger.recorded(["a"]) == [False]


def test_the_longest_unrecorded_come_first(collection):
    write(collection, "c", "b", "a")
    ledger = collection.ledger()
    ledger.record(["c"])
    ledger.record(["b", "a"])
    assert ledger.list() == ["c", "a", "b"]
    assert ledger.list(limit=2) == ["c", "a"]


# ── drift ────────────────────────────────────────────────────────────────────────────────────────


def test_drift_names_what_is_missing_replaced_and_unrecorded(collection):
    write(collection, "kept", "gone", "replaced")
    ledger = collection.ledger()
    ledger.record(["kept", "gone", "replaced"])
    assert ledger.drift() == LedgerDrift((), (), ())
    assert ledger.drift().ok
    collection.delete("gone")
    write(collection, "replaced")
    write(collection, "new", "another's")
    collection.ledger("another").record(["another's"])
    drift = ledger.drift()
    assert drift == LedgerDrift(missing=("gone",), replaced=("replaced",), unrecorded=("new",))
    assert not drift.ok


# ── many at once, and bad input ──────────────────────────────────────────────────────────────────


def record_some(url, name, start):
    with nearfield.open(url, create=False) as collection:
        ledger = collection.ledger(name)
        start.wait(30)
        for number in range(20):
            ledger.record([f"{name}{number % 5}"], groups=[str(number)])


def test_threads_and_processes_record_at_once(url):
    with nearfield.open(url, dimension=DIMENSION) as collection:
        for name in "abcd":
            write(collection, *(f"{name}{number}" for number in range(4)))
            write(collection, f"{name}4")
        context = multiprocessing.get_context("spawn")
        start = context.Event()
        processes = [context.Process(target=record_some, args=(url, name, start)) for name in "ab"]
        threads = [threading.Thread(target=record_some, args=(url, name, start)) for name in "cd"]
        for worker in (*processes, *threads):
            worker.start()
        start.set()
        for worker in (*processes, *threads):
            worker.join(120)
        assert [process.exitcode for process in processes] == [0, 0]
        for name in "abcd":
            expected = [f"{name}{number}" for number in range(5)]
            groups = [str(number) for number in range(15, 20)]
            assert collection.ledger(name).list(groups=groups) == expected
        assert is_sound(collection)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda ledger: ledger.record(["a"], groups=["x", "y"]), "2 groups .* 1 documents"),
        (lambda ledger: ledger.record(["a"], groups="x"), "expected a list"),
        (lambda ledger: ledger.record(["a"], groups=[5]), "group must be a str"),
        (lambda ledger: ledger.list(groups=5), "expected a list"),
        (lambda ledger: ledger.record([""]), "empty"),
        (lambda ledger: ledger.record([None]), "must be a str"),
        (lambda ledger: ledger.recorded([5]), "must be a str"),
        (lambda ledger: ledger.recorded(5), "list"),
        (lambda ledger: ledger.list(limit=0), "at least 1"),
        (lambda ledger: ledger.list(groups=["\ud800"]), "surrogate"),
    ],
)
def test_bad_input_is_refused_with_what_to_do(collection, call, match):
    write(collection, "a")
    ledger = collection.ledger()
    with pytest.raises(InvalidInputError, match=match):
        call(ledger)
    assert ledger.recorded(["a"]) == [False]


def test_a_namespace_must_be_text(collection):
    with pytest.raises(InvalidInputError, match="namespace must be a str"):
        collection.ledger(None)


def test_nothing_to_record_is_fine(collection):
    ledger = collection.ledger()
    assert ledger.record([]) == 0
    assert ledger.recorded([]) == []
    assert ledger.forget([]) == 0
    assert ledger.list() == []


def test_a_closed_and_a_read_only_collection_say_so(url):
    with nearfield.open(url, dimension=DIMENSION) as collection:
        write(collection, "a")
        collection.ledger().record(["a"])
    ledger = collection.ledger()
    with pytest.raises(ClosedError):
        ledger.recorded(["a"])
    with nearfield.open(url, read_only=True) as collection:
        ledger = collection.ledger()
        assert ledger.recorded(["a"]) == [True]
        with pytest.raises(ReadOnlyError):
            ledger.record(["a"])
