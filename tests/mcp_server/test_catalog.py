"""Databases and collections behind a server: damaged, replaced, slow to load, with passwords."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("mcp", reason="the MCP server is an extra: pip install 'nearfield[mcp]'")

from mcp import Client
from mcp.shared.exceptions import MCPError
from tests.embedders import HashingEmbedder
from tests.mcp_server.processes import DEADLINE_S, over_http, over_stdio

import nearfield
import nearfield.embedders
from nearfield import Document
from nearfield.documents import EmbeddingInfo, Metric
from nearfield.errors import StoreError
from nearfield.stores.base import CollectionInfo
from nearfield_mcp import Settings, create_server
from nearfield_mcp.catalog import Catalog
from nearfield_mcp.credentials import credentials_in, holds_secret
from nearfield_mcp.results import model_of

WAIT_S = 60.0
URL = "nosuch://anna:wal%21rus@db.example:5432/notes?api_key=porpoise&mode=fast"
SECRETS = ("wal%21rus", "wal!rus", "porpoise")


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "data"
    fill(path, ["notes", "manual"])
    return path


def fill(path, names):
    with nearfield.connect(path) as database:
        for name in names:
            with database.create(name, dimension=2) as collection:
                document = Document(f"the {name} of kettles", id=f"{name}/1")
                collection.upsert(document, vectors=[[1.0, 0.0]])


def damage(path):
    (path / "collection.sqlite3").write_bytes(b"no database" * 1_000)


async def call(server, name, **arguments):
    async with Client(server) as client:
        result = await client.call_tool(name, arguments)
    [text] = [block.text for block in result.content]
    return text, result.structured_content


# ── damage ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_document_is_found_although_another_collection_is_damaged(folder):
    damage(folder / "manual")
    server = create_server(Settings(database=str(folder)))
    text, shape = await call(server, "fetch", id="notes/1")
    assert shape["text"] == "the notes of kettles"
    assert shape["unreadable"] == ["manual"]
    assert "Could not be looked into: manual." in text
    text, _ = await call(server, "fetch", id="nothing")
    assert "no document 'nothing'" in text
    assert "manual cannot" in text


async def test_of_several_databases_one_that_cannot_be_read_does_not_hide_the_others(tmp_path):
    fill(tmp_path / "work", ["notes"])
    (tmp_path / "home").mkdir()
    server = create_server(
        Settings(databases={"work": str(tmp_path / "work"), "home": str(tmp_path / "home")})
    )
    (tmp_path / "home").rmdir()
    (tmp_path / "home").write_text("a file where a folder should be")
    text, shape = await call(server, "list_collections")
    assert [each["name"] for each in shape["collections"]] == ["work/notes"]
    assert shape["unreadable"] == ["home/"]
    assert "Cannot be opened: home/." in text
    _, shape = await call(server, "fetch", id="notes/1")
    assert shape["unreadable"] == ["home/"]
    text, _ = await call(server, "search", query="kettles", collection="home/notes")
    assert "the database 'home' cannot be read now" in text
    assert str(tmp_path) not in text


def test_over_http_no_answer_names_a_path_of_the_server(folder, tmp_path):
    damage(folder / "manual")
    with over_http(folder, env={"COLUMNS": "9999"}) as server:
        answers = [
            server.call("describe_collection", {"collection": "manual"}),
            server.call("search", {"query": "kettles", "collection": "manual"}),
            server.call("fetch", {"id": "nearfield://manual/x"}),
            server.call("list_collections"),
            server.post("resources/read", {"uri": "nearfield://manual"}),
            server.post("resources/read", {"uri": "nearfield://manual/x"}),
        ]
        for answer in answers:
            assert str(tmp_path) not in answer.text
        assert all("the collection 'manual' is damaged" in each.text for each in answers[:3])
        assert all("the collection 'manual' is damaged" in each.text for each in answers[4:])
        assert all("nearfield repair" in each.text for each in answers[:3])
        (folder / "notes").rename(folder / "gone")
        (folder / "gone").chmod(0o700)
        assert str(tmp_path) not in server.call("fetch", {"id": "notes/1"}).text
        assert str(folder) in server.errors()  # for whoever runs it


def test_a_models_folder_is_not_told():
    for model, told in {
        "minilm": "minilm",
        "sentence-transformers:mini?device=cpu": "sentence-transformers:mini",
        "sentence-transformers:org/model": "sentence-transformers:org/model",
        "sentence-transformers:/srv/models/ours/": "sentence-transformers:ours",
        "sentence-transformers:C:\\models\\ours": "sentence-transformers:ours",
        "given vectors": "given vectors",
    }.items():
        embedding = EmbeddingInfo(model, 2, fingerprint="x")
        assert model_of(CollectionInfo("notes", embedding, Metric.COSINE)) == told


async def test_a_document_that_is_too_long_for_a_resource_is_left_to_fetch(folder):
    with nearfield.connect(folder).open("notes") as notes:
        notes.upsert(Document("x" * 100_001, id="long"), vectors=[[1.0, 0.0]])
        notes.upsert(Document("x" * 100_000, id="fits"), vectors=[[1.0, 0.0]])
    async with Client(create_server(Settings(database=str(folder)))) as client:
        with pytest.raises(MCPError, match="in parts with the tool fetch"):
            await client.read_resource("nearfield://notes/long")
        [content] = (await client.read_resource("nearfield://notes/fits")).contents
        assert len(content.text) == 100_000


# ── other processes ──────────────────────────────────────────────────────────────────────────────

REMAKE = """
import shutil, sys, nearfield
shutil.rmtree(sys.argv[1] + "/notes")
with nearfield.connect(sys.argv[1]).create("notes", dimension=3) as notes:
    notes.upsert(nearfield.Document("made anew", id="notes/1"), vectors=[[0.0, 1.0, 0.0]])
