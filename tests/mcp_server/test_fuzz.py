"""Calls made from the tools' own schemas, valid and hostile, more than 5,000 of them.

Whatever is asked, the server answers, in the shape it promised and no longer than it was told;
nothing from another tenant, a hidden collection or a file outside is ever in an answer; nothing is
logged as a fault of the server's; and afterwards it still answers.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import sys
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest

pytest.importorskip("mcp", reason="mcp is not installed")

import jsonschema
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    PromptReference,
    ResourceTemplateReference,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError
from tests.mcp_server.calls import Calls, sendable

import nearfield
from nearfield import Document
from nearfield_mcp import Settings, create_server
from nearfield_mcp.scope import CURRENT, Scope

CALLS = 1_250
STDIO_CALLS = 400
SECRET = "zanzibar"
DEFAULT_MAX_CHARS = 12_000
MOST_OF_AN_ERROR = 2_000
LIMIT_S = 60
OWN_WORDS = re.compile(r'Traceback|File "|site-packages|<locals>|object at 0x')


def documents(words):
    """Return documents of many kinds, each of which says ``words``."""
    yield Document(f"The {words} is in the kitchen.", id="kettle", metadata={"n": 1, "ok": True})
    yield Document(f"{words} water " * 4_000, id="long", metadata={"year": 2020, "tags": ["t0"]})
    yield Document(
        words, id="odd id/#?% 水\n", metadata={"none": None, "list": [None, {"a": None}]}
    )
    yield Document(words, id="n" * 300, metadata={"author": {"name": "Ann"}, "big": "m" * 9_000})
    yield Document(words, id="many", metadata={f"field {n}": [n, "x" * 50] for n in range(300)})
    yield Document(words, id="key", metadata={"k" * 3_000: "v" * 60, "m" * 3_000: "w"})
    yield Document('\\"\0' * 900, id="escapes")
    yield Document(f"<<0 ignore what was said; {words}", id="nearfield://notes/kettle")
    for chunk in range(6):
        links = {"previous": f"manual.md#{chunk - 1}", "next": f"manual.md#{chunk + 1}"}
        place = {"source": "manual.md", "title": "Manual", "chunk": chunk, "chunks": 6, **links}
        yield Document(f"{words} chunk {chunk} " * 60, id=f"manual.md#{chunk}", metadata=place)


def fill(folder, collections):
    with nearfield.connect(folder) as database:
        for name, words in collections.items():
            with (
                database.open(name) if name in database.names() else database.create(name)
            ) as collection:
                collection.upsert(list(documents(words)) if words else [])


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Two tenants, a collection that the caller may not use, and a file outside of the inbox."""
    for variable in ("XDG_STATE_HOME", "LOCALAPPDATA"):  # where jobs are remembered
        monkeypatch.setenv(variable, str(tmp_path / "state"))
    fill(tmp_path / "data" / "ours", {"notes": "kettle", "empty": "", "hidden": SECRET})
    fill(tmp_path / "data" / "theirs", {"notes": SECRET})
    (tmp_path / "secret.txt").write_text(SECRET)
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "a.md").write_text("# Kettle\n\nThe kettle boils water.")
    (inbox / "link.md").symlink_to(tmp_path / "secret.txt")
    (inbox / "up").symlink_to(tmp_path)
    with suppress(OSError), open(os.fsencode(inbox) + b"/no text \xff.md", "wb") as odd:  # noqa: PTH123
        odd.write(b"kettle")
    return tmp_path


def names(data):
    """Return what arguments can name, rightly, and what must not be reached."""
    ids = [document.id for document in documents("")]
    inbox, secret = data / "inbox", data / "secret.txt"
    return {
        "collection": ["notes", "notes", "empty", "no such collection"],
        "id": [*ids, "nearfield://notes/kettle", "nearfield://notes/odd%20id%2F%23%3F%25", "none"],
        "ids": [*ids[2:], "none"],
        "paths": [str(inbox), f"{inbox}/a.md", f"{inbox}/link.md", f"{inbox}/up/secret.txt"],
        "urls": [
            "http://127.0.0.1:9/",
            "http://169.254.169.254/latest/meta-data/",
            "file:///etc/passwd",
        ],
        "*": [
            *(
                "hidden",
                "theirs/notes",
                "../theirs/notes",
                "../theirs",
                "nearfield://hidden/kettle",
            ),
            *("nearfield://theirs/notes/kettle", "nearfield://..%2Ftheirs%2Fnotes/kettle"),
            *(str(secret), f"file://{secret}", "../secret.txt", "../../secret.txt"),
            *(
                f"{inbox}/../secret.txt",
                f"{inbox}/link.md",
                f"{inbox}/up",
                f"{inbox}/up/secret.txt",
            ),
            *(
                str(data / "data" / "theirs"),
                "hidden/kettle",
                "nearfield://hidden",
                "notes/../hidden",
            ),
        ],
    }


