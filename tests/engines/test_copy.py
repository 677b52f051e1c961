"""Copying between engines: whole, verified, and to be taken up again."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime

import numpy as np
import pytest
from tests.embedders import HashingEmbedder

import nearfield
from nearfield import Document
from nearfield.copying import copy
from nearfield.errors import CollectionNotFoundError, EmbedderMismatchError, StoreError

ENGINES = ["a folder", "postgresql", "chroma"]
PAIRS = [*itertools.product(ENGINES, ENGINES), ("a folder", "pinecone"), ("pinecone", "a folder")]
PAIRS += [("pinecone", "chroma"), ("postgresql", "pinecone")]
PAIRS += [("a folder", "a milvus"), ("a milvus", "a folder"), ("a milvus", "milvus")]


@pytest.fixture
def new_url(request, tmp_path):
    numbers = itertools.count()

    def make(engine):
        if engine == "a folder":
            return str(tmp_path / f"database {next(numbers)}")
        if engine == "a milvus":
            pytest.importorskip("milvus_lite", reason="milvus-lite is not installed")
            return f"milvus://{(tmp_path / f'{next(numbers)}.db').as_posix()}"
        if engine in {"chroma", "milvus", "pinecone"}:
            return request.getfixturevalue(engine).url()
        return f"{request.getfixturevalue('postgres').url()}?schema={uuid.uuid4().hex}"

    return make


@pytest.fixture
def documents():
    numbers = np.random.default_rng(3)
    return [
        Document(
            f"text {i} \x00 é 世界",
            id=f"document/{i}\x01",
            metadata={
                "n": i,
                "f": i / 3,
                "nested": {"a.b": [None, True, "x\x00"]},
                "when": "2024-05-01",
            },
            embedding=numbers.standard_normal(8).astype(np.float32),
            created_at=datetime(2020, 1, 1, 0, 0, i % 60, i, tzinfo=UTC),
        )
        for i in range(1200)
    ]


def contents(url, name="default"):
    with nearfield.open(url, name, create=False) as collection:
        return [
            (d, d.created_at, d.embedding.tolist())
            for d in collection.scan(include=["text", "metadata", "embedding"])
        ]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_copy_is_the_collection(new_url, documents, source, target):
    here, there = new_url(source), new_url(target)
    with nearfield.open(here, "a", dimension=8, metric="dot") as original:
        original.upsert(documents)
        info = original.info
    steps = []
    report = copy(
        nearfield.connect(here),
        nearfield.connect(there),
        "a",
        progress=lambda *step: steps.append(step),
    )
    assert (report.documents, report.written, report.compared) == (1200, 1200, 200)
    assert steps == [(500, 1200), (1000, 1200), (1200, 1200)]
    assert contents(there, "a") == contents(here, "a")
    with nearfield.open(there, "a", create=False) as copied:
        assert copied.info == info
    assert copy(nearfield.connect(here), nearfield.connect(there), "a").written == 0


@pytest.mark.parametrize("target", [*ENGINES, "a milvus", "pinecone"])
def test_only_what_changed_is_written_again(new_url, documents, target):
    here, there = new_url("a folder"), new_url(target)
    with nearfield.open(here, dimension=8) as original:
        original.upsert(documents)
        copy(nearfield.connect(here), nearfield.connect(there))
        original.upsert(documents[:7], vectors=np.ones((7, 8)))
        assert copy(nearfield.connect(here), nearfield.connect(there)).written == 7
    # The order of writing differs then, where a document took another's place.
    assert sorted(map(str, contents(there))) == sorted(map(str, contents(here)))


def test_texts_can_be_embedded_anew(new_url, documents):
    here, there = new_url("a folder"), new_url("a folder")
    with nearfield.open(here, dimension=8) as original:
        original.upsert(documents[:50])
    embedder = HashingEmbedder(32)
    report = copy(
        nearfield.connect(here), nearfield.connect(there), embedder=embedder, new_name="b"
    )
    assert (report.name, report.written) == ("b", 50)
    with nearfield.open(there, "b", create=False) as copied:
        assert copied.info.embedding == embedder.info
        read = copied.get(documents[3].id, include=["embedding"])
        assert read.embedding.tolist() == embedder.embed_documents([documents[3].text])[0].tolist()
    again = copy(nearfield.connect(here), nearfield.connect(there), embedder=embedder, new_name="b")
    assert again.written == 0


def test_what_does_not_fit_is_refused(new_url, documents):
    here, there = new_url("a folder"), new_url("a folder")
    with nearfield.open(here, dimension=8) as original:
        original.upsert(documents[:3])
    with pytest.raises(CollectionNotFoundError):
        copy(nearfield.connect(here), nearfield.connect(there), "no")
    with nearfield.open(there, dimension=4):
        pass
    with pytest.raises(EmbedderMismatchError, match="another name"):
        copy(nearfield.connect(here), nearfield.connect(there))
    with nearfield.open(there, "b", dimension=8) as other:
        other.upsert("mine", vectors=np.ones(8))
    with pytest.raises(StoreError, match="4 documents, the source 3"):
        copy(nearfield.connect(here), nearfield.connect(there), new_name="b")


@pytest.mark.parametrize("target", [*ENGINES, "milvus", "pinecone"])
def test_a_killed_copy_goes_on(new_url, documents, target):
    here, there = new_url("a folder"), new_url(target)
    with nearfield.open(here, dimension=8) as original:
        for part in range(5):
            original.upsert(
                [Document(f"{part}", id=f"{part}/{i}") for i in range(1200)],
                vectors=np.ones((1200, 8)),
            )
    command = [sys.executable, "-m", "nearfield", "copy", here, there]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 60
        while not has_some(there) and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    with nearfield.open(there, create=False) as copied:
        begun = len(copied)
    report = copy(nearfield.connect(here), nearfield.connect(there))
    assert report.documents == 6000
    assert report.written <= 6000 - begun  # a server may finish a write of the dead
    assert contents(there) == contents(here)


def has_some(url):
    try:
        with nearfield.open(url, create=False, read_only=True) as copied:
            return len(copied) > 0
    except CollectionNotFoundError:
        return False


def test_all_collections_move_with_one_command(new_url, documents):
    here, there = new_url("a folder"), new_url("postgresql")
    for name in ("a", "b"):
        with nearfield.open(here, name, dimension=8) as original:
            original.upsert(documents[:20])
    done = subprocess.run(
        [sys.executable, "-m", "nearfield", "migrate", here, there],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "'b': 20 documents, 20 of them written now; 20 read back" in done.stdout
    assert nearfield.connect(there).names() == ["a", "b"]


def test_a_target_of_another_metric_is_refused(new_url, documents):
    here, there = new_url("a folder"), new_url("a folder")
    with nearfield.open(here, dimension=8) as original:
        original.upsert(documents[:3])
    nearfield.open(there, dimension=8, metric="dot").close()
    with pytest.raises(EmbedderMismatchError, match="by dot, the source's by cosine"):
        copy(nearfield.connect(here), nearfield.connect(there))


def test_values_that_python_takes_for_equal_are_told_apart(new_url):
    here, there = new_url("a folder"), new_url("a folder")
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    for url, value in ((here, 1), (there, True)):
        with nearfield.open(url, dimension=2) as collection:
            collection.upsert(
                Document("", id="a", metadata={"v": value}, created_at=moment), vectors=[1, 0]
            )
    assert copy(nearfield.connect(here), nearfield.connect(there)).written == 1
    assert contents(there)[0][0].metadata["v"] is not True


def test_what_is_written_meanwhile_is_not_in_the_copy(new_url, documents):
    here, there = new_url("a folder"), new_url("postgresql")
    with nearfield.open(here, dimension=8) as original:
        original.upsert(documents)

        def write(done, total):
            original.upsert(Document("later", id=f"later {done}"), vectors=np.ones(8))
            original.delete(documents[done - 1].id)

        assert (
            copy(nearfield.connect(here), nearfield.connect(there), progress=write).documents
            == 1200
        )
    assert {each[0].id for each in contents(there)} == {document.id for document in documents}


def test_programs_read_what_was_copied(new_url, documents):
    here, there = new_url("a folder"), new_url("postgresql")
    with nearfield.open(here, "a", dimension=8) as original:
        original.upsert(documents[:20])
    command = [sys.executable, "-m", "nearfield", "copy", here, there, "-c", "a", "--as", "b"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [
        {"name": "b", "documents": 20, "written": 20, "compared": 20}
    ]
    command[5] = there + "&nonsense=1"
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failed.returncode != 0
    assert "Traceback" not in failed.stderr
