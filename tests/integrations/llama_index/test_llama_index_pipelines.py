"""The framework's own machinery on top of the store: indexes, pipelines, retrievers, processors."""

from __future__ import annotations

import pytest

pytest.importorskip("llama_index.core", reason="needs llama-index-core")

from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.chat_engine import ContextChatEngine
from llama_index.core.indices.vector_store.retrievers import VectorIndexAutoRetriever
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.llms import MockLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.node_parser import SentenceSplitter, SentenceWindowNodeParser
from llama_index.core.postprocessor import (
    MetadataReplacementPostProcessor,
    PrevNextNodePostprocessor,
    SimilarityPostprocessor,
)
from llama_index.core.retrievers import (
    QueryFusionRetriever,
    RecursiveRetriever,
)
from llama_index.core.schema import ImageNode, IndexNode, NodeRelationship, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores.types import (
    MetadataFilter,
    MetadataFilters,
    MetadataInfo,
    VectorStoreInfo,
    VectorStoreQuerySpec,
)

from llama_index.vector_stores.nearfield import NearfieldVectorStore

ANIMALS = {
    "fox": "The fox is red and quick. It hunts at night.",
    "cat": "The cat sleeps on the sofa. It purrs when stroked.",
    "whale": "The whale sings in the sea. It is larger than a ship.",
}


def documents():
    return [
        Document(text=text, id_=name, metadata={"animal": name, "letters": len(name)})
        for name, text in ANIMALS.items()
    ]


@pytest.fixture
def index(store, embed_model):
    return VectorStoreIndex.from_documents(
        documents(),
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=embed_model,
        transformations=[SentenceSplitter(chunk_size=32, chunk_overlap=0)],
    )


def names(items):
    return [item.node.metadata["animal"] for item in items]


# ── the index ────────────────────────────────────────────────────────────────────────────────────


def test_an_index_answers_from_the_store(index, store):
    [best] = index.as_retriever(similarity_top_k=1).retrieve("Which one sleeps on a sofa?")
    assert best.node.metadata == {"animal": "cat", "letters": 3}
    assert best.node.ref_doc_id == "cat"
    assert 0 < best.score <= 1
    response = index.as_query_engine(llm=MockLLM()).query("Which one sleeps on a sofa?")
    assert "sleeps on the sofa" in str(response)
    assert "cat" in [source.node.ref_doc_id for source in response.source_nodes]
    assert index.docstore.docs == {}  # the text is in the store alone
    assert len(store.client) == len(store.get_nodes())


def test_a_retriever_filters_in_every_mode(index):
    filters = MetadataFilters(
        filters=[
            MetadataFilter(key="letters", value=3),
            MetadataFilters(filters=[MetadataFilter(key="animal", value="cat")], condition="not"),
        ]
    )
    for mode in ("default", "mmr", "text_search", "sparse", "hybrid", "semantic_hybrid"):
        retriever = index.as_retriever(
            vector_store_query_mode=mode, filters=filters, similarity_top_k=5, alpha=0.3
        )
        found = names(retriever.retrieve("the red fox, the cat, the whale"))
        assert set(found) == {"fox"}, mode


def test_a_retriever_passes_documents_and_options(index):
    retriever = index.as_retriever(similarity_top_k=5, doc_ids=["whale"])
    assert set(names(retriever.retrieve("a cat"))) == {"whale"}
    retriever = index.as_retriever(
        similarity_top_k=2,
        vector_store_query_mode="mmr",
        vector_store_kwargs={"mmr_threshold": 0.9, "where": {"animal": {"$ne": "cat"}}},
    )
    assert set(names(retriever.retrieve("a cat"))) <= {"fox", "whale"}


def test_documents_are_deleted_updated_and_refreshed(index, store):
    index.delete_ref_doc("cat", delete_from_docstore=True)
    assert {node.ref_doc_id for node in store.get_nodes()} == {"fox", "whale"}

    index.update_ref_doc(Document(text="The fox is grey.", id_="fox", metadata={"animal": "fox"}))
    [fox] = [node for node in store.get_nodes() if node.ref_doc_id == "fox"]
    assert fox.text == "The fox is grey."

    fresh = [documents()[2], Document(text="An owl.", id_="owl", metadata={"animal": "owl"})]
    assert index.refresh_ref_docs(fresh) == [False, True]
    before = len(store.client)
    assert {node.ref_doc_id for node in store.get_nodes()} == {"fox", "whale", "owl"}
    index.refresh_ref_docs(fresh)
    assert len(store.client) == before

    ids = [node.node_id for node in store.get_nodes() if node.ref_doc_id == "owl"]
    index.delete_nodes(ids)
    assert "owl" not in {node.ref_doc_id for node in store.get_nodes()}