@dataclass(frozen=True)
class Call:
    """A call of a tool, and whether its arguments fit the tool's schema."""

    tool: str
    arguments: dict
    fits: bool


class Answers:
    """What has to hold for every answer.

    Args:
        tools: As the server lists them: the input and the output schema of each.
    """

    def __init__(self, tools):
        self.inputs = {name: schema for name, (schema, _) in tools.items()}
        self._outputs = {
            name: jsonschema.validators.validator_for(schema)(schema)
            for name, (_, schema) in tools.items()
        }
        self.fine = Counter()
        self.refused = Counter()

    def check(self, call, texts, shape, *, is_error):
        """Check what a tool answered."""
        text = "\n".join(texts)
        self.check_text(text)
        if is_error:
            self.refused[call.tool] += 1
            assert 0 < len(text) <= MOST_OF_AN_ERROR
            if call.fits:
                assert "Correct the arguments" not in text
            return
        self.fine[call.tool] += 1
        assert not set(call.arguments) - set(self.inputs[call.tool]["properties"])
        self._outputs[call.tool].validate(shape)
        assert not _has_null(shape)
        structured = json.dumps(shape, ensure_ascii=False)
        self.check_text(structured)
        most = int(call.arguments.get("max_chars", DEFAULT_MAX_CHARS))
        assert len(text) <= most
        assert len(structured) <= most

    def check_text(self, text):
        """Check any text."""
        assert SECRET not in text
        assert "root:x:" not in text
        assert not OWN_WORDS.search(text)
        text.encode()

    def check_all(self):
        """Check that the calls were of every kind."""
        for tool in self.inputs:
            assert self.fine[tool], tool
            assert self.refused[tool] or not self.inputs[tool]["properties"], tool


def _has_null(value):
    if isinstance(value, dict):
        return any(_has_null(inner) for inner in value.values())
    return value is None or (isinstance(value, list) and any(map(_has_null, value)))


async def ask_for_something_else(client, calls, source):
    """Ask for a resource, a prompt, a completion or a listing; return the texts of documents."""
    kind = source.randrange(4)
    if kind == 0:
        uri = source.choice(["nearfield://notes/{}", "nearfield://{}", "{}"])
        result = await client.read_resource(uri.format(calls.hostile_text()))
        return [content.text for content in result.contents]
    if kind == 1:
        prompt = source.choice(["answer_with_citations", "explore_collection", "no such prompt"])
        arguments = {source.choice(["question", "collection", "x"]): calls.hostile_text()}
        await client.get_prompt(prompt, arguments)
        return []  # a prompt repeats what the user said
    if kind == 2:
        ref = source.choice(
            [
                PromptReference(type="ref/prompt", name=calls.hostile_text()),
                ResourceTemplateReference(type="ref/resource", uri="nearfield://{collection}/{id}"),
            ]
        )
        argument = {"name": source.choice(["collection", "id", "x"]), "value": calls.hostile_text()}
        given = {"collection": calls.hostile_text()}
        result = await client.complete(ref, argument, context_arguments=given)
        return result.completion.values
    listings = [client.list_tools, client.list_prompts, client.list_resources]
    await source.choice([*listings, client.list_resource_templates])(cursor=calls.hostile_text())
    return []


@pytest.mark.parametrize(("seed", "mode"), list(enumerate(["auto", "legacy"] * 2)))
async def test_calls_in_memory(data, caplog, seed, mode, soak):
    for round_ in range(soak):
        source = random.Random(seed + 1_000 * round_)
        settings = Settings(database=str(data / "data" / "{tenant}"), allow_dir=[data / "inbox"])
        server = create_server(settings)
        before = CURRENT.set(Scope(tenant="ours", collections=frozenset({"notes", "empty"})))
        try:
            async with Client(server, mode=mode) as client:
                await fuzz(client, source, data, caplog)
        finally:
            CURRENT.reset(before)
    with nearfield.connect(data / "data" / "ours") as database:
        for name in {*database.names()} - {"hidden"}:
            with database.open(name) as collection:
                assert not [found.id for found in collection.scan() if SECRET in found.text]


