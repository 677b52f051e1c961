"""Which nodes a query is for: a user's choice is obeyed, an index's own list loses nothing."""

from __future__ import annotations

import pytest

pytest.importorskip("llama_index.core", reason="needs llama-index-core")

from llama_index.core import StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.indices.vector_store.retrievers import VectorIndexRetriever
from llama_index.core.schema import (
    ImageNode,
    IndexNode,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores.types import VectorStoreQuery

from llama_index.vector_stores.nearfield import NearfieldVectorStore

SOURCE = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="doc")}


def texts(*names):
    return [TextNode(text=f"word {name}", id_=name) for name in names]


def found(retriever):
    return "".join(sorted(item.node.node_id for item in retriever.retrieve("word")))


@pytest.fixture
def index(store, embed_model):
    context = StorageContext.from_defaults(vector_store=store)
    return VectorStoreIndex([], storage_context=context, embed_model=embed_model)


def test_one_index_node_among_six_loses_none(index):
    index.insert_nodes(
        [*texts("a", "b", "c", "d", "e"), IndexNode(id_="i", index_id="x", text="word")]
    )
    retriever = index.as_retriever(similarity_top_k=10)
    assert retriever._node_ids == ["i"]  # what the framework sends
    assert found(retriever) == "abcdei"


def test_images_lose_none_either(index):
    index.insert_nodes(
        [*texts("a", "b"), ImageNode(text="word", id_="m"), ImageNode(text="w", id_="n")]
    )
    assert found(index.as_retriever(similarity_top_k=10)) == "abmn"


def test_an_index_over_an_existing_collection_lists_nothing_and_finds_all(
    index, store, embed_model
):
    index.insert_nodes([*texts("a"), IndexNode(id_="i", index_id="x", text="word")])
    again = VectorStoreIndex.from_vector_store(store, embed_model=embed_model)
    assert found(again.as_retriever(similarity_top_k=10)) == "ai"
    again.insert_nodes([IndexNode(id_="j", index_id="y", text="other word")])
    assert found(again.as_retriever(similarity_top_k=10)) == "aij"
    assert found(index.as_retriever(similarity_top_k=10)) == "aij"


def test_a_store_opened_anew_knows_an_index_list_too(index, store, embedded):
    index.insert_nodes([*texts("a", "b"), IndexNode(id_="i", index_id="x", text="word")])
    with NearfieldVectorStore(store.url, store.name) as fresh:
        [asked] = embedded(TextNode(text="word"))
        query = VectorStoreQuery(
            query_embedding=asked.embedding, similarity_top_k=9, node_ids=["i", "deleted long ago"]
        )
        assert sorted(fresh.query(query).ids) == ["a", "b", "i"]


def test_what_an_index_goes_on_listing_after_its_deletion_loses_none(index):
    index.insert_nodes(
        [*texts("a", "b"), IndexNode(id_="i", index_id="x", text="word", relationships=SOURCE)]
    )
    index.delete_ref_doc("doc")
    retriever = index.as_retriever(similarity_top_k=10)
    assert retriever._node_ids == ["i"]
    assert found(retriever) == "ab"


def test_a_choice_of_nodes_is_obeyed(index):
    index.insert_nodes([*texts("a", "b", "c"), IndexNode(id_="i", index_id="x", text="word")])

    def chosen(*node_ids):
        return found(VectorIndexRetriever(index, node_ids=list(node_ids), similarity_top_k=10))

    assert chosen("a", "c") == "ac"
    assert chosen("i", "b") == "bi"
    assert chosen("a", "missing") == "a"
    assert chosen("missing") == ""


def test_a_choice_of_index_nodes_alone_is_obeyed_as_an_option(index):
    index.insert_nodes([*texts("a", "b"), IndexNode(id_="i", index_id="x", text="word")])

    def chosen(*node_ids):
        options = {"node_ids": list(node_ids)}
        return found(index.as_retriever(similarity_top_k=10, vector_store_kwargs=options))

    assert chosen("i") == "i"
    assert chosen("a", "i") == "ai"
    assert chosen() == ""


def test_an_index_that_keeps_its_nodes_itself_is_restricted_to_them(store, embed_model):
    def index_of(names):
        return VectorStoreIndex(
            texts(*names),
            storage_context=StorageContext.from_defaults(vector_store=store),
            embed_model=embed_model,
            store_nodes_override=True,
        )

    one, two = index_of("ab"), index_of("cd")
    assert found(one.as_retriever(similarity_top_k=10)) == "ab"
    assert found(two.as_retriever(similarity_top_k=10)) == "cd"


def test_a_text_that_takes_the_place_of_an_index_node_is_a_choice_again(index, store, embedded):
    index.insert_nodes([*texts("a"), IndexNode(id_="i", index_id="x", text="word")])
    store.add(embedded(TextNode(text="word", id_="i")))
    assert found(index.as_retriever(similarity_top_k=10)) == "i"


def test_thousands_of_listed_images_are_told_apart(index, store):
    index.insert_nodes([ImageNode(text="word", id_=f"{n}") for n in range(700)] + texts("a"))
    with NearfieldVectorStore(store.url, store.name) as fresh:
        query = VectorStoreQuery(
            query_str="a",
            mode="text_search",
            similarity_top_k=5,
            node_ids=[f"{n}" for n in range(700)],
        )
        assert fresh.query(query).ids == ["a"]
        query.node_ids.append("a")
        assert fresh.query(query).ids == ["a"]
        query.node_ids[-1] = "missing"
        assert fresh.query(query).ids == ["a"]


def test_what_was_deleted_is_still_known_after_persisting_and_loading(index, tmp_path, embed_model):
    index.insert_nodes(
        [*texts("a", "b"), IndexNode(id_="i", index_id="x", text="word", relationships=SOURCE)]
    )
    index.delete_ref_doc("doc")
    folder = str(tmp_path / "storage")
    index.storage_context.persist(folder)
    for _ in range(2):  # what was taken over is written down again
        with NearfieldVectorStore.from_persist_dir(folder, embed_model=embed_model) as store:
            context = StorageContext.from_defaults(vector_store=store, persist_dir=folder)
            loaded = load_index_from_storage(context, embed_model=embed_model)
            retriever = loaded.as_retriever(similarity_top_k=10)
            assert retriever._node_ids == ["i"]
            assert found(retriever) == "ab"
            assert (
                loaded.vector_store.query(
                    VectorStoreQuery(
                        query_embedding=embed_model.get_query_embedding("word"), node_ids=["no"]
                    )
                ).ids
                == []
            )
            context.persist(folder)
