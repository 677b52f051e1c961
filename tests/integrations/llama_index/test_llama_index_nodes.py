"""What comes back is the node that was added, whatever it is made of."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

pytest.importorskip("llama_index.core", reason="needs llama-index-core")

from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ImageBlock
from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    NodeRelationship,
    ObjectType,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores.types import VectorStoreQuery

import nearfield
from llama_index.vector_stores.nearfield import NearfieldVectorStore
from llama_index.vector_stores.nearfield.nodes import to_document, to_node
from nearfield.errors import InvalidDocumentError

PIXEL = base64.b64decode(
    b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    b"gg=="
)
SOURCE = {
    NodeRelationship.SOURCE: RelatedNodeInfo(
        node_id="doc", node_type=ObjectType.DOCUMENT, metadata={"page": 1}, hash="abc"
    )
}
FAMILY = {
    **SOURCE,
    NodeRelationship.PREVIOUS: RelatedNodeInfo(node_id="a"),
    NodeRelationship.NEXT: RelatedNodeInfo(node_id="b", node_type=ObjectType.TEXT, hash=""),
    NodeRelationship.PARENT: RelatedNodeInfo(node_id="c", node_type="custom"),
    NodeRelationship.CHILD: [RelatedNodeInfo(node_id="d"), RelatedNodeInfo(node_id="e")],
}


def nodes():
    metadata = {"z": 1, "a": "text", "list": [1, 2.5, None], "nested": {"b": True}, "null": None}
    return {
        "plain": TextNode(text="plain text"),
        "empty": TextNode(text=""),
        "metadata": TextNode(text="text", metadata=metadata),
        "source": TextNode(text="text", metadata=metadata, relationships=SOURCE),
        "family": TextNode(text="text", relationships=FAMILY),
        "all fields of text": TextNode(
            text="text",
            mimetype="text/markdown",
            start_char_idx=0,
            end_char_idx=4,
            text_template="{content}|{metadata_str}",
            metadata_template="{key}={value}",
            metadata_separator=";",
            excluded_embed_metadata_keys=["z"],
            excluded_llm_metadata_keys=["a", "z"],
            metadata=metadata,
        ),
        "reserved names": TextNode(
            text="text",
            metadata={"b": 1, "ref_doc_id": "mine", "a": 2, "_node": {"deep": [1]}, "0": 3},
            relationships=SOURCE,
        ),
        "a reserved name, no source": TextNode(text="text", metadata={"ref_doc_id": "mine"}),
        "a field that looks like ours": TextNode(
            text="t", metadata={"_node": '{"text_template":1}'}
        ),
        "image": ImageNode(
            text="a pixel",
            image=base64.b64encode(PIXEL).decode(),
            image_mimetype="image/png",
            text_embedding=[0.25, -1.0],
            metadata=metadata,
            relationships=SOURCE,
        ),
        "image by path": ImageNode(image_path="pictures/cat.jpg"),
        "image by url": ImageNode(image_url="https://example.com/cat.png"),
        "index": IndexNode(text="a table", index_id="table-1", relationships=SOURCE),
        "index with an image": IndexNode(
            text="see the picture",
            index_id="picture",
            obj=ImageNode(text="a cat", image_path="cat.jpg", embedding=[1.0, 0.5]),
        ),
        "index with a document": IndexNode(
            index_id="d", obj=Document(text="all of it", metadata={"ref_doc_id": 1})
        ),
        "index with values": IndexNode(index_id="v", obj={"rows": [1, None, "x"]}),
        "document": Document(text="a document", metadata=metadata, id_="document"),
        "document without text": Document(metadata={"a": 1}),
        "document with an empty text": Document(text_resource=MediaResource(text="")),
        "document with a resource without text": Document(
            text_resource=MediaResource(path="a.txt")
        ),
        "image document": ImageDocument(image_resource=MediaResource(data=PIXEL), text="pixel"),
        "multimodal": Node(
            text_resource=MediaResource(text="a cat that purrs", mimetype="text/plain"),
            image_resource=MediaResource(data=PIXEL, embeddings={"dense": [0.5, 1.5]}),
            audio_resource=MediaResource(path="cat.mp3"),
            video_resource=MediaResource(url="https://example.com/cat.mp4", text="subtitles"),
            text_template="{content}",
            relationships=FAMILY,
            metadata=metadata,
        ),
        "image alone": Node(image_resource=MediaResource(data=PIXEL, mimetype="image/x-pixel")),
    }


@pytest.mark.parametrize("name", nodes())
def test_a_node_comes_back_as_it_was(tmp_path, name):
    node = nodes()[name]
    node.embedding = [1.0, 0.5]
    with NearfieldVectorStore(tmp_path) as store:
        store.add([node])
    with NearfieldVectorStore(tmp_path) as store:
        [found] = store.query(VectorStoreQuery(query_embedding=[1.0, 0.5])).nodes
        [fetched] = store.get_nodes([node.node_id])

    node.embedding = None
    for back in (found, fetched):
        assert type(back) is type(node)
        assert back == node
        assert back.hash == node.hash
        assert list(back.metadata) == list(node.metadata)
        assert back.model_dump(mode="json") == node.model_dump(mode="json")
        assert back.ref_doc_id == node.ref_doc_id


def test_the_bytes_of_a_multimodal_node_are_kept(store, embedded):
    [node] = embedded(
        Node(
            text_resource=MediaResource(text="a pixel"),
            image_resource=MediaResource(data=PIXEL),
        )
    )
    store.add([node])
    [back] = store.get_nodes([node.node_id])
    [image] = [block for block in back.get_content_blocks() if isinstance(block, ImageBlock)]
    assert image.resolve_image().read() == PIXEL
    assert image.image_mimetype == "image/png"


def test_every_door_reads_a_node_as_text_and_metadata(tmp_path, embedded):
    node = TextNode(text="The kettle.", id_="k", metadata={"room": "kitchen"}, relationships=SOURCE)
    with NearfieldVectorStore(tmp_path, "notes", dimension=64) as store:
        store.add(embedded(node, TextNode(text="plain", id_="p", metadata={"a": 1})))
    with nearfield.open(tmp_path, "notes") as collection:
        [document, plain] = collection.get(["k", "p"])
        assert document.text == "The kettle."
        assert document.metadata.keys() == {"room", "ref_doc_id", "_node"}
        assert document.metadata["room"] == "kitchen"
        assert document.metadata["ref_doc_id"] == "doc"
        assert plain.metadata == {"a": 1}


def test_what_another_door_wrote_is_a_text_node(tmp_path):
    metadata = {"source": "a.md", "ref_doc_id": "doc", "tags": ["x"], "_node": "someone's own"}
    with nearfield.open(tmp_path, "notes", dimension=2) as collection:
        written = nearfield.Document("a text", id="1", metadata=metadata)
        collection.upsert([written], vectors=[[1, 2]])
    with NearfieldVectorStore(tmp_path, "notes") as store:
        assert store.get_nodes() == [TextNode(id_="1", text="a text", metadata=metadata)]


def test_a_change_of_the_metadata_by_another_door_is_seen(tmp_path):
    node = TextNode(text="t", id_="1", metadata={"a": 1}, relationships=FAMILY, embedding=[1, 2])
    with NearfieldVectorStore(tmp_path) as store:
        store.add([node])
        stored = store.client.get("1")
        changed = nearfield.Document("t", id="1", metadata={**stored.metadata, "b": 2})
        store.client.upsert([changed], vectors=[[1, 2]])
        [back] = store.get_nodes()
        assert back.metadata == {"a": 1, "b": 2}
        assert back.relationships == FAMILY


def test_a_node_of_a_class_made_from_another_comes_back_as_that(store, embedded):
    class Chapter(TextNode):
        number: int = 1

        @classmethod
        def class_name(cls):
            return "Chapter"

    store.add(embedded(Chapter(text="Loomings", id_="1", relationships=SOURCE, number=7)))
    [back] = store.get_nodes()
    assert back == TextNode(text="Loomings", id_="1", relationships=SOURCE)


def test_a_class_of_ones_own_is_refused(store):
    class Alone(BaseNode):
        @classmethod
        def get_type(cls):
            return "alone"

        def get_content(self, _metadata_mode=None):
            return ""

        def get_content_blocks(self, _metadata_mode=None):
            return []

        def set_content(self, value):
            pass

        @property
        def hash(self):
            return ""

    with pytest.raises(InvalidDocumentError, match="Alone cannot be stored; expected"):
        store.add([Alone(embedding=[1.0] * 64)])
    assert store.get_nodes() == []


def test_metadata_takes_what_the_framework_takes(store, embedded):
    metadata = {
        "path": Path("a/b.txt"),
        "uuid": UUID(int=1),
        "when": datetime(2024, 5, 1, 12, tzinfo=UTC),
        "tuple": (1, 2),
        "set": {"x"},
        "float32": np.float32(0.5),
    }
    store.add(embedded(TextNode(text="text", metadata=metadata)))
    [back] = store.get_nodes()
    assert back.metadata == {
        "path": "a/b.txt",
        "uuid": str(UUID(int=1)),
        "when": "2024-05-01T12:00:00+00:00",
        "tuple": [1, 2],
        "set": ["x"],
        "float32": 0.5,
    }


@pytest.mark.parametrize(
    "node",
    [
        TextNode(text="text", metadata={"a": float("nan")}),
        TextNode(text="text", metadata={"a": object()}),
        TextNode(text="lone \ud800"),
        TextNode(text="text", id_=""),
        IndexNode(index_id="x", obj=object()),
    ],
    ids=["nan", "object", "surrogate", "empty id", "engine"],
)
def test_what_cannot_be_stored_is_refused_and_nothing_is_written(store, embedded, node):
    good, _ = embedded(TextNode(text="good"), TextNode(text="other"))
    node.embedding = good.embedding
    with pytest.raises(InvalidDocumentError):
        store.add([good, node])
    assert store.get_nodes() == []


def test_nodes_and_their_metadata_are_not_changed_by_adding(store, embedded):
    made = list(nodes().values())
    for node in embedded(*made):
        before = node.model_copy(deep=True)
        store.add([node])
        assert node == before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
KEYS = st.sampled_from(["ref_doc_id", "_node", "a", "b.c"]) | st.text(max_size=4)
INFOS = st.builds(
    RelatedNodeInfo,
    node_id=st.text(max_size=3),
    node_type=st.none() | st.sampled_from(ObjectType) | st.just("other"),
    metadata=st.dictionaries(KEYS, JSON, max_size=2),
    hash=st.none() | st.text(max_size=3),
)
TEXT_NODES = st.builds(
    TextNode,
    text=st.text(),
    id_=st.text(min_size=1, max_size=4),
    metadata=st.dictionaries(KEYS, JSON, max_size=4),
    excluded_llm_metadata_keys=st.lists(KEYS, max_size=2),
    start_char_idx=st.none() | st.integers(0, 9),
    relationships=st.dictionaries(
        st.sampled_from([NodeRelationship.SOURCE, NodeRelationship.NEXT]), INFOS, max_size=2
    )
    | st.fixed_dictionaries({NodeRelationship.CHILD: st.lists(INFOS, max_size=2)}),
)


@given(node=TEXT_NODES)
def test_any_text_node_comes_back_from_its_document(node):
    back = to_node(to_document(node))
    assert back == node
    assert back.hash == node.hash
