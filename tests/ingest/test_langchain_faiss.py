"""A LangChain FAISS store moves into a collection, exactly, and nothing in its files is run."""

from __future__ import annotations

import copyreg
import datetime as dt
import decimal
import io
import pickle
import random
import re
import struct
import sys
from pathlib import Path

import faiss
import numpy as np
import pytest
from tests.embedders import HashingEmbedder
from tests.fixtures.langchain_faiss import make
from tests.ingest.faiss_store import Docstore, Page, in_the_place_of_langchain, pickled, saved

import nearfield
from nearfield import Document, Metric
from nearfield.errors import (
    EmbedderMismatchError,
    IngestError,
    InvalidInputError,
    InvalidVectorError,
    NearfieldError,
)
from nearfield.ingest.faiss_files import read_faiss_vectors
from nearfield.ingest.langchain_docstore import read_docstore
from nearfield.ingest.langchain_faiss import import_langchain_faiss, read_langchain_faiss

FIXTURES = Path(make.__file__).parent
STORES = sorted(path.name for path in FIXTURES.iterdir() if (path / "index.pkl").exists())
COMMUNITY = "community-0.4"
DIMENSION = 8
EVERYTHING = ("text", "metadata", "embedding")


def expected(name):
    """What is in a fixture: some versions could not delete."""
    vectors = make.vectors()
    if name.endswith("-ip"):
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = zip(make.IDS, make.TEXTS, make.METADATAS, vectors, strict=True)
    complete = name in {"community-0.4-hnsw", "langchain-0.0.200"}
    return [row for row in rows if complete or row[0] != "5"]


def plain(metadata):
    """Metadata as a collection keeps them: times as text."""
    return {
        key: value.isoformat() if isinstance(value, dt.date) else value
        for key, value in metadata.items()
    }


# ── real stores ──────────────────────────────────────────────────────────────────────────────────


def test_there_are_stores_of_many_versions():
    assert len(STORES) == 7


@pytest.mark.parametrize("name", STORES)
def test_a_store_moves_exactly(tmp_path, name):
    report = import_langchain_faiss(FIXTURES / name, tmp_path / "database")
    rows = expected(name)
    assert (report.documents, report.written, report.unchanged) == (len(rows), len(rows), 0)
    assert report.vectors_without_document == report.documents_without_vector == 0
    assert report.dimension == DIMENSION
    with nearfield.open(tmp_path / "database", create=False) as collection:
        assert collection.info.metric is report.metric
        found = list(collection.scan(include=EVERYTHING))
        for (identifier, text, metadata, vector), document in zip(rows, found, strict=True):
            assert document == Document(text, id=identifier, metadata=plain(metadata))
            assert document.embedding.tobytes() == vector.tobytes()
        assert collection.check().ok


@pytest.mark.parametrize(
    ("name", "metric", "unit_length"),
    [
        (COMMUNITY, Metric.EUCLIDEAN, False),
        ("community-0.4-hnsw", Metric.EUCLIDEAN, False),
        ("community-0.4-ip", Metric.COSINE, True),
    ],
)
def test_documents_rank_as_they_did(tmp_path, name, metric, unit_length):
    report = import_langchain_faiss(FIXTURES / name, tmp_path / "database")
    assert (report.metric, report.unit_length) == (metric, unit_length)
    index = faiss.read_index(str(FIXTURES / name / "index.faiss"))
    queries = np.random.default_rng(5).standard_normal((20, DIMENSION), dtype=np.float32)
    ids = [row[0] for row in expected(name)]
    with nearfield.open(tmp_path / "database", create=False) as collection:
        for query, labels in zip(queries, index.search(queries, len(ids))[1], strict=True):
            hits = collection.search(query, k=len(ids))
            assert [hit.id for hit in hits] == [ids[label] for label in labels]


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_the_metric_can_be_named(tmp_path, metric):
    report = import_langchain_faiss(FIXTURES / COMMUNITY, tmp_path / "database", metric=metric)
    assert report.metric == metric
    with nearfield.open(tmp_path / "database", create=False) as collection:
        assert collection.info.metric == metric


def test_an_inner_product_of_any_length_stays_one(tmp_path):
    folder = saved(tmp_path, faiss.IndexFlatIP(DIMENSION))
    assert import_langchain_faiss(folder, tmp_path / "database").metric is Metric.DOT


