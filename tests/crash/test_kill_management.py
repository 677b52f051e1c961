"""A process that is killed while it changes a database leaves the old or the new state."""

from __future__ import annotations

import shutil
from itertools import count

import numpy as np
import pytest
from tests.crash.victims import Fault, Victims
from tests.crash.workload import (
    DIMENSION,
    NAME,
    document,
    open_collection,
    stored,
    vector,
    verify,
)

import nearfield
from nearfield.errors import CorruptionError

STATES = {
    "create": ({"new"}, [0, 5]),
    "fill": ({"new"}, [5]),
    "rename": ({"old"}, [5]),
    "backup": ({"old"}, [5]),
    "drop": (set(), []),
}
"""For each change in a round, what there is after it: names, and how many documents."""


def test_a_kill_at_a_random_moment_leaves_the_old_or_the_new_state(tmp_path, soak):
    rng = np.random.default_rng(0)
    folder = tmp_path / "database"
    folder.mkdir()
    with Victims(tmp_path) as victims:
        for _ in range(20 * soak):
            death = victims.run(
                "manage",
                folder=folder,
                first=1,
                last=1000,
                kill_after_lines=int(rng.integers(6)),
                kill_after_s=float(rng.exponential(0.01)),
            )
            assert death.killed, death.output
            examine(folder, death.acknowledged)


@pytest.mark.parametrize(
    ("fault", "stride"),
    [(Fault.KILL, 13), (Fault.KILL_TORN, 13), (Fault.KILL_NAME, 1)],
    ids=["KILL", "KILL_TORN", "KILL_NAME"],
)
def test_a_kill_between_any_two_changes_leaves_the_old_or_the_new_state(
    tmp_path, faults, soak, fault, stride
):
    folder = tmp_path / "database"
    folder.mkdir()
    kills = 0
    with Victims(tmp_path, faults) as victims:
        for nth in count(1, max(1, stride // soak)):
            killing = {"kind": fault, "nth": nth}
            death = victims.run("manage", folder=folder, first=1, last=1, fault=killing)
            if not death.killed:
                assert death.status == 0, death.output
                break
            kills += 1
            examine(folder, death.acknowledged)
    assert kills > 5


def examine(folder, acknowledged):
    """Verify the state of a database, and clear it for the next round."""
    changes = list(STATES)
    last = acknowledged[-1].split()[0] if acknowledged else "drop"
    after = changes[(changes.index(last) + 1) % len(changes)]
    database = nearfield.connect(folder)
    names = set(database.names())
    assert names in (STATES[last][0], STATES[after][0])
    allowed = [*STATES[last][1], *STATES[after][1]]
    for name in names:
        with database.open(name) as collection:
            assert len(collection) in allowed
            verify(collection, stored(collection))
        database.drop(name)
    database.create("probe", dimension=DIMENSION).close()
    database.drop("probe")
    assert {path.name for path in folder.iterdir()} <= {"nearfield.lock", "copies"}
    for copy in folder.glob("copies/*"):
        copies = nearfield.connect(copy)
        assert copies.names() in ([], ["old"])
        for name in copies.names():
            with copies.open(name) as collection:
                verify(collection, stored(collection))
                assert len(collection) == 5
    finished = {line.split()[1] for line in acknowledged if line.startswith("backup")}
    for turn in finished:
        assert nearfield.connect(folder / "copies" / turn).names() == ["old"]
    shutil.rmtree(folder / "copies", ignore_errors=True)


def test_a_kill_during_a_repair_leaves_the_damaged_or_the_repaired_file(tmp_path, faults, soak):
    damaged = tmp_path / "damaged"
    with open_collection(damaged) as collection:
        collection.upsert(
            [document(number, 1) for number in range(60)],
            vectors=[vector(number, 1) for number in range(60)],
        )
    overwrite_page(damaged / NAME / "collection.sqlite3", document(30, 1).text.encode())

    def run(victims, kind, nth):
        folder = tmp_path / "database"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(damaged, folder)
        death = victims.run("repair", folder=folder, fault={"kind": kind, "nth": nth})
        with open_collection(folder, create=False) as collection:
            if not death.killed:
                assert death.status == 0, death.output
                assert collection.check().ok
            elif not collection.check().ok:
                with pytest.raises(CorruptionError):
                    stored(collection)
                collection.repair()
            model = stored(collection)
            verify(collection, model)
        left = {path.name for path in folder.iterdir() if not path.name.startswith(".damaged-")}
        assert left == {NAME, "nearfield.lock"}
        return death, model

    with Victims(tmp_path, faults) as victims:
        death, expected = run(victims, Fault.COUNT, 0)
        assert death.acknowledged[0] == "repaired"
        assert 0 < len(expected) < 60
        for fault, stride in ((Fault.KILL, 13), (Fault.KILL_NAME, 1)):
            for nth in count(1, max(1, stride // soak)):
                death, model = run(victims, fault, nth)
                assert model == expected
                if not death.killed:
                    break
            assert nth > 5


def overwrite_page(database, content, page_size=8192):
    """Overwrite the page of a closed database file that holds some bytes."""
    data = bytearray(database.read_bytes())
    start = data.index(content[:20]) // page_size * page_size
    data[start : start + page_size] = bytes([0xA5]) * page_size
    database.write_bytes(data)