@pytest.mark.usefixtures("event_loop_to_close")
def test_a_chat_engine_answers_with_what_the_store_holds(index):
    engine = ContextChatEngine.from_defaults(
        retriever=index.as_retriever(similarity_top_k=1),
        llm=MockLLM(),
        memory=ChatMemoryBuffer.from_defaults(token_limit=1000),
    )
    answer = engine.chat("Who sings in the sea?")
    assert names(answer.source_nodes) == ["whale"]


# ── pipelines ────────────────────────────────────────────────────────────────────────────────────


def pipeline(store, embed_model, strategy=DocstoreStrategy.UPSERTS):
    return IngestionPipeline(
        transformations=[SentenceSplitter(chunk_size=32, chunk_overlap=0), embed_model],
        vector_store=store,
        docstore=SimpleDocumentStore(),
        docstore_strategy=strategy,
        disable_cache=True,
    )


@pytest.mark.parametrize("use_async", [False, True])
async def test_a_pipeline_run_again_leaves_no_duplicates(store, embed_model, use_async):
    ingest = pipeline(store, embed_model, DocstoreStrategy.UPSERTS_AND_DELETE)

    async def run(given):
        if use_async:
            await ingest.arun(documents=given)
        else:
            ingest.run(documents=given)
        return sorted((node.ref_doc_id, node.text) for node in store.get_nodes())

    first = await run(documents())
    assert {name for name, _ in first} == set(ANIMALS)
    assert await run(documents()) == first

    changed = documents()
    changed[0].set_content("The fox is grey now.")
    second = await run(changed)
    assert [text for name, text in second if name == "fox"] == ["The fox is grey now."]
    assert [row for row in second if row[0] != "fox"] == [row for row in first if row[0] != "fox"]

    third = await run(changed[1:])
    assert {name for name, _ in third} == {"cat", "whale"}


def test_a_pipeline_without_a_splitter_replaces_whole_documents(store, embed_model):
    ingest = pipeline(store, embed_model, DocstoreStrategy.UPSERTS_AND_DELETE)
    ingest.transformations = [embed_model]
    ingest.run(documents=documents())
    assert {type(node) for node in store.get_nodes()} == {Document}
    ingest.run(documents=[Document(text="The fox is grey.", id_="fox")])
    assert [(node.node_id, node.text) for node in store.get_nodes()] == [
        ("fox", "The fox is grey.")
    ]


def test_an_index_reads_what_a_pipeline_wrote(store, embed_model):
    pipeline(store, embed_model).run(documents=documents())
    index = VectorStoreIndex.from_vector_store(store, embed_model=embed_model)
    assert names(index.as_retriever(similarity_top_k=1).retrieve("the whale sings")) == ["whale"]


# ── retrievers and processors ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", ["reciprocal_rerank", "relative_score", "simple"])
def test_fusion_of_meaning_and_words(index, mode):
    fusion = QueryFusionRetriever(
        [
            index.as_retriever(similarity_top_k=2),
            index.as_retriever(similarity_top_k=2, vector_store_query_mode="text_search"),
        ],
        llm=MockLLM(),
        num_queries=1,
        similarity_top_k=2,
        mode=mode,
        use_async=False,
    )
    assert names(fusion.retrieve("whale sea"))[0] == "whale"


def test_sentence_windows_are_put_in_place_of_sentences(store, embed_model):
    parser = SentenceWindowNodeParser.from_defaults(window_size=1)
    nodes = parser.get_nodes_from_documents(documents())
    index = VectorStoreIndex(
        nodes,
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=embed_model,
    )
    [found] = index.as_retriever(similarity_top_k=1).retrieve("It hunts at night")
    assert found.node.text.strip() == "It hunts at night."
    assert found.node.excluded_embed_metadata_keys == nodes[0].excluded_embed_metadata_keys
    [replaced] = MetadataReplacementPostProcessor(target_metadata_key="window").postprocess_nodes(
        [found]
    )
    assert replaced.node.get_content().split() == ANIMALS["fox"].split()


