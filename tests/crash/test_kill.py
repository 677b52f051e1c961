"""A process that is killed, at any moment, loses nothing that it acknowledged."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
from tests.crash.victims import Fault, Victims
from tests.crash.workload import Step, model_at, open_collection, stored, vector, verify

LANES = 2
KILLS = 60
SLOWEST_REOPENING_S = 10.0
"""A failure even on a busy machine; on a quiet one it takes milliseconds."""


@dataclass
class Survival:
    """What a collection lived through.

    Attributes:
        kills: How many times its writer was killed.
        acknowledged: How many calls were acknowledged in all.
        completed: How many calls had been committed when the writer died, and were not
            acknowledged yet.
        slowest_reopening_s: From opening to the first answer.
    """

    kills: int = 0
    acknowledged: int = 0
    completed: int = 0
    slowest_reopening_s: float = 0.0


class Survivor:
    """One collection whose writers are killed, again and again."""

    def __init__(self, folder, seed):
        self.folder = folder
        self.seed = seed
        self.version = 0  # the last step that is known to have happened
        self.model = {}
        self.survival = Survival()

    def live_through(self, victims, task="write", *, steps=1000, **command):
        """Run a writer until it is killed or done, and verify what is left."""
        death = victims.run(
            task,
            folder=self.folder,
            seed=self.seed,
            first=self.version + 1,
            last=self.version + steps,
            **command,
        )
        assert death.killed or death.status == 0, death.output
        self.survival.kills += death.killed
        for version in death.versions:
            self.model = Step.at(self.seed, version).apply(self.model)
            self.version = version
        self.survival.acknowledged += len(death.versions)
        self.examine()

    def examine(self):
        """Reopen, and verify that the call in flight happened wholly or not at all."""
        started = time.perf_counter()
        with open_collection(self.folder) as collection:
            collection.search(vector(0, 0), k=1)
            taken_s = time.perf_counter() - started
            self.survival.slowest_reopening_s = max(self.survival.slowest_reopening_s, taken_s)
            assert taken_s < SLOWEST_REOPENING_S
            after = Step.at(self.seed, self.version + 1).apply(self.model)
            found = stored(collection)
            assert found in (self.model, after)
            if found != self.model:
                self.survival.completed += 1
                self.version += 1
                self.model = after
            verify(collection, self.model)


def test_what_was_acknowledged_survives_kill_9_at_random_moments(
    tmp_path, soak, record_property, capsys
):
    def lane(seed):
        rng = np.random.default_rng(seed)
        survivor = Survivor(tmp_path / f"database-{seed}", seed)
        with Victims(tmp_path) as victims:
            for _ in range(KILLS * soak):
                survivor.live_through(victims, **random_moment(rng))
        return survivor.survival

    with ThreadPoolExecutor(LANES) as pool:
        survivals = list(pool.map(lane, range(LANES)))
    slowest_s = max(survival.slowest_reopening_s for survival in survivals)
    summary = (
        f"{sum(survival.kills for survival in survivals)} kills, "
        f"{sum(survival.acknowledged for survival in survivals)} acknowledged calls, "
        f"{sum(survival.completed for survival in survivals)} committed but not acknowledged, "
        f"slowest reopening {slowest_s * 1000:.0f} ms"
    )
    record_property("kill_9", summary)
    with capsys.disabled():
        sys.stdout.write(f"\n{summary}\n")


def random_moment(rng):
    """Choose when to kill: early moments hit the opening, which recovers from the kill before."""
    return {
        "kill_after_lines": int(rng.integers(8)),
        "kill_after_s": float(rng.exponential(0.01)),
    }


@pytest.mark.parametrize("fault", [Fault.KILL, Fault.KILL_TORN])
def test_what_was_acknowledged_survives_a_kill_between_any_two_changes_to_its_files(
    tmp_path, faults, soak, fault
):
    survivor = Survivor(tmp_path / "database", seed=7)
    rng = np.random.default_rng(fault)
    with Victims(tmp_path, faults) as victims:
        while min(survivor.survival.kills, survivor.survival.acknowledged) < 40 * soak:
            # Four steps bring about some hundred changes, the checkpoint at closing included.
            nth = int(np.exp(rng.uniform(0, np.log(500))))
            survivor.live_through(victims, steps=4, fault={"kind": fault, "nth": nth})


@pytest.mark.parametrize("task", ["write_acknowledging_early", "write_in_halves"])
def test_a_writer_that_breaks_the_promise_is_caught(tmp_path, task):
    rng = np.random.default_rng(0)

    def attempt():
        with Victims(tmp_path) as victims:
            for turn in range(30):
                survivor = Survivor(tmp_path / f"database-{turn}", seed=turn)
                survivor.live_through(victims, task, **random_moment(rng))

    with pytest.raises(AssertionError):
        attempt()


def test_a_wrong_model_is_told_from_the_right_one(tmp_path):
    with Victims(tmp_path) as victims:
        death = victims.run("write", folder=tmp_path / "database", seed=3, first=1, last=12)
    assert death.status == 0, death.output
    assert death.versions == list(range(1, 13))
    with open_collection(tmp_path / "database") as collection:
        verify(collection, model_at(3, 12))
        with pytest.raises(AssertionError):
            verify(collection, model_at(3, 11))
