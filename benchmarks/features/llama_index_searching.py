"""Rows about searches in LlamaIndex."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.features.trial import told
from benchmarks.features.verdict import Verdict, counted, no, partly, probe, yes
from benchmarks.features.words import vector_of
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.features.llama_index_stores import LlamaIndexStore

_SECTION = "Search and scores"
_LIBRARY = {
    "fox": "the quick brown fox jumps over the lazy dog",
    "brew": "zymurgy is the study of fermentation in brewing",
    "train": "a slow train through the mountains of the north",
    "tea": "brewing tea in a kettle in the kitchen",
}


def _asked(
    door: LlamaIndexStore,
    store: Any,
    mode: VectorStoreQueryMode,
    words: str,
    near: str,
    **more: Any,
) -> list[str]:
    """The names found by words and by a vector that is near to another text."""
    names = {door.id(name): name for name in _LIBRARY}
    vector = None if mode is VectorStoreQueryMode.TEXT_SEARCH else vector_of(_LIBRARY[near])
    query = VectorStoreQuery(
        query_embedding=vector, query_str=words, similarity_top_k=2, mode=mode, **more
    )
    found = store.query(query)
    return [names.get(name, name) for name in found.ids or []]


def _by_words(door: LlamaIndexStore, folder: Path, mode: VectorStoreQueryMode) -> Verdict:
    """Words that are in one text each, a vector near another text: the words must win."""
    store = door.open_for_words(folder)
    door.put(store, _LIBRARY)
    wanted = {"zymurgy": "brew", "kettle": "tea", "mountains": "train"}
    found = {}
    for word in wanted:
        try:
            found[word] = next(iter(_asked(door, store, mode, word, "fox")), "nothing")
        except Exception as error:  # noqa: BLE001
            return no(f"refused: {told(error)}")
    if found == wanted:
        return yes(_given(door))
    if len(set(found.values())) == 1:
        return no(f"finds {'nothing' if 'nothing' in found.values() else 'the same'} for all words")
    return no(f"finds {found}")


def _given(door: LlamaIndexStore) -> str:
    return "with sparse vectors from a model of yours" if door.name == "qdrant" else ""


@probe(_SECTION, "mode text_search", framework="llama_index")
def text_search(door: LlamaIndexStore, folder: Path) -> Verdict:
    return _by_words(door, folder, VectorStoreQueryMode.TEXT_SEARCH)


@probe(_SECTION, "mode sparse", framework="llama_index")
def sparse(door: LlamaIndexStore, folder: Path) -> Verdict:
    return _by_words(door, folder, VectorStoreQueryMode.SPARSE)


@probe(_SECTION, "mode hybrid: alpha 0 is words alone, 1 vectors alone, between both",
       framework="llama_index")  # fmt: skip
def hybrid(door: LlamaIndexStore, folder: Path) -> Verdict:
    store = door.open_for_words(folder)
    door.put(store, _LIBRARY)
    mode = VectorStoreQueryMode.HYBRID
    try:
        words = _asked(door, store, mode, "zymurgy", "fox", alpha=0.0)
        vectors = _asked(door, store, mode, "zymurgy", "fox", alpha=1.0)
        both = _asked(door, store, mode, "zymurgy", "fox", alpha=0.5)
    except Exception as error:  # noqa: BLE001
        return no(f"refused: {told(error)}")
    if words[:1] == ["brew"] and vectors[:1] == ["fox"] and set(both) == {"brew", "fox"}:
        return yes(_given(door))
    if words == vectors == both:
        return no("alpha and the words are ignored, no error")
    return no(f"alpha 0: {words}, 1: {vectors}, .5: {both}")


@probe(_SECTION, "mode semantic_hybrid", framework="llama_index")
def semantic_hybrid(door: LlamaIndexStore, folder: Path) -> Verdict:
    store = door.open_for_words(folder)
    door.put(store, _LIBRARY)
    try:
        found = _asked(door, store, VectorStoreQueryMode.SEMANTIC_HYBRID, "zymurgy", "fox")
    except Exception as error:  # noqa: BLE001
        return no(f"refused: {told(error)}")
    if set(found) == {"brew", "fox"}:
        return yes()
    ignored = found[:1] == ["fox"]
    return no("the words are ignored, no error" if ignored else f"finds {found}")


@probe(_SECTION, "mode mmr: threshold 1 is relevance alone, 0 difference alone",
       framework="llama_index")  # fmt: skip
def mmr(door: LlamaIndexStore, folder: Path) -> Verdict:
    store = door.open(folder)
    texts = {"best": "[1, 0.1]", "twin": "[1, 0.12]", "other": "[0.5, -0.8, 0.3]"}
    door.put(store, texts)
    names = {door.id(name): name for name in texts}

    def picked(threshold: float) -> list[str]:
        query = VectorStoreQuery(
            query_embedding=vector_of("[1]"), query_str="x", similarity_top_k=2,
            mode=VectorStoreQueryMode.MMR, mmr_threshold=threshold,
        )  # fmt: skip
        try:
            found = store.query(query, mmr_threshold=threshold)
        except TypeError:
            found = store.query(query)
        return [names.get(name, name) for name in found.ids or []]

    try:
        relevant, different = picked(1.0), picked(0.0)
    except Exception as error:  # noqa: BLE001
        return no(f"refused: {told(error)}")
    if relevant == ["best", "twin"] and different == ["best", "other"]:
        return yes()
    if relevant == different:
        return no("the mode is ignored, no error")
    return no(f"1 gives {relevant}, 0 gives {different}")


@probe(_SECTION, "a query's answer has nodes, ids and similarities", framework="llama_index")
def answer(door: LlamaIndexStore, folder: Path) -> Verdict:
    store = door.open(folder)
    door.put(store, {"a": "one", "b": "two"})
    found = store.query(VectorStoreQuery(query_embedding=vector_of("one"), similarity_top_k=2))
    has = {
        "nodes": bool(found.nodes and found.nodes[0].get_content() == "one"),
        "ids": bool(found.ids and found.ids[0] == door.id("a")),
        "similarities": bool(found.similarities and len(found.similarities) == 2),
    }
    lacking = [name for name, there in has.items() if not there]
    return yes() if not lacking else partly(f"no {', '.join(lacking)}")


@probe(_SECTION, "nodes come back with their vectors", framework="llama_index")
def vectors(door: LlamaIndexStore, folder: Path) -> Verdict:
    store = door.open(folder)
    door.put(store, {"a": "one"})
    asked = VectorStoreQuery(query_embedding=vector_of("one"), similarity_top_k=1)
    ways = {
        "query": lambda: store.query(asked).nodes,
        "get_nodes": lambda: store.get_nodes([door.id("a")]),
    }
    right, wrong = [], []
    for name, way in ways.items():
        try:
            nodes = way() or []
        except Exception:  # noqa: BLE001
            nodes = []
        (right if nodes and nodes[0].embedding is not None else wrong).append(name)
    return counted(right, wrong)


@probe(_SECTION, "SQL over the same data", framework="llama_index")
def sql(door: LlamaIndexStore, folder: Path) -> Verdict:
    store = door.open(folder)
    door.put(
        store, {"a": "one", "b": "two", "c": "three"},
        {"a": {"lang": "en"}, "b": {"lang": "de"}, "c": {"lang": "en"}},
    )  # fmt: skip
    execute = getattr(store.client, "execute", None) or getattr(store.client, "sql", None)
    if execute is None:
        return no(f"{type(store.client).__name__} takes no SQL")
    statement = "SELECT metadata_->>'lang' AS lang, count(*) FROM documents GROUP BY 1 ORDER BY 1"
    rows = execute(statement).fetchall()
    return yes("joins and aggregates") if rows == [("de", 1), ("en", 2)] else no(f"{rows}")