def test_the_model_it_was_built_with_can_be_named(tmp_path):
    embedder = HashingEmbedder(DIMENSION)
    import_langchain_faiss(FIXTURES / COMMUNITY, tmp_path / "named", embedder=embedder)
    with nearfield.open(tmp_path / "named", create=False, embedder=embedder) as collection:
        assert collection.info.embedding.model == "hashing-8"
        assert collection.search("any text", k=1)
    import_langchain_faiss(FIXTURES / COMMUNITY, tmp_path / "later")
    with nearfield.open(tmp_path / "later", create=False, embedder=embedder) as collection:
        assert collection.search("any text", k=1)


def test_a_model_of_another_dimension_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(InvalidInputError, match="dimension 8, and those of 'hashing-64' 64"):
        import_langchain_faiss(
            FIXTURES / COMMUNITY, tmp_path / "database", embedder=HashingEmbedder()
        )
    assert not (tmp_path / "database").exists()


# ── again, and after an interruption ─────────────────────────────────────────────────────────────


def test_a_second_import_writes_only_what_differs(tmp_path):
    database = tmp_path / "database"
    import_langchain_faiss(FIXTURES / COMMUNITY, database)
    report = import_langchain_faiss(FIXTURES / COMMUNITY, database)
    assert (report.written, report.unchanged) == (0, 5)
    vectors = np.ones((2, DIMENSION))
    with nearfield.open(database, create=False) as collection:
        collection.delete("4")
        other = Document(make.TEXTS[0], id="doc-1", metadata=make.METADATAS[0])
        collection.upsert([other, Document("mine", id="mine")], vectors=vectors)
    report = import_langchain_faiss(FIXTURES / COMMUNITY, database)
    assert (report.written, report.unchanged) == (2, 3)
    with nearfield.open(database, create=False) as collection:
        assert len(collection) == 6
        assert collection.get("mine").text == "mine"
        assert (collection.get("doc-1", include=EVERYTHING).embedding == make.vectors()[0]).all()


def test_an_interrupted_import_goes_on(tmp_path):
    vectors = np.random.default_rng(1).standard_normal((2500, DIMENSION), dtype=np.float32)
    folder = saved(tmp_path, faiss.IndexFlatL2(DIMENSION), vectors)
    seen = []

    def interrupt(progress):
        seen.append(progress)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_langchain_faiss(folder, tmp_path / "database", on_progress=interrupt)
    assert (seen[0].files_done, seen[0].files_total, seen[0].chunks_written) == (1000, 2500, 1000)
    report = import_langchain_faiss(folder, tmp_path / "database", on_progress=seen.append)
    assert (report.written, report.unchanged) == (1500, 1000)
    assert [progress.files_done for progress in seen[1:]] == [1000, 2000, 2500]
    with nearfield.open(tmp_path / "database", create=False) as collection:
        assert len(collection) == 2500
        found = collection.get("id-1777", include=EVERYTHING)
        assert found.embedding.tobytes() == vectors[1777].tobytes()


def test_a_collection_that_compares_otherwise_is_refused(tmp_path):
    nearfield.open(tmp_path / "database", dimension=DIMENSION, metric="dot").close()
    with pytest.raises(EmbedderMismatchError, match="dot"):
        import_langchain_faiss(FIXTURES / COMMUNITY, tmp_path / "database")
    report = import_langchain_faiss(FIXTURES / COMMUNITY, tmp_path / "database", metric="dot")
    assert report.written == 5


# ── stores of one's own making ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["Flat", "HNSW4", "IVF4,Flat", "IVF4_HNSW4,Flat"])
@pytest.mark.parametrize("metric", [faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT])
def test_vectors_are_read_from_every_index_that_keeps_them(tmp_path, kind, metric):
    vectors = np.random.default_rng(2).standard_normal((400, DIMENSION), dtype=np.float32)
    folder = saved(tmp_path, faiss.index_factory(DIMENSION, kind, metric), vectors)
    store = read_langchain_faiss(folder)
    assert store.metric is (Metric.EUCLIDEAN if metric == faiss.METRIC_L2 else Metric.DOT)
    assert [document.id for document in store.documents] == [f"id-{n}" for n in range(400)]
    assert store.vectors[store.rows].tobytes() == vectors.tobytes()


