"""The README's picture: from a folder to a server to several, with the same hits in each."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from tests.dask_cluster import dask_cluster
from tests.milvus_server import IS_ASKED_FOR

import nearfield

EXAMPLE = Path(__file__).parents[2] / "examples" / "folder_to_cluster.py"


@pytest.fixture
def manual(tmp_path):
    folder = tmp_path / "manual"
    folder.mkdir()
    for name, text in {
        "kettle.md": "# Kettle\n\nFill it to the mark.\n\n## Care\n\nDescale it with vinegar.\n",
        "tea.txt": "Let black tea steep for four minutes, then add the milk.",
        "prices.csv": "item,price\ncup,3\npot,12\n",
    }.items():
        (folder / name).write_text(text)
    return folder


def run(*arguments):
    return subprocess.run(
        [sys.executable, EXAMPLE, *map(str, arguments), "--ask", "How do I get rid of limescale?"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def urls(tmp_path, postgres_trio):
    one, *_ = postgres_trio.servers
    servers = one.url(), postgres_trio.url()
    return [tmp_path / "data", *(f"{url}?schema={uuid.uuid4().hex}" for url in servers)]


@pytest.fixture(params=["servers of PostgreSQL", "Milvus"])
def cluster_url(request, urls, tmp_path):
    if request.param != "Milvus":
        return urls[-1]
    if IS_ASKED_FOR:
        return request.getfixturevalue("milvus").url()
    pytest.importorskip("milvus_lite", reason="milvus-lite is not installed")
    return f"milvus://{(tmp_path / 'milvus.db').as_posix()}"


def test_the_example_goes_from_a_folder_to_a_cluster(manual, urls, cluster_url, tmp_path):
    urls = [*urls[:2], cluster_url]
    (tmp_path / "dask").mkdir()
    with dask_cluster(tmp_path / "dask", workers=1) as cluster:
        done = run(manual, *urls, "--workers", cluster.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("5 chunks written, ") == 2
    assert done.stdout.count("5 chunks, 5 read back and compared") == 2
    assert done.stdout.count("the same 5 hits") == 3
    for name in ("manual", "manual-by-workers"):
        with nearfield.open(urls[-1], name, create=False) as collection:
            assert "vinegar" in collection.search("How do I get rid of limescale?", k=1)[0].text


def test_the_example_tells_when_hits_differ(manual, urls):
    assert run(manual, *urls[:2]).returncode == 0
    with nearfield.open(urls[1], "manual") as collection:
        collection.delete(where={"title": "tea.txt"})
        collection.upsert("Limescale is got rid of with vinegar.")
    done = run(manual, *urls[:2])
    assert done.returncode == 1
    assert "differ" in done.stderr or "the source" in done.stderr
