"""Rows about filters in LlamaIndex, whose own in-memory evaluation is the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.features.trial import told
from benchmarks.features.verdict import Verdict, counted, no, probe, yes
from benchmarks.features.words import vector_of
from llama_index.core.vector_stores.types import (
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.features.llama_index_stores import LlamaIndexStore

_SECTION = "Filters"
_SHELF: dict[str, dict[str, Any]] = {
    "a": {"year": 2019, "lang": "en", "tags": ["new", "art"], "title": "Red kites", "note": "x"},
    "b": {"year": 2020, "lang": "de", "tags": ["art"], "title": "Blue kites", "note": "y"},
    "c": {"year": 2021, "lang": "en", "tags": ["old"], "title": "red boats"},
    "d": {"year": 2022, "lang": "fr", "tags": ["new"], "title": "Slow trains", "note": "z"},
}
_ASKED: dict[FilterOperator, tuple[str, Any]] = {
    FilterOperator.EQ: ("lang", "en"),
    FilterOperator.NE: ("lang", "en"),
    FilterOperator.GT: ("year", 2020),
    FilterOperator.GTE: ("year", 2020),
    FilterOperator.LT: ("year", 2020),
    FilterOperator.LTE: ("year", 2020),
    FilterOperator.IN: ("lang", ["de", "fr"]),
    FilterOperator.NIN: ("lang", ["de", "fr"]),
    FilterOperator.ANY: ("tags", ["new", "old"]),
    FilterOperator.ALL: ("tags", ["new", "art"]),
    FilterOperator.CONTAINS: ("tags", "art"),
    FilterOperator.TEXT_MATCH: ("title", "Red"),
    FilterOperator.TEXT_MATCH_INSENSITIVE: ("title", "RED"),
    FilterOperator.IS_EMPTY: ("note", None),
}


@probe(_SECTION, "the framework's 14 operators, as its in-memory store answers",
       framework="llama_index")  # fmt: skip
def operators(door: LlamaIndexStore, folder: Path) -> Verdict:
    right, wrong, errors = [], [], []
    for operator, found, expected, error in _answers(door, folder):
        (right if found == expected else wrong).append(operator)
        errors += [error] if error else []
    return counted(right, wrong, errors[0] if errors and not right else door.lists_note)


def _answers(
    door: LlamaIndexStore, folder: Path
) -> Iterator[tuple[str, set[str] | None, set[str], str]]:
    """Each operator with what was found, what is right, and the error.

    Each is tried on documents with just the field that it names, since some stores take no lists.
    """
    stores: dict[str, Any] = {}
    for operator, (key, value) in _ASKED.items():
        filters = MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])
        fits = build_metadata_filter_fn(_SHELF.__getitem__, filters)
        found, error = None, ""
        try:
            if key not in stores:
                stores[key] = _shelved(door, folder / key, key)
            found = _found(door, stores[key], filters)
        except Exception as caught:  # noqa: BLE001
            error = told(caught)
        yield operator.value, found, {name for name in _SHELF if fits(name)}, error


def _shelved(door: LlamaIndexStore, folder: Path, key: str) -> Any:
    folder.mkdir(exist_ok=True)
    store = door.open(folder)
    if key == "tags":
        door.allow_lists(store)
    metadatas = {name: {k: v for k, v in book.items() if k == key} for name, book in _SHELF.items()}
    door.put(store, {name: f"book {name}" for name in _SHELF}, metadatas)
    return store


@probe(_SECTION, "get_nodes and delete_nodes take filters", framework="llama_index")
def nodes_by_filter(door: LlamaIndexStore, folder: Path) -> Verdict:
    store = _shelved(door, folder, "lang")
    filters = MetadataFilters(filters=[MetadataFilter(key="lang", value="en")])
    english = {door.id("a"), door.id("c")}
    right, wrong = [], []
    note = ""
    try:
        got = store.get_nodes(None, filters)
        (right if {node.node_id for node in got} == english else wrong).append("get")
    except Exception as error:  # noqa: BLE001
        wrong.append("get")
        note = told(error)
    try:
        store.delete_nodes(None, filters)
        left = door.present(store, list(_SHELF))
        (right if left == {"b", "d"} else wrong).append("delete")
    except Exception as error:  # noqa: BLE001
        wrong.append("delete")
        note = told(error)
    return counted(right, wrong, note)


@probe(_SECTION, "node_ids and doc_ids restrict a query", framework="llama_index")
def restrictions(door: LlamaIndexStore, folder: Path) -> Verdict:
    from llama_index.core.schema import NodeRelationship, RelatedNodeInfo

    store = door.open(folder)
    nodes = door.nodes({name: f"book {name}" for name in _SHELF})
    for node, document in zip(nodes, ("x", "x", "y", "y"), strict=True):
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=document)
    store.add(nodes)
    asked = {"node_ids": [door.id("b"), door.id("d")], "doc_ids": ["y"]}
    expected = {"node_ids": {door.id("b"), door.id("d")}, "doc_ids": {door.id("c"), door.id("d")}}
    right, wrong = [], []
    for name, value in asked.items():
        query = VectorStoreQuery(
            query_embedding=vector_of("book"), similarity_top_k=4, **{name: value}
        )
        found = set(store.query(query).ids or [])
        (right if found == expected[name] else wrong).append(name)
    return counted(right, wrong)


@probe(_SECTION, "a quotation mark or a dot in a key or a value is only a character",
       framework="llama_index")  # fmt: skip
def hostile_text(door: LlamaIndexStore, folder: Path) -> Verdict:
    store = door.open(folder)
    keys = ["plain", "it's", 'a "b"', "x.y", "a' OR '1'='1"]
    door.put(
        store,
        {f"n{i}": "book" for i in range(len(keys) + 1)},
        {f"n{i}": {key: "v'\"; --"} for i, key in enumerate(keys)} | {f"n{len(keys)}": {"z": "1"}},
    )
    right, wrong = [], []
    for number, key in enumerate(keys):
        filters = MetadataFilters(filters=[MetadataFilter(key=key, value="v'\"; --")])
        try:
            found = _found(door, store, filters, [f"n{i}" for i in range(len(keys) + 1)])
        except Exception:  # noqa: BLE001
            found = None
        (right if found == {f"n{number}"} else wrong).append(repr(key))
    return counted(right, wrong)


@probe(_SECTION, "an operator that the store lacks is refused, not answered otherwise",
       framework="llama_index")  # fmt: skip
def unsupported(door: LlamaIndexStore, folder: Path) -> Verdict:
    otherwise = [
        operator
        for operator, found, expected, _ in _answers(door, folder)
        if found is not None and found != expected
    ]
    return no(f"no error, another answer: {', '.join(otherwise)}") if otherwise else yes()


def _found(
    door: LlamaIndexStore, store: Any, filters: MetadataFilters, among: list[str] | None = None
) -> set[str]:
    query = VectorStoreQuery(
        query_embedding=vector_of("book"), similarity_top_k=10, filters=filters
    )
    ids = set(store.query(query).ids or [])
    return {name for name in (among or _SHELF) if door.id(name) in ids}
