"""Starting, stopping and sharing: stdio as hosts use it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

pytest.importorskip("mcp", reason="the MCP server is an extra: pip install 'nearfield[mcp]'")

from tests.mcp_server.processes import DEADLINE_S, LEGACY, TOOLS, over_stdio, run

import nearfield


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data"
    with nearfield.connect(str(path)).create("notes", dimension=4) as collection:
        document = nearfield.Document("The kettle is in the kitchen.", id="kettle")
        collection.upsert(document, vectors=[[1.0, 0.0, 0.0, 0.0]])
    return path


def texts(result):
    return "\n".join(part["text"] for part in result["content"])


def test_the_end_of_stdin_ends_the_server_with_nothing_left_open(data):
    with over_stdio(data) as server:
        server.initialize()
        assert "kitchen" in texts(server.call("fetch", {"id": "kettle"}))
        assert server.close() == (0, b"")
        assert server.errors() == ""
    with nearfield.connect(str(data)).open("notes") as collection:
        assert collection.count() == 1


def test_what_was_asked_before_the_end_of_stdin_is_answered(data):
    with over_stdio(data, script=TOOLS) as server:
        server.initialize()
        first = server.send("tools/call", {"name": "slow", "arguments": {"seconds": 1.0}})
        second = server.send("tools/call", {"name": "fetch", "arguments": {"id": "kettle"}})
        status, rest = server.close()
    answers = {message["id"]: message for message in map(json.loads, rest.splitlines())}
    assert status == 0
    assert "slept" in texts(answers[first]["result"])
    assert "kitchen" in texts(answers[second]["result"])


def test_an_end_before_anything_was_said_is_an_end():
    with over_stdio() as server:
        assert server.close() == (0, b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_after_the_calls_that_run(data, number):
    with over_stdio(data, script=TOOLS) as server:
        server.initialize()
        asked = server.send("tools/call", {"name": "slow", "arguments": {"seconds": 1.0}})
        server.send("tools/call", {"name": "fetch", "arguments": {"id": "kettle"}})
        assert "kitchen" in texts(server.receive()["result"])  # so the other one runs
        server.process.send_signal(number)
        answer = server.receive()
        assert answer["id"] == asked
        assert "slept" in texts(answer["result"])
        assert server.process.wait(timeout=DEADLINE_S) == 0
        assert "Traceback" not in server.errors()


def test_a_call_that_does_not_end_leaves_no_orphan(data):
    with over_stdio(data, "--shutdown-timeout-s", "0.5", script=TOOLS) as server:
        server.initialize()
        server.send("tools/call", {"name": "slow", "arguments": {"seconds": 3600}})
        server.call("fetch", {"id": "kettle"})
        assert server.close()[0] == 1
        assert "did not end in time" in server.errors()


def test_a_host_that_no_longer_reads_ends_the_server(data):
    with over_stdio(data) as server:
        server.initialize()
        server.process.stdout.close()
        server.send("tools/list")
        assert server.process.wait(timeout=DEADLINE_S) == 0
        assert "Traceback" not in server.errors()


def test_stdout_carries_the_protocol_and_nothing_that_is_printed(data):
    with over_stdio(data, script=TOOLS) as server:
        server.initialize()  # every line that is received must be JSON
        assert texts(server.call("print_much")) == "stdin: ''"
        assert server.close() == (0, b"")
        told = server.errors()
    for printed in (
        "printed while it starts",
        "printed and flushed",
        "printed, and flushed who knows when",
        "written to the descriptor",
        "printed by a child",
    ):
        assert told.count(printed + "\n") == 1


def test_the_handshake_waits_for_nothing_heavy(data):
    """What is imported by the time of the first answer, told by the process itself."""
    program = (
        "import sys, threading\n"
        "import mcp.server.runner as runner\n"
        "shape = runner.ServerRunner._handle_initialize\n"
        "def told(*arguments):\n"
        "    heavy = {'nearfield', 'numpy', 'faiss', 'typer', 'onnxruntime', 'prometheus_client',\n"
        "             'jwt', 'tokenizers'} & set(sys.modules)\n"
        "    busy = [t.name for t in threading.enumerate() if 'nearfield' in t.name]\n"
        "    print('heavy:', sorted(heavy), busy, file=sys.stderr, flush=True)\n"
        "    return shape(*arguments)\n"
        "runner.ServerRunner._handle_initialize = told\n"
        "from nearfield_mcp.cli import main\n"
        f"main([{str(data)!r}])\n"
    )
    script = data.parent / "told.py"
    script.write_text(program)
    with over_stdio(script=str(script)) as server:
        server.initialize()
        assert "kitchen" in texts(server.call("fetch", {"id": "kettle"}))
        server.close()
        assert "heavy: [] []" in server.errors()


def test_threads_of_libraries_are_capped_unless_the_user_says(data):
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    script = data.parent / "threads.py"
    script.write_text(
        "import os, sys\n"
        "from nearfield_mcp.cli import main\n"
        "try: main(['--help'])\n"
        f"finally: print([os.environ[n] for n in {names!r}], file=sys.stderr)\n"
    )
    free = {name: value for name, value in os.environ.items() if name not in names}
    for given, expected in (({}, None), ({"OMP_NUM_THREADS": "7"}, "7")):
        told = subprocess.run(
            [sys.executable, str(script)],
            env=free | given,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=True,
        )
        found = json.loads(told.stderr.strip().splitlines()[-1].replace("'", '"'))
        cap = str(min(4, os.cpu_count() or 1))
        assert found == [expected or cap, cap, cap]


def test_two_servers_and_a_process_share_a_folder(tmp_path):
    """What one of them writes, the others find at the next call."""
    data = tmp_path / "data"
    here = nearfield.connect(str(data)).create("notes")
    with over_stdio(data) as first, over_stdio(data) as second:
        for server in (first, second):
            server.initialize()
        for n in range(3):
            here.upsert([nearfield.Document(f"Fact {n} about kettles.", id=f"here {n}")])
            for server in (first, second):
                assert f"Fact {n}" in texts(server.call("fetch", {"id": f"here {n}"}))
                found = server.call("search", {"query": f"fact {n}", "mode": "keyword"})
                assert f"here {n}" in texts(found)
        for number, (writer, reader) in enumerate([(first, second), (second, first)]):
            text = f"Written over the protocol, number {number}: teapots."
            given = [{"text": text, "id": f"text {number}"}]
            written = writer.call("ingest", {"collection": "notes", "texts": given})
            assert not written.get("isError"), texts(written)
            found = reader.call("search", {"query": f"teapots number {number}", "mode": "keyword"})
            assert f"number {number}: teapots" in texts(found)
            assert any(f"number {number}" in hit.text for hit in here.search("teapots", k=10))
        for server in (first, second):
            assert server.close()[0] == 0
    here.close()


def test_nearfield_serve_is_the_same_server(data):
    script = data.parent / "serve.py"
    script.write_text("import sys\nfrom nearfield.cli import main\nmain()\n")
    with over_stdio("serve", data, script=str(script)) as server:
        assert server.initialize()["protocolVersion"] == LEGACY
        assert "kitchen" in texts(server.call("fetch", {"id": "kettle"}))
        assert server.close() == (0, b"")
    told = run("serve", "--help", script=str(script))
    assert "--read-only" in told.stdout


def test_nearfield_serve_says_what_to_install_where_the_extra_is_missing(tmp_path):
    script = tmp_path / "serve.py"
    script.write_text(
        "import sys\nsys.modules['nearfield_mcp'] = None\nfrom nearfield.cli import main\nmain()\n"
    )
    refused = run("serve", script=str(script))
    assert refused.returncode == 2
    assert 'pip install "nearfield[mcp]"' in refused.stderr
    assert "Traceback" not in refused.stderr
