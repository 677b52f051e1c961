"""A session as an agent has it: ingest a folder, look things up, delete, come back later."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("mcp", reason="mcp is not installed")

from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from tests.mcp_server.processes import over_http

import nearfield

PAGES = {
    "kettle.md": "# Kettle\n\nFill the kettle to the mark and boil the water.\n\n"
    "## Care\n\nDescale the kettle with vinegar once a month.\n",
    "garden.md": "# Garden\n\nWater the tomatoes every evening. Cut the roses in March.\n",
}


@pytest.fixture
def folders(tmp_path):
    documents = tmp_path / "documents"
    documents.mkdir()
    for name, text in PAGES.items():
        (documents / name).write_text(text, encoding="utf-8")
    return tmp_path / "data", documents


@asynccontextmanager
async def stdio(data, documents, state):
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "nearfield_mcp", str(data), "--allow-dir", str(documents)],
        env={"XDG_STATE_HOME": str(state)},
    )
    async with Client(stdio_client(parameters)) as client:
        yield client


@asynccontextmanager
async def http(data, documents, state):
    arguments = (str(data), "--allow-dir", str(documents), "--read-write")
    with over_http(*arguments, env={"XDG_STATE_HOME": str(state)}) as server:
        async with Client(server.url) as client:
            yield client


async def answer(client, tool, **arguments):
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


@pytest.mark.parametrize("connected", [stdio, http])
async def test_a_session_over_a_real_transport(folders, tmp_path, connected):
    data, documents = folders
    state = tmp_path / "state"
    async with connected(data, documents, state) as client:
        job = await answer(client, "ingest", collection="house", paths=[str(documents)], wait_s=60)
        assert (job["state"], job["added"], job["failed"]) == ("done", 2, 0)
        found = await answer(client, "search", query="How do I get rid of limescale?", k=1)
        [best] = found["results"]
        assert "vinegar" in best["text"]
        among = await answer(
            client, "search", query="water", filter={"title": "Garden"}, mode="keyword"
        )
        assert [hit["source"] for hit in among["results"]] == [str(documents / "garden.md")]
        read = await answer(client, "fetch", id=best["url"], neighbours=1)
        assert [each["position"] for each in read["neighbours"]] == [-1]
        assert "boil the water" in read["neighbours"][0]["text"]
        [content] = (await client.read_resource(best["url"])).contents
        assert content.text == read["text"]

        # A process of another kind on the same folder sees the same, and is seen.
        with nearfield.open(data, "house", create=False) as house:
            assert house.get(best["id"]).text == read["text"]
            house.upsert(nearfield.Document("The spare key is under the mat.", id="key"))
        spare = await answer(client, "search", query="spare key", mode="keyword")
        assert spare["results"][0]["id"] == "key"

        gone = await answer(
            client, "delete", filter={"title": "Garden"}, expected_count=len(among["results"])
        )
        assert gone["deleted"] == 1

    async with connected(data, documents, state) as client:  # started anew
        left = await answer(client, "search", query="tomatoes roses water", k=10)
        assert "garden" not in str(left)
        job = await answer(client, "ingest", collection="house", paths=[str(documents)], wait_s=60)
        assert (job["unchanged"], job["added"]) == (1, 1)  # only what was deleted is written again
        again = await answer(client, "search", query="tomatoes", k=1)
        assert again["results"][0]["source"] == str(documents / "garden.md")
        done = await answer(client, "ingest_status")
        assert [each["state"] for each in done["jobs"]] == ["done", "done"]
