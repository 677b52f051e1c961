"""Damage to SQLite's log, which a killed process leaves behind.

The log is verified by checksums as far as they hold: what comes after a damaged place is as if it
had never been written. That is a loss, and it is of whole calls, the last ones.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from tests.crash.workload import NAME, Step, model_at, open_collection, stored, verify

SEED = 31
STEPS = 20


@pytest.fixture(scope="module")
def crashed(tmp_path_factory):
    """The files of a collection, copied while it was open: half of the steps are in its log."""
    folder = tmp_path_factory.mktemp("log")
    with open_collection(folder / "database") as collection:
        for version in range(1, STEPS // 2 + 1):
            Step.at(SEED, version).perform(collection)
    with open_collection(folder / "database") as collection:
        for version in range(STEPS // 2 + 1, STEPS + 1):
            Step.at(SEED, version).perform(collection)
        shutil.copytree(folder / "database", folder / "crashed")
    assert (folder / "crashed" / NAME / "collection.sqlite3-wal").stat().st_size > 100_000
    return folder / "crashed"


@pytest.fixture
def folder(crashed, tmp_path):
    return shutil.copytree(crashed, tmp_path / "database")


def log_file(folder):
    return folder / NAME / "collection.sqlite3-wal"


def moments():
    return [model_at(SEED, version) for version in range(STEPS // 2, STEPS + 1)]


def test_an_intact_log_is_read(folder):
    with open_collection(folder, create=False) as collection:
        verify(collection, model_at(SEED, STEPS))


def test_a_damaged_log_costs_the_last_calls_as_a_whole(crashed, tmp_path, soak):
    rng = np.random.default_rng(0)
    size_bytes = log_file(crashed).stat().st_size
    possible, lost = moments(), 0
    for turn in range(25 * soak):
        folder = shutil.copytree(crashed, tmp_path / f"{turn}")
        data = bytearray(log_file(folder).read_bytes())
        data[int(rng.integers(size_bytes))] ^= 1 << int(rng.integers(8))
        log_file(folder).write_bytes(data)
        with open_collection(folder, create=False) as collection:
            found = stored(collection)
            verify(collection, found)
        assert found in possible
        lost += found != possible[-1]
    assert lost


@pytest.mark.parametrize("kept", [0, 1, 31, 32, 100, 50_000, -1, -5000])
def test_a_truncated_log_costs_the_last_calls_as_a_whole(folder, kept):
    log = log_file(folder)
    log.write_bytes(log.read_bytes()[:kept])
    with open_collection(folder, create=False) as collection:
        found = stored(collection)
        assert found in moments()
        verify(collection, found)


def test_a_lost_log_leaves_what_had_been_moved_into_the_database(folder):
    log_file(folder).unlink()
    with open_collection(folder, create=False) as collection:
        verify(collection, model_at(SEED, STEPS // 2))


@pytest.mark.parametrize("content", [None, b"", b"x" * 32768, bytes(32768)])
def test_the_shared_memory_file_is_made_anew(folder, content):
    shared = folder / NAME / "collection.sqlite3-shm"
    if content is None:
        shared.unlink()
    else:
        shared.write_bytes(content)
    with open_collection(folder, create=False) as collection:
        verify(collection, model_at(SEED, STEPS))