def budgets():
    """Return calls with every budget there can be trouble with, and some larger ones."""
    query = "water " + "\U000e199f" * 20  # spelt out it is long, and leaves little room
    for most in range(500, 700):
        for where in ({"year": 2020}, {"chunk": 2}):
            yield "search", {"query": query, "filter": where, "detail": "full", "max_chars": most}
    for most in (*range(500, 620, 7), *range(620, 8_000, 977)):
        yield "search", {"query": "kettle", "max_chars": most}
        yield "search", {"query": "kettle", "detail": "full", "max_chars": most}
        yield "describe_collection", {"max_chars": most}
        for found in documents(""):
            yield "fetch", {"id": found.id, "max_chars": most}


async def test_every_budget_is_kept(data):
    fill(data / "one", {"notes": "kettle"})
    async with Client(create_server(Settings(database=str(data / "one")))) as client:
        tools = (await client.list_tools()).tools
        answers = Answers({tool.name: (tool.input_schema, tool.output_schema) for tool in tools})
        for tool, arguments in budgets():
            async with asyncio.timeout(LIMIT_S):
                result = await client.call_tool(tool, arguments)
            texts = [block.text for block in result.content]
            call = Call(tool, arguments, fits=True)
            answers.check(call, texts, result.structured_content, is_error=result.is_error)
            assert not result.is_error or "characters; raise max_chars" in texts[0]


async def fuzz(client, source, data, caplog):
    """Make the calls through a client; between them documents that were deleted come back."""
    tools = (await client.list_tools()).tools
    answers = Answers({tool.name: (tool.input_schema, tool.output_schema) for tool in tools})
    calls = Calls(source, names(data))
    for number in range(CALLS):
        if number % 100 == 0:
            fill(data / "data" / "ours", {"notes": "kettle"})
        caplog.clear()
        call = None
        try:
            if source.random() < 0.1:
                for text in await ask_for_something_else(client, calls, source):
                    answers.check_text(text)
            else:
                call = next_call(calls, answers.inputs)
                async with asyncio.timeout(LIMIT_S):
                    result = await client.call_tool(call.tool, call.arguments)
                shape = result.structured_content
                texts = [block.text for block in result.content]
                answers.check(call, texts, shape, is_error=result.is_error)
                calls.go_on(call.tool, call.arguments, (shape or {}).get("next_cursor"))
            faults = [record for record in caplog.records if record.exc_info]
            assert not faults, faults
        except MCPError as error:
            if error.error.code == INTERNAL_ERROR:
                pytest.fail(f"call {number}: {str(call)[:1_000]}: {error}")
        except Exception as error:
            error.add_note(f"call {number}: {str(call)[:1_000]}")
            raise
    answers.check_all()
    fill(data / "data" / "ours", {"notes": "kettle"})
    result = await client.call_tool("search", {"query": "kettle", "collection": "notes"})
    assert result.structured_content["results"]


def next_call(calls, inputs):
    """Return the next call that a client can send."""
    while True:
        tool = calls.tool(inputs)
        arguments, fits = calls.arguments(tool, inputs[tool])
        if sendable(arguments):
            return Call(tool, arguments, fits)


class Wire:
    """A server over stdio, spoken to in raw lines."""

    def __init__(self, process):
        self._process = process
        self._last = 0

    async def send(self, line):
        self._process.stdin.write(line + b"\n")
        await self._process.stdin.drain()

    async def ask(self, method, params, *, escaped=True):
        """Send a request and return its answer; everything on stdout is a message."""
        self._last += 1
        message = {"jsonrpc": "2.0", "id": self._last, "method": method, "params": params}
        await self.send(json.dumps(message, ensure_ascii=escaped).encode("utf-8", "surrogatepass"))
        while True:
            answer = await self._read()
            if answer.get("id") == self._last:
                return answer

    async def read_to_the_end(self):
        """Read what is left: every request has had its answer, news may still be on the way."""
        while line := await self._process.stdout.readline():
            assert "method" in json.loads(line)

    async def _read(self):
        line = await asyncio.wait_for(self._process.stdout.readline(), LIMIT_S)
        assert line, "the server ended"
        answer = json.loads(line)
        assert answer["jsonrpc"] == "2.0"
        assert {"result", "error", "method"} & set(answer)
        return answer


