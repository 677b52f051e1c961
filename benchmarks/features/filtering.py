"""Rows about filters that hold for both frameworks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.features.conditions import (
    All,
    Any_,
    Condition,
    Expression,
    InexpressibleError,
    Not,
    fields,
    matches,
)
from benchmarks.features.trial import told
from benchmarks.features.verdict import Verdict, counted, no, partly, probe, yes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks.features.door import Door

__all__ = ["SHELF", "found_by"]

_SECTION = "Filters"
_BOOKS = 200
_RARE = 4

SHELF: dict[str, dict[str, Any]] = {
    "a": {"year": 2019, "lang": "en", "price": 9.5, "tags": ["new", "art"], "title": "Red kites"},
    "b": {"year": 2020, "lang": "de", "price": 12.0, "tags": ["art"], "title": "Blue kites"},
    "c": {"year": 2021, "lang": "en", "price": 7.25, "tags": ["old"], "title": "red boats"},
    "d": {"year": 2022, "lang": "fr", "price": 30.0, "tags": ["new"], "title": "Slow trains"},
}
"""Every field in every document."""


@probe(_SECTION, "k hits whenever k documents match a filter")
def selective_filter(door: Door, folder: Path) -> Verdict:
    """200 documents of which 4 match, none of them near the query; k = 4."""
    store = door.open(folder)
    texts = {f"n{i}": f"kettle tea kitchen water number {i}" for i in range(_BOOKS - _RARE)}
    texts |= {f"r{i}": f"submarine engine {i}" for i in range(_RARE)}
    door.put(store, texts, {name: {"rare": int(name[0] == "r")} for name in texts})
    found = door.nearest(store, "kettle tea kitchen", _RARE, Condition("eq", "rare", 1))
    right = {door.id(f"r{i}") for i in range(_RARE)} & {name for name, _ in found}
    reason = f"{len(right)} of {_RARE} hits"
    if len(right) == len(found) == _RARE:
        return yes(reason)
    return partly(reason) if right else no(reason)


@probe(_SECTION, "comparisons: ==, !=, >, >=, <, <=, in, not in")
def comparisons(door: Door, folder: Path) -> Verdict:
    return tried(
        door,
        folder,
        {
            "==": Condition("eq", "lang", "en"),
            "!=": Condition("ne", "lang", "en"),
            ">": Condition("gt", "year", 2020),
            ">=": Condition("gte", "price", 9.5),
            "<": Condition("lt", "year", 2020),
            "<=": Condition("lte", "price", 9.5),
            "in": Condition("in", "lang", ["de", "fr"]),
            "not in": Condition("nin", "year", [2019, 2020]),
        },
    )


@probe(_SECTION, "and, or, not, nested")
def nesting(door: Door, folder: Path) -> Verdict:
    english, late = Condition("eq", "lang", "en"), Condition("gte", "year", 2021)
    cheap = Condition("lt", "price", 10.0)
    return tried(
        door,
        folder,
        {
            "and": All((english, late)),
            "or": Any_((english, late)),
            "not": Not(english),
            "or in and": All((Any_((english, late)), cheap)),
            "and in or": Any_((All((english, late)), Condition("eq", "lang", "de"))),
            "not (and)": Not(All((english, late))),
        },
    )


@probe(_SECTION, "elements of a list in the metadata")
def elements(door: Door, folder: Path) -> Verdict:
    return tried(door, folder, {"contains": Condition("contains", "tags", "new")})


@probe(_SECTION, "part of a text in the metadata")
def parts_of_text(door: Door, folder: Path) -> Verdict:
    return tried(door, folder, {"text match": Condition("text", "title", "kites")})


@probe(_SECTION, "`!=` is exactly the negation of `==`, keys missing or not")
def missing_keys(door: Door, folder: Path) -> Verdict:
    store = door.open(folder)
    metadatas = {"a": {"lang": "en"}, "b": {"lang": "de"}, "c": {"year": 2020}}
    door.put(store, {name: f"book {name}" for name in metadatas}, metadatas)
    equal = found_by(door, store, metadatas, Condition("eq", "lang", "en"))
    other = found_by(door, store, metadatas, Condition("ne", "lang", "en"))
    if equal != {"a"}:
        return no(f"== finds {sorted(equal)}, expected ['a']")
    if other == {"b", "c"}:
        return yes("a document without the key is found by !=")
    return no("a document without the key is found by neither" if other == {"b"} else f"{other}")


def found_by(
    door: Door, store: Any, documents: Mapping[str, Any], where: Expression | None
) -> set[str]:
    """The documents that a filter lets through, all of them asked for."""
    found = {name for name, _ in door.nearest(store, "book", len(documents), where)}
    return {name for name in documents if door.id(name) in found}


def tried(
    door: Door,
    folder: Path,
    cases: Mapping[str, Expression],
    shelf: Mapping[str, dict[str, Any]] = SHELF,
) -> Verdict:
    """Count the filters that find what they mean, over documents with the fields they name."""
    store = door.open(folder)
    named = set().union(*(fields(where) for where in cases.values()))
    shelf = {
        name: {key: value for key, value in metadata.items() if key in named}
        for name, metadata in shelf.items()
    }
    note = ""
    if any(isinstance(value, list) for metadata in shelf.values() for value in metadata.values()):
        door.allow_lists(store)
        note = door.lists_note
    door.put(store, {name: f"book {name}" for name in shelf}, shelf)
    right, wrong, errors = [], [], []
    for name, where in cases.items():
        expected = {name for name, metadata in shelf.items() if matches(where, metadata)}
        try:
            found = found_by(door, store, shelf, where)
        except InexpressibleError:
            errors.append("cannot be said")
            wrong.append(name)
            continue
        except Exception as error:  # noqa: BLE001  # every store raises something else
            errors.append(told(error))
            wrong.append(name)
            continue
        (right if found == expected else wrong).append(name)
        if found != expected:
            errors.append(f"{sorted(found)} in place of {sorted(expected)}")
    return counted(right, wrong, errors[0] if errors and not right else note)
