"""HTTP: who may connect from where, how much and how often, and how it starts and stops."""

from __future__ import annotations

import http.client
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx2
import pytest

pytest.importorskip("mcp", reason="the MCP server is an extra: pip install 'nearfield[mcp]'")
pytest.importorskip("uvicorn", reason="the MCP server is an extra: pip install 'nearfield[mcp]'")

from prometheus_client.parser import text_string_to_metric_families
from tests.mcp_server.processes import (
    DEADLINE_S,
    TOOLS,
    make_token,
    modern_headers,
    over_http,
    request,
    run,
)

import nearfield
from nearfield_mcp.limits import TokenBuckets


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("http") / "data"
    with nearfield.connect(str(path)).create("notes", dimension=4) as collection:
        document = nearfield.Document("The kettle is in the kitchen.", id="kettle")
        collection.upsert(document, vectors=[[1.0, 0.0, 0.0, 0.0]])
    return path


@pytest.fixture(scope="module")
def local(data):
    """On 127.0.0.1, without tokens."""
    with over_http(data, "--rate-per-s", "0", "--max-request-bytes", "20000") as server:
        yield server


@pytest.fixture(scope="module")
def exposed(data, tmp_path_factory):
    """On every address of the machine, with tokens."""
    tokens = tmp_path_factory.mktemp("exposed") / "tokens.json"
    secrets = {
        scope: make_token(tokens, "--scope", scope) for scope in ("read", "admin", "metrics")
    }
    with over_http(data, "--host", "0.0.0.0", "--tokens", tokens, "--rate-per-s", "0") as server:
        server.url = server.url.replace("0.0.0.0", "127.0.0.1")
        server.secrets = secrets
        yield server


@pytest.fixture(params=["local", "exposed"])
def served(request):
    """Either; ``token`` is one that it accepts."""
    server = request.getfixturevalue(request.param)
    server.token = server.secrets["admin"] if request.param == "exposed" else None
    return server


def test_a_local_server_answers_without_a_token_and_is_read_only(local):
    answered = local.call("fetch", {"id": "kettle"})
    assert answered.status_code == 200
    assert "kitchen" in answered.text
    tools = local.post("tools/list").json()["result"]["tools"]
    assert {"search", "fetch"} <= {tool["name"] for tool in tools}
    assert all(tool["annotations"]["readOnlyHint"] for tool in tools)


def test_without_tokens_no_other_machine_is_let_in(data):
    refused = run(data, "--transport", "http", "--host", "0.0.0.0")
    assert refused.returncode == 2
    assert "nearfield-mcp token create" in refused.stderr


def test_a_port_that_is_taken_is_told_in_one_line(data, local):
    refused = run(data, "--transport", "http", "--port", local.port)
    assert refused.returncode == 2
    assert f"port {local.port}: Address already in use" in refused.stderr
    assert "Traceback" not in refused.stderr


FOREIGN_HOSTS = [
    "evil.example",
    "evil.example:80",
    "127.0.0.1.evil.example",
    "localhost.evil.example:8321",
    "127.0.0.1@evil.example",
    "",
    "0.0.0.0:8321",
    "169.254.169.254",
]
FOREIGN_ORIGINS = [
    "https://evil.example",
    "http://127.0.0.1.evil.example",
    "http://localhost.evil.example:8321",
    "http://127.0.0.1@evil.example:80",
    "null",
    "file://",
]


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_a_request_for_another_host_is_refused_on_any_address(served, host):
    answered = served.call("fetch", {"id": "kettle"}, token=served.token, Host=host)
    assert answered.status_code == 421
    assert "kitchen" not in answered.text
    assert served.get("/metrics", token=served.token, Host=host).status_code == 421


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
def test_a_page_of_another_origin_is_refused_on_any_address(served, origin):
    answered = served.call("fetch", {"id": "kettle"}, token=served.token, Origin=origin)
    assert answered.status_code == 403
    assert served.get("/metrics", token=served.token, Origin=origin).status_code == 403
    for method in ("initialize", "server/discover"):
        old = {"MCP-Protocol-Version": "2025-11-25"}
        assert served.post(method, token=served.token, Origin=origin, **old).status_code == 403


