"""A storage context that is persisted finds the collection again; without it, it says so."""

from __future__ import annotations

import json
import shutil

import fsspec
import pytest

pytest.importorskip("llama_index.core", reason="needs llama-index-core")

from llama_index.core import Document, StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.simple import SimpleVectorStore
from llama_index.core.vector_stores.types import VectorStoreQuery

import nearfield
from llama_index.vector_stores.nearfield import NearfieldVectorStore
from nearfield.errors import (
    CollectionNotFoundError,
    EmbedderMismatchError,
    FormatVersionError,
    InvalidInputError,
)

NODE = TextNode(id_="a", text="text", embedding=[1.0, 0.5])


def filled(folder, name="notes"):
    store = NearfieldVectorStore(folder, name, metric="euclidean")
    store.add([NODE])
    return store


def test_an_index_comes_back_from_a_persisted_storage_context(tmp_path, embed_model):
    folder = str(tmp_path / "storage")
    with NearfieldVectorStore(tmp_path / "database", "notes") as store:
        context = StorageContext.from_defaults(vector_store=store)
        index = VectorStoreIndex.from_documents(
            [Document(text="The fox is red."), Document(text="The cat sleeps.")],
            storage_context=context,
            embed_model=embed_model,
        )
        index.storage_context.persist(persist_dir=folder)
        index_id = index.index_id

    with NearfieldVectorStore.from_persist_dir(folder) as store:
        context = StorageContext.from_defaults(vector_store=store, persist_dir=folder)
        index = load_index_from_storage(context, index_id=index_id, embed_model=embed_model)
        [best] = index.as_retriever(similarity_top_k=1).retrieve("a red fox")
        assert best.node.text == "The fox is red."
        index.insert(Document(text="The dog barks."))
        assert len(store.client) == 3


def test_a_context_without_its_vector_store_fails_and_says_what_to_pass(tmp_path):
    with filled(tmp_path / "database") as store:
        StorageContext.from_defaults(vector_store=store).persist(persist_dir=tmp_path / "storage")
    with pytest.raises(
        ValueError, match=r"pass vector_store=NearfieldVectorStore\.from_persist_dir\(persist_dir\)"
    ):
        StorageContext.from_defaults(persist_dir=str(tmp_path / "storage"))


def test_a_database_below_the_folder_moves_with_it(tmp_path):
    with filled(tmp_path / "app" / "vectors") as store:
        store.persist(str(tmp_path / "app" / "pointer.json"))
    (tmp_path / "app").rename(tmp_path / "elsewhere")
    with NearfieldVectorStore.from_persist_path(str(tmp_path / "elsewhere/pointer.json")) as store:
        assert store.query(VectorStoreQuery(query_embedding=[1.0, 0.5])).ids == ["a"]
        assert store.client.info.metric == "euclidean"
        assert store.url == str(tmp_path / "elsewhere" / "vectors")


def test_a_database_elsewhere_is_named_by_its_whole_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with filled("database") as store:
        store.persist("storage/pointer.json")
    (tmp_path / "other").mkdir()
    (tmp_path / "storage").rename(tmp_path / "other" / "storage")
    monkeypatch.chdir(tmp_path / "other")
    with NearfieldVectorStore.from_persist_path("storage/pointer.json") as store:
        assert len(store.client) == 1


def test_a_url_stays_as_it_is(tmp_path):
    url = (tmp_path / "database").as_uri()
    with filled(url) as store:
        store.persist(str(tmp_path / "pointer.json"))
    with NearfieldVectorStore.from_persist_path(str(tmp_path / "pointer.json")) as store:
        assert store.url == url
        assert len(store.client) == 1


def test_any_file_system_holds_the_pointer(tmp_path):
    memory = fsspec.filesystem("memory")
    with filled(tmp_path) as store:
        context = StorageContext.from_defaults(vector_store=store)
        context.persist(persist_dir="/bucket/storage", fs=memory)
    try:
        with NearfieldVectorStore.from_persist_dir("/bucket/storage", fs=memory) as store:
            assert store.url == str(tmp_path)
            assert len(store.client) == 1
        with pytest.raises(InvalidInputError, match="is not there"):
            NearfieldVectorStore.from_persist_dir("/bucket/none", fs=memory)
    finally:
        memory.rm("/bucket", recursive=True)


def test_each_namespace_has_a_file_of_its_own(tmp_path):
    with (
        filled(tmp_path / "database", "texts") as texts,
        filled(tmp_path / "database", "images") as images,
    ):
        context = StorageContext.from_defaults(vector_stores={"default": texts}, image_store=images)
        context.persist(persist_dir=tmp_path)
    with NearfieldVectorStore.from_persist_dir(tmp_path) as store:
        assert store.name == "texts"
    with NearfieldVectorStore.from_persist_dir(tmp_path, namespace="image") as store:
        assert store.name == "images"


def test_a_collection_that_is_not_made_yet_is_persisted_too(tmp_path):
    with NearfieldVectorStore(tmp_path / "database", "notes", metric="dot") as store:
        store.persist(str(tmp_path / "pointer.json"))
    with NearfieldVectorStore.from_persist_path(str(tmp_path / "pointer.json")) as store:
        assert store.query(VectorStoreQuery(query_embedding=[1.0, 0.5])).ids == []
        store.add([NODE])
        assert store.client.info.metric == "dot"


def test_a_collection_that_is_gone_is_not_taken_for_an_empty_one(tmp_path):
    with filled(tmp_path / "database") as store:
        store.persist(str(tmp_path / "pointer.json"))
    shutil.rmtree(tmp_path / "database")
    with pytest.raises(CollectionNotFoundError, match="notes"):
        NearfieldVectorStore.from_persist_path(str(tmp_path / "pointer.json"))
    assert not (tmp_path / "database").exists()


def test_a_collection_that_was_made_anew_with_another_dimension_is_refused(tmp_path):
    with filled(tmp_path / "database") as store:
        store.persist(str(tmp_path / "pointer.json"))
    shutil.rmtree(tmp_path / "database")
    nearfield.open(tmp_path / "database", "notes", dimension=3).close()
    with pytest.raises(EmbedderMismatchError, match="dimension 3, not 2"):
        NearfieldVectorStore.from_persist_path(str(tmp_path / "pointer.json"))


def test_what_another_store_persisted_is_refused(tmp_path):
    SimpleVectorStore().persist(str(tmp_path / "simple.json"))
    (tmp_path / "text.json").write_text("no json")
    (tmp_path / "list.json").write_text("[]")
    for name in ("simple", "text", "list"):
        with pytest.raises(InvalidInputError, match="was not written by NearfieldVectorStore"):
            NearfieldVectorStore.from_persist_path(str(tmp_path / f"{name}.json"))
    with pytest.raises(InvalidInputError, match=r"is not there; StorageContext\.persist writes it"):
        NearfieldVectorStore.from_persist_dir(str(tmp_path / "none"))


def test_a_file_of_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "pointer.json"
    with filled(tmp_path / "database") as store:
        store.persist(str(path))
    content = json.loads(path.read_text())
    content["nearfield"]["version"] = 99
    path.write_text(json.dumps(content))
    with pytest.raises(FormatVersionError, match="version 99"):
        NearfieldVectorStore.from_persist_path(str(path))


def test_persisting_again_replaces_the_file_and_leaves_no_draft(tmp_path):
    with filled(tmp_path / "database") as store:
        for _ in range(3):
            store.persist(str(tmp_path / "storage" / "pointer.json"))
    assert [path.name for path in (tmp_path / "storage").iterdir()] == ["pointer.json"]
