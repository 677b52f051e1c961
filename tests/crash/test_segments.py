"""A process that is killed while it builds segments harms nothing and leaves nothing for long."""

from __future__ import annotations

import errno
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests import segments
from tests.crash.victims import Fault, Victims, spread
from tests.crash.workload import DIMENSION, NAME, Step, model_at, vector, verify

from nearfield.stores.local.segment_files import INDEXES

SEED = 31
SEALED = 6
"""Steps whose documents are in a segment where there is one."""
STEPS = 9
KILLS = {Fault.KILL: 60, Fault.KILL_TORN: 12}
"""How many changes are visited, unless it is all of them."""


@dataclass(frozen=True)
class Prepared:
    """A closed collection that is due for a build.

    Attributes:
        folder: Where it is.
        target_recall: What it is tuned to, which builds every segment anew; None to only maintain.
    """

    folder: Path
    target_recall: float | None


@pytest.fixture(scope="module", params=["seal", "merge", "tune"])
def prepared(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "database"
    is_sealed = request.param != "seal"
    with segments.connect(folder).create(NAME, dimension=DIMENSION) as collection:
        for version in range(1, STEPS + 1):
            Step.at(SEED, version).perform(collection)
            if version == SEALED and is_sealed:
                assert segments.maintain(collection) == 1
        assert len(segments.records(collection)) == is_sealed
    return Prepared(folder, 0.9 if request.param == "tune" else None)


def copied(prepared, folder):
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(prepared.folder, folder)
    return folder


def size_bytes(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def assert_sound(prepared, folder, model):
    """Verify that nothing was lost, and that the next maintenance leaves what is needed only."""
    with segments.reopen(folder, NAME) as collection:
        assert collection.stats()["index"]["target_recall"] in (0.99, prepared.target_recall)
        hits = collection.search(vector(0, 0), k=10_000)
        assert sorted(int(hit.metadata["number"]) for hit in hits) == sorted(model)
        segments.maintain(collection)
        known = [record.folder for record in segments.records(collection)]
        assert len(known) == 1
        assert segments.folders(collection) == known
        assert segments.searched_rows(collection, vector(0, 0))["segments"] > len(model) // 2
        verify(collection, model)


def run(victims, prepared, folder, kind, nth):
    return victims.run(
        "maintain",
        folder=folder,
        target_recall=prepared.target_recall,
        fault={"kind": kind, "nth": nth},
    )


@pytest.mark.parametrize("kind", [Fault.KILL, Fault.KILL_TORN], ids=lambda kind: kind.name)
def test_a_kill_at_any_change_during_a_build_harms_nothing(tmp_path, faults, soak, prepared, kind):
    model = model_at(SEED, STEPS)
    folder = tmp_path / "database"
    with Victims(tmp_path, faults) as victims:
        death = run(victims, prepared, copied(prepared, folder), Fault.COUNT, 0)
        assert death.status == 0, death.output
        done = "built 1" if prepared.target_recall is None else "tuned to 0.9"
        assert death.acknowledged[:2] == [done, f"found {len(model)}"]
        changes = int(death.acknowledged[-1].removeprefix("changes "))
        assert changes > 20
        built = {path.name for path in (folder / NAME / "segments").glob("*/*")}
        assert built >= set(INDEXES.values())
        largest = size_bytes(folder)
        kills = 0
        visited = changes if soak > 1 else min(changes, KILLS[kind])
        for nth in spread(changes, visited):
            death = run(victims, prepared, copied(prepared, folder), kind, nth)
            assert death.killed, death.output
            kills += 1
            assert size_bytes(folder) < 2 * largest
            assert_sound(prepared, folder, model)
    assert kills >= visited


def test_kills_one_after_the_other_never_fill_the_disk(tmp_path, faults, soak, prepared):
    """Each process finds what the one before left, and is killed in its turn."""
    folder = copied(prepared, tmp_path / "database")
    with Victims(tmp_path, faults) as victims:
        changes = 0
        for turn in range(12 * soak):
            death = run(victims, prepared, folder, Fault.KILL, 2 + 5 * turn)
            assert death.killed or death.status == 0, death.output
            changes += death.killed
            assert len(list((folder / NAME / "segments").glob("*"))) <= 3
        assert changes > 5
    assert_sound(prepared, folder, model_at(SEED, STEPS))


@pytest.mark.parametrize(
    "fault",
    [(Fault.FAIL_ONCE, errno.EIO), (Fault.FAIL_ON, errno.ENOSPC)],
    ids=["one fails", "all fail from one on"],
)
def test_a_failed_change_during_a_build_harms_nothing(tmp_path, faults, soak, prepared, fault):
    kind, error = fault

    def attempt(kind, nth):
        folder = copied(prepared, tmp_path / "database")
        death = victims.run(
            "maintain_failing",
            folder=folder,
            seed=SEED,
            last=STEPS,
            target_recall=prepared.target_recall,
            fault={"kind": kind, "nth": nth, "errno": error},
        )
        assert death.status == 0, death.output
        assert_sound(prepared, folder, model_at(SEED, STEPS + 1))
        return death.acknowledged

    with Victims(tmp_path, faults) as victims:
        changes = int(attempt(Fault.COUNT, 0)[-1].removeprefix("changes "))
        failed = set()
        for nth in spread(changes, 6 * soak):
            failed.update(line for line in attempt(kind, nth) if line.startswith("failed"))
    assert failed


def test_a_full_disk_stops_the_build_and_nothing_else(tmp_path, small_disk):
    with Victims(tmp_path) as victims:
        death = victims.run("fill_disk_building", folder=small_disk, seed=SEED)
    assert death.status == 0, death.output
    assert death.acknowledged.count("full") >= 3