def test_neighbours_are_found_by_their_relationships(store, embed_model, index):
    nodes = SentenceSplitter(chunk_size=12, chunk_overlap=0, include_metadata=False)
    made = nodes.get_nodes_from_documents([documents()[2]])
    assert len(made) > 1
    docstore = SimpleDocumentStore()
    docstore.add_documents(made)
    index.insert_nodes(made)
    [first] = store.get_nodes([made[0].node_id])
    assert first.relationships == made[0].relationships
    assert first.next_node.node_id == made[1].node_id
    [found] = index.as_retriever(
        similarity_top_k=1, vector_store_kwargs={"node_ids": [made[0].node_id]}
    ).retrieve("whale")
    both = PrevNextNodePostprocessor(docstore=docstore, num_nodes=1).postprocess_nodes([found])
    assert [item.node.node_id for item in both] == [made[0].node_id, made[1].node_id]


def test_scores_can_be_cut_off(index):
    items = index.as_retriever(similarity_top_k=6).retrieve(ANIMALS["cat"])
    kept = SimilarityPostprocessor(similarity_cutoff=0.5).postprocess_nodes(items)
    assert set(names(kept)) == {"cat"}
    assert len(kept) < len(items)


def test_an_auto_retriever_is_given_filters_it_can_use(index):
    retriever = VectorIndexAutoRetriever(
        index,
        vector_store_info=VectorStoreInfo(
            content_info="animals",
            metadata_info=[MetadataInfo(name="animal", type="str", description="its name")],
        ),
        llm=MockLLM(),
        similarity_top_k=5,
    )
    spec = VectorStoreQuerySpec(
        query="sea", filters=[MetadataFilter(key="animal", value="fox")], top_k=3
    )
    built, _ = retriever._build_retriever_from_spec(spec)
    assert set(names(built.retrieve("sea"))) == {"fox"}


def test_an_index_node_leads_to_what_it_stands_for(store, embed_model):
    details = TextNode(
        text="Length: 24 m. Weight: 150 t.", id_="table", metadata={"animal": "whale"}
    )
    summary = IndexNode(text="the size of whales", index_id="table", obj=details, id_="summary")
    index = VectorStoreIndex(
        [summary, TextNode(text="cats purr", id_="cats")],
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=embed_model,
    )
    [found] = index.as_retriever(similarity_top_k=1).retrieve("What is the size of whales?")
    assert found.node == details

    again = VectorStoreIndex.from_vector_store(store, embed_model=embed_model)
    [found] = again.as_retriever(similarity_top_k=1).retrieve("What is the size of whales?")
    assert found.node == details


def test_a_recursive_retriever_follows_index_nodes_to_another_index(tmp_path, embed_model):
    def index_of(name, nodes):
        store = NearfieldVectorStore(tmp_path, name)
        context = StorageContext.from_defaults(vector_store=store)
        return VectorStoreIndex(nodes, storage_context=context, embed_model=embed_model)

    whales = index_of("whales", [TextNode(text="The blue whale is 24 m long.")])
    cats = index_of("cats", [TextNode(text="The wild cat is 60 cm long.")])
    top = index_of(
        "top",
        [
            IndexNode(text="all about whales", index_id="whales"),
            IndexNode(text="all about cats", index_id="cats"),
        ],
    )
    retriever = RecursiveRetriever(
        "top",
        retriever_dict={
            "top": top.as_retriever(similarity_top_k=1),
            "whales": whales.as_retriever(similarity_top_k=1),
            "cats": cats.as_retriever(similarity_top_k=1),
        },
    )
    [found] = retriever.retrieve("How long are whales?")
    assert found.node.text == "The blue whale is 24 m long."
    for index in (whales, cats, top):
        index.vector_store.close()


def test_images_stay_images(store, embed_model):
    picture = ImageNode(text="a fox in the snow", image_path="fox.jpg", image_mimetype="image/jpeg")
    index = VectorStoreIndex(
        [picture, TextNode(text="a cat indoors")],
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=embed_model,
    )
    for reader in (index, VectorStoreIndex.from_vector_store(store, embed_model=embed_model)):
        [found] = reader.as_retriever(similarity_top_k=1).retrieve("fox in snow")
        assert type(found.node) is ImageNode
        assert (found.node.image_path, found.node.image_mimetype) == ("fox.jpg", "image/jpeg")
        assert found.node.resolve_image() == "fox.jpg"


def test_relationships_name_the_document(index, store):
    for node in store.get_nodes():
        source = node.relationships[NodeRelationship.SOURCE]
        assert source.node_id in ANIMALS
        assert source.hash
