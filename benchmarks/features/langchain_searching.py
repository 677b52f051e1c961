"""Rows about searches in LangChain."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING

from benchmarks.features.conditions import InexpressibleError
from benchmarks.features.trial import told
from benchmarks.features.verdict import Verdict, no, partly, probe, yes

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.features.langchain_stores import LangChainStore

_SECTION = "Search and scores"
_LIBRARY = {
    "a": "the quick brown fox jumps over the lazy dog",
    "b": "zymurgy is the study of fermentation in brewing",
    "c": "a slow train through the mountains of the north",
    "d": "brewing tea in a kettle in the kitchen",
}


@probe(_SECTION, "ids on the documents found", framework="langchain")
def ids(door: LangChainStore, folder: Path) -> Verdict:
    store = door.open(folder)
    door.put(store, {"a": "one", "b": "two"})
    found = {document.id for document in store.similarity_search("one", k=2)}
    return yes() if found == {door.id("a"), door.id("b")} else no("none")


@probe(_SECTION, "relevance scores in [0, 1], best first", framework="langchain")
def relevance(door: LangChainStore, folder: Path) -> Verdict:
    store = door.open(folder)
    cosines = (1.0, 0.8, 0.3, 0.0, -0.5, -1.0)
    texts = [json.dumps([c, (1 - c * c) ** 0.5]) for c in cosines]
    door.put(store, {f"n{i}": text for i, text in enumerate(texts)})
    found = store.similarity_search_with_relevance_scores("[1]", k=len(cosines))
    scores = [float(score) for _, score in found]
    shown = ", ".join(f"{score:.2f}" for score in scores)
    if len(scores) != len(cosines) or scores != sorted(scores, reverse=True):
        return no(shown)
    return yes(shown) if all(-1e-6 <= s <= 1 + 1e-6 for s in scores) else no(shown)


@probe(_SECTION, "MMR: lambda 1 is relevance alone, 0 difference alone", framework="langchain")
def mmr(door: LangChainStore, folder: Path) -> Verdict:
    store = door.open(folder)
    door.put(store, {"best": "[1, 0.1]", "twin": "[1, 0.12]", "other": "[0.5, -0.8, 0.3]"})

    def picked(weight: float) -> list[str]:
        found = store.max_marginal_relevance_search("[1]", k=2, fetch_k=3, lambda_mult=weight)
        names = {door.id(name): name for name in ("best", "twin", "other")}
        return [names[door.id_of(document)] for document in found]

    relevant, different = picked(1.0), picked(0.0)
    if relevant == ["best", "twin"] and different == ["best", "other"]:
        return yes()
    if relevant == ["best", "other"] and different == ["best", "twin"]:
        return no("the wrong way round")
    return no(f"1 gives {relevant}, 0 gives {different}")


@probe(_SECTION, "score threshold keeps what is relevant enough, without a warning",
       framework="langchain")  # fmt: skip
def threshold(door: LangChainStore, folder: Path) -> Verdict:
    store = door.open(folder)
    texts = {"near": "[1, 0.05]", "side": "[0, 1]", "far": "[-1, 0.1]"}
    door.put(store, texts)
    retriever = store.as_retriever(
        search_type="similarity_score_threshold",
        search_kwargs={"score_threshold": 0.8, "k": 3},
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = [door.id_of(document) for document in retriever.invoke("[1]")]
    if found != [door.id("near")]:
        return no(f"{len(found)} hits in place of 1")
    outside = [str(w.message) for w in caught if "between 0 and 1" in str(w.message)]
    return partly("1 of 1, but warns of scores outside 0 to 1") if outside else yes("1 of 1")


@probe(_SECTION, "a retriever's documents can carry their scores", framework="langchain")
def scores_on_documents(door: LangChainStore, folder: Path) -> Verdict:
    store = door.open(folder)
    door.put(store, {"near": "[1, 0.5]"})
    score = door.nearest(store, "[1]", 1)[0][1]
    (document,) = door.scored_retriever(store).invoke("[1]")
    carried = [v for v in document.metadata.values() if isinstance(v, float)]
    return yes() if any(abs(value - score) < 1e-6 for value in carried) else no("no score")


@probe(_SECTION, "get_by_ids: in the order asked, missing ones left out", framework="langchain")
def get_by_ids(door: LangChainStore, folder: Path) -> Verdict:
    store = door.open(folder)
    door.put(store, {"a": "one", "b": "two", "c": "three"})
    asked = [door.id(name) for name in ("c", "nowhere", "a", "b")]
    found = [door.id_of(document) for document in store.get_by_ids(asked)]
    expected = [asked[0], asked[2], asked[3]]
    if found == expected:
        return yes()
    return partly("in another order") if set(found) == set(expected) else no(f"{len(found)} of 3")


@probe(_SECTION, "keyword search", framework="langchain")
def keyword(door: LangChainStore, folder: Path) -> Verdict:
    store = door.open_for_words(folder, hybrid=False)
    door.put(store, _LIBRARY)
    try:
        found = {word: door.keyword(store, word, 2) for word in ("zymurgy", "kettle")}
    except InexpressibleError as error:
        return no(str(error))
    best = [documents[0].page_content for documents in found.values() if documents]
    if best != [_LIBRARY["b"], _LIBRARY["d"]]:
        return no(f"finds {best}")
    needs = door.name == "qdrant"
    return partly("by sparse vectors from a model of yours") if needs else yes("BM25")


@probe(_SECTION, "hybrid search", framework="langchain")
def hybrid(door: LangChainStore, folder: Path) -> Verdict:
    store = door.open_for_words(folder, hybrid=True)
    door.put(store, _LIBRARY)
    try:
        found = [document.page_content for document in door.hybrid(store, "zymurgy kettle", 2)]
    except InexpressibleError as error:
        return no(str(error))
    except Exception as error:  # noqa: BLE001
        return no(told(error))
    if set(found) != {_LIBRARY["b"], _LIBRARY["d"]}:
        return no(f"{len(found)} hits, not the two with these words")
    return yes("with sparse vectors from a model of yours" if door.name == "qdrant" else "")


@probe(_SECTION, "sparse vectors of your own (learned sparse models)", framework="langchain")
def sparse(door: LangChainStore, folder: Path) -> Verdict:
    if door.name != "qdrant":
        store = door.open(folder)
        takes = any(hasattr(store, name) for name in ("sparse_embeddings", "sparse_vector_name"))
        return no("takes dense vectors only") if not takes else partly("untried")
    store = door.open_for_words(folder, hybrid=False)
    door.put(store, _LIBRARY)
    found = store.similarity_search("fermentation brewing", k=1)
    return yes() if found[0].page_content == _LIBRARY["b"] else no("not the right document")
