"""Each door works on each engine by its URL alone."""

from __future__ import annotations

import contextlib
import importlib
import json
import subprocess
import sys
import uuid
import warnings

import pytest

import nearfield


@pytest.fixture(
    params=["a folder", "postgresql", "three postgresql", "chroma", "a milvus", "pinecone"]
)
def url(request, tmp_path):
    if request.param == "a folder":
        return str(tmp_path / "database")
    if request.param == "a milvus":
        pytest.importorskip("milvus_lite", reason="milvus-lite is not installed")
        return f"milvus://{(tmp_path / 'database.db').as_posix()}"
    if request.param in {"chroma", "pinecone"}:
        return request.getfixturevalue(request.param).url()
    fixture = "postgres_trio" if request.param == "three postgresql" else "postgres"
    return f"{request.getfixturevalue(fixture).url()}?schema={uuid.uuid4().hex}"


@pytest.fixture
def finds_words(url):
    """Whether the engine searches for words."""
    return not url.startswith(("chroma:", "pinecone:"))


def test_the_command_line(url, finds_words, tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "tea.md").write_text("# Tea\n\nThe kettle is in the kitchen.\n")
    (notes / "bees.md").write_text("# Bees\n\nBees make honey from nectar.\n")

    def run(*arguments):
        command = [sys.executable, "-m", "nearfield", *arguments, "--db", url, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    run("ingest", str(notes))
    hits = run("search", "where can I boil water?", "-k", "1")
    assert hits["mode"] == ("hybrid" if finds_words else "vector")
    assert "kettle" in json.dumps(hits)
    (notes / "tea.md").write_text("# Tea\n\nThe kettle is in the garden.\n")
    run("ingest", str(notes), "--prune")
    mode = "keyword" if finds_words else "vector"
    assert "garden" in json.dumps(run("search", "kettle", "--mode", mode))
    assert run("stats")["documents"] == 2


def test_langchain(url, finds_words):
    langchain = pytest.importorskip("langchain_nearfield", reason="langchain is not installed")
    store = langchain.NearfieldVectorStore(url, "manual")
    ids = store.add_texts(
        ["Descale the kettle with vinegar.", "Bees make honey."], [{"page": 7}, {"page": 9}]
    )
    (found,) = store.similarity_search("limescale", k=1, filter={"page": {"$lt": 9}})
    assert found.id == ids[0]
    kind = "hybrid" if finds_words else "similarity"
    assert store.as_retriever(search_type=kind, k=1).invoke("vinegar")[0].metadata["page"] == 7
    store.delete([ids[0]])
    assert len(nearfield.open(url, "manual", create=False)) == 1


def test_llama_index(url):
    with warnings.catch_warnings(), contextlib.suppress(ImportError):
        warnings.simplefilter("ignore")  # what the framework warns of as it is imported
        importlib.import_module("llama_index.core.bridge.langchain")
    core = pytest.importorskip("llama_index.core", reason="llama-index is not installed")
    from llama_index.embeddings.nearfield import NearfieldEmbedding
    from llama_index.vector_stores.nearfield import NearfieldVectorStore

    store = NearfieldVectorStore(url, "manual")
    index = core.VectorStoreIndex.from_vector_store(store, NearfieldEmbedding())
    index.insert(core.Document(text="Descale the kettle with vinegar.", doc_id="kettle"))
    index.insert(core.Document(text="Bees make honey.", doc_id="bees"))
    (hit,) = index.as_retriever(similarity_top_k=1).retrieve("limescale")
    assert "vinegar" in hit.get_content()
    index.delete_ref_doc("kettle")
    assert len(nearfield.open(url, "manual", create=False)) == 1


async def test_the_mcp_server(url, finds_words):
    mcp = pytest.importorskip("mcp", reason="mcp is not installed")
    from nearfield_mcp.server import create_server
    from nearfield_mcp.settings import Settings

    with nearfield.open(url, "manual") as collection:
        collection.upsert("Descale the kettle with vinegar.")
    server = create_server(Settings(database=url))
    try:
        async with mcp.Client(server) as client:
            answer = await client.call_tool(
                "search", {"collection": "manual", "query": "limescale"}
            )
            assert "vinegar" in str(answer.content)
            described = await client.call_tool("describe_collection", {"collection": "manual"})
            assert ("keyword" in described.structured_content["modes"]) == finds_words
    finally:
        server.close()
