"""Overwritten pages: the file is rebuilt from all that is intact, and the old one is kept."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from tests.damage.specimen import (
    DIMENSION,
    DOCUMENTS,
    EVERYTHING,
    NAME,
    PAGE_SIZE_BYTES,
    QUERIES,
    VECTORS,
    answers,
    copy,
    database_file,
    document,
    identifier,
    reopen,
    shown,
)

import nearfield
from nearfield import F
from nearfield.errors import CollectionInUseError, CorruptionError, FormatVersionError


def pages_with(path, content):
    """Return the numbers, from 0, of the pages that hold some bytes."""
    data = path.read_bytes()
    found, start = [], data.find(content)
    while start >= 0:
        found.append(start // PAGE_SIZE_BYTES)
        start = data.find(content, start + 1)
    return sorted(set(found))


def overwrite(path, pages, pattern=b"\xa5"):
    with path.open("r+b") as file:
        for page in pages:
            file.seek(page * PAGE_SIZE_BYTES)
            file.write(pattern * PAGE_SIZE_BYTES)


def assert_repaired(collection, report, original_expected):
    """Verify that what is left is exactly what was not named as damaged."""
    assert collection.check().ok
    left = {row.id: shown(row) for row in collection.scan(include=EVERYTHING)}
    expected = {row[0]: row for row in original_expected["scan"].value}
    assert left.keys() == expected.keys() - set(report.quarantined)
    assert all(row == expected[name] for name, row in left.items())
    assert report.documents == len(left) == len(collection)
    if not left:  # the page that leads to all the others
        return
    number = next(n for n in range(DOCUMENTS) if identifier(n) in left and n % 7)
    assert collection.search(VECTORS[number], k=1)[0].id == identifier(number)
    assert [h.id for h in collection.search(f"word{number}", mode="keyword")] == [
        identifier(number)
    ]
    assert collection.count(F.group == 1) == sum(row[2]["group"] == 1 for row in left.values())
    collection.upsert([document(number)], vectors=VECTORS[number : number + 1])
    assert collection.check().ok


def test_an_overwritten_page_of_documents_costs_only_those_on_it(folder, expected):
    file = database_file(folder)
    overwrite(file, pages_with(file, b"common word101 "))
    with reopen(folder) as collection:
        with pytest.raises(CorruptionError):
            list(collection.scan())
        problems = collection.check().problems
        assert "structure" in {problem.kind for problem in problems}
        report = collection.repair()
        assert identifier(101) in report.quarantined
        assert len(report.quarantined) < 40
        assert_repaired(collection, report, expected)


def test_an_overwritten_page_of_vectors_costs_only_those_on_it(folder, expected):
    file = database_file(folder)
    overwrite(file, pages_with(file, VECTORS[101].tobytes()))
    with reopen(folder) as collection:
        with pytest.raises(CorruptionError):
            collection.search(QUERIES[0])
        assert collection.get(identifier(101)) == document(101)
        report = collection.repair()
        assert identifier(101) in report.quarantined
        assert len(report.quarantined) < 100
        assert_repaired(collection, report, expected)
        assert collection.stats()["quarantined"] == len(report.quarantined)


def test_a_repair_keeps_the_damaged_file(folder):
    file = database_file(folder)
    overwrite(file, pages_with(file, VECTORS[101].tobytes()))
    damaged = file.read_bytes()
    with reopen(folder) as collection:
        report = collection.repair()
    [kept] = folder.glob(".damaged-*")
    assert any(str(kept) in action for action in report.actions)
    assert (kept / file.name).read_bytes()[PAGE_SIZE_BYTES:] == damaged[PAGE_SIZE_BYTES:]
    assert nearfield.connect(folder).names() == [NAME]


def test_every_page_but_the_first_can_be_lost(original, expected, tmp_path, soak):
    pages = database_file(original).stat().st_size // PAGE_SIZE_BYTES
    rng = np.random.default_rng(0)
    outcomes = set()
    for page in range(1, pages, max(1, pages // (40 * soak))):
        folder = copy(original, tmp_path / "database")
        pattern = [b"\x00", b"\xff", rng.bytes(1)][page % 3]
        overwrite(database_file(folder), [page], pattern)
        got = answers(folder)
        for name, right in expected.items():
            if got and name != "keyword":
                assert got[name].detected or got[name] == right, (page, name)
        try:
            collection = reopen(folder)
        except CorruptionError:
            outcomes.add("refused")
            continue
        with collection:
            if collection.check().ok:
                outcomes.add("unused")
                assert got == expected, page
                continue
            report = collection.repair()
            assert_repaired(collection, report, expected)
            outcomes.add("repaired")
    assert "repaired" in outcomes


def test_a_rebuild_needs_the_collection_alone(folder):
    file = database_file(folder)
    overwrite(file, pages_with(file, VECTORS[101].tobytes()))
    with reopen(folder) as collection, reopen(folder) as other:
        assert len(other) == DOCUMENTS
        with pytest.raises(CollectionInUseError, match="close"):
            collection.repair()
        other.close()
        assert collection.repair().documents < DOCUMENTS


@pytest.mark.parametrize("kept", [0, 1, 50, 99, 100, 512, 8191, 8192, 8193, 40_000, -8192])
def test_a_truncated_file_is_refused_and_left_alone(folder, kept):
    file = database_file(folder)
    content = file.read_bytes()[:kept]
    file.write_bytes(content)
    for read_only in (False, True):
        with pytest.raises(CorruptionError, match=re.escape(str(file))):
            reopen(folder, read_only=read_only)
    assert file.read_bytes() == content


@pytest.mark.parametrize(
    "content", [b"This is a text.\n" * 1000, bytes(20_000), b"SQLite format 3\0" + bytes(5000)]
)
def test_a_file_overwritten_with_something_else_is_refused_and_left_alone(folder, content):
    file = database_file(folder)
    file.write_bytes(content)
    with pytest.raises(CorruptionError):
        reopen(folder)
    assert file.read_bytes() == content


def test_another_applications_database_is_refused_and_left_alone(folder):
    file = database_file(folder)
    file.unlink()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE state (x)")
    content = file.read_bytes()
    with pytest.raises(CorruptionError, match="magic"):
        reopen(folder)
    with pytest.raises(CorruptionError, match="magic"):
        reopen(folder, read_only=True)
    assert file.read_bytes() == content
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_newer_format_is_refused_by_name(folder):
    with closing(sqlite3.connect(database_file(folder))) as connection:
        connection.execute("PRAGMA user_version = 9")
    with pytest.raises(FormatVersionError, match="upgrade") as caught:
        reopen(folder)
    assert (caught.value.found, caught.value.supported) == (9, 1)


def test_a_damaged_collection_can_be_dropped(folder):
    database_file(folder).write_bytes(b"no database" * 1000)
    database = nearfield.connect(folder)
    database.drop(NAME)
    assert database.names() == []
    database.create(NAME, dimension=DIMENSION).close()
