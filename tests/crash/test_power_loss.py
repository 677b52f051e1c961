"""A power loss, simulated: only what was flushed to the disk is sure to be there afterwards.

A writer's changes to its files are recorded. At any point of the record the power may fail: each
file then has everything up to its last flush, and of what came later any part, in any order, cut
at any sector. Real disks that lie about flushing are beyond any software.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import pytest
from tests.crash.victims import Fault, Victims
from tests.crash.workload import NAME, Step, model_at, open_collection, stored, verify

from nearfield.errors import NearfieldError

WRITE, SYNC, TRUNCATE, MARK = 1, 2, 3, 5
SECTOR_BYTES = 512
SEED = 5
PREPARED = 3
STEPS = 25
FILES = ("collection.sqlite3", "collection.sqlite3-wal")


@dataclass(frozen=True)
class Change:
    """One entry of a record; see faults.c."""

    kind: int
    file: str
    offset: int
    data: bytes


def read_record(path):
    data = path.read_bytes()
    changes, position = [], 0
    while position < len(data):
        kind, name_length, offset, length = struct.unpack_from("<4q", data, position)
        position += 32
        name = data[position : position + name_length].decode().rpartition("/")[2]
        position += name_length
        content = data[position : position + length] if kind == WRITE else b""
        position += len(content)
        changes.append(Change(kind, name, offset, content))
    return changes


def record(tmp_path, faults, durability):
    """Return the files as they were before, and the changes that a writer made to them."""
    folder, trace = tmp_path / "database", tmp_path / "trace"
    with Victims(tmp_path, faults) as victims:
        run = {"folder": folder, "seed": SEED, "durability": durability}
        death = victims.run("write", **run, first=1, last=PREPARED)
        assert death.status == 0, death.output
        before = {FILES[0]: (folder / NAME / FILES[0]).read_bytes(), FILES[1]: b""}
        death = victims.run(
            "write",
            **run,
            first=PREPARED + 1,
            last=PREPARED + STEPS,
            fault={"kind": Fault.RECORD, "trace": str(trace)},
        )
        assert death.status == 0, death.output
    changes = read_record(trace)
    marks = [change.offset for change in changes if change.kind == MARK]
    assert marks == list(range(PREPARED + 1, PREPARED + STEPS + 1))
    ends = [place for place, change in enumerate(changes) if change.kind == MARK]
    return before, changes[: ends[-1] + 1]


def lose_power(before, changes, rng):
    """Return what the disk may hold if the power fails after these changes."""
    files = {}
    for name in FILES:
        image = bytearray(before[name])
        own = [change for change in changes if change.file == name]
        syncs = [place for place, change in enumerate(own) if change.kind == SYNC]
        flushed = syncs[-1] + 1 if syncs else 0
        for change in own[:flushed]:
            apply(image, change)
        chance = rng.choice([0.0, 0.5, 1.0])
        for change in own[flushed:]:
            for part in sectors(change):
                if rng.random() < chance:
                    apply(image, part)
        files[name] = bytes(image)
    return files


def sectors(change):
    """Cut a write where a disk may."""
    if change.kind != WRITE:
        yield change
        return
    start = 0
    while start < len(change.data):
        end = start + SECTOR_BYTES - (change.offset + start) % SECTOR_BYTES
        yield Change(WRITE, change.file, change.offset + start, change.data[start:end])
        start = end


def apply(image, change):
    if change.kind == WRITE:
        missing = change.offset - len(image)
        if missing > 0:
            image.extend(bytes(missing))
        image[change.offset : change.offset + len(change.data)] = change.data
    elif change.kind == TRUNCATE:
        del image[change.offset :]


def survivors(tmp_path, before, changes, rng, points):
    """Fail the power at many points; yield what was acknowledged and what is left."""
    for turn, point in enumerate(sorted(rng.integers(len(changes), size=points).tolist())):
        happened = changes[: point + 1]
        acknowledged = max(
            (change.offset for change in happened if change.kind == MARK), default=PREPARED
        )
        folder = tmp_path / f"after-{turn}"
        (folder / NAME).mkdir(parents=True)
        for name, data in lose_power(before, happened, rng).items():
            if data:
                (folder / NAME / name).write_bytes(data)
        with open_collection(folder, create=False) as collection:
            yield acknowledged, collection


def test_what_was_acknowledged_survives_a_power_loss(tmp_path, faults, soak):
    before, changes = record(tmp_path, faults, "full")
    moved = [c for c in changes if c.kind == WRITE and c.file == FILES[0]]
    assert moved  # the log was moved into the database while the record ran
    rng = np.random.default_rng(0)
    for acknowledged, collection in survivors(tmp_path, before, changes, rng, 60 * soak):
        model = model_at(SEED, acknowledged)
        found = stored(collection)
        assert found in (model, Step.at(SEED, acknowledged + 1).apply(model))
        verify(collection, found)


def test_with_normal_durability_a_power_loss_takes_the_last_calls_but_never_half_of_one(
    tmp_path, faults, soak
):
    before, changes = record(tmp_path, faults, "normal")
    rng = np.random.default_rng(0)
    lost = 0
    for acknowledged, collection in survivors(tmp_path, before, changes, rng, 60 * soak):
        found = stored(collection)
        verify(collection, found)
        possible = [model_at(SEED, version) for version in range(PREPARED, acknowledged + 2)]
        assert found in possible
        lost += found not in possible[-2:]
    # Also the proof that this simulation can take an acknowledged call away.
    assert lost > 0


def test_a_flush_that_is_left_out_of_the_record_is_noticed(tmp_path, faults):
    before, changes = record(tmp_path, faults, "full")
    unflushed = [change for change in changes if change.kind != SYNC]
    rng = np.random.default_rng(0)

    def attempt():
        for acknowledged, collection in survivors(tmp_path, before, unflushed, rng, 30):
            assert stored(collection) in [model_at(SEED, acknowledged + i) for i in (0, 1)]

    with pytest.raises((AssertionError, NearfieldError)):
        attempt()
