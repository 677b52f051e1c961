"""Opening, writing, reading, deleting, copying and closing; and what is refused."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("llama_index.core", reason="needs llama-index-core")

from llama_index.core.schema import Document, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from tests.embedders import HashingEmbedder

import nearfield
from llama_index.embeddings.nearfield import NearfieldEmbedding
from llama_index.vector_stores.nearfield import NearfieldVectorStore
from nearfield import F
from nearfield.errors import (
    ClosedError,
    DimensionMismatchError,
    EmbedderMismatchError,
    InvalidDocumentError,
    InvalidInputError,
    InvalidVectorError,
    ReadOnlyError,
)


def node(name, vector=(1.0, 0.5), source=None, **fields):
    relationships = (
        {} if source is None else {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=source)}
    )
    return TextNode(
        id_=name, text=f"text {name}", embedding=list(vector), relationships=relationships, **fields
    )


def query(vector=(1.0, 0.5), k=10, **fields):
    return VectorStoreQuery(query_embedding=list(vector), similarity_top_k=k, **fields)


def equal(key, value):
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value)])


# ── importing and opening ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("package", ["vector_stores", "embeddings"])
def test_without_the_framework_the_command_that_installs_it_is_named(package):
    code = f"""
import sys
sys.modules["llama_index.core"] = None
from nearfield.errors import MissingDependencyError
try:
    import llama_index.{package}.nearfield
except MissingDependencyError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'pip install "nearfield[llama-index]"' in done.stdout


def test_without_a_dimension_the_first_nodes_decide_it(tmp_path):
    with NearfieldVectorStore(tmp_path, "notes", metric="dot") as store:
        assert store.client is None
        assert store.query(query()).ids == []
        assert store.query(query(mode="text_search", query_str="text")).nodes == []
        assert store.get_nodes() == store.get_nodes(["a"]) == []
        store.delete("doc")
        store.delete_nodes(["a"])
        store.clear()
        assert store.add([node("a"), node("b")]) == ["a", "b"]
        assert store.client.info.embedding.dimension == 2
        assert store.client.info.metric == "dot"
        with pytest.raises(DimensionMismatchError, match="dimension 3"):
            store.add([node("c", (1, 2, 3))])
        assert sorted(store.query(query()).ids) == ["a", "b"]


def test_what_is_refused_does_not_decide_the_dimension(tmp_path):
    with NearfieldVectorStore(tmp_path) as store:
        for vector in ([0.0, 0.0], [float("nan"), 1.0], []):
            with pytest.raises(InvalidVectorError):
                store.add([node("a", vector)])
        with pytest.raises(DimensionMismatchError, match="node 'b' has dimension 3"):
            store.add([node("a"), node("b", (1, 2, 3))])
        assert store.client is None
        store.add([node("a", (1, 2, 3))])


def test_a_known_dimension_makes_the_collection_at_once(tmp_path):
    with NearfieldVectorStore(tmp_path, "notes", dimension=3, metric="euclidean") as store:
        assert store.client.info.embedding.dimension == 3
    assert nearfield.connect(tmp_path).names() == ["notes"]


def test_a_store_sees_the_collection_that_another_made_meanwhile(tmp_path):
    with NearfieldVectorStore(tmp_path) as early, NearfieldVectorStore(tmp_path) as other:
        other.add([node("a")])
        assert early.query(query()).ids == ["a"]
        early.add([node("b")])
        assert sorted(other.query(query()).ids) == ["a", "b"]


def test_an_embedding_model_names_the_space_for_every_door(tmp_path, embedder, embed_model):
    with NearfieldVectorStore(tmp_path, "notes", embed_model=embed_model) as store:
        assert store.client.info.embedding == embedder.info
    with NearfieldVectorStore(tmp_path, "notes", embed_model=embedder):
        pass
    with nearfield.open(tmp_path, "notes", embedder=embedder) as collection:
        collection.upsert("a text")


def test_another_model_dimension_or_metric_is_refused_at_once(tmp_path, embed_model):
    NearfieldVectorStore(tmp_path, "notes", embed_model=embed_model).close()
    with pytest.raises(EmbedderMismatchError, match="was built with 'hashing-64'"):
        NearfieldVectorStore(tmp_path, "notes", embed_model=NearfieldEmbedding(HashingEmbedder(32)))
    with pytest.raises(EmbedderMismatchError, match="dimension 64, not 32"):
        NearfieldVectorStore(tmp_path, "notes", dimension=32)
    with pytest.raises(EmbedderMismatchError, match="cosine, not dot"):
        NearfieldVectorStore(tmp_path, "notes", metric="dot")