@pytest.mark.parametrize("kind", [faiss.DirectMap.Array, faiss.DirectMap.Hashtable])
def test_an_inverted_file_with_a_map_of_its_labels_is_read(tmp_path, kind):
    index = faiss.index_factory(DIMENSION, "IVF2,Flat")
    index.set_direct_map_type(kind)
    vectors = np.random.default_rng(2).standard_normal((100, DIMENSION), dtype=np.float32)
    store = read_langchain_faiss(saved(tmp_path, index, vectors))
    assert store.vectors[store.rows].tobytes() == vectors.tobytes()


@pytest.mark.parametrize("kind", ["IDMap,Flat", "IDMap2,Flat", "IDMap,HNSW4"])
def test_an_id_map_gives_each_vector_its_label(tmp_path, kind):
    index = faiss.index_factory(DIMENSION, kind)
    labels = np.array([70, 3, 900, 12, 5, 6])
    index.add_with_ids(make.vectors(), labels)
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    found = read_faiss_vectors(tmp_path / "index.faiss")
    assert (found.labels == labels).all()
    assert found.vectors.tobytes() == make.vectors().tobytes()


@pytest.mark.parametrize("kind", ["SQ8", "PQ4x4", "IVF2,SQ8", "HNSW4,SQ8", "PCA4,Flat"])
def test_an_index_that_keeps_something_else_is_refused(tmp_path, kind):
    vectors = np.random.default_rng(2).standard_normal((400, DIMENSION), dtype=np.float32)
    folder = saved(tmp_path, faiss.index_factory(DIMENSION, kind), vectors)
    with pytest.raises(IngestError, match="embed the texts anew"):
        read_langchain_faiss(folder)


def test_another_name_than_index_is_found(tmp_path):
    folder = saved(tmp_path, faiss.IndexFlatL2(DIMENSION), name="notes")
    assert len(read_langchain_faiss(folder, index_name="notes").documents) == 6
    with pytest.raises(InvalidInputError, match=r"no file .*index\.faiss.*index_name"):
        read_langchain_faiss(folder)
    (folder / "notes.pkl").unlink()
    with pytest.raises(InvalidInputError, match=r"no file .*notes\.pkl"):
        read_langchain_faiss(folder, index_name="notes")


def test_an_empty_store_makes_an_empty_collection(tmp_path):
    nothing = np.empty((0, DIMENSION), np.float32)
    folder = saved(tmp_path, faiss.IndexFlatL2(DIMENSION), nothing)
    assert import_langchain_faiss(folder, tmp_path / "database").documents == 0
    with nearfield.open(tmp_path / "database", create=False) as collection:
        assert len(collection) == 0


def test_what_does_not_belong_together_is_counted_and_left_out(tmp_path):
    folder = saved(
        tmp_path,
        faiss.IndexFlatL2(DIMENSION),
        documents={"a": Page("A", {}), "lost": Page("no vector", {})},
        positions={0: "gone", 3: "a"},
    )
    report = import_langchain_faiss(folder, tmp_path / "database")
    assert report.documents == 1
    assert report.vectors_without_document == 5
    assert report.documents_without_vector == 1
    with nearfield.open(tmp_path / "database", create=False) as collection:
        [document] = collection.scan(include=EVERYTHING)
        assert document == Document("A", id="a")
        assert document.embedding.tobytes() == make.vectors()[3].tobytes()


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    folder = saved(tmp_path, faiss.IndexFlatL2(DIMENSION), positions={0: "id-0", 6: "id-1"})
    with pytest.raises(IngestError, match="do not belong together"):
        import_langchain_faiss(folder, tmp_path / "database")
    assert not (tmp_path / "database").exists()


def test_a_vector_that_cannot_be_kept_is_refused_before_anything_is_written(tmp_path):
    vectors = np.ones((1500, DIMENSION), dtype=np.float32)
    vectors[1400, 3] = np.nan
    folder = saved(tmp_path, faiss.IndexFlatL2(DIMENSION), vectors)
    with pytest.raises(InvalidVectorError):
        import_langchain_faiss(folder, tmp_path / "database")
    vectors[1400] = 0
    folder = saved(tmp_path, faiss.IndexFlatL2(DIMENSION), vectors)
    with pytest.raises(InvalidVectorError):
        import_langchain_faiss(folder, tmp_path / "cosine", metric="cosine")
    for name in ("database", "cosine"):
        with nearfield.open(tmp_path / name, create=False) as collection:
            assert len(collection) == 0


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (decimal.Decimal("1.5"), "decimal.Decimal"),
        (Path("a"), "PosixPath|WindowsPath"),
        (np.float64(1.5), "numpy"),
        (2 + 3j, "complex"),
    ],
)
def test_metadata_of_other_classes_are_refused_by_name(tmp_path, value, named):
    documents = {"id-0": Page("text", {"nested": [{"key": value}]})}
    folder = saved(tmp_path, faiss.IndexFlatL2(DIMENSION), documents=documents)
    with pytest.raises(IngestError, match=f"({named}).*make the metadata plain values"):
        read_langchain_faiss(folder)


