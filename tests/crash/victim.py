"""Forks processes that are meant to be killed, on commands that come as lines of JSON.

Run as a program. It imports nearfield once and opens nothing itself, so that each victim starts in
milliseconds and with nothing inherited that matters.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from tests import segments
from workload import (
    DIMENSION,
    DOCUMENTS,
    NAME,
    Step,
    document,
    model_at,
    open_collection,
    stored,
    vector,
    verify,
)

import nearfield
from nearfield.errors import StorageFullError, StoreError
from nearfield.faiss_library import faiss_library
from nearfield.stores.local import connections


class Acknowledgements:
    """Lines in a file, each written after what it acknowledges has returned."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __call__(self, value: object) -> None:
        os.write(self._descriptor, f"{value}\n".encode())


def write(command, acknowledge) -> None:
    """Perform steps, one after the other."""
    with open_collection(command["folder"], durability=command["durability"]) as collection:
        acknowledge("open")
        arm(command)
        for version in range(command["first"], command["last"] + 1):
            Step.at(command["seed"], version).perform(collection)
            acknowledge(version)
    acknowledge(f"changes {disarm()}")


def write_acknowledging_early(command, acknowledge) -> None:
    """Perform steps, wrongly: the acknowledgement comes before the write."""
    with open_collection(command["folder"]) as collection:
        for version in range(command["first"], command["last"] + 1):
            acknowledge(version)
            Step.at(command["seed"], version).perform(collection)


def write_in_halves(command, acknowledge) -> None:
    """Perform steps, wrongly: a batch is written by two calls."""
    with open_collection(command["folder"]) as collection:
        for version in range(command["first"], command["last"] + 1):
            step = Step.at(command["seed"], version)
            if step.kind == "upsert":
                middle = len(step.numbers) // 2
                for numbers in (step.numbers[:middle], step.numbers[middle:]):
                    collection.upsert(
                        [document(number, version) for number in numbers],
                        vectors=[vector(number, version) for number in numbers],
                    )
            else:
                step.perform(collection)
            acknowledge(version)


def manage(command, acknowledge) -> None:
    """Create, rename, back up and drop collections, round after round."""
    database = nearfield.connect(command["folder"])
    arm(command)
    for turn in range(command["first"], command["last"] + 1):
        with database.create("new", dimension=DIMENSION) as collection:
            acknowledge(f"create {turn}")
            numbers = range(5)
            collection.upsert(
                [document(number, turn) for number in numbers],
                vectors=[vector(number, turn) for number in numbers],
            )
            acknowledge(f"fill {turn}")
        database.rename("new", "old")
        acknowledge(f"rename {turn}")
        with database.open("old") as collection:
            collection.backup(Path(command["folder"], "copies", str(turn)))
            acknowledge(f"backup {turn}")
        database.drop("old")
        acknowledge(f"drop {turn}")
    acknowledge(f"changes {disarm()}")


def repair(command, acknowledge) -> None:
    """Repair a collection."""
    with open_collection(command["folder"]) as collection:
        arm(command)
        collection.repair()
        acknowledge("repaired")
        acknowledge(f"changes {disarm()}")


def build(collection, command) -> str:
    """Build all segments that are due or, if another recall is to be held, all there are."""
    if command["target_recall"] is None:
        return f"built {segments.maintain(collection)}"
    return f"tuned to {collection.tune(target_recall=command['target_recall']).target_recall}"


def maintain(command, acknowledge) -> None:
    """Build segments, and search them."""
    reopened = segments.reopen(command["folder"], NAME, durability="full")
    with reopened as collection, segments.every_index():
        arm(command)
        acknowledge(build(collection, command))
        acknowledge(f"found {len(collection.search(vector(0, 0), k=DOCUMENTS))}")
    acknowledge(f"changes {disarm()}")


def maintain_failing(command, acknowledge) -> None:
    """Build segments while a change to the files fails, then again without."""
    last = command["last"]
    model = model_at(command["seed"], last)
    with segments.reopen(command["folder"], NAME) as collection, segments.every_index():
        arm(command)
        try:
            build(collection, command)
        except StoreError as error:
            acknowledge(f"failed {CHANGES[faults.faults_struck()]} {type(error).__name__}")
        assert stored(collection) == model
        assert len(collection.search(vector(0, 0), k=DOCUMENTS)) == len(model)
        acknowledge(f"changes {disarm()}")
        step = Step.at(command["seed"], last + 1)
        step.perform(collection)
        segments.maintain(collection)
        verify(collection, step.apply(model))
        assert segments.searched_rows(collection, vector(0, 0))["segments"]


def fill_disk_building(command, acknowledge) -> None:
    """Fill a small file system, so that no segment fits; go on, make room, and build."""
    folder = Path(command["folder"])
    ballast = folder / "ballast"
    with segments.connect(folder / "database").create(NAME, dimension=DIMENSION) as collection:
        version, model = 0, {}
        while len(model) < DOCUMENTS // 2:
            version += 1
            Step.at(command["seed"], version).perform(collection)
            model = Step.at(command["seed"], version).apply(model)
        for room in range(0, 1 << 20, 4096):
            disk = os.statvfs(folder)
            ballast.write_bytes(bytes(max(0, disk.f_bavail * disk.f_frsize - room)))
            try:
                segments.maintain(collection)
                break
            except StorageFullError:
                acknowledge("full")
            assert segments.folders(collection) == []
            assert stored(collection) == model
            assert len(collection.search(vector(0, 0), k=DOCUMENTS)) == len(model)
            ballast.unlink()
            version += 1
            Step.at(command["seed"], version).perform(collection)
            model = Step.at(command["seed"], version).apply(model)
        assert segments.searched_rows(collection, vector(0, 0))["segments"]
        verify(collection, model)
        acknowledge(version)