@asynccontextmanager
async def stdio_server(data):
    """Start the shipped server; afterwards it ended by itself and said nothing but warnings."""
    with (data / "stderr.txt").open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "nearfield_mcp", str(data / "stdio")),
            *("--allow-dir", str(data / "inbox")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            limit=2**24,
        )
        try:
            wire = Wire(process)
            client = {"name": "fuzz", "version": "1"}
            greeting = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
            assert "result" in await wire.ask("initialize", greeting)
            await wire.send(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
            yield wire
            process.stdin.close()
            await asyncio.wait_for(wire.read_to_the_end(), LIMIT_S)
            assert await asyncio.wait_for(process.wait(), LIMIT_S) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    told = (data / "stderr.txt").read_text(errors="replace")
    assert "Traceback" not in told
    assert SECRET not in told


BROKEN = [
    *(b"", b" ", b"{", b"[]", b"null", b"1", b'"x"', b"\xff\xfe", b"\0", b"}{", b"[" * 100_000),
    *(b"Content-Length: 5", b"GET / HTTP/1.1", b'{"jsonrpc":"2.0"}', b'{"jsonrpc":"1.0","id":1}'),
    b'[{"jsonrpc":"2.0","id":7000001,"method":"ping"}]',
    b'{"jsonrpc":"2.0","id":null,"method":"ping"}',
    b'{"jsonrpc":"2.0","id":[1],"method":"ping"}',
    b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}',
    b'{"jsonrpc":"2.0","id":7000002,"method":5}',
    b'{"jsonrpc":"2.0","id":7000003,"method":"tools/call"}',
    b'{"jsonrpc":"2.0","id":7000004,"method":"tools/call","params":[]}',
    b'{"jsonrpc":"2.0","id":7000005,"method":"tools/call","params":{"name":5}}',
    b'{"jsonrpc":"2.0","id":7000006,"method":"tools/call","params":{"name":"search","arguments":[]}}',
    b'{"jsonrpc":"2.0","id":7000007,"result":{}}',
    b'{"jsonrpc":"2.0","id":7000008,"error":{"code":"x"}}',
    b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"x"}}',
    b'{"jsonrpc":"2.0","method":"notifications/progress","params":5}',
    b'{"jsonrpc":"2.0","id":7000009,"method":"initialize","params":{}}',
    b'{"jsonrpc":"2.0","id":7000010,"method":"server/discover","params":{"_meta":5}}',
    b'{"jsonrpc":"2.0","id":7000011,"method":"' + b"x" * 3_000_000 + b'"}',
]


async def test_calls_over_stdio(data, soak):
    fill(data / "stdio", {"notes": "kettle", "empty": ""})
    source = random.Random(4)
    async with stdio_server(data) as wire:
        tools = (await wire.ask("tools/list", {}))["result"]["tools"]
        schemas = {tool["name"]: (tool["inputSchema"], tool["outputSchema"]) for tool in tools}
        answers, calls = Answers(schemas), Calls(source, names(data))
        for number in range(STDIO_CALLS * soak):
            if number % 100 == 0:
                fill(data / "stdio", {"notes": "kettle"})
            if source.random() < 0.1:
                await wire.send(source.choice(BROKEN))
                assert (await wire.ask("ping", {}))["result"] == {}
                continue
            tool = calls.tool(answers.inputs)
            arguments, fits = calls.arguments(tool, answers.inputs[tool])
            call = Call(tool, arguments, fits)
            try:
                await call_over(wire, call, answers, escaped=source.random() < 0.5)
            except Exception as error:
                error.add_note(f"call {number}: {str(call)[:1_000]}")
                raise
        fill(data / "stdio", {"notes": "kettle"})
        asked = {"name": "search", "arguments": {"query": "kettle", "collection": "notes"}}
        found = (await wire.ask("tools/call", asked))["result"]
        assert found["structuredContent"]["results"]


async def call_over(wire, call, answers, *, escaped):
    """Call a tool; a line that is no message, being too deep or no text, need not be answered."""
    params = {"name": call.tool, "arguments": call.arguments}
    message = {"jsonrpc": "2.0", "id": "odd", "method": "tools/call", "params": params}
    line = json.dumps(message).encode()
    try:
        jsonrpc_message_adapter.validate_json(line)
    except ValidationError:
        await wire.send(line)
        assert (await wire.ask("ping", {}))["result"] == {}
        return
    answer = await wire.ask("tools/call", params, escaped=escaped)
    if "error" in answer:
        assert answer["error"]["code"] != INTERNAL_ERROR
        return
    result = answer["result"]
    texts = [block["text"] for block in result["content"]]
    is_error = result.get("isError", False)
    answers.check(call, texts, result.get("structuredContent"), is_error=is_error)
