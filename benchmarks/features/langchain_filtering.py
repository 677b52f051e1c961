"""Rows about filters in LangChain."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from benchmarks.features.conditions import Condition, InexpressibleError
from benchmarks.features.filtering import SHELF, found_by
from benchmarks.features.trial import told
from benchmarks.features.verdict import Verdict, counted, no, probe, yes
from langchain_core.structured_query import (
    Comparator,
    Comparison,
    Operation,
    Operator,
    StructuredQuery,
)

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.features.langchain_stores import LangChainStore

_SECTION = "Filters"


@probe(_SECTION, "ranges of dates", framework="langchain")
def dates(door: LangChainStore, folder: Path) -> Verdict:
    """ISO texts in the metadata, compared with a datetime or, where it takes none, with a text."""
    store = door.open(folder)
    days = {"a": "2024-05-01T12:00:00Z", "b": "2025-01-01T00:00:00Z"}
    door.put(
        store,
        {name: f"book {name}" for name in days},
        {name: {"at": day} for name, day in days.items()},
    )
    error = ""
    for value in (dt.datetime(2024, 12, 1, tzinfo=dt.UTC), "2024-12-01T00:00:00Z"):
        try:
            found = found_by(door, store, days, Condition("gt", "at", value))
        except Exception as caught:  # noqa: BLE001
            error = error or told(caught)
            continue
        if found == {"b"}:
            return yes("as datetimes" if isinstance(value, dt.datetime) else "as texts only")
        error = error or f"finds {sorted(found)}"
    return no(error)


@probe(_SECTION, "near a point on the globe", framework="langchain")
def geography(door: LangChainStore, folder: Path) -> Verdict:
    if door.name != "qdrant":
        store = door.open(folder)
        door.put(store, {"a": "book"}, {"a": {"lang": "en"}})
        try:
            store.similarity_search("book", k=1, filter={"place": {"$geo_radius": {
                "lat": 52.5, "lon": 13.4, "radius": 10_000.0}}})  # fmt: skip
        except Exception as error:  # noqa: BLE001
            return no(f"no such operator ({type(error).__name__})")
        return no("an unknown operator was let through")
    from qdrant_client import models

    store = door.open(folder)
    places = {"a": {"lat": 52.52, "lon": 13.40}, "b": {"lat": 48.14, "lon": 11.58}}
    door.put(store, dict.fromkeys(places, "book"), {name: {"at": p} for name, p in places.items()})
    circle = models.GeoRadius(center=models.GeoPoint(lat=52.5, lon=13.4), radius=10_000.0)
    near = models.Filter(must=[models.FieldCondition(key="metadata.at", geo_radius=circle)])
    found = {door.id_of(one) for one in store.similarity_search("book", k=2, filter=near)}
    return yes() if found == {door.id("a")} else no(f"{len(found)} hits")


@probe(_SECTION, "a misspelt operator is refused", framework="langchain")
def misspelt(door: LangChainStore, folder: Path) -> Verdict:
    store = door.open(folder)
    door.put(store, {"a": "book"}, {"a": {"year": 2020}})
    if door.name == "qdrant":
        from qdrant_client import models

        try:
            models.Range(gtt=3)
        except Exception as error:  # noqa: BLE001
            return yes(type(error).__name__)
        return no("let through")
    try:
        found = store.similarity_search("book", k=1, filter={"year": {"$gtt": 3}})
    except Exception as error:  # noqa: BLE001
        return yes(type(error).__name__)
    return no(f"{len(found)} hits, no error")


@probe(_SECTION, "structured queries (self-query): 10 comparators, and, or, not",
       framework="langchain")  # fmt: skip
def structured_queries(door: LangChainStore, folder: Path) -> Verdict:
    translator = door.translator()
    right, wrong = [], []
    for number, (name, (where, field, expected)) in enumerate(_STRUCTURED.items()):
        place = folder / str(number)
        place.mkdir()
        query = StructuredQuery(query="book", filter=where, limit=None)
        try:
            shelf = door.open(place)
            metadatas = {name: {field: book[field]} for name, book in SHELF.items()}
            door.put(shelf, {name: f"book {name}" for name in SHELF}, metadatas)
            text, arguments = translator.visit_structured_query(query)
            found = {door.id_of(hit) for hit in shelf.similarity_search(text, k=4, **arguments)}
        except Exception:  # noqa: BLE001
            wrong.append(name)
            continue
        (right if found == {door.id(name) for name in expected} else wrong).append(name)
    return counted(right, wrong)


def _compare(comparator: Comparator, field: str, value: object) -> Comparison:
    return Comparison(comparator=comparator, attribute=field, value=value)


_EN, _DE = _compare(Comparator.EQ, "lang", "en"), _compare(Comparator.EQ, "lang", "de")
_AFTER_2019 = _compare(Comparator.GT, "year", 2019)
_STRUCTURED: dict[str, tuple[Any, str, str]] = {
    "eq": (_EN, "lang", "ac"),
    "ne": (_compare(Comparator.NE, "lang", "en"), "lang", "bd"),
    "gt": (_compare(Comparator.GT, "year", 2020), "year", "cd"),
    "gte": (_compare(Comparator.GTE, "year", 2020), "year", "bcd"),
    "lt": (_compare(Comparator.LT, "year", 2020), "year", "a"),
    "lte": (_compare(Comparator.LTE, "year", 2020), "year", "ab"),
    "in": (_compare(Comparator.IN, "lang", ["de", "fr"]), "lang", "bd"),
    "nin": (_compare(Comparator.NIN, "lang", ["de", "fr"]), "lang", "ac"),
    "contain": (_compare(Comparator.CONTAIN, "tags", "new"), "tags", "ad"),
    "like": (_compare(Comparator.LIKE, "title", "kites"), "title", "ab"),
    "and": (
        Operation(
            operator=Operator.AND,
            arguments=[_AFTER_2019, _compare(Comparator.LT, "year", 2022)],
        ),
        "year", "bc",
    ),
    "or": (Operation(operator=Operator.OR, arguments=[_EN, _DE]), "lang", "abc"),
    "not": (Operation(operator=Operator.NOT, arguments=[_EN]), "lang", "bd"),
}  # fmt: skip
"""A filter, the field that it names, and the books that it lets through."""


@probe("Writes", "delete by filter", framework="langchain")
def delete_by_filter(door: LangChainStore, folder: Path) -> Verdict:
    store = door.open(folder)
    door.put(
        store,
        {"a": "one", "b": "two", "c": "three"},
        {"a": {"lang": "en"}, "b": {"lang": "de"}, "c": {"lang": "en"}},
    )
    try:
        door.remove_where(store, Condition("eq", "lang", "en"))
    except InexpressibleError as error:
        return no(str(error))
    left = door.present(store, ["a", "b", "c"])
    return yes() if left == {"b"} else no(f"left: {sorted(left)}")