def fail(command, acknowledge) -> None:
    """Perform steps while a change to the files fails, then the failed ones again without."""
    model = model_at(command["seed"], command["first"] - 1)
    with open_collection(command["folder"], timeout_s=5.0) as collection:
        arm(command)
        for version in range(command["first"], command["last"] + 1):
            step = Step.at(command["seed"], version)
            try:
                step.perform(collection)
            except StoreError as error:
                acknowledge(f"failed {CHANGES[faults.faults_struck()]} {type(error).__name__}")
                assert stored(collection) == model, "half a write, or a lost one"
                disarm()
                verify(collection, model)
                step.perform(collection)
            acknowledge(version)
            model = step.apply(model)
            assert stored(collection) == model
        acknowledge(f"changes {disarm()}")
        verify(collection, model)


def manage_failing(command, acknowledge) -> None:
    """Create, rename, back up and drop while a change to the files fails."""
    database = nearfield.connect(command["folder"])
    steps = {
        "create": lambda: database.create("new", dimension=DIMENSION).close(),
        "rename": lambda: database.rename("new", "old"),
        "backup": lambda: backup(database, Path(command["folder"], "copies", "0")),
        "drop": lambda: database.drop("old"),
    }
    arm(command)
    for name, step in steps.items():
        try:
            step()
        except StoreError as error:
            disarm()
            acknowledge(f"failed {CHANGES[faults.faults_struck()]} {type(error).__name__}")
            # It either happened or not; what is left to do must work now.
            if not done(database, name, command["folder"]):
                step()
        acknowledge(name)
    acknowledge(f"changes {disarm()}")


def backup(database, destination) -> None:
    with database.open("old") as collection:
        collection.backup(destination)


def done(database, name, folder) -> bool:
    names = database.names()
    return {
        "create": "new" in names,
        "rename": "old" in names,
        "backup": Path(folder, "copies", "0", "old").exists(),
        "drop": "old" not in names,
    }[name]


def fill_disk(command, acknowledge) -> None:
    """Write to a small file system until it is full, make room, and go on."""
    folder = Path(command["folder"])
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(command["ballast_bytes"]))
    with open_collection(folder / "database", timeout_s=5.0) as collection:
        version = 0
        while True:
            version += 1
            try:
                Step.at(command["seed"], version).perform(collection)
            except StorageFullError:
                acknowledge(f"full {version}")
                break
            acknowledge(version)
        len(collection)  # reading still works
        ballast.unlink()
        Step.at(command["seed"], version).perform(collection)
        acknowledge(version)


faults = None
CHANGES = {1: "write", 2: "sync", 3: "truncate", 4: "name"}


def arm(command) -> None:
    fault = command.get("fault")
    if fault is not None:
        faults.faults_arm(
            os.fsencode(command["folder"]),
            fault["kind"],
            fault.get("nth", 0),
            fault.get("errno", 0),
            os.fsencode(fault.get("trace", "")),
        )


def disarm() -> int:
    """Let every change succeed again, and return how many there were."""
    if faults is None:
        return 0
    faults.faults_disarm()
    return faults.faults_seen()


def mark(acknowledge):
    """Acknowledge in the trace too."""

    def both(value: object) -> None:
        acknowledge(value)
        if isinstance(value, int):
            faults.faults_mark(value)

    return both


def run(command) -> int:
    acknowledge = Acknowledgements(command["acknowledgements"])
    if command.get("fault", None) is not None and "trace" in command["fault"]:
        acknowledge = mark(acknowledge)
    try:
        TASKS[command["task"]](command, acknowledge)
    except BaseException:  # noqa: BLE001 - reported by the exit status, as this process is a fork
        traceback.print_exc()
        sys.stderr.flush()
        return 1
    return 0


TASKS = {
    function.__name__: function
    for function in (
        fail,
        fill_disk,
        fill_disk_building,
        maintain,
        maintain_failing,
        manage,
        manage_failing,
        repair,
        write,
        write_acknowledging_early,
        write_in_halves,
    )
}


def wait_for(pid: int, lines: int, path: str) -> None:
    """Wait until a victim has acknowledged so much, or ended."""
    ended = None
    while lines and not ended:
        with contextlib.suppress(FileNotFoundError):
            if Path(path).read_bytes().count(b"\n") >= lines:
                return
        time.sleep(0.001)
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)


def main() -> None:
    # The log is moved into the database every few steps, so that this is interrupted as well.
    connections._LOG_SIZE_BYTES = 300_000
    connections._LOG_ROWS = 100
    global faults
    if len(sys.argv) > 1:
        faults = ctypes.CDLL(sys.argv[1])
        faults.faults_seen.restype = ctypes.c_long
        faults.faults_arm.argtypes = [
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_long,
            ctypes.c_int,
            ctypes.c_char_p,
        ]
        faults.faults_mark.argtypes = [ctypes.c_long]
    faiss_library()  # in milliseconds, too
    for line in sys.stdin:
        command = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os._exit(run(command))
        if "kill_after_s" in command:
            wait_for(pid, command["kill_after_lines"], command["acknowledgements"])
            time.sleep(command["kill_after_s"])
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