def test_hosts_and_origins_can_be_allowed(data):
    with over_http(
        *(data, "--allowed-host", "search.example", "--allowed-host", "other.example:*"),
        *("--allowed-origin", "https://app.example"),
    ) as server:
        for host in ("search.example", "other.example:99", f"localhost:{server.port}"):
            assert server.call("fetch", {"id": "kettle"}, Host=host).status_code == 200
        origin = {"Origin": "https://app.example"}
        answered = server.call("fetch", {"id": "kettle"}, **origin)
        assert answered.status_code == 200
        assert answered.headers["access-control-allow-origin"] == "https://app.example"
        other = server.call("fetch", {"id": "kettle"}, Origin="https://app.example.evil")
        assert other.status_code == 403
        assert "access-control-allow-origin" not in other.headers


def test_a_body_that_is_too_large_is_refused_whether_it_says_so_or_not(local):
    body = json.dumps({"text": "x" * 30_000})
    assert local.post("tools/call", content=body).status_code == 413

    def in_pieces():
        for _ in range(30):
            yield b"x" * 1000

    assert local.post("tools/call", content=in_pieces()).status_code == 413
    assert local.call("fetch", {"id": "kettle"}).status_code == 200


def test_a_declared_size_that_is_a_lie_is_no_way_around_the_limit(local):
    for declared in ("-1", "x", "5"):
        connection = http.client.HTTPConnection("127.0.0.1", local.port, timeout=DEADLINE_S)
        connection.putrequest("POST", "/mcp")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Accept", "application/json, text/event-stream")
        connection.putheader("Content-Length", declared)
        connection.endheaders()
        connection.send(b"y" * 5)
        assert connection.getresponse().status in (400, 406, 413, 422)
        connection.close()


