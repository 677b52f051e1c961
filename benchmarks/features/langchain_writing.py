"""Rows about writes in LangChain."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from benchmarks.features.langchain_embeddings import ModelEmbeddings, WordEmbeddings
from benchmarks.features.trial import told
from benchmarks.features.verdict import Verdict, counted, no, partly, probe, yes
from langchain_core.documents import Document
from langchain_core.indexing import index

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.features.langchain_stores import LangChainStore

_SECTION = "Writes"
_NARROW = 7


@probe(_SECTION, "writing an id again replaces text and metadata", framework="langchain")
def upsert(door: LangChainStore, folder: Path) -> Verdict:
    store = door.open(folder)
    door.put(store, {"a": "old words"}, {"a": {"old": 1, "both": 1}})
    door.put(store, {"a": "new words"}, {"a": {"both": 2}})
    hits = store.similarity_search("words", k=5)
    if len(hits) != 1:
        return no(f"{len(hits)} documents in place of 1")
    metadata = {key: value for key, value in hits[0].metadata.items() if not key.startswith("_")}
    if hits[0].page_content == "new words" and metadata == {"both": 2}:
        return yes()
    return partly(f"{hits[0].page_content!r}, {metadata}")


@probe(_SECTION, "add_texts takes a generator", framework="langchain")
def generator(door: LangChainStore, folder: Path) -> Verdict:
    store = door.open(folder)
    ids = store.add_texts(text for text in ("one", "two", "three"))
    found = len(store.similarity_search("one", k=5))
    return yes(f"{found} of 3") if found == len(ids) == 3 else no(f"{found} of 3 were written")


@probe(_SECTION, "from_texts of an empty list, added to later", framework="langchain")
def from_nothing(door: LangChainStore, folder: Path) -> Verdict:
    store = door.from_texts(folder, [])
    store.add_texts(["one", "two"])
    found = len(store.similarity_search("one", k=4))
    return yes() if found == 2 else no(f"{found} of 2")


@probe(_SECTION, "a document without metadata", framework="langchain")
def no_metadata(door: LangChainStore, folder: Path) -> Verdict:
    store = door.open(folder)
    ids = store.add_documents([Document(page_content="one")], ids=[door.id("a")])
    hits = store.similarity_search("one", k=1)
    if len(hits) != 1 or hits[0].page_content != "one":
        return no("a search does not find it")
    return yes() if len(store.get_by_ids(ids)) == 1 else no("get_by_ids does not find it")


@probe(_SECTION, "add_documents where only some have an id", framework="langchain")
def partial_ids(door: LangChainStore, folder: Path) -> Verdict:
    store = door.open(folder)
    first = Document(id=door.id("a"), page_content="one", metadata={"n": 1})
    ids = store.add_documents([first, Document(page_content="two", metadata={"n": 2})])
    documents = store.get_by_ids([name for name in ids if name])
    if len(documents) == 2 and ids[0] == first.id and ids[1]:
        return yes()
    return no(f"ids {ids}, {len(documents)} of 2 can be fetched")


@probe(_SECTION, "lengths that differ are refused, nothing is written", framework="langchain")
def lengths(door: LangChainStore, folder: Path) -> Verdict:
    store = door.open(folder)
    try:
        store.add_texts(["one", "two", "three"], [{"n": 1}, {"n": 2}])
    except Exception as error:  # noqa: BLE001
        left = len(store.similarity_search("one", k=5))
        return yes(type(error).__name__) if not left else no(f"{left} documents, then an error")
    return no(f"no error; {len(store.similarity_search('one', k=5))} of 3 documents written")


@probe(_SECTION, "vectors of another dimension: a readable error, the store unharmed",
       framework="langchain")  # fmt: skip
def wrong_dimension(door: LangChainStore, folder: Path) -> Verdict:
    store = door.open(folder, WordEmbeddings(_NARROW))
    door.put(store, {"a": "one"})
    try:
        store.similarity_search_by_vector([1.0] * (_NARROW + 1), k=1)
    except BaseException as error:  # noqa: BLE001  # a panic is one
        message = str(error)
        named = str(_NARROW) in message and str(_NARROW + 1) in message
        unharmed = len(store.similarity_search("one", k=1)) == 1
        if not unharmed:
            return no(f"{told(error)}; the store no longer answers")
        if named:
            return yes(f"{type(error).__name__}: names both dimensions")
        return no(f"{type(error).__name__}, message {message[:40]!r}")
    return no("no error")


@probe(
    _SECTION, "a folder opened with another model of the same dimension: refused",
    framework="langchain",
)  # fmt: skip
def other_model(door: LangChainStore, folder: Path) -> Verdict:
    """By a name in the embeddings' ``model``; a saved store is opened with what it is given."""
    store = door.open(folder, ModelEmbeddings("one"))
    door.put(store, {"a": "one"})
    door.save(store, folder)
    door.close(store)
    try:
        if door.saves:
            door.restore(folder)
        else:
            door.open(folder, ModelEmbeddings("two"))
    except Exception as error:  # noqa: BLE001
        return yes(type(error).__name__)
    return no("opened without a word")


@probe(_SECTION, "metadata come back as they went in", framework="langchain")
def metadata_kinds(door: LangChainStore, folder: Path) -> Verdict:
    """A datetime may come back as ISO text."""
    moment = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)
    values: dict[str, Any] = {
        "nested": {"author": {"name": "Ada"}},
        "list": ["a", "b"],
        "empty list": [],
        "mixed list": [1, "a", None],
        "None": None,
        "bool": True,
        "datetime": moment,
        "large int": 2**53 + 1,
    }
    store = door.open(folder)
    right, wrong, text = [], [], []
    for number, (name, value) in enumerate(values.items()):
        try:
            door.put(store, {f"n{number}": f"text {name}"}, {f"n{number}": {"value": value}})
            back = store.get_by_ids([door.id(f"n{number}")])[0].metadata.get("value", "absent")
        except Exception:  # noqa: BLE001
            wrong.append(name)
            continue
        as_text = isinstance(back, str) and value == moment and _moment(back) == moment
        same = back == value and type(back) is type(value)
        (right if same or as_text else wrong).append(name)
        text += ["datetime as ISO text"] * as_text
    return counted(right, wrong, ", ".join(text))


def _moment(text: str) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        return None


@probe(_SECTION, "index(): documents that vanished from the store are written again",
       framework="langchain")  # fmt: skip
def drift(door: LangChainStore, folder: Path) -> Verdict:
    """With the store's own record manager, or with LangChain's where it has none."""
    store = door.open(folder)
    manager = door.record_manager(store)
    documents = [Document(page_content=f"text {i}", metadata={"source": "s"}) for i in range(5)]

    def run() -> dict[str, int]:
        return dict(index(documents, manager, store, cleanup=None, key_encoder=_key_of(door)))

    first = run()
    hits = store.similarity_search("text", k=10)
    store.delete([door.id_of(hit) for hit in hits])
    run()
    back = len(store.similarity_search("text", k=10))
    own = type(manager).__module__.split(".")[0] != "langchain_core"
    reason = f"{back} of {first['num_added']}, {'its own' if own else 'no own'} record manager"
    return yes(reason) if back == first["num_added"] == len(documents) else no(reason)


def _key_of(door: LangChainStore) -> Any:
    return lambda document: door.id(document.page_content)
