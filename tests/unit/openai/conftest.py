"""A server that speaks OpenAI's API, and an embedder on it, without a key from outside."""

from __future__ import annotations

import pytest

pytest.importorskip("openai", minversion="3", reason="openai is not installed")

from tests.openai_server import OpenAIServer, connect


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def embedder(server):
    with connect(server) as embedder:
        yield embedder