def test_a_caller_that_sends_too_often_is_told_when_to_come_again(data, tmp_path):
    tokens = tmp_path / "tokens.json"
    anna, bert = make_token(tokens), make_token(tokens)
    with over_http(data, "--tokens", tokens, "--rate-per-s", "0.5", "--rate-burst", "3") as server:
        statuses = [server.post("tools/list", token=anna).status_code for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        refused = server.post("tools/list", token=anna)
        assert 1 <= int(refused.headers["retry-after"]) <= 2
        assert server.post("tools/list", token=bert).status_code == 200
        assert [server.post("tools/list").status_code for _ in range(4)] == [401, 401, 401, 429]
        assert server.get("/healthz").status_code == 200


def test_permits_come_back_and_callers_that_stay_away_are_forgotten(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    buckets = TokenBuckets(per_s=2.0, burst=2)
    assert [buckets.wait_s("a") for _ in range(3)] == [0.0, 0.0, 0.5]
    now[0] += 0.5
    assert buckets.wait_s("a") == 0.0
    assert buckets.wait_s("a") == 0.5
    now[0] += 1000
    assert [buckets.wait_s("a") for _ in range(3)] == [0.0, 0.0, 0.5]
    for n in range(10_001):
        buckets.wait_s(n)
    assert buckets.wait_s("a") == 0.0


def test_health_tells_whether_the_databases_can_be_listed(tmp_path, local):
    assert local.get("/healthz").json() == {"status": "ok"}
    assert local.get("/healthz", Host="10.0.0.7:8321").status_code == 200
    broken = tmp_path / "broken"
    broken.write_text("a file where a folder should be")
    with over_http(broken) as server:
        answered = server.get("/healthz")
        assert answered.status_code == 503
        assert answered.json() == {"status": "unavailable"}


def families(server, **headers):
    answered = server.get("/metrics", **headers)
    assert answered.status_code == 200
    return {family.name: family for family in text_string_to_metric_families(answered.text)}


def value_of(family, name, **labels):
    return next(s.value for s in family.samples if s.name == name and s.labels == labels)


def test_metrics_count_calls_errors_times_and_bytes_and_name_no_content(local):
    calls = "nearfield_mcp_calls"
    for _ in range(2):
        local.call("fetch", {"id": "kettle"})
    local.call("fetch", {"id": "a secret id", "collection": "a secret name"})
    local.call("a secret tool", {})
    found = families(local)
    assert value_of(found[calls], calls + "_total", tool="fetch", outcome="ok") >= 2
    assert value_of(found[calls], calls + "_total", tool="fetch", outcome="error") == 1
    unknown = [s for s in found[calls].samples if s.labels.get("tool") == "unknown"]
    assert sum(s.value for s in unknown if s.name.endswith("_total")) == 1
    seconds = found["nearfield_mcp_call_seconds"]
    assert value_of(seconds, "nearfield_mcp_call_seconds_count", tool="fetch") >= 3
    assert found["nearfield_mcp_calls_in_flight"].samples[0].value == 0
    for name in ("request_bytes", "response_bytes"):
        family = found[f"nearfield_mcp_http_{name}"]
        assert value_of(family, f"nearfield_mcp_http_{name}_total") > 0
    statuses = found["nearfield_mcp_http_requests"]
    assert value_of(statuses, "nearfield_mcp_http_requests_total", status="200") > 0
    text = local.get("/metrics").text
    assert not [word for word in ("secret", "kettle", "notes", "tenant") if word in text]


def test_metrics_of_an_exposed_server_need_a_token_for_them(exposed):
    assert exposed.get("/healthz").status_code == 200
    assert exposed.get("/metrics").status_code == 401
    refused = exposed.get("/metrics", token=exposed.secrets["read"])
    assert refused.status_code == 403
    assert 'scope="metrics"' in refused.headers["www-authenticate"]
    for scope in ("metrics", "admin"):
        assert families(exposed, token=exposed.secrets[scope])
    assert exposed.post("tools/list", token=exposed.secrets["metrics"]).status_code == 403


def test_metrics_can_be_closed_or_bound_to_a_token_on_this_machine(data, tmp_path):
    with over_http(data, "--metrics", "off") as server:
        assert server.get("/metrics").status_code == 404
    token = make_token(tmp_path / "tokens.json", "--scope", "metrics")
    with over_http(data, "--metrics", "token", "--tokens", tmp_path / "tokens.json") as server:
        assert server.get("/metrics").status_code == 401
        assert server.get("/metrics", token=token).status_code == 200


@pytest.mark.parametrize("revision", ["2026-07-28", "2025-11-25"])
def test_a_call_that_runs_is_answered_after_sigterm_and_the_process_ends(data, revision):
    with over_http(data, script=TOOLS) as server, ThreadPoolExecutor(1) as pool:
        params = {"name": "slow", "arguments": {"seconds": 1.5}}
        if revision == "2026-07-28":
            answer = pool.submit(server.post, "tools/call", params)
        else:
            body = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
            answer = pool.submit(
                server.post, "tools/call", content=json.dumps(body), **server.open_session()
            )
        _until(lambda: "calls_in_flight 1.0" in server.get("/metrics").text)
        assert server.stop() == 0
        assert "slept" in answer.result(DEADLINE_S).text
        assert "Traceback" not in server.errors()


@pytest.mark.parametrize("revision", ["2026-07-28", "2025-11-25"])
def test_a_stream_that_waits_for_news_does_not_keep_the_process(data, revision):
    with over_http(data) as server, httpx2.Client(timeout=DEADLINE_S) as client:
        if revision == "2026-07-28":
            body = request("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
            headers = modern_headers("subscriptions/listen")
            stream = client.stream("POST", server.url, json=body, headers=headers)
        else:
            accept = {"Accept": "text/event-stream"}
            stream = client.stream("GET", server.url, headers=server.open_session() | accept)
        with stream as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert server.stop() == 0
            assert "Traceback" not in server.errors()


def test_a_call_that_does_not_end_does_not_keep_the_process(data):
    with (
        over_http(data, "--shutdown-timeout-s", "0.5", script=TOOLS) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        answer = pool.submit(server.call, "slow", {"seconds": 3600})
        _until(lambda: "calls_in_flight 1.0" in server.get("/metrics").text)
        assert server.stop() == 1
        assert "did not end in time" in server.errors()
        assert answer.exception(DEADLINE_S) or answer.result().status_code >= 500


def test_a_call_that_takes_too_long_is_answered_and_the_server_goes_on(data):
    with over_http(data, "--call-timeout-s", "0.3", "--max-calls", "2", script=TOOLS) as server:
        late = server.call("slow", {"seconds": 2.0})
        assert "no answer within 0.3 s" in late.text
        assert "kitchen" in server.call("fetch", {"id": "kettle"}).text
        # Both places are taken by work that goes on; a call waits in vain until there is room.
        for _ in range(2):
            server.call("slow", {"seconds": 1.5})
        _until(lambda: "kitchen" in server.call("fetch", {"id": "kettle"}).text)


def test_no_more_calls_run_at_once_than_allowed(data):
    with over_http(data, "--max-calls", "2", "--rate-per-s", "0", script=TOOLS) as server:
        begun = time.monotonic()
        with ThreadPoolExecutor(6) as pool:
            calls = [pool.submit(server.call, "slow", {"seconds": 0.5}) for _ in range(6)]
        assert all("slept" in call.result().text for call in calls)
        assert time.monotonic() - begun >= 1.5  # three turns of two


def test_calls_that_wait_for_an_ingest_leave_their_places_to_others(tmp_path):
    texts = [{"text": f"Text number {n}. " * 300, "id": str(n)} for n in range(400)]
    ingest = {"collection": "notes", "texts": texts, "wait_s": 90}
    with (
        over_http(tmp_path / "data", "--read-write", "--max-calls", "1") as server,
        ThreadPoolExecutor(1) as pool,
    ):
        waiting = pool.submit(server.call, "ingest", ingest)
        jobs = []
        while not jobs:  # refused or kept waiting if the ingest kept its place
            jobs = structured(server.call("ingest_status"))["jobs"]
        assert not waiting.done()
        ended = structured(server.call("ingest_status", {"job": jobs[0]["job"], "cancel": True}))
        assert ended["jobs"][0]["state"] == "cancelled"
        assert structured(waiting.result(DEADLINE_S))["state"] == "cancelled"


def test_a_caller_with_many_sessions_does_not_keep_others_out(data, tmp_path):
    tokens = tmp_path / "tokens.json"
    anna, bert = make_token(tokens), make_token(tokens)
    with over_http(data, "--tokens", tokens, "--max-sessions", "2") as server:
        sessions = [server.open_session(anna) for _ in range(2)]
        refused = server.initialize(anna)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        assert server.initialize(bert).status_code == 200
        assert server.ask(sessions[0], "tools/list").status_code == 200
        assert server.post("tools/list", token=anna).status_code == 200  # without a session
        assert httpx2.delete(server.url, headers=sessions[0]).status_code == 200
        assert server.initialize(anna).status_code == 200
        assert server.initialize(anna).status_code == 429


def test_a_session_that_was_not_opened_after_all_is_not_counted(data):
    with over_http(data, "--max-sessions", "1") as server:
        for _ in range(3):
            headers = {"MCP-Protocol-Version": "2025-11-25"}
            assert server.post("initialize", content="{}", **headers).status_code == 400
        assert server.initialize().status_code == 200
        assert server.initialize().status_code == 429


def test_a_caller_with_many_streams_of_news_does_not_keep_others_out(data, tmp_path):
    tokens = tmp_path / "tokens.json"
    anna, bert = make_token(tokens), make_token(tokens)
    with (
        over_http(data, "--tokens", tokens, "--max-sessions", "2") as server,
        httpx2.Client(timeout=DEADLINE_S) as client,
    ):
        with streaming(client, server, anna) as first, streaming(client, server, anna) as second:
            assert first
            assert second
            refused = server.post("subscriptions/listen", NEWS, token=anna)
            assert "2 streams are open" in refused.text
            assert server.post("tools/list", token=anna).status_code == 200
            with streaming(client, server, bert) as others:
                assert others
        _until(lambda: is_streaming(client, server, anna))  # once the server saw them leave


NEWS = {"notifications": {"resourcesListChanged": True}}


@contextmanager
def streaming(client, server, token):
    """Listen for news; the first message says that it began."""
    headers = modern_headers("subscriptions/listen") | {"Authorization": f"Bearer {token}"}
    body = request("subscriptions/listen", NEWS)
    with client.stream("POST", server.url, json=body, headers=headers) as answer:
        lines = answer.iter_lines()  # held: the stream is closed with it
        begun = any("notifications/subscriptions/acknowledged" in line for line in lines)
        yield begun


def is_streaming(client, server, token):
    with streaming(client, server, token) as begun:
        return begun


def structured(answered):
    """Return the structured content of a call's answer, streamed or not."""
    lines = answered.text.splitlines()
    last = [line.removeprefix("data: ") for line in lines if "{" in line][-1]
    return json.loads(last)["result"]["structuredContent"]


def test_a_request_whose_body_never_comes_does_not_stop_the_others(local):
    with socket.create_connection(("127.0.0.1", local.port), timeout=DEADLINE_S) as waiting:
        waiting.sendall(
            b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Accept: application/json, text/event-stream\r\nContent-Length: 100\r\n\r\n{"
        )
        assert local.call("fetch", {"id": "kettle"}).status_code == 200


def _until(true):
    until = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)
