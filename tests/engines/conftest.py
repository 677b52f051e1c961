"""Servers that a test has for itself."""

from __future__ import annotations

import pytest


@pytest.fixture
def own_pinecone():
    """An emulator of Pinecone for one test, which may make it misbehave."""
    pytest.importorskip("pinecone", reason="pinecone is not installed")
    from tests.pinecone_server import pinecone_server

    with pinecone_server() as server:
        yield server
