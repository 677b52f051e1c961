"""Rows about what survives, and who may use a store at once; the same for both frameworks."""

from __future__ import annotations

import multiprocessing
import os
import pickletools
import random
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from benchmarks.features.trial import told
from benchmarks.features.verdict import Verdict, no, partly, probe, yes

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from pathlib import Path

    from benchmarks.features.door import Door

_SECTION = "Durability and concurrency"
_FORK = multiprocessing.get_context("fork")
"""Children are forked before a store is opened."""
_WAIT_S = 40.0
_ACKNOWLEDGED = 20
_ROUNDS = 10
_ROUNDS_OF_SAVES = 30
_BATCH = 1_500
_KEPT = 20
_EACH = 100
_CONTESTS = 4
_REWRITES = 150
_READERS = 3


def _child(work: Callable[..., None], *arguments: Any) -> tuple[Any, Connection]:
    """Start a process that talks back."""
    here, there = _FORK.Pipe()
    process = _FORK.Process(target=work, args=(*arguments, there), daemon=True)
    process.start()
    there.close()
    return process, here


def _answer(connection: Connection) -> Any:
    if not connection.poll(_WAIT_S):
        raise TimeoutError(f"no answer within {_WAIT_S:.0f} s")
    return connection.recv()


@probe(_SECTION, "written without a call of its own: there after the process ends")
def reopening(door: Door, folder: Path) -> Verdict:
    process, connection = _child(_write_and_end, door, folder)
    said = _answer(connection)
    process.join(_WAIT_S)
    if said != "written":
        return no(said)
    try:
        store = door.restore(folder)
    except Exception as error:  # noqa: BLE001
        return no(f"0 of 3; {told(error)}")
    found = len(door.present(store, ["a", "b", "c"]))
    return yes("3 of 3") if found == 3 else no(f"{found} of 3")


def _write_and_end(door: Door, folder: Path, connection: Connection) -> None:
    try:
        door.put(door.open(folder), {"a": "one", "b": "two", "c": "three"})
        connection.send("written")
    except Exception as error:  # noqa: BLE001
        connection.send(told(error))
    connection.close()
    os._exit(0)


@probe(_SECTION, "kill -9 after an acknowledged add: it is there")
def killed_after_add(door: Door, folder: Path) -> Verdict:
    process, connection = _child(_add_for_ever, door, folder)
    acknowledged = [_answer(connection) for _ in range(_ACKNOWLEDGED)]
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    while connection.poll():  # written and said, before the signal came
        try:
            acknowledged.append(connection.recv())
        except EOFError:
            break
    try:
        found = door.present(door.restore(folder), acknowledged)
    except Exception as error:  # noqa: BLE001
        return no(f"0 of {len(acknowledged)}; {told(error)}")
    reason = f"{len(found)} of {len(acknowledged)}"
    return yes(reason) if len(found) == len(acknowledged) else no(reason)


def _add_for_ever(door: Door, folder: Path, connection: Connection) -> None:
    store = door.open(folder)
    number = 0
    while True:
        door.put(store, {f"n{number}": f"text {number}"})
        connection.send(f"n{number}")
        number += 1


@probe(_SECTION, "kill -9 in the middle of a batch: older documents whole, the batch all or none",
       limit_s=240)  # fmt: skip
def killed_while_writing(door: Door, folder: Path) -> Verdict:
    chance = random.Random(4)
    good = partial = lost = 0
    error = ""
    rounds = _ROUNDS_OF_SAVES if door.saves else _ROUNDS  # a save is short
    for number in range(rounds):
        place = folder / str(number)
        place.mkdir()
        process, connection = _child(_write_a_batch, door, place)
        took_s = _answer(connection)
        time.sleep(chance.uniform(0.1, 0.9) * took_s)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        reader, connection = _child(_count, door, place)  # forked: nothing is open here
        counts = _answer(connection)
        reader.join(_WAIT_S)
        if isinstance(counts, str):
            error = error or counts
            lost += 1
            continue
        older, newer = counts
        lost += older < _KEPT
        partial += older == _KEPT and newer not in (0, _BATCH)
        good += older == _KEPT and newer in (0, _BATCH)
    reason = f"{good} of {rounds} rounds"
    if partial:
        reason += f", a part of the batch in {partial}"
    if lost:
        reason += f", older ones lost in {lost}" + (f" ({error})" if error else "")
    if good == rounds:
        return yes(reason)
    return no(reason) if lost else partly(reason)


