"""A disk that is full or fails gives an error that says so, and harms nothing."""

from __future__ import annotations

import errno
import shutil

import pytest
from tests.crash.victims import Fault, Victims, spread
from tests.crash.workload import model_at, open_collection, verify

SEED = 11
PREPARED = 4
STEPS = 4

ERRORS = [errno.ENOSPC, errno.EIO]


@pytest.fixture
def prepared(tmp_path, faults):
    """A collection with some history, and a process to fork victims."""
    folder = tmp_path / "prepared"
    with Victims(tmp_path, faults) as victims:
        death = victims.run("write", folder=folder, seed=SEED, first=1, last=PREPARED)
        assert death.status == 0, death.output
        yield folder, victims


@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("kind", [Fault.FAIL_ONCE, Fault.FAIL_ON], ids=lambda kind: kind.name)
def test_a_failed_write_leaves_what_was_there_and_works_once_the_fault_is_gone(
    tmp_path, prepared, soak, error, kind
):
    original, victims = prepared

    def run(kind, nth):
        folder = tmp_path / "database"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(original, folder)
        death = victims.run(
            "fail",
            folder=folder,
            seed=SEED,
            first=PREPARED + 1,
            last=PREPARED + STEPS,
            fault={"kind": kind, "nth": nth, "errno": error},
        )
        assert death.status == 0, death.output
        assert death.versions == list(range(PREPARED + 1, PREPARED + STEPS + 1))
        with open_collection(folder) as collection:
            verify(collection, model_at(SEED, PREPARED + STEPS))
        return death.acknowledged

    changes = int(run(Fault.COUNT, 0)[-1].removeprefix("changes "))
    failures = set()
    for nth in spread(changes, 15 * soak):
        lines = [line for line in run(kind, nth) if line.startswith("failed")]
        assert len(lines) <= 1  # the second attempt met no fault
        failures.update(lines)
    full = "StorageFullError" if error == errno.ENOSPC else "StoreError"
    # SQLite does not say why the disk refused to flush or to truncate.
    assert failures >= {f"failed write {full}", "failed sync StoreError"}
    assert failures <= {
        f"failed write {full}",
        "failed sync StoreError",
        "failed truncate StoreError",
    }


@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
def test_a_failed_change_to_a_database_happened_or_did_not(tmp_path, faults, soak, error):
    def run(kind, nth):
        folder = tmp_path / "database"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        death = victims.run(
            "manage_failing", folder=folder, fault={"kind": kind, "nth": nth, "errno": error}
        )
        assert death.status == 0, death.output
        return death.acknowledged

    with Victims(tmp_path, faults) as victims:
        changes = int(run(Fault.COUNT, 0)[-1].removeprefix("changes "))
        failures = 0
        for nth in spread(changes, 20 * soak):
            failures += any(line.startswith("failed") for line in run(Fault.FAIL_ON, nth))
    assert failures > 10


def test_a_full_disk_refuses_writes_until_there_is_room_again(tmp_path, small_disk):
    with Victims(tmp_path) as victims:
        death = victims.run("fill_disk", folder=small_disk, seed=SEED, ballast_bytes=2_000_000)
    assert death.status == 0, death.output
    assert any(line.startswith("full ") for line in death.acknowledged)
    with open_collection(small_disk / "database") as collection:
        verify(collection, model_at(SEED, death.versions[-1]))
