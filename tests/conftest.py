"""What all tests share: how long to look for bugs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("tests.conformance.stores", "tests.oracle")


def pytest_addoption(parser):
    parser.addoption(
        "--soak",
        type=int,
        default=1,
        metavar="N",
        help="look for bugs N times as long: N times the examples, rounds or seconds",
    )


def pytest_configure(config):
    soak = config.getoption("--soak")
    if soak < 1:
        raise pytest.UsageError("--soak takes a number of at least 1")
    settings.register_profile(
        "nearfield",
        deadline=None,
        max_examples=100 * soak,
        # The same examples every time, so that a red run is red for its change; a soak explores.
        derandomize=soak == 1,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("nearfield")


def pytest_report_header():
    """Say which frameworks the doors were tried with."""
    return [f"{name}: {_version(name)}" for name in ("langchain-core", "llama-index-core", "mcp")]


def _version(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed, its tests are skipped"


@pytest.fixture(scope="session")
def soak(request):
    """How many times longer than usual a test should look for bugs, at least 1."""
    return request.config.getoption("--soak")


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server with pgvector; skipped where there is none to start."""
    from tests.postgres_server import postgres_server

    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_trio(postgres):
    """Three PostgreSQL servers, the first of them that of the other tests."""
    from tests.postgres_server import PostgresTrio, postgres_server

    with postgres_server() as second, postgres_server() as third:
        yield PostgresTrio(postgres, second, third)


@pytest.fixture(scope="session")
def chroma():
    """A Chroma server; skipped where there is none to start."""
    from tests.chroma_server import chroma_server

    with chroma_server() as server:
        yield server


@pytest.fixture(scope="session")
def pinecone():
    """An emulator of Pinecone; skipped where its client is missing."""
    from tests.pinecone_server import pinecone_server

    with pinecone_server() as server:
        yield server


@pytest.fixture(scope="session")
def milvus():
    """A Milvus server; skipped where none is asked for, or there is none to start."""
    from tests.milvus_server import IS_ASKED_FOR, milvus_server

    if not IS_ASKED_FOR:
        pytest.skip("set NEARFIELD_TEST_MILVUS=1 to try a Milvus server, which takes ten minutes")
    with milvus_server() as server:
        yield server


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    """A small CLIP, trained here on drawn figures; skipped where its libraries are missing."""
    from tests.figures import save_clip

    return save_clip(tmp_path_factory.mktemp("models") / "clip")