def _write_a_batch(door: Door, folder: Path, connection: Connection) -> None:
    store = door.open(folder)
    start = time.perf_counter()
    door.put(store, {f"warm{i}": f"text {i}" for i in range(_BATCH)})
    door.save(store, folder)
    took_s = time.perf_counter() - start
    door.put(store, {f"old{i}": f"text {i}" for i in range(_KEPT)})
    door.save(store, folder)
    connection.send(took_s)
    door.put(store, {f"new{i}": f"text {i}" for i in range(_BATCH)})
    while door.saves:
        door.save(store, folder)
    time.sleep(_WAIT_S)


def _count(door: Door, folder: Path, connection: Connection) -> None:
    try:
        store = door.restore(folder)
        older = len(door.present(store, [f"old{i}" for i in range(_KEPT)]))
        newer = len(door.present(store, [f"new{i}" for i in range(_BATCH)]))
        connection.send((older, newer))
    except BaseException as error:  # noqa: BLE001
        connection.send(told(error))
    connection.close()
    os._exit(0)


@probe(_SECTION, "two processes share a folder, each sees what the other writes")
def two_processes(door: Door, folder: Path) -> Verdict:
    process, connection = _child(_hold_open, door, folder)
    said = _answer(connection)
    if said != "open":
        return no(said)
    try:
        store = door.restore(folder)
        door.put(store, {"mine": "one"})
        door.save(store, folder)
    except Exception as error:  # noqa: BLE001
        return no(f"the second is refused: {told(error)}")
    connection.send("look")
    first_sees, first_wrote = _answer(connection)
    second_sees = _sees(door, store, "later")
    process.kill()
    process.join()
    if first_sees is True and first_wrote is True and second_sees:
        return yes()
    sides = [("the first", first_sees is True), ("the second", second_sees)]
    blind = [name for name, sees in sides if not sees]
    error = next((said for said in (first_sees, first_wrote) if isinstance(said, str)), "")
    reason = f"{' and '.join(blind)} did not see the other's document" if blind else "error"
    return no(reason + (f"; {error}" if error else ""))


def _hold_open(door: Door, folder: Path, connection: Connection) -> None:
    try:
        store = door.open(folder)
        door.put(store, {"first": "text of the first"})
        door.save(store, folder)
        connection.send("open")
    except Exception as error:  # noqa: BLE001
        connection.send(told(error))
        return
    connection.recv()
    connection.send((
        _outcome(lambda: _sees(door, store, "mine")),
        _outcome(lambda: _written(door, store, folder)),
    ))  # fmt: skip
    time.sleep(_WAIT_S)


def _sees(door: Door, store: Any, name: str) -> bool:
    """Whether a document can be fetched and found."""
    found = {found for found, _ in door.nearest(store, "text", 10)}
    return door.id(name) in found and name in door.present(store, [name])


def _written(door: Door, store: Any, folder: Path) -> bool:
    door.put(store, {"later": "text"})
    door.save(store, folder)
    return True


def _outcome(work: Callable[[], bool]) -> bool | str:
    try:
        return work()
    except Exception as error:  # noqa: BLE001
        return told(error)


@probe(_SECTION, "two processes write at once: every acknowledged document is there", limit_s=240)
def two_writers(door: Door, folder: Path) -> Verdict:
    fetched = found = acknowledged = 0
    refusal = ""
    for number in range(_CONTESTS):
        place = folder / str(number)
        place.mkdir()
        children = [_child(_write_some, door, place, name) for name in "xy"]
        for _, connection in children:
            connection.send("open")  # one after the other: making it is not what is tried
            said = _answer(connection)
            if said != "open":
                return no(said)
        for _, connection in children:
            connection.send("write")
        ids: list[str] = []
        for process, connection in children:
            written, refused = _answer(connection)
            ids += written
            refusal = refusal or refused
            process.join(_WAIT_S)
        _, connection = _child(_count_ids, door, place, ids)  # forked: nothing is open here
        counts = _answer(connection)
        if isinstance(counts, str):
            return no(counts)
        acknowledged += len(ids)
        fetched += counts[0]
        found += counts[1]
    reason = f"{fetched} of {acknowledged} fetched, {found} found by a search"
    if refusal:
        reason += f"; refused: {refusal}"
    whole = fetched == found == acknowledged == 2 * _EACH * _CONTESTS
    return yes(reason) if whole else no(reason)


