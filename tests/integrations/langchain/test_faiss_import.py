"""From LangChain's FAISS store to this one: what was found there is found here."""

from __future__ import annotations

import numpy as np
import pytest
from tests.fixtures.langchain_faiss import make

import nearfield
from nearfield.errors import EmbedderMismatchError, IngestError, InvalidInputError

pytest.importorskip("langchain_core", reason="langchain-core is not installed")

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding

from langchain_nearfield.faiss_import import import_faiss
from langchain_nearfield.vectorstore import NearfieldVectorStore

EMBEDDINGS = DeterministicFakeEmbedding(size=8)
TEXTS = [f"text number {number}" for number in range(60)]
METADATAS = [{"n": n, "parity": "even" if n % 2 == 0 else "odd"} for n in range(60)]
IDS = [f"note-{number}" for number in range(60)]


@pytest.fixture
def folder():
    return f"{make.__file__.rpartition('/')[0]}/community-0.4"


@pytest.fixture
def community():
    """LangChain's own FAISS store, where it is installed."""
    module = pytest.importorskip(
        "langchain_community.vectorstores", reason="langchain-community is not installed"
    )
    return module.FAISS


def test_a_saved_store_becomes_a_vector_store(folder, tmp_path):
    store = import_faiss(folder, tmp_path / "database", "notes", embedding=EMBEDDINGS)
    assert isinstance(store, NearfieldVectorStore)
    assert store.collection.info.name == "notes"
    [found] = store.get_by_ids(["doc/3"])
    assert found == Document(
        id="doc/3", page_content="Ünïcödé 𝕏 \n two lines", metadata=make.METADATAS[2]
    )
    assert len(store.similarity_search("any", k=9)) == 5
    store.add_texts(["one more"])
    assert len(store.similarity_search("any", k=9)) == 6
    store.collection.close()


def test_embeddings_may_be_named_later(folder, tmp_path):
    store = import_faiss(folder, tmp_path / "database")
    [found] = store.similarity_search_by_vector(make.vectors()[3].tolist(), k=1)
    assert found.id == "4"
    store.collection.close()
    again = NearfieldVectorStore(tmp_path / "database", embedding=EMBEDDINGS)
    assert again.similarity_search("any", k=1)
    again.collection.close()


def test_bad_input_is_refused(folder, tmp_path):
    with pytest.raises(InvalidInputError, match="dimension 8"):
        import_faiss(folder, tmp_path / "x", embedding=DeterministicFakeEmbedding(size=9))
    with pytest.raises(InvalidInputError, match="no file"):
        import_faiss(tmp_path, tmp_path / "x")
    with pytest.raises(InvalidInputError, match="metric"):
        import_faiss(folder, tmp_path / "x", metric="manhattan")
    (tmp_path / "index.pkl").write_bytes(b"\x80\x04cos\nsystem\n.")
    (tmp_path / "index.faiss").write_bytes(b"")
    with pytest.raises(IngestError, match=r"os\.system"):
        import_faiss(tmp_path, tmp_path / "x")
    assert not (tmp_path / "x").exists()
    nearfield.open(tmp_path / "dot", dimension=8, metric="dot").close()
    with pytest.raises(EmbedderMismatchError):
        import_faiss(folder, tmp_path / "dot")


@pytest.mark.parametrize("strategy", ["EUCLIDEAN_DISTANCE", "MAX_INNER_PRODUCT", "normalized"])
def test_the_live_store_and_its_copy_find_the_same(community, tmp_path, strategy):
    from langchain_community.vectorstores.utils import DistanceStrategy

    options = (
        {"normalize_L2": True}
        if strategy == "normalized"
        else {"distance_strategy": DistanceStrategy[strategy]}
    )
    live = community.from_texts(TEXTS, EMBEDDINGS, METADATAS, ids=IDS, **options)
    live.delete(IDS[10:20])
    live.add_documents([Document(id="last", page_content="the last", metadata={"n": 99})])
    live.save_local(str(tmp_path / "saved"))
    copy = import_faiss(tmp_path / "saved", tmp_path / "database", embedding=EMBEDDINGS)
    assert copy.collection.count() == 51
    for text in TEXTS[:25]:
        expected = live.similarity_search(text, k=7)
        assert copy.similarity_search(text, k=7) == expected
        query = EMBEDDINGS.embed_query(text)
        assert copy.similarity_search_by_vector(query, k=7) == expected
        assert copy.similarity_search(text, k=3, filter={"parity": "odd"}) == (
            live.similarity_search(text, k=3, filter={"parity": "odd"}, fetch_k=51)
        )
    vectors = live.index.reconstruct_n(0, 51)
    ids = [live.index_to_docstore_id[row] for row in range(51)]
    for document, vector in zip(
        copy.collection.get(ids, include=["embedding"]), vectors, strict=True
    ):
        assert np.array_equal(document.embedding, vector)
    copy.collection.close()


def test_merged_live_stores_move_too(community, tmp_path):
    live = community.from_texts(TEXTS[:30], EMBEDDINGS, METADATAS[:30], ids=IDS[:30])
    live.merge_from(community.from_texts(TEXTS[30:], EMBEDDINGS, METADATAS[30:], ids=IDS[30:]))
    live.save_local(str(tmp_path / "saved"), index_name="merged")
    copy = import_faiss(
        tmp_path / "saved", tmp_path / "database", embedding=EMBEDDINGS, index_name="merged"
    )
    assert copy.get_by_ids(IDS) == live.get_by_ids(IDS)
    copy.collection.close()