@pytest.mark.parametrize(
    "metadata",
    [{1: "key"}, {"nan": float("nan")}, {"big": 2**70}, {"set": {1, 2}}, {"bytes": b"x"}, [1]],
    ids=str,
)
def test_metadata_that_are_not_json_are_refused_with_the_document(tmp_path, metadata):
    documents = {"id-0": Page("text", metadata)}
    folder = saved(tmp_path, faiss.IndexFlatL2(DIMENSION), documents=documents)
    with pytest.raises(IngestError, match=r"'id-0'.*cannot be kept"):
        read_langchain_faiss(folder)


def test_metadata_without_an_end_are_refused(tmp_path):
    circle = []
    circle += [circle, circle]
    doubled = ["x"]
    for _ in range(30):
        doubled = [doubled, doubled]
    for metadata in ({"circle": circle}, {"doubled": doubled}):
        documents = {"id-0": Page("text", metadata)}
        folder = saved(tmp_path, faiss.IndexFlatL2(DIMENSION), documents=documents)
        with pytest.raises(IngestError, match="no end"):
            read_langchain_faiss(folder)


@pytest.mark.parametrize("protocol", [4, 5])
def test_both_protocols_that_langchain_wrote_are_read(tmp_path, protocol):
    documents = {"id-0": Page("text", {"when": dt.datetime(2020, 1, 2, tzinfo=dt.UTC)})}
    (tmp_path / "index.pkl").write_bytes(pickled((Docstore(documents), {0: "id-0"}), protocol))
    found, positions = read_docstore(tmp_path / "index.pkl")
    metadata = {"when": "2020-01-02T00:00:00+00:00"}
    assert found == {"id-0": Document("text", id="id-0", metadata=metadata)}
    assert positions == {0: "id-0"}


# ── hostile pickles ──────────────────────────────────────────────────────────────────────────────


def text(value):
    return pickle.BINUNICODE + struct.pack("<I", len(value)) + value.encode()


def name(module, attribute):
    return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()


def call(module, attribute, *arguments):
    """Call a function with texts, as ``__reduce__`` spells it."""
    return name(module, attribute) + tuple_of(*map(text, arguments)) + pickle.REDUCE


def tuple_of(*parts):
    return pickle.MARK + b"".join(parts) + pickle.TUPLE


DOCUMENT = name("langchain_core.documents.base", "Document")
DOCSTORE = name("langchain_community.docstore.in_memory", "InMemoryDocstore")
NEW = pickle.EMPTY_TUPLE + pickle.NEWOBJ


def dictionary(key, value):
    return pickle.EMPTY_DICT + text(key) + value + pickle.SETITEM


def store_around(value, *, made=NEW, stated=pickle.BUILD):
    """A docstore of one document, with something in its metadata."""
    fields = pickle.EMPTY_DICT + text("page_content") + text("t") + pickle.SETITEM
    fields += text("metadata") + dictionary("key", value) + pickle.SETITEM
    document = DOCUMENT + made + dictionary("__dict__", fields) + stated
    documents = dictionary("_dict", dictionary("a", document))
    positions = pickle.EMPTY_DICT + pickle.BININT1 + b"\0" + text("a") + pickle.SETITEM
    return DOCSTORE + NEW + documents + pickle.BUILD + positions + pickle.TUPLE2


def program(body):
    return pickle.PROTO + b"\4" + body + pickle.STOP