def _count_ids(door: Door, folder: Path, ids: list[str], connection: Connection) -> None:
    try:
        store = door.restore(folder)
        hits = {name for name, _ in door.nearest(store, "text", len(ids) + 10)}
        found = len(hits & {door.id(name) for name in ids})
        connection.send((len(door.present(store, ids)), found))
    except BaseException as error:  # noqa: BLE001
        connection.send(told(error))
    connection.close()
    os._exit(0)


def _write_some(door: Door, folder: Path, name: str, connection: Connection) -> None:
    connection.recv()
    try:
        store = door.restore(folder) if any(folder.iterdir()) else door.open(folder)
        door.put(store, {name: "text of the first"})
        door.save(store, folder)
        connection.send("open")
    except Exception as error:  # noqa: BLE001
        connection.send(f"the second is refused: {told(error)}")
        return
    connection.recv()
    ids, refused = [], ""
    for number in range(_EACH):
        document = f"{name}{number}"
        try:
            door.put(store, {document: f"text {document}"})
            door.save(store, folder)
            ids.append(document)
        except Exception as error:  # noqa: BLE001
            refused = refused or told(error)
    connection.send((ids, refused))
    connection.close()
    time.sleep(1)
    os._exit(0)


@probe(_SECTION, "update while other threads search: no error, no document missing")
def concurrent_update(door: Door, folder: Path) -> Verdict:
    store = door.open(folder)
    ids = [f"n{i}" for i in range(_KEPT)]
    door.put(store, {name: f"text {name}" for name in ids})
    door.nearest(store, "text", 1)  # what a first search loads is loaded by one thread
    done = threading.Event()
    searches, short = [0], [0]
    errors: list[BaseException] = []

    def read() -> None:
        while not done.is_set():
            try:
                found = door.nearest(store, "text", _KEPT)
            except Exception as error:  # noqa: BLE001
                errors.append(error)
                continue
            searches[0] += 1
            short[0] += len({name for name, _ in found}) < _KEPT

    readers = [threading.Thread(target=read, daemon=True) for _ in range(_READERS)]
    for reader in readers:
        reader.start()
    for number in range(_REWRITES):
        name = ids[number % _KEPT]
        try:
            door.replace(store, {name: f"text {name} of round {number}"})
        except Exception as error:  # noqa: BLE001
            errors.append(error)
    done.set()
    for reader in readers:
        reader.join(_WAIT_S)
    reason = f"{len(errors)} errors"
    if errors:
        reason += f" ({told(errors[0])})"
    reason += f", {short[0]} of {searches[0]} searches short of documents"
    if not errors and not short[0]:
        return yes(reason)
    return no(reason) if errors else partly(reason)


@probe(_SECTION, "no pickle on the disk")
def no_pickle(door: Door, folder: Path) -> Verdict:
    store = door.open(folder)
    door.put(store, {"a": "one", "b": "two"}, {"a": {"year": 2020}, "b": {"year": 2021}})
    door.save(store, folder)
    door.close(store)
    files = [file for file in folder.rglob("*") if file.is_file()]
    pickles = [file.name for file in files if _is_pickle(file)]
    pickles += [file.name for file in files if _holds_pickles(file)]
    if not files:
        return no("nothing was written")
    if pickles:
        return no(f"{', '.join(sorted(set(pickles)))}: opening it can run code")
    return yes(f"{len(files)} files looked at")


def _is_pickle(file: Path) -> bool:
    data = file.read_bytes()
    if not data.startswith(b"\x80"):
        return False
    try:
        return any(op.name == "STOP" for op, _, _ in pickletools.genops(data))
    except ValueError:
        return False


def _holds_pickles(file: Path) -> bool:
    """Whether a row of a SQLite file is a pickle."""
    import sqlite3

    if not file.read_bytes().startswith(b"SQLite format 3"):
        return False
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
        tables = [name for (name,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '%fts%'"
        )]  # fmt: skip
        for table in tables:
            for row in connection.execute(f'SELECT * FROM "{table}" LIMIT 50'):
                values = [value for value in row if isinstance(value, bytes)]
                if any(v.startswith((b"\x80\x04", b"\x80\x05")) for v in values):
                    return True
    return False
