"""Rows about writes that hold for both frameworks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from benchmarks.features.trial import told
from benchmarks.features.verdict import Verdict, no, partly, probe, yes

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.features.door import Door

_SECTION = "Writes"
_BULK = 6_000


@probe(_SECTION, "delete by id")
def delete_by_id(door: Door, folder: Path) -> Verdict:
    store = door.open(folder)
    door.put(store, {"a": "one", "b": "two", "c": "three"})
    door.remove(store, ["b"])
    left = door.present(store, ["a", "b", "c"])
    found = {name for name, _ in door.nearest(store, "two", 3)}
    if left == {"a", "c"} and found == {door.id("a"), door.id("c")}:
        return yes()
    return no(f"{sorted(left)} are left of a, b, c without b; a search finds {len(found)}")


@probe(_SECTION, "deleting an id that is not there is no error, and deletes the rest")
def delete_missing(door: Door, folder: Path) -> Verdict:
    store = door.open(folder)
    door.put(store, {"a": "one", "b": "two"})
    door.remove(store, ["nowhere", "b"])
    left = door.present(store, ["a", "b"])
    return yes() if left == {"a"} else no(f"left: {sorted(left)}")


@probe(_SECTION, "nothing is lost or doubled by delete, then add")
def delete_then_add(door: Door, folder: Path) -> Verdict:
    store = door.open(folder)
    door.put(store, {"a": "one", "b": "two", "c": "three"})
    door.remove(store, ["a"])
    door.put(store, {"d": "four"})
    found = [name for name, _ in door.nearest(store, "four", 10)]
    expected = {door.id(name) for name in "bcd"}
    if set(found) == expected and len(found) == len(expected):
        return yes("3 of 3")
    return no(f"{len(set(found) & expected)} of 3 found, in {len(found)} hits")


@probe(_SECTION, "any string as an id")
def any_id(door: Door, folder: Path) -> Verdict:
    store = door.open(folder)
    ids = ["1", "a/b c", "naïve–Ω", "x" * 300, "doc'; --"]
    door.id = lambda text: text  # type: ignore[method-assign]  # no translation here
    stored, error = [], ""
    for name in ids:
        try:
            door.put(store, {name: f"text of {name[:5]}"})
            stored += list(door.present(store, [name]))
        except Exception as caught:  # noqa: BLE001
            error = error or told(caught)
    if len(stored) == len(ids):
        return yes(f"{len(stored)} of {len(ids)}")
    reason = f"{len(stored)} of {len(ids)}; {error}"
    return partly(reason) if stored else no(reason)


@probe(_SECTION, "6,000 documents in one call", limit_s=240)
def large_batch(door: Door, folder: Path) -> Verdict:
    store = door.open(folder)
    ids = [f"n{i}" for i in range(_BULK)]
    start = time.perf_counter()
    door.put(store, {name: f"text {name}" for name in ids})
    took_s = time.perf_counter() - start
    found = len(door.present(store, ids[:100] + ids[-100:]))
    return yes(f"in {took_s:.1f} s") if found == 200 else no(f"{found} of 200 asked for are there")


@probe(_SECTION, "adding or deleting an empty list is no error")
def empty_list(door: Door, folder: Path) -> Verdict:
    store = door.open(folder)
    door.put(store, {})
    door.put(store, {"a": "one"})
    door.put(store, {})
    door.remove(store, [])
    return yes() if door.present(store, ["a"]) else no("the one document is gone")


@probe(_SECTION, "the caller's metadata are left as they were")
def metadata_unmutated(door: Door, folder: Path) -> Verdict:
    store = door.open(folder)
    given: dict[str, Any] = {"year": 2020, "lang": "en"}
    door.put(store, {"a": "one"}, {"a": given})
    return yes() if given == {"year": 2020, "lang": "en"} else no(f"{sorted(given)}")