def test_an_open_collection_is_used_as_it_is(tmp_path):
    collection = nearfield.open(tmp_path, "notes", dimension=2)
    with NearfieldVectorStore.from_collection(collection) as store:
        assert store.client is collection
        assert (store.url, store.name) == (str(tmp_path), "notes")
        store.add([node("a")])
        assert collection.get("a").text == "text a"
    with NearfieldVectorStore(collection=nearfield.open(tmp_path, "notes")) as store:
        assert store.get_nodes(["a"])[0].text == "text a"


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"url": "data", "dimension": 0},
        {"url": "data", "metric": "manhattan"},
        {"url": "data", "dimention": 5},
        {"url": "http://example.com", "dimension": 5},
        {"url": "data", "embed_model": "no-such-model"},
    ],
)
def test_arguments_that_make_no_sense_are_refused(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"."):
        NearfieldVectorStore(**arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_url_and_a_collection_are_refused(tmp_path):
    with (
        nearfield.open(tmp_path, dimension=2) as collection,
        pytest.raises(InvalidInputError, match="one of them"),
    ):
        NearfieldVectorStore(tmp_path, collection=collection)


def test_a_read_only_store_writes_nothing(tmp_path):
    with NearfieldVectorStore(tmp_path, "later", read_only=True, dimension=2) as store:
        assert store.query(query()).ids == []
        with pytest.raises(ReadOnlyError, match="holds no collection 'later'"):
            store.add([node("a")])
    with NearfieldVectorStore(tmp_path, "notes") as store:
        store.add([node("a")])
    with NearfieldVectorStore(tmp_path, "notes", read_only=True) as store:
        assert store.query(query()).ids == ["a"]
        for write in (lambda: store.add([node("b")]), store.clear, lambda: store.delete("doc")):
            with pytest.raises(ReadOnlyError):
                write()


# ── writing ──────────────────────────────────────────────────────────────────────────────────────


def test_a_node_takes_the_place_of_one_with_its_id(tmp_path):
    with NearfieldVectorStore(tmp_path) as store:
        store.add([node("a", metadata={"v": 1, "gone": True}), node("b")])
        ids = store.add([node("a", (0.5, 1.0), metadata={"v": 2}), node("a", metadata={"v": 3})])
        assert ids == ["a", "a"]
        [back] = store.get_nodes(["a"])
        assert back.metadata == {"v": 3}
        assert len(store.client) == 2


def test_generators_empty_lists_and_large_batches_are_taken(tmp_path):
    with NearfieldVectorStore(tmp_path) as store:
        assert store.add([]) == []
        assert store.client is None
        assert len(store.add(node(f"{n}") for n in range(6000))) == 6000
        assert len(store.client) == 6000
        assert store.get_nodes()[5999].node_id == "5999"


def test_any_string_is_an_id(tmp_path):
    names = ["1", "not a uuid", "a/b?c=ä", "\U0001f98a", "x" * 4096, "'; DROP TABLE nodes; --"]
    with NearfieldVectorStore(tmp_path) as store:
        assert store.add([node(name, source=name) for name in names]) == names
        assert [back.node_id for back in store.get_nodes(names)] == names
        assert sorted(store.query(query()).ids) == sorted(names)
        for name in names:
            store.delete(name)
        assert len(store.client) == 0


def test_a_node_without_an_embedding_is_refused(tmp_path):
    with NearfieldVectorStore(tmp_path, dimension=2) as store:
        bare = TextNode(text="t", id_="bare")
        with pytest.raises(InvalidVectorError, match=r"node 'bare' \(at 1\) has no embedding; add"):
            store.add([node("a"), bare])
        assert len(store.client) == 0


def test_numpy_embeddings_are_taken(tmp_path):
    with NearfieldVectorStore(tmp_path) as store:
        made = node("a")
        object.__setattr__(made, "embedding", np.array([1.0, 0.5], np.float64))
        store.add([made])
        asked = VectorStoreQuery(query_embedding=np.array([1.0, 0.5]), similarity_top_k=1)
        assert store.query(asked).ids == ["a"]


# ── reading and deleting ─────────────────────────────────────────────────────────────────────────


@pytest.fixture
def filled(tmp_path):
    with NearfieldVectorStore(tmp_path) as store:
        store.add(
            [
                node(name, source=f"doc{number % 2}", metadata={"n": number})
                for number, name in enumerate("abcdef")
            ]
        )
        yield store


def names(store):
    return "".join(back.node_id for back in store.get_nodes())


def test_nodes_come_in_the_order_asked_for_and_missing_ones_are_left_out(filled):
    assert [n.node_id for n in filled.get_nodes(["c", "x", "a"])] == ["c", "a"]
    assert [n.node_id for n in filled.get_nodes(filters=equal("n", 4))] == ["e"]
    assert [n.node_id for n in filled.get_nodes(["c", "a"], equal("ref_doc_id", "doc0"))] == [
        "c",
        "a",
    ]
    assert filled.get_nodes(["c", "b"], equal("n", 5)) == []
    assert filled.get_nodes([]) == []
    assert names(filled) == "abcdef"


def test_nodes_are_deleted_by_id_by_filter_or_by_both(filled):
    filled.delete_nodes(["a", "missing"])
    assert names(filled) == "bcdef"
    filled.delete_nodes(filters=equal("n", 1))
    assert names(filled) == "cdef"
    filled.delete_nodes(["c", "d"], equal("n", 3))
    assert names(filled) == "cef"
    filled.delete_nodes([])
    assert names(filled) == "cef"


def test_deleting_without_saying_what_is_refused(filled):
    for nothing in ({}, {"filters": MetadataFilters(filters=[])}):
        with pytest.raises(InvalidInputError, match=r"clear\(\) deletes all"):
            filled.delete_nodes(**nothing)
    for nothing in (None, ""):
        with pytest.raises(InvalidDocumentError):
            filled.delete(nothing)
    assert names(filled) == "abcdef"


def test_a_documents_nodes_are_deleted_by_its_id(filled):
    filled.delete("doc0")
    assert names(filled) == "bdf"
    filled.delete("doc0")
    filled.delete("missing")
    filled.delete("b")  # has a source, and so is no document
    assert names(filled) == "bdf"


def test_a_document_that_is_itself_a_node_is_deleted_by_its_id(filled):
    whole = Document(text="whole", id_="whole", embedding=[1.0, 0.5])
    filled.add(
        [whole, node("part", source="whole"), node("mine", metadata={"ref_doc_id": "other"})]
    )
    filled.delete("other")  # someone's own metadata is no source
    of_whole = filled.query(query(doc_ids=["whole"]))
    assert sorted(of_whole.ids) == ["part", "whole"]
    assert filled.get_nodes(["whole"])[0].ref_doc_id is None
    assert names(filled) == "abcdefwholepartmine"
    filled.delete("whole")
    assert names(filled) == "abcdefmine"
    filled.delete("mine")
    assert names(filled) == "abcdef"


def test_clear_empties_the_collection_and_keeps_it(filled):
    filled.clear()
    filled.clear()
    assert len(filled.client) == 0
    assert filled.query(query()).ids == []
    filled.add([node("a")])
    assert names(filled) == "a"
    with pytest.raises(DimensionMismatchError):
        filled.add([node("a", (1, 2, 3))])


def test_other_doors_write_into_the_same_collection(filled, tmp_path):
    with nearfield.open(tmp_path) as collection:
        collection.upsert(nearfield.Document("by hand", id="z"), vectors=[[1, 0.5]])
        assert names(filled) == "abcdefz"
        assert collection.count(F.ref_doc_id == "doc1") == 3
    filled.delete("z")
    assert names(filled) == "abcdef"


# ── copying and closing ──────────────────────────────────────────────────────────────────────────


def test_settings_are_data_and_the_collection_is_not(tmp_path, embed_model):
    with NearfieldVectorStore(tmp_path, "notes", embed_model=embed_model, timeout_s=5) as store:
        assert store.to_dict() == {
            "stores_text": True,
            "is_embedding_query": True,
            "url": str(tmp_path),
            "name": "notes",
            "dimension": None,
            "metric": None,
            "read_only": False,
            "durability": "full",
            "timeout_s": 5.0,
            "class_name": "NearfieldVectorStore",
        }
        assert str(tmp_path) in store.to_json()
        with NearfieldVectorStore.from_dict(store.to_dict()) as again:
            assert again.client.info == store.client.info
        with NearfieldVectorStore.model_validate(store.to_dict()) as again:
            assert again.client.info == store.client.info


def test_a_pickled_store_opens_the_collection_anew(filled):
    with pickle.loads(pickle.dumps(filled)) as again:
        assert again.client is not filled.client
        assert names(again) == "abcdef"
    assert names(filled) == "abcdef"


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, lambda store: store.model_copy()])
def test_a_copy_shares_the_open_collection(filled, make):
    again = make(filled)
    assert again.client is filled.client
    assert names(again) == "abcdef"


def test_closing_twice_is_fine_and_use_after_close_is_an_error(tmp_path):
    for made in (True, False):
        store = NearfieldVectorStore(tmp_path / f"{made}", dimension=2 if made else None)
        store.close()
        store.close()
        for use in (
            lambda store: store.add([node("a")]),
            lambda store: store.query(query()),
            lambda store: store.get_nodes(),
            lambda store: store.get_nodes(["a"]),
            lambda store: store.delete("doc"),
            lambda store: store.delete_nodes(["a"]),
            lambda store: store.clear(),
        ):
            with pytest.raises(ClosedError):
                use(store)


def test_what_is_no_list_of_nodes_is_refused(tmp_path):
    with NearfieldVectorStore(tmp_path) as store:
        for given in (["text"], node("a"), [node("a"), None]):
            with pytest.raises(InvalidDocumentError, match="is no node"):
                store.add(given)
        assert store.client is None


def test_one_node_id_in_place_of_a_list_is_one_id(tmp_path):
    with NearfieldVectorStore(tmp_path) as store:
        store.add([node("first"), node("second")])
        assert [found.node_id for found in store.get_nodes("first")] == ["first"]
