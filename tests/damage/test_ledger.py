"""Damage in the ledger is found, never served, and costs no more than indexing anew."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from contextlib import closing

import pytest
from tests.damage.specimen import (
    PAGE_SIZE_BYTES,
    database_file,
    document,
    identifier,
    reopen,
    sql,
)

from nearfield.errors import CorruptionError

RECORDED = [identifier(number) for number in range(40)]
DAMAGED = identifier(7)

RECORD_DAMAGE = {
    "time": "UPDATE ledger SET updated_at = updated_at - (1 << 40) WHERE id = ?",
    "time that is no number": "UPDATE ledger SET updated_at = 'then' WHERE id = ?",
    "slot": "UPDATE ledger SET slot = slot + 1 WHERE id = ?",
    "group": "UPDATE ledger SET group_id = 'group 1' WHERE id = ?",
    "group that is gone": "UPDATE ledger SET group_id = NULL WHERE id = ?",
    "group that is not UTF-8": "UPDATE ledger SET group_id = CAST(x'c328' AS TEXT) WHERE id = ?",
    "checksum": "UPDATE ledger SET checksum = checksum + 1 WHERE id = ?",
    "checksum that is no number": "UPDATE ledger SET checksum = 'x' WHERE id = ?",
}
KEY_DAMAGE = {
    "id": "UPDATE ledger SET id = 'another' WHERE id = ?",
    "another document's id": f"UPDATE ledger SET id = '{identifier(100)}' WHERE id = ?",
    "namespace": "UPDATE ledger SET namespace = 'another' WHERE id = ?",
    "namespace that is not UTF-8": (
        "UPDATE ledger SET namespace = CAST(x'ff' AS TEXT) WHERE id = ?"
    ),
}
CLOCK_DAMAGE = {
    "time": "UPDATE ledger_clock SET updated_at = 5",
    "time that is no number": "UPDATE ledger_clock SET updated_at = 'now'",
    "checksum": "UPDATE ledger_clock SET checksum = checksum + 1",
}


@pytest.fixture
def recorded(folder):
    """The specimen, with some of its documents in the ledger."""
    with reopen(folder) as collection:
        groups = [f"group {number % 4}" for number in range(len(RECORDED))]
        assert collection.ledger().record(RECORDED, groups=groups) == len(RECORDED)
        assert collection.check().ok
    return folder


def ledger_problems(collection):
    return [problem for problem in collection.check().problems if problem.kind == "ledger"]


@pytest.mark.parametrize("statement", RECORD_DAMAGE.values(), ids=RECORD_DAMAGE)
def test_a_damaged_record_is_found_never_served_and_dropped(recorded, statement):
    sql(recorded, statement, DAMAGED)
    with reopen(recorded) as collection:
        ledger = collection.ledger()
        with pytest.raises(CorruptionError, match="repair"):
            ledger.recorded([DAMAGED])
        with pytest.raises(CorruptionError, match="repair"):
            ledger.record([DAMAGED])
        with contextlib.suppress(CorruptionError):  # or the condition leaves it out
            assert DAMAGED not in ledger.list()
        assert ledger.recorded([identifier(8)]) == [True]
        assert [problem.id for problem in ledger_problems(collection)] == [DAMAGED]
        actions = collection.repair().actions
        assert "dropped 1 damaged records of the ledger" in actions
        assert collection.check().ok
        assert ledger.recorded(RECORDED) == [each != DAMAGED for each in RECORDED]
        assert collection.get(DAMAGED) == document(7)
        ledger.record([DAMAGED])
        assert ledger.drift().missing == ledger.drift().replaced == ()


@pytest.mark.parametrize("statement", KEY_DAMAGE.values(), ids=KEY_DAMAGE)
def test_a_record_under_a_damaged_key_is_found_never_served_and_dropped(recorded, statement):
    sql(recorded, statement, DAMAGED)
    with reopen(recorded) as collection:
        ledger = collection.ledger()
        assert ledger.recorded([DAMAGED]) == [False]  # indexed anew, then
        assert len(ledger_problems(collection)) == 1
        collection.repair()
        assert collection.check().ok
        assert ledger.recorded(RECORDED) == [each != DAMAGED for each in RECORDED]
        assert collection.ledger("another").list() == []


@pytest.mark.parametrize("statement", CLOCK_DAMAGE.values(), ids=CLOCK_DAMAGE)
def test_a_damaged_clock_is_found_and_set_after_every_record(recorded, statement):
    sql(recorded, statement)
    with reopen(recorded) as collection:
        ledger = collection.ledger()
        with pytest.raises(CorruptionError, match="repair"):
            ledger.now_us()
        assert len(ledger_problems(collection)) == 1
        collection.repair()
        assert collection.check().ok
        assert ledger.list(before_us=ledger.now_us()) == sorted(RECORDED)


def test_a_file_that_must_be_rebuilt_keeps_its_records(recorded):
    with reopen(recorded) as collection:
        collection.delete(DAMAGED)  # its record is left, and must not count for whatever comes
    with closing(sqlite3.connect(database_file(recorded))) as connection:
        root = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'ledger_by_group'"
        ).fetchone()[0]
    data = bytearray(database_file(recorded).read_bytes())
    start = (root - 1) * PAGE_SIZE_BYTES
    data[start : start + PAGE_SIZE_BYTES] = bytes(PAGE_SIZE_BYTES)
    database_file(recorded).write_bytes(data)
    with reopen(recorded) as collection:
        assert not collection.check().ok
        assert "rebuilt the database file" in collection.repair().actions[0]
        assert collection.check().ok
        ledger = collection.ledger()
        assert ledger.recorded(RECORDED) == [each != DAMAGED for each in RECORDED]
        assert ledger.list(groups=["group 1"]) == sorted(RECORDED[1::4])
        assert ledger.drift().missing == ()


def test_a_lost_ledger_costs_no_document(recorded):
    with closing(sqlite3.connect(database_file(recorded))) as connection:
        root = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'ledger'"
        ).fetchone()[0]
    data = bytearray(database_file(recorded).read_bytes())
    start = (root - 1) * PAGE_SIZE_BYTES
    data[start : start + PAGE_SIZE_BYTES] = bytes(PAGE_SIZE_BYTES)
    database_file(recorded).write_bytes(data)
    with reopen(recorded) as collection:
        report = collection.repair()
        assert report.quarantined == ()
        assert collection.check().ok
        ledger = collection.ledger()
        assert ledger.recorded(RECORDED) == [False] * len(RECORDED)
        assert ledger.list() == []
        assert ledger.record(RECORDED) == len(RECORDED)


def test_a_document_that_is_set_aside_takes_its_record_along(recorded):
    sql(recorded, "UPDATE documents SET text = 'other' WHERE id = ?", DAMAGED)
    with reopen(recorded) as collection:
        assert collection.repair().quarantined == (DAMAGED,)
        ledger = collection.ledger()
        assert ledger.recorded(RECORDED) == [each != DAMAGED for each in RECORDED]
        assert ledger.drift().missing == ()


def test_no_flipped_bit_makes_a_document_pass_for_recorded_or_outdated(recorded, soak):
    """Cleaning up deletes what is listed, so a wrong time, group or id must not get through."""
    with reopen(recorded) as collection:
        ledger = collection.ledger()
        middle = ledger.now_us()
        ledger.record(RECORDED[:20], groups=["new"] * 20)
        collection.delete(RECORDED[39])
    content = database_file(recorded).read_bytes()
    with closing(sqlite3.connect(database_file(recorded))) as connection:
        pages = [
            page
            for (page,) in connection.execute(
                "SELECT rootpage FROM sqlite_schema WHERE name LIKE 'ledger%'"
            )
        ]
    assert len(pages) == 4
    outdated = set(RECORDED[20:39])
    chance = random.Random(7)
    detected = 0
    for _ in range(60 * soak):
        data = bytearray(content)
        page = chance.choice(pages)
        place = (page - 1) * PAGE_SIZE_BYTES + chance.randrange(PAGE_SIZE_BYTES)
        data[place] ^= 1 << chance.randrange(8)
        database_file(recorded).write_bytes(data)
        with reopen(recorded) as collection:
            ledger = collection.ledger()
            try:
                assert set(ledger.list(before_us=middle)) <= outdated
                assert set(ledger.list(groups=["new"])) <= set(RECORDED[:20])
                current = ledger.recorded([*RECORDED, "document-100"])
                assert not any(current[39:])
            except CorruptionError:
                detected += 1
    assert detected