def deadly(canary):
    """Ways to make a file appear, each of which works with Python's own reader."""
    shell = f"touch {canary}"
    python = f"open({str(canary)!r}, 'w').close()"
    system = call("os", "system", shell)
    dotted = text("os") + text("path.os.system") + pickle.STACK_GLOBAL
    chain = (
        name("builtins", "getattr")
        + tuple_of(name("builtins", "__import__") + tuple_of(text("os")) + pickle.REDUCE,
                   text("system"))
        + pickle.REDUCE
        + tuple_of(text(shell))
        + pickle.REDUCE
    )  # fmt: skip
    # An object whose class is made on the spot, with a method that a state runs.
    evil_class = (
        name("builtins", "type")
        + tuple_of(
            text("Evil"),
            pickle.EMPTY_TUPLE,
            dictionary("__setstate__", name("os", "system")),
        )
        + pickle.REDUCE
    )
    return {
        "os.system": program(system),
        "posix.system": program(call("posix", "system", shell)),
        "eval": program(call("builtins", "eval", python)),
        "exec": program(call("builtins", "exec", python)),
        "subprocess": program(
            name("subprocess", "check_output")
            + tuple_of(pickle.EMPTY_LIST + text("touch") + pickle.APPEND
                       + text(str(canary)) + pickle.APPEND)
            + pickle.REDUCE
        ),
        "getattr chain": program(chain),
        "dotted name": program(dotted + tuple_of(text(shell)) + pickle.REDUCE),
        "in the metadata": program(store_around(system)),
        "chain in the metadata": program(store_around(chain)),
        "old instance": program(
            pickle.MARK + text(shell) + pickle.INST + b"os\nsystem\n"
        ),
        "old object": program(pickle.MARK + name("os", "system") + text(shell) + pickle.OBJ),
        "state": program(evil_class + NEW + text(shell) + pickle.BUILD),
        "state in the metadata": program(
            store_around(evil_class + NEW + text(shell) + pickle.BUILD)
        ),
        "before the store": program(system + pickle.POP + store_around(pickle.NONE)),
        "extension": program(
            pickle.EXT1 + b"\xf0" + tuple_of(text(shell)) + pickle.REDUCE
        ),
    }  # fmt: skip


KINDS = sorted(deadly(Path("canary")))


@pytest.fixture
def extension():
    """The extension registry may name anything, and what was loaded once is kept."""
    copyreg.add_extension("os", "system", 0xF0)
    yield
    copyreg.remove_extension("os", "system", 0xF0)
    copyreg._extension_cache.clear()


@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_pickle_is_refused_and_nothing_is_run(tmp_path, kind, extension):
    canary = tmp_path / "canary"
    payload = deadly(canary)[kind]
    with in_the_place_of_langchain():
        pickle.loads(payload)
    assert canary.exists()  # it does what it says
    canary.unlink()
    path = tmp_path / "index.pkl"
    path.write_bytes(payload)
    with pytest.raises(IngestError, match="was refused"):
        read_docstore(path)
    assert not canary.exists()


