"""A flipped bit, wherever it is, never changes an answer unnoticed."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import pytest
from tests.damage import specimen
from tests.damage.specimen import IDS, PAGE_SIZE_BYTES, answers, copy, database_file, reopen

FLIPS = 260

HIDDEN_UNTIL_CHECKED = {"get", "keyword"}
"""These look things up in search trees that have no checksums: the tree can lose an entry, which
only ``check`` finds. What they do return is verified all the same."""


def flips(size_bytes, count, seed):
    """Choose offsets and bits: anywhere, and as often among the first bytes of a page."""
    rng = np.random.default_rng(seed)
    for turn in range(count):
        offset = int(rng.integers(size_bytes))
        if turn % 2:
            page = offset // PAGE_SIZE_BYTES * PAGE_SIZE_BYTES
            offset = page + int(rng.integers(100))
        yield offset, int(rng.integers(8))


def flip(path, offset, bit):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


def test_after_a_bit_flip_each_answer_is_right_or_an_error(
    original, expected, tmp_path, soak, capsys
):
    outcomes = Counter()
    size_bytes = database_file(original).stat().st_size
    for offset, bit in flips(size_bytes, FLIPS * soak, seed=soak):
        folder = copy(original, tmp_path / "database")
        flip(database_file(folder), offset, bit)
        outcomes[judge(folder, expected, f"bit {bit} of byte {offset}")] += 1
    summary = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    with capsys.disabled():
        sys.stdout.write(f"\n{summary}\n")
    assert outcomes["detected by reading"] > 20 * soak
    assert outcomes["detected by check"] > 5 * soak


def judge(folder, expected, where):
    """Compare each answer with the right one; return how the damage was dealt with."""
    got = answers(folder)
    if not got:
        return "detected at opening"
    for name, right in expected.items():
        if got[name].detected or got[name] == right:
            continue
        assert name in HIDDEN_UNTIL_CHECKED, f"{where}: {name} gave a wrong answer"
        assert_nothing_invented(got[name].value, right.value, where)
    with reopen(folder) as collection:
        sound = collection.check().ok
        wrong = [name for name, right in expected.items() if got[name] != right]
        if sound:
            # Unused space, or a number with more than one right value.
            assert not wrong, f"{where}: check saw nothing, and {wrong} differ"
            return "without effect"
        mend(collection, expected, where)
    if any(answer.detected for answer in got.values()):
        return "detected by reading"
    return "hidden until checked" if wrong else "detected by check"


def assert_nothing_invented(got, right, where):
    """Verify that things are missing at most, not changed."""
    documents = {row[0]: row[:4] for row in specimen_rows()}
    for part in got:
        for row in part if isinstance(part, list) else [part]:
            if row is not None:
                identifier, text, metadata, *_ = row
                assert (identifier, text, metadata) == documents[identifier][:3], where
    assert len(got) == len(right)


def specimen_rows():
    return [specimen.shown(specimen.document(number)) for number in range(specimen.DOCUMENTS)]


def mend(collection, expected, where):
    """Repair, and verify that exactly the documents named are gone."""
    report = collection.repair()
    checked = collection.check()
    assert checked.ok, f"{where}: {checked.problems} after {report}"
    kept = {row[0]: row for row in expected["scan"].value if row[0] not in report.quarantined}
    left = [specimen.shown(read) for read in collection.scan(include=specimen.EVERYTHING)]
    assert {row[0] for row in left} == kept.keys(), where
    assert all(kept[row[0]] == row for row in left), where
    assert len(collection) == report.documents == len(kept)
    lost = set(IDS) - kept.keys()
    assert all((read is None) == (i in lost) for i, read in zip(IDS, collection.get(IDS)))  # noqa: B905


@pytest.mark.parametrize("count", [3, 30])
def test_after_many_bit_flips_nothing_crashes(original, tmp_path, soak, count):
    rng = np.random.default_rng(count)
    size_bytes = database_file(original).stat().st_size
    for _ in range(20 * soak):
        folder = copy(original, tmp_path / "database")
        for offset, bit in flips(size_bytes, count, seed=int(rng.integers(2**32))):
            flip(database_file(folder), offset, bit)
        answers(folder)
