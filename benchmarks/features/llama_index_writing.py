"""Rows about writes in LlamaIndex."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.features.trial import told
from benchmarks.features.verdict import Verdict, counted, no, partly, probe, yes
from benchmarks.features.words import DIMENSION, vector_of
from llama_index.core import Document, MockEmbedding, StorageContext, VectorStoreIndex
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import (
    ImageNode,
    IndexNode,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores.types import VectorStoreQuery

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.features.llama_index_stores import LlamaIndexStore

_SECTION = "Writes"


@probe(_SECTION, "adding a node id again replaces the node", framework="llama_index")
def upsert(door: LlamaIndexStore, folder: Path) -> Verdict:
    store = door.open(folder)
    door.put(store, {"a": "old words"}, {"a": {"old": 1, "both": 1}})
    door.put(store, {"a": "new words"}, {"a": {"both": 2}})
    query = VectorStoreQuery(query_embedding=vector_of("words"), similarity_top_k=5)
    found = store.query(query)
    if len(found.ids or []) != 1:
        return no(f"{len(found.ids or [])} hits in place of 1")
    if not found.nodes:
        return yes()  # the text is kept elsewhere
    node = found.nodes[0]
    if node.get_content() == "new words" and node.metadata == {"both": 2}:
        return yes()
    return no(f"{node.get_content()!r}, {node.metadata}")


@probe(_SECTION, "delete by ref_doc_id", framework="llama_index")
def delete_document(door: LlamaIndexStore, folder: Path) -> Verdict:
    """A document of two nodes beside one of another, as an index deletes it."""
    store = door.open(folder)
    nodes = door.nodes({"a": "one", "b": "two", "c": "three"})
    for node, document in zip(nodes, ("x", "x", "y"), strict=True):
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=document)
    store.add(nodes)
    store.delete("x")
    left = door.present(store, ["a", "b", "c"])
    return yes() if left == {"c"} else no(f"left of a, b, c: {sorted(left)}")


@probe(_SECTION, "index.delete_ref_doc on a reopened index", framework="llama_index")
def delete_through_index(door: LlamaIndexStore, folder: Path) -> Verdict:
    store = door.open(folder)
    documents = [Document(id_=name, text=f"text of {name}") for name in ("x", "y")]
    VectorStoreIndex.from_documents(
        documents,
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=MockEmbedding(DIMENSION),
    )
    if not store.stores_text:
        return no("the store keeps no text: an index cannot be made from it alone")
    index = VectorStoreIndex.from_vector_store(store, embed_model=MockEmbedding(DIMENSION))
    index.delete_ref_doc("x", delete_from_docstore=True)
    left = index.as_retriever(similarity_top_k=5).retrieve("text")
    names = sorted(str(hit.node.ref_doc_id) for hit in left)
    return yes() if names == ["y"] else no(f"left: {names}")


@probe(_SECTION, "ingestion pipeline: a changed document replaces the old one",
       framework="llama_index")  # fmt: skip
def pipeline(door: LlamaIndexStore, folder: Path) -> Verdict:
    store = door.open(folder)
    flow = IngestionPipeline(
        transformations=[SentenceSplitter(), MockEmbedding(DIMENSION)],
        docstore=SimpleDocumentStore(),
        vector_store=store,
        docstore_strategy=DocstoreStrategy.UPSERTS,
    )
    ids = {name: door.id(name) for name in ("x", "y")}
    flow.run(documents=[Document(id_=ids[name], text=f"old {name}") for name in ids])
    flow.run(documents=[Document(id_=ids["x"], text="new x"), Document(id_=ids["y"], text="old y")])
    query = VectorStoreQuery(query_embedding=[0.5] * DIMENSION, similarity_top_k=10)
    found = store.query(query)
    texts = sorted(node.get_content() for node in found.nodes or [])
    if texts == ["new x", "old y"]:
        return yes()
    return no(f"{len(found.ids or [])} nodes in place of 2" + (f": {texts}" if texts else ""))


@probe(_SECTION, "get_nodes by id", framework="llama_index")
def get_nodes(door: LlamaIndexStore, folder: Path) -> Verdict:
    store = door.open(folder)
    door.put(store, {"a": "one", "b": "two", "c": "three"})
    asked = [door.id("c"), door.id("nowhere"), door.id("a")]
    found = [node.node_id for node in store.get_nodes(asked)]
    if found == [asked[0], asked[2]]:
        return yes("in the order asked")
    if set(found) == {asked[0], asked[2]}:
        return partly("in another order")
    return no(f"{len(found)} of 2")


@probe(_SECTION, "clear", framework="llama_index")
def clear(door: LlamaIndexStore, folder: Path) -> Verdict:
    store = door.open(folder)
    door.put(store, {"a": "one", "b": "two"})
    store.clear()
    door.put(store, {"c": "three"})
    left = door.present(store, ["a", "b", "c"])
    return yes("and written to again") if left == {"c"} else no(f"left: {sorted(left)}")


@probe(_SECTION, "vectors of another dimension: a readable error, the store unharmed",
       framework="llama_index")  # fmt: skip
def wrong_dimension(door: LlamaIndexStore, folder: Path) -> Verdict:
    store = door.open(folder)
    door.put(store, {"a": "one"})
    narrow = TextNode(id_=door.id("b"), text="two", embedding=[0.5] * (DIMENSION - 1))
    try:
        store.add([narrow])
    except BaseException as error:  # noqa: BLE001  # a panic is one
        message = str(error)
        if not door.present(store, ["a"]):
            return no(f"{told(error)}; the store no longer answers")
        if str(DIMENSION) in message and str(DIMENSION - 1) in message:
            return yes(f"{type(error).__name__}: names both dimensions")
        return no(f"{type(error).__name__}, message {message[:40]!r}")
    return no("no error")


@probe(_SECTION, "a node comes back equal", framework="llama_index")
def equality(door: LlamaIndexStore, folder: Path) -> Verdict:
    """Text, metadata, relationships, template and class; vectors may differ."""
    store = door.open(folder)
    if not store.stores_text:
        return no("the store keeps vectors only")
    source = {
        NodeRelationship.SOURCE: RelatedNodeInfo(node_id="doc", metadata={"page": 1}),
        NodeRelationship.NEXT: RelatedNodeInfo(node_id="other"),
    }
    vector = vector_of("a text")
    given: dict[str, Any] = {
        "text node": TextNode(
            id_=door.id("a"), text="a text", metadata={"year": 2020, "ok": True},
            relationships=source, excluded_llm_metadata_keys=["year"], embedding=vector,
            start_char_idx=3, end_char_idx=9, text_template="{content}",
        ),
        "image node": ImageNode(
            id_=door.id("b"), text="a picture", image_url="http://localhost/a.png",
            metadata={"w": 3}, embedding=vector,
        ),
        "index node": IndexNode(
            id_=door.id("c"), text="a table", index_id="table-1", embedding=vector
        ),
        "nested metadata": TextNode(
            id_=door.id("d"), text="nested", metadata={"author": {"name": "Ada"}, "no": None},
            embedding=vector,
        ),
    }  # fmt: skip
    right, wrong = [], []
    for name, node in given.items():
        try:
            store.add([node])
            back = store.get_nodes([node.node_id])[0]
        except Exception:  # noqa: BLE001
            wrong.append(name)
            continue
        same = type(back) is type(node) and _comparable(back) == _comparable(node)
        (right if same else wrong).append(name)
    return counted(right, wrong)


def _comparable(node: Any) -> dict[str, Any]:
    data = node.to_dict()
    data.pop("embedding", None)
    return data


@probe(_SECTION, "an IndexNode among five others does not hide them", framework="llama_index")
def index_node(door: LlamaIndexStore, folder: Path) -> Verdict:
    store = door.open(folder)
    nodes: list[Any] = [TextNode(id_=door.id(f"n{i}"), text=f"text {i}") for i in range(5)]
    nodes.append(IndexNode(id_=door.id("pointer"), text="a table", index_id="table-1"))
    index = VectorStoreIndex(
        nodes,
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=MockEmbedding(DIMENSION),
    )
    found = {hit.node.node_id for hit in index.as_retriever(similarity_top_k=10).retrieve("text")}
    reason = f"{len(found)} of 6"
    return yes(reason) if len(found) == 6 else no(reason)