def test_no_module_is_imported(tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    for body in (
        name("trap", "anything"),
        text("trap") + text("anything") + pickle.STACK_GLOBAL,
        store_around(name("trap", "anything")),
    ):
        (tmp_path / "index.pkl").write_bytes(program(body))
        with pytest.raises(IngestError, match=r"trap\.anything"):
            read_docstore(tmp_path / "index.pkl")
    assert "trap" not in sys.modules
    assert not (tmp_path / "canary").exists()


def test_a_refused_file_leaves_no_database(tmp_path):
    folder = saved(tmp_path, faiss.IndexFlatL2(DIMENSION))
    (folder / "index.pkl").write_bytes(program(call("os", "system", "true")))
    with pytest.raises(IngestError, match=r"(posix|os)\.system"):
        import_langchain_faiss(folder, tmp_path / "database")
    assert not (tmp_path / "database").exists()


DATETIME = name("datetime", "datetime")


@pytest.mark.parametrize(
    "value",
    {
        "persistent id": text("id") + pickle.BINPERSID,
        "old persistent id": pickle.PERSID + b"id\n",
        "class as a value": DOCUMENT,
        "object as a value": DOCUMENT + NEW,
        "object with arguments": DOCUMENT + tuple_of(text("x")) + pickle.NEWOBJ,
        "object with keywords": (
            DOCUMENT + pickle.EMPTY_TUPLE + pickle.EMPTY_DICT + pickle.NEWOBJ_EX
        ),
        "object of a value": text("x") + NEW,
        "class called": DOCUMENT + pickle.EMPTY_TUPLE + pickle.REDUCE,
        "state of a class": DOCUMENT + dictionary("__setstate__", DATETIME) + pickle.BUILD,
        "slots of a class": (
            DOCUMENT + tuple_of(pickle.NONE, dictionary("x", DATETIME)) + pickle.BUILD
        ),
        "state of a time's class": DATETIME + dictionary("x", pickle.NONE) + pickle.BUILD,
        "state of a dict": pickle.EMPTY_DICT + dictionary("x", pickle.NONE) + pickle.BUILD,
        "state given twice": (DOCUMENT + NEW + (dictionary("x", pickle.NONE) + pickle.BUILD) * 2),
        "slots of an object": (
            DOCUMENT + NEW + tuple_of(pickle.NONE, dictionary("mark", pickle.NONE)) + pickle.BUILD
        ),
        "item of an object": DOCUMENT + NEW + text("x") + pickle.NONE + pickle.SETITEM,
        "list made of an object": DOCUMENT + NEW + text("x") + pickle.APPEND,
        "time of text": DATETIME + tuple_of(text("x")) + pickle.REDUCE,
        "time of wrong bytes": (
            DATETIME + tuple_of(pickle.SHORT_BINBYTES + b"\2ab") + pickle.REDUCE
        ),
        "new time": DATETIME + NEW,
        "method of a time": name("datetime", "datetime.fromtimestamp"),
        "method of a document": name("langchain_core.documents.base", "Document.parse_raw"),
        "buffer": pickle.NEXT_BUFFER,
        "bytes that can change": pickle.BYTEARRAY8 + struct.pack("<Q", 1 << 60),
        "bytes without end": pickle.BINBYTES + struct.pack("<I", 0xFFFFFFF0),
        "text without end": pickle.BINUNICODE8 + struct.pack("<Q", 1 << 62),
        "a frame without end": pickle.FRAME + struct.pack("<Q", 1 << 62),
        "too many digits": pickle.LONG4 + struct.pack("<i", 1 << 30),
        "what was never kept": pickle.BINGET + b"\xee",
        "more than there is": pickle.POP * 50,
        "a list as a key": (pickle.EMPTY_DICT + pickle.EMPTY_LIST + pickle.NONE + pickle.SETITEM),
        "an unknown instruction": b"\xff",
    }.items(),
    ids=lambda item: item[0],
)
def test_whatever_else_a_pickle_can_spell_ends_in_a_typed_error(tmp_path, value):
    (tmp_path / "index.pkl").write_bytes(program(store_around(value[1])))
    with pytest.raises(IngestError):
        read_docstore(tmp_path / "index.pkl")


@pytest.mark.parametrize(
    "options",
    [
        {"made": tuple_of(text("x")) + pickle.NEWOBJ},
        {"made": NEW + pickle.EMPTY_DICT + pickle.BUILD},
        {"stated": pickle.REDUCE},
        {"stated": pickle.BUILD + pickle.EMPTY_DICT + pickle.BUILD},
        {"stated": pickle.NONE + pickle.TUPLE2 + pickle.BUILD},
    ],
)
def test_a_document_that_is_made_in_another_way_is_refused(tmp_path, options):
    (tmp_path / "index.pkl").write_bytes(program(store_around(text("plain"), **options)))
    with pytest.raises(IngestError, match="was refused"):
        read_docstore(tmp_path / "index.pkl")


def test_a_plain_value_in_the_same_place_is_read(tmp_path):
    """What refuses the ones above is not the way they are wrapped."""
    (tmp_path / "index.pkl").write_bytes(program(store_around(text("plain"))))
    documents, positions = read_docstore(tmp_path / "index.pkl")
    assert documents == {"a": Document("t", id="a", metadata={"key": "plain"})}
    assert positions == {0: "a"}


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        (),
        ({}, {}),
        (Docstore({}), []),
        (Docstore([]), {}),
        (Docstore({"a": "text"}), {}),
        (Docstore({"a": Docstore({})}), {}),
        (Docstore({"a": Page(5, {})}), {}),
        (Docstore({"": Page("text", {})}), {}),
        (Docstore({5: Page("text", {})}), {}),
        (Docstore({}), {"0": "a"}),
        (Docstore({}), {0: 5}),
        (Docstore({}), {True: "a"}),
        (Page("text", {}), {}),
    ],
    ids=range(15),
)
def test_what_is_no_docstore_is_refused(tmp_path, value):
    (tmp_path / "index.pkl").write_bytes(pickled(value))
    with pytest.raises(IngestError):
        read_docstore(tmp_path / "index.pkl")


