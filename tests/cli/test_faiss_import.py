"""``nearfield import-faiss``: a LangChain FAISS store becomes a collection."""

from __future__ import annotations

import json
import pickle

import faiss
import numpy as np
import pytest
from tests.fixtures.langchain_faiss import make
from tests.ingest.faiss_store import Page, saved

import nearfield
from nearfield import Document
from nearfield.embedders import load

TEXTS = ["Cats purr when they are content.", "Lava is rock that melted.", "Bread needs yeast."]


@pytest.fixture
def store(tmp_path):
    """A store of texts that the built-in model embedded."""
    vectors = load(None).embed_documents(TEXTS)
    documents = {f"id-{n}": Page(text, {"n": n}) for n, text in enumerate(TEXTS)}
    index = faiss.IndexFlatL2(vectors.shape[1])
    return saved(tmp_path, index, np.asarray(vectors, np.float32), documents=documents)


def test_a_store_is_moved_and_searched_by_text(invoke, store, tmp_path):
    arguments = ["--db", tmp_path / "db", "-c", "notes"]
    ran = invoke("import-faiss", store, *arguments, "--embedder", "minilm", "--metric", "cosine")
    assert ran.exit_code == 0
    assert "notes: 3 documents written, 0 unchanged; 384 dimensions, cosine" in ran.stdout
    found = invoke("search", "molten stone", *arguments, "--json")
    assert json.loads(found.stdout)["hits"][0]["id"] == "id-1"


def test_without_a_model_it_says_how_to_search_by_text(invoke, store, tmp_path):
    arguments = ["--db", tmp_path / "db"]
    ran = invoke("import-faiss", store, *arguments)
    assert ran.exit_code == 0
    assert "name the model that the store was built with: --embedder" in ran.stderr
    assert "--metric cosine they rank the same" in ran.stderr
    found = invoke("search", "molten stone", *arguments, "--embedder", "minilm", "--json")
    assert json.loads(found.stdout)["hits"][0]["id"] == "id-1"


def test_json_is_the_report_and_a_second_run_writes_nothing(invoke, store, tmp_path):
    ran = invoke("import-faiss", store, "--db", tmp_path / "db", "--json")
    report = json.loads(ran.stdout)
    assert report == {
        "collection": "default",
        "documents": 3,
        "written": 3,
        "unchanged": 0,
        "dimension": 384,
        "metric": "euclidean",
        "unit_length": True,
        "vectors_without_document": 0,
        "documents_without_vector": 0,
    }
    again = json.loads(invoke("import-faiss", store, "--db", tmp_path / "db", "--json").stdout)
    assert again == {**report, "written": 0, "unchanged": 3}


def test_what_is_left_out_is_told(invoke, tmp_path):
    folder = saved(
        tmp_path,
        faiss.IndexFlatIP(8),
        documents={"a": Page("A", {}), "b": Page("B", {})},
        positions={0: "a", 1: "gone"},
        name="old",
    )
    ran = invoke("import-faiss", folder, "--db", tmp_path / "db", "--index-name", "old")
    assert ran.exit_code == 0
    assert "1 documents written" in ran.stdout
    assert "left out: 5 vectors without a document" in ran.stdout
    assert "left out: 1 documents without a vector" in ran.stdout
    with nearfield.open(tmp_path / "db", create=False) as collection:
        assert list(collection.scan()) == [Document("A", id="a")]


def test_a_hostile_pickle_is_refused_on_one_line(invoke, tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "canary"), "w"))

    folder = saved(tmp_path, faiss.IndexFlatL2(8))
    (folder / "index.pkl").write_bytes(pickle.dumps((Hostile(), {})))
    ran = invoke("import-faiss", folder, "--db", tmp_path / "db")
    assert ran.exit_code == 4
    assert ran.stderr.startswith("error: ")
    assert ran.stderr.count("\n") == 1
    assert "io.open" in ran.stderr
    assert not (tmp_path / "canary").exists()
    assert not (tmp_path / "db").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "there is no file nowhere/index.faiss"),
        (["saved", "--index-name", "other"], "there is no file saved/other.faiss"),
        (["saved", "--embedder", "minilm"], "dimension 8, and those of 'minilm' 384"),
        (["saved", "--metric", "manhattan"], "expected one of: cosine, dot, euclidean"),
    ],
)
def test_bad_input_says_what_to_do(invoke, tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, faiss.IndexFlatL2(8), make.vectors())
    ran = invoke("import-faiss", *arguments, "--db", tmp_path / "db")
    assert ran.exit_code == 2
    assert told in ran.stderr
    assert not (tmp_path / "db").exists()


def test_an_interrupted_import_says_so_and_goes_on(nearfield_process, invoke, tmp_path):
    vectors = np.random.default_rng(1).standard_normal((20_000, 64), dtype=np.float32)
    folder = saved(tmp_path, faiss.IndexFlatL2(64), vectors)
    process = nearfield_process("import-faiss", folder, "--db", "db", heeds_interrupts=True)
    database = tmp_path / "db"
    while process.poll() is None:
        if (database / "default").exists():
            with nearfield.open(database, create=False, read_only=True) as collection:
                if len(collection) >= 1000:
                    break
    process.send_signal(2)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.startswith("interrupted: ")
    report = json.loads(invoke("import-faiss", folder, "--db", database, "--json").stdout)
    assert report["unchanged"] >= 1000
    assert report["written"] == 20_000 - report["unchanged"]