"""


def test_a_collection_that_another_process_removed_and_made_anew_is_opened_anew(folder):
    with over_stdio(folder) as server:
        server.initialize()
        asked = {"id": "notes/1", "collection": "notes"}
        for told in ("the notes of kettles", "made anew"):
            found = server.call("fetch", asked)
            assert found["structuredContent"]["text"] == told
            described = server.call("describe_collection", {"collection": "notes"})
            assert described["structuredContent"]["documents"] == 1
            if told != "made anew":
                command = [sys.executable, "-c", REMAKE, str(folder)]
                subprocess.run(command, check=True, timeout=DEADLINE_S)


# ── models ───────────────────────────────────────────────────────────────────────────────────────


def test_a_model_is_loaded_once_and_nobody_else_waits_for_it(folder, monkeypatch):
    """Four calls want two collections of one slow model; one wants a collection without."""
    with nearfield.connect(folder) as database:
        for name in ("slow", "slower"):
            database.create(name, embedder=HashingEmbedder(16)).close()
    loading, may_load = threading.Event(), threading.Event()
    loaded = []

    def load(spec):
        if not isinstance(spec, str):
            return spec
        loaded.append(spec)
        loading.set()
        assert may_load.wait(WAIT_S)
        return HashingEmbedder(16)

    monkeypatch.setattr(nearfield.embedders, "load", load)
    catalog = Catalog(
        {"default": str(folder)},
        embedder_of=lambda name: "slow one" if name.startswith("slow") else None,
    )
    with ThreadPoolExecutor(5) as pool:
        waiting = [pool.submit(catalog.open, name) for name in ("slow", "slower", "slow", "slower")]
        assert loading.wait(WAIT_S)
        assert pool.submit(catalog.open, "notes").result(WAIT_S)[1].count() == 1
        assert not any(each.done() for each in waiting)
        may_load.set()
        opened = [each.result(WAIT_S)[1] for each in waiting]
    assert loaded == ["slow one"]
    assert opened[0] is opened[2]
    assert opened[1] is opened[3]
    assert opened[0].embedder is opened[1].embedder
    catalog.close()


def test_a_model_that_could_not_be_loaded_is_tried_anew(folder, monkeypatch):
    answers = [StoreError("not now"), HashingEmbedder(16)]

    def load(spec):
        answer = answers.pop(0) if isinstance(spec, str) else spec
        if isinstance(answer, Exception):
            raise answer
        return answer

    nearfield.connect(folder).create("slow", embedder=HashingEmbedder(16)).close()
    monkeypatch.setattr(nearfield.embedders, "load", load)
    catalog = Catalog({"default": str(folder)}, embedder_of=lambda _: "slow one")
    with pytest.raises(StoreError):
        catalog.open("slow")
    assert catalog.open("slow")[1].count() == 0
    catalog.close()


# ── URLs ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_url_of_any_scheme_is_handed_on_as_it_is(folder, monkeypatch):
    asked = []
    connect = nearfield.connect

    def noted(url, **options):
        asked.append(url)
        return connect(folder, **options)

    monkeypatch.setattr(nearfield, "connect", noted)
    server = create_server(Settings(databases={"far": URL, "near": str(folder)}))
    _, shape = await call(server, "fetch", id="notes/1", collection="far/notes")
    assert shape["url"] == "nearfield://far%2Fnotes/notes%2F1"
    assert asked == [URL, str(folder)]


async def test_an_engine_that_fails_tells_no_caller_of_its_url(folder, monkeypatch, caplog):
    def fail(url, **options):
        raise StoreError(f"cannot connect to {url}: password {SECRETS[1]} was refused")

    monkeypatch.setattr(nearfield, "connect", fail)
    server = create_server(Settings(database=URL, read_only=False, job_dir=folder / "jobs"))
    told = [
        await call(server, "list_collections"),
        await call(server, "fetch", id="x"),
        await call(server, "ingest", texts=[{"text": "x"}], collection="notes"),
    ]
    async with Client(server) as client:
        for uri in ("nearfield:///", "nearfield://notes/x"):
            with pytest.raises(MCPError) as refused:
                await client.read_resource(uri)
            told.append(str(refused.value))
    assert "cannot connect" in caplog.text  # for the log, which the command line keeps clean
    for each in told:
        assert "db.example" not in str(each)
        assert not [secret for secret in SECRETS if secret in str(each)]


@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_the_password_of_a_database_is_nowhere_to_be_read(tmp_path, transport):
    """Neither in answers nor in metrics, logs and the audit log, however much is logged."""
    engine = tmp_path / "engine.py"
    engine.write_text(
        "import nearfield\n"
        "def connect(url, **options):\n"
        "    raise nearfield.errors.StoreError(f'no way to {url}') from ValueError(url)\n"
        "nearfield.connect = connect\n"
        "from nearfield_mcp.cli import main\n"
        "main()\n"
    )
    audit = tmp_path / "audit.jsonl"
    options = ("--audit-log", audit, "--log-level", "DEBUG")
    wide = {"COLUMNS": "9999"}  # nothing is broken into lines, and so passed over here
    env = wide | {"NEARFIELD_MCP_DATABASE": URL, "NEARFIELD_MCP_JOB_DIR": str(tmp_path / "jobs")}
    told = []
    if transport == "http":
        with over_http(*options, env=env, script=str(engine)) as server:
            told += [server.call(tool).text for tool in ("list_collections", "describe_collection")]
            told.append(server.post("resources/read", {"uri": "nearfield:///"}).text)
            told += [server.get(path).text for path in ("/healthz", "/metrics")]
            assert server.stop() == 0
            told.append(server.errors())
    else:
        with over_stdio(*options, env=env, script=str(engine)) as server:
            server.initialize()
            told += [
                json.dumps(server.call(tool)) for tool in ("list_collections", "ingest_status")
            ]
            assert server.close()[0] == 0
            told.append(server.errors())
    assert "no way to nosuch://***" in told[-1]
    told.append(audit.read_text())
    assert not [text for text in told for secret in SECRETS if secret in text]


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("./data", set()),
        ("file:///srv/data", set()),
        ("redis://db/0", set()),
        ("postgresql://me@db/x?sslmode=require", set()),
        ("postgresql://me:hunter2@db/x", {"me:hunter2", "hunter2"}),
        ("nosuch://key-abc@db", {"key-abc"}),
        ("https://db/?token=a%2Fbcd&x=1", {"token=a%2Fbcd", "token=a/bcd", "a%2Fbcd", "a/bcd"}),
    ],
)
def test_what_of_a_url_is_secret(url, found):
    assert credentials_in(url) == found
    assert holds_secret(url) is (bool(found) and "key-abc" not in url)