def test_no_other_module_of_the_project_knows_pickle():
    root = Path(nearfield.__file__).parents[2]
    modules = [
        path
        for source in ("core", "integrations", "mcp_server")
        for path in (root / source).rglob("*.py")
    ]
    assert len(modules) > 80
    careless = re.compile(
        r"^\s*(import|from) (pickle|dill|cloudpickle|joblib|shelve|marshal)\b", re.MULTILINE
    )
    assert [path.name for path in modules if careless.search(path.read_text("utf-8"))] == [
        "langchain_docstore.py"
    ]


def test_reading_leaves_pythons_own_reader_as_it_was(tmp_path):
    before = dict(pickle._Unpickler.dispatch)
    test_a_plain_value_in_the_same_place_is_read(tmp_path)
    assert pickle._Unpickler.dispatch == before
    assert pickle._Unpickler(io.BytesIO(pickle.dumps(decimal.Decimal(1)))).load() == 1


# ── damaged and hostile files ────────────────────────────────────────────────────────────────────


def assert_read_or_refused(read, path):
    try:
        read(path)
    except NearfieldError:
        return True
    return False


@pytest.mark.parametrize("store", STORES)
def test_a_pickle_cut_short_anywhere_is_refused(tmp_path, store):
    content = (FIXTURES / store / "index.pkl").read_bytes()
    path = tmp_path / "index.pkl"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(IngestError):
            read_docstore(path)


@pytest.mark.parametrize("store", STORES)
def test_an_index_cut_short_or_too_long_is_refused(tmp_path, store):
    content = (FIXTURES / store / "index.faiss").read_bytes()
    path = tmp_path / "index.faiss"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(IngestError):
            read_faiss_vectors(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(IngestError, match="left over"):
        read_faiss_vectors(path)


def test_damaged_bytes_end_in_a_typed_error_or_in_values(tmp_path, soak):
    chance = random.Random(11)
    refused = 0
    vectors = np.random.default_rng(2).standard_normal((30, DIMENSION), dtype=np.float32)
    folder = saved(tmp_path, faiss.index_factory(DIMENSION, "IVF3,Flat"), vectors)
    paths = [FIXTURES / store / "index.pkl" for store in STORES]
    paths += [FIXTURES / store / "index.faiss" for store in STORES]
    paths += [folder / "index.faiss"] * 4
    for number in range(3000 * soak):
        original = paths[number % len(paths)]
        data = bytearray(original.read_bytes())
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] = chance.choice([0, 0xFF, chance.randrange(256)])
        path = tmp_path / original.name
        path.write_bytes(data)
        read = read_docstore if path.suffix == ".pkl" else read_faiss_vectors
        refused += assert_read_or_refused(read, path)
    assert refused


def header(kind=b"IxF2", dimension=4, count=2, metric=1, numbers=8):
    head = kind + struct.pack("<iqqqBi", dimension, count, 1 << 20, 1 << 20, 1, metric)
    return head + struct.pack("<Q", numbers)


@pytest.mark.parametrize(
    "content",
    {
        "nothing": b"",
        "another format": b"PK\x03\x04" + bytes(100),
        "more vectors than any memory": header(count=1 << 62, numbers=1 << 63) + bytes(32),
        "numbers that overflow": header(count=1 << 62, numbers=(1 << 64) - 1) + bytes(32),
        "fewer vectors than none": header(count=-1) + bytes(32),
        "no dimension": header(dimension=0) + bytes(32),
        "a negative dimension": header(dimension=-4) + bytes(32),
        "an endless dimension": header(dimension=1 << 30) + bytes(32),
        "numbers that do not fit": header(numbers=7) + bytes(28),
        "an unknown metric": header(metric=23) + bytes(36),
        "indexes in indexes": b"".join(header(kind=b"IxMp")[:-8] for _ in range(50)),
    }.items(),
    ids=lambda item: item[0],
)
def test_a_hostile_index_is_refused(tmp_path, content):
    path = tmp_path / "index.faiss"
    path.write_bytes(content[1])
    with pytest.raises(IngestError, match="was refused"):
        read_faiss_vectors(path)


def test_a_plain_header_of_the_same_make_is_read(tmp_path):
    (tmp_path / "index.faiss").write_bytes(header() + np.arange(8, dtype="<f4").tobytes())
    found = read_faiss_vectors(tmp_path / "index.faiss")
    assert found.vectors.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
