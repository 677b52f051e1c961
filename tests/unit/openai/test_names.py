"""The OpenAI embedder's names, fingerprints, addresses and keys."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import subprocess
import sys

import pytest

pytest.importorskip("openai", minversion="3", reason="openai is not installed")

from tests.openai_server import KEY, MODEL, OpenAIServer, connect

import nearfield
from nearfield.embedders import OpenAIEmbedder, load
from nearfield.errors import (
    EmbeddingError,
    InvalidInputError,
    MissingDependencyError,
)


def fingerprint(model=MODEL, **options):
    options = {"base_url": "http://127.0.0.1:8080/v1", "dimension": 32, **options}
    return OpenAIEmbedder(model, **options).info.fingerprint


@pytest.mark.parametrize(
    "options",
    [
        {"model": "other"},
        {"base_url": "http://127.0.0.1:8081/v1"},
        {"base_url": "http://127.0.0.1:8080/other/v1"},
        {"base_url": "http://example.org:8080/v1"},
        {"dimension": 31},
        {"normalize": False},
        {"query_prompt": "query: "},
        {"document_prompt": "query: "},
        {"over_long": "truncate"},
        {"space": "mine"},
    ],
)
def test_the_fingerprint_changes_with_what_changes_vectors(options):
    assert fingerprint(**options) != fingerprint()


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": "https://127.0.0.1:8080/v1/"},
        {"batch_size": 3},
        {"concurrency": 3},
        {"timeout_s": 3},
        {"deadline_s": 3},
        {"max_retries": 0},
        {"max_tokens": 512},
        {"encoding_format": "float"},
        {"api_key": KEY},
    ],
)
def test_the_fingerprint_stays_with_everything_else(options):
    assert fingerprint(**options) == fingerprint()


def test_a_space_is_the_same_on_every_server_that_has_it():
    elsewhere = {"base_url": "https://gpu.example.org/v1", "model": "nomic", "space": "nomic-1.5"}
    assert fingerprint(space="nomic-1.5") == fingerprint(**elsewhere)
    small = OpenAIEmbedder("text-embedding-3-small")
    europe = OpenAIEmbedder("text-embedding-3-small", base_url="https://eu.api.openai.com/v1")
    deployment = OpenAIEmbedder(
        "mine", base_url="https://me.openai.azure.com/openai/v1/", space="text-embedding-3-small"
    )
    assert small.info.fingerprint == europe.info.fingerprint == deployment.info.fingerprint
    assert deployment.info.dimension == 1536
    native = OpenAIEmbedder("text-embedding-3-small", dimensions=1536)
    assert native.info.fingerprint == small.info.fingerprint


def test_a_name_of_openais_on_another_server_is_not_taken_for_the_same_model(server):
    official = OpenAIEmbedder("text-embedding-ada-002").info
    other = OpenAIEmbedder("text-embedding-ada-002", base_url=server.url, dimension=1536).info
    assert other.fingerprint != official.fingerprint


def test_the_name_makes_the_same_embedder_again(server):
    options = {
        "dimensions": 16,
        "space": "mine & yours?",
        "normalize": False,
        "query_prompt": "query: ",
        "document_prompt": "Ünïcode & =? ",
        "over_long": "truncate",
        "max_tokens": 512,
        "batch_size": 17,
        "encoding_format": "float",
    }
    first = connect(server, **options)
    again = load(first.info.model)
    assert isinstance(again, OpenAIEmbedder)
    assert again.info == first.info
    assert repr(again) == repr(first)


def test_a_name_may_be_typed_by_hand(server):
    embedder = load(f"openai:{MODEL}?base_url={server.url}&dimension=32&timeout_s=3&max_retries=0")
    assert embedder.info.dimension == 32
    assert load("openai:text-embedding-3-large?dimensions=256").info.dimension == 256
    assert load("openai:library/nomic:latest?dimension=3&base_url=http://[::1]:1/v1").info


@pytest.mark.parametrize(
    "spec",
    [
        "openai",
        "openai:",
        "openai:?dimensions=3",
        f"openai:m?api_key={KEY}",
        f"openai?api_key={KEY}",
        f"openai:m?dimensions={KEY}",
        f"openai:m?base_url=http://user:{KEY}@127.0.0.1/v1",
        f"openai:m?base_url=http://127.0.0.1/v1%3Fkey={KEY}",
        "openai:m?normalize=maybe",
        "openai:m?over_long=ignore",
    ],
)
def test_bad_names_are_refused_without_showing_a_secret(spec):
    with pytest.raises(InvalidInputError) as refusal:
        load(spec)
    assert KEY not in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    [
        f"http://{KEY}@127.0.0.1/v1",
        f"http://user:{KEY}@127.0.0.1/v1",
        f"http://127.0.0.1/v1?api-key={KEY}",
        f"http://127.0.0.1/v1#{KEY}",
        f"http://127.0.0.1:{KEY}/v1",
        f"{KEY}",
        f"ftp://127.0.0.1/{KEY}",
        "http://",
        "",
    ],
)
def test_an_address_with_a_secret_or_without_a_server_is_refused(url, monkeypatch):
    with pytest.raises(InvalidInputError, match=r"^base_url ") as refusal:
        OpenAIEmbedder(MODEL, base_url=url)
    assert KEY not in str(refusal.value)
    if url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        with pytest.raises(InvalidInputError, match="variable OPENAI_BASE_URL") as refusal:
            OpenAIEmbedder(MODEL)
        assert KEY not in str(refusal.value)


@pytest.mark.parametrize("key", ["", "  ", f"{KEY}\n{KEY}", f"{KEY}…"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(key):
    with pytest.raises(InvalidInputError, match="api_key") as refusal:
        OpenAIEmbedder(MODEL, api_key=key)
    assert KEY not in str(refusal.value)


def test_blanks_around_a_key_are_dropped(server):
    with connect(server, api_key=f" {KEY}\n") as embedder:
        assert len(embedder.embed_documents(["wing"])) == 1


def test_the_key_is_taken_from_the_environment_for_this_machine(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with connect(server, api_key=None) as embedder:
        assert len(embedder.embed_documents(["wing"])) == 1


def test_the_address_is_taken_from_the_environment_and_kept_in_the_name(server, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with load(f"openai:{MODEL}") as embedder:
        assert len(embedder.embed_documents(["wing"])) == 1
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert load(embedder.info.model).info == embedder.info


def test_the_key_in_the_environment_goes_to_no_server_it_was_not_meant_for(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    environment_key = nearfield.embedders.openai.address.Address.environment_key
    address = nearfield.embedders.openai.address.Address.of
    for url in (
        "https://api.openai.com/v1",
        "https://eu.api.openai.com/v1",
        "http://localhost:1/v1",
        "http://127.0.0.2/v1",
        "http://[::1]:8000/v1",
    ):
        assert environment_key(address(url)) == KEY
    others = ("https://example.org/v1", "https://api.openai.com.example.org", "http://10.0.0.1/v1")
    for url in others:
        assert environment_key(address(url)) is None
    monkeypatch.setenv("OPENAI_BASE_URL", "https://EXAMPLE.org:443/v1/")
    assert [environment_key(address(url)) for url in others] == [KEY, None, None]
    monkeypatch.setenv("OPENAI_BASE_URL", "https://user:password@example.org/v1")
    assert [environment_key(address(url)) for url in others] == [None, None, None]


@pytest.mark.parametrize("trusted", [True, False])
def test_nothing_else_in_the_environment_goes_where_it_was_not_meant_to(
    server, monkeypatch, trusted
):
    secrets = ["org-s3cret", "proj-s3cret", "header-s3cret", "admin-s3cret"]
    monkeypatch.setenv("OPENAI_ORG_ID", secrets[0])
    monkeypatch.setenv("OPENAI_PROJECT_ID", secrets[1])
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"X-Gateway: {secrets[2]}\n\nX-Other: x")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", secrets[3])
    if not trusted:
        is_trusted = property(lambda _: False)
        monkeypatch.setattr(nearfield.embedders.openai.address.Address, "is_trusted", is_trusted)
    with connect(server) as embedder:
        embedder.embed_documents(["wing"])
        asyncio.run(embedder.aembed_documents(["wing"]))
    for request in server.requests:
        sent = [secret for secret in secrets if secret in str(request.headers)]
        assert sent == (secrets[:3] if trusted else [])
        assert ("x-other" in request.headers) is trusted


def test_without_a_key_openai_is_not_asked():
    with pytest.raises(EmbeddingError, match="OPENAI_API_KEY"):
        OpenAIEmbedder().embed_documents(["wing"])


def test_a_server_that_wants_no_key_gets_none():
    with OpenAIServer(key=None) as server, connect(server, api_key=None) as embedder:
        embedder.embed_documents(["wing"])
        assert server.requests[0].headers["authorization"] == "Bearer none"


def test_bad_options_are_refused():
    for options in (
        {"batch_size": 0},
        {"batch_size": 2049},
        {"concurrency": 0},
        {"max_retries": -1},
        {"timeout_s": -1},
        {"deadline_s": "soon"},
        {"over_long": "ignore"},
        {"encoding_format": "hex"},
        {"max_tokens": 0},
        {"model": ""},
        {"model": "a?b=c"},
        {"query_prompt": 3},
    ):
        with pytest.raises(InvalidInputError):
            OpenAIEmbedder(**options)


@pytest.mark.parametrize("installed", [None, "2.54.0"])
def test_without_the_package_the_error_names_the_extra(monkeypatch, installed):
    def version(name):
        if installed is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed

    monkeypatch.setattr("nearfield.embedders.openai.embedder.version", version)
    with pytest.raises(MissingDependencyError, match=r'pip install "nearfield\[openai\]"'):
        OpenAIEmbedder()


def test_neither_the_import_nor_info_loads_the_client():
    code = (
        "import sys; from nearfield.embedders import load; load('openai:text-embedding-3-small')"
        ".info; print({'openai', 'httpx2', 'tiktoken'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
