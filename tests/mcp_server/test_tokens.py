"""Tokens over HTTP: each wrong one gets the right status, and nobody sees what is not theirs."""

from __future__ import annotations

import base64
import json
import stat
import time

import pytest

pytest.importorskip("mcp", reason="the MCP server is an extra: pip install 'nearfield[mcp]'")
pytest.importorskip("jwt", reason="the MCP server is an extra: pip install 'nearfield[mcp]'")

from tests.mcp_server.identities import AUDIENCE, ISSUER, Identities, key_set_server
from tests.mcp_server.processes import TOOLS, make_token, over_http, run

import nearfield
from nearfield_mcp.settings import InvalidSettingsError, Settings
from nearfield_mcp.static_tokens import TokenFile, TokenFileError
from nearfield_mcp.tokens import Verifier

TENANTS = ("anna", "bert")
TEXT = "The kettle is in the kitchen of"


@pytest.fixture(scope="module")
def identities():
    return Identities()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two tenants with the same ids and the same vectors, in two collections each."""
    folder = tmp_path_factory.mktemp("tenants")
    vector = [1.0, 0.0, 0.0, 0.0]
    for tenant in TENANTS:
        for name in ("notes", "private"):
            database = nearfield.connect(str(folder / "data" / tenant))
            with database.create(name, dimension=4) as collection:
                document = nearfield.Document(f"{TEXT} {tenant}, {name}.", id="kettle")
                collection.upsert(document, vectors=[vector])
    return folder


@pytest.fixture(scope="module")
def server(folder, identities):
    """A server that takes both kinds of tokens, and has a tool that writes."""
    keys = folder / "keys.json"
    keys.write_text(json.dumps(identities.key_set))
    make_token(folder / "tokens.json", "--name", "unused")
    with over_http(
        str(folder / "data" / "{tenant}"),
        *("--tokens", folder / "tokens.json"),
        *("--issuer", ISSUER, "--jwks", keys, "--public-url", AUDIENCE),
        *("--allowed-host", "127.0.0.1:*", "--read-write", "--rate-per-s", "0"),
        *("--audit-log", folder / "audit.log", "--log-level", "DEBUG"),
        *("--job-dir", folder / "jobs"),
        script=TOOLS,
    ) as running:
        yield running


def read(server, token, **arguments):
    arguments = {"id": "kettle", "collection": "notes"} | arguments
    return server.call("fetch", arguments, token=token)


def unsigned(claims):
    parts = [{"alg": "none", "typ": "JWT", "kid": "first"}, claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=") for p in parts]
    return b".".join([*encoded, b""]).decode()


def hs256_with(secret, identities):
    """Sign as if the public key were a shared secret."""
    import hashlib
    import hmac

    header = {"alg": "HS256", "typ": "JWT", "kid": "first"}
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in (header, identities.claims(tenant="anna"))
    ]
    signature = hmac.new(secret, b".".join(parts), hashlib.sha256).digest()
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def test_a_token_of_the_oauth_server_reads_its_tenant_and_no_other(server, identities):
    for tenant, other in (TENANTS, TENANTS[::-1]):
        answered = read(server, identities.token(tenant=tenant))
        assert answered.status_code == 200
        assert f"{TEXT} {tenant}" in answered.text
        assert other not in answered.text


def test_a_static_token_reads_its_tenant_and_no_other(server, folder):
    for tenant, other in (TENANTS, TENANTS[::-1]):
        token = make_token(folder / "tokens.json", "--tenant", tenant, "--scope", "read")
        answered = read(server, token)
        assert f"{TEXT} {tenant}" in answered.text
        assert other not in answered.text


def test_no_argument_reaches_another_tenant(server, identities):
    token = identities.token(tenant="anna")
    for arguments in (
        {"collection": "../bert/notes"},
        {"collection": "bert/notes"},
        {"collection": "notes", "id": "nearfield://..%2Fbert%2Fnotes/kettle"},
        {"collection": None, "id": "nearfield://bert/notes/kettle"},
        {"tenant": "bert"},
    ):
        answered = read(server, token, **arguments)
        assert "kitchen of bert" not in answered.text
    found = server.call("list_collections", token=token)
    assert found.json()["result"]["structuredContent"]["collections"]
    assert "bert" not in found.text


def test_a_token_for_some_collections_sees_no_others(server, folder, identities):
    tokens = [
        identities.token(tenant="anna", collections=["notes"]),
        make_token(folder / "tokens.json", "--tenant", "anna", "--collections", "notes"),
    ]
    for token in tokens:
        assert "anna, notes" in read(server, token).text
        assert "anna, private" not in read(server, token, collection="private").text
        listed = server.call("list_collections", token=token).json()["result"]
        names = [each["name"] for each in listed["structuredContent"]["collections"]]
        assert names == ["notes"]
        read_by_uri = server.post(
            "resources/read", {"uri": "nearfield://private/kettle"}, token=token
        )
        assert "anna, private" not in read_by_uri.text


def test_what_a_tenant_takes_in_is_no_other_tenants(server, identities):
    anna, bert = (identities.token(tenant=name, sub=name, scope="admin") for name in TENANTS)
    given = {"collection": "diary", "texts": [{"text": "The teapot is blue.", "id": "blue"}]}
    taken = server.call("ingest", given, token=anna).json()["result"]
    assert not taken.get("isError"), taken
    job = taken["structuredContent"]["job"]
    assert "teapot" in read(server, anna, id="blue", collection="diary").text
    for refused in (
        read(server, bert, id="blue", collection="diary"),
        server.call("delete", {"collection": "diary", "ids": ["blue"]}, token=bert),
        server.call("ingest_status", {"job": job, "cancel": True}, token=bert),
    ):
        assert refused.json()["result"]["isError"]
        assert "teapot" not in refused.text
    assert job in server.call("ingest_status", token=anna).text
    assert job not in server.call("ingest_status", token=bert).text
    assert "diary" not in server.call("list_collections", token=bert).text


def test_only_an_admin_makes_collections_and_only_those_its_token_names(server, identities):
    given = {"texts": [{"text": "The teapot is red."}]}
    for token, name in (
        (identities.token(tenant="anna", scope="write"), "new"),
        (identities.token(tenant="anna", scope="admin", collections=["notes"]), "new"),
        (identities.token(tenant="anna", scope="admin"), "../bert/new"),
    ):
        refused = server.call("ingest", {"collection": name, **given}, token=token)
        assert refused.json()["result"]["isError"]
    for tenant in TENANTS:
        everything = identities.token(tenant=tenant, scope="admin")
        listed = server.call("list_collections", token=everything).json()["result"]
        names = {each["name"] for each in listed["structuredContent"]["collections"]}
        assert names >= {"notes", "private"}
        assert "new" not in names
    assert server.call("ingest", given, token=identities.token(tenant="anna")).status_code == 403


WRONG = {
    "none at all": lambda _: None,
    "nonsense": lambda _: "nonsense",
    "an unknown static one": lambda _: "nf_000000000000_" + "A" * 43,
    "expired": lambda i: i.token(tenant="anna", exp=int(time.time()) - 120),
    "not valid yet": lambda i: i.token(tenant="anna", nbf=int(time.time()) + 3600),
    "of another issuer": lambda i: i.token(tenant="anna", iss="https://other.example"),
    "of an issuer that is written otherwise": lambda i: i.token(tenant="anna", iss=ISSUER + "/"),
    "for another audience": lambda i: i.token(tenant="anna", aud="https://other.example/mcp"),
    "for no audience": lambda i: i.token(tenant="anna", aud=None),
    "for ever": lambda i: i.token(tenant="anna", exp=None),
    "unsigned": lambda i: unsigned(i.claims(tenant="anna")),
    "signed with the public key as a secret": lambda i: hs256_with(i.public_pem, i),
    "signed with another key": lambda _: Identities().token(tenant="anna"),
    "signed with a key that it brings": lambda i: Identities().token(
        tenant="anna", headers={"jwk": i.key_set["keys"][0], "jku": "https://evil.example/keys"}
    ),
    "signed in another way than the key's": lambda i: i.token(tenant="anna", algorithm="PS256"),
    "changed": lambda i: i.token(tenant="anna")[:-8] + "AAAAAAAA",
    "of a tenant that is a path": lambda i: i.token(tenant="../bert"),
    "of a tenant in capitals": lambda i: i.token(tenant="ANNA"),
    "of a tenant that is no text": lambda i: i.token(tenant=["anna"]),
    "with collections that are no names": lambda i: i.token(tenant="anna", collections={"a": 1}),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_token_is_answered_401(server, identities, kind):
    answered = read(server, WRONG[kind](identities))
    assert answered.status_code == 401
    challenge = answered.headers["www-authenticate"]
    assert 'error="invalid_token"' in challenge
    assert "https://search.example/.well-known/oauth-protected-resource/mcp" in challenge
    assert TEXT not in answered.text


def test_the_metadata_of_the_resource_say_who_gives_tokens(server):
    found = server.get("/.well-known/oauth-protected-resource/mcp")
    assert found.status_code == 200
    told = found.json()
    assert told["resource"] == AUDIENCE
    assert [url.rstrip("/") for url in told["authorization_servers"]] == [ISSUER]
    assert told["scopes_supported"] == ["read", "write", "admin"]


def test_a_token_without_a_scope_is_answered_403(server, identities):
    answered = read(server, identities.token(tenant="anna", scope="profile email"))
    assert answered.status_code == 403
    assert 'error="insufficient_scope"' in answered.headers["www-authenticate"]


def test_a_tool_that_writes_is_hidden_from_a_token_that_reads_and_answered_403(server, identities):
    reads = identities.token(tenant="anna")
    listed = server.post("tools/list", token=reads).json()["result"]["tools"]
    assert "fetch" in [tool["name"] for tool in listed]
    assert not [t["name"] for t in listed if not t["annotations"]["readOnlyHint"]]
    refused = server.call("note", token=reads)
    assert refused.status_code == 403
    assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]
    assert 'scope="write"' in refused.headers["www-authenticate"]
    for scope in ("write", "admin"):
        writes = identities.token(tenant="anna", scope=scope)
        listed = server.post("tools/list", token=writes).json()["result"]["tools"]
        assert "note" in [tool["name"] for tool in listed]
        assert "written" in server.call("note", token=writes).text
        assert TEXT in read(server, writes).text


def test_a_token_of_no_tenant_sees_no_tenants_data(server, identities):
    answered = read(server, identities.token())
    assert TEXT not in answered.text
    assert answered.json()["result"]["isError"]


def test_a_revoked_token_is_refused_from_the_next_request_on(server, folder):
    file = folder / "tokens.json"
    token = make_token(file, "--tenant", "anna", "--name", "leaver")
    assert read(server, token).status_code == 200
    listed = run("token", "list", "--tokens", file)
    line = next(line for line in listed.stdout.splitlines() if "leaver" in line)
    revoked = run("token", "revoke", line.split()[0], "--tokens", file)
    assert revoked.returncode == 0
    assert read(server, token).status_code == 401
    assert run("token", "revoke", line.split()[0], "--tokens", file).returncode == 1


def test_an_expired_static_token_is_refused(server, folder):
    token = make_token(folder / "tokens.json", "--tenant", "anna", "--days", "-1")
    assert read(server, token).status_code == 401


def test_a_session_is_of_use_only_to_whom_it_was_opened_for(server, identities):
    headers = {"MCP-Protocol-Version": "2025-11-25"}
    anna, bert = (identities.token(tenant=name, sub=name) for name in TENANTS)
    opening = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    opened = server.post("initialize", content=json.dumps(opening), token=anna, **headers)
    headers["Mcp-Session-Id"] = opened.headers["mcp-session-id"]
    asked = json.dumps(
        {
            "jsonrpc": "2.0",
            "id": 2,
            "method": "tools/call",
            "params": {"name": "fetch", "arguments": {"id": "kettle", "collection": "notes"}},
        }
    )
    assert "anna" in server.post("tools/call", content=asked, token=anna, **headers).text
    assert server.post("tools/call", content=asked, token=bert, **headers).status_code == 404
    assert server.post("tools/call", content=asked, **headers).status_code == 401
    # The scope is that of each request's own token, not of the one that opened the session.
    fewer = identities.token(tenant="anna", sub="anna", collections=["private"])
    assert TEXT not in server.post("tools/call", content=asked, token=fewer, **headers).text


def test_no_token_and_no_hash_is_in_a_log(folder, identities):
    file = folder / "secrets.json"
    secret = make_token(file, "--tenant", "anna", "--scope", "read")
    signed = identities.token(tenant="anna")
    with over_http(
        str(folder / "data" / "{tenant}"),
        *("--tokens", file, "--issuer", ISSUER, "--jwks", folder / "keys.json"),
        *("--public-url", AUDIENCE, "--audit-log", folder / "secrets.log"),
        *("--log-level", "DEBUG"),
    ) as server:
        for token in (secret, signed, secret[:-1] + "_", signed[:-8] + "AAAAAAAA"):
            read(server, token)
        assert server.stop() == 0
        errors = server.errors()
    stored = json.loads(file.read_text())["tokens"][0]
    for told in (errors, (folder / "secrets.log").read_text()):
        assert secret.split("_", 2)[2][:20] not in told
        assert signed.split(".")[2][:20] not in told
        assert stored["hash"] not in told
    assert secret.split("_", 2)[2] not in file.read_text()


def test_keys_are_fetched_once_and_no_more_for_a_flood_of_unknown_ones(folder, identities):
    rotated = Identities("second")
    with (
        key_set_server(identities.key_set) as keys,
        over_http(
            str(folder / "data" / "{tenant}"),
            *("--issuer", ISSUER, "--audience", AUDIENCE, "--jwks", keys.url),
        ) as server,
    ):
        for _ in range(5):
            assert read(server, identities.token(tenant="anna")).status_code == 200
        assert keys.fetched == 1
        for n in range(20):
            unknown = identities.token(tenant="anna", headers={"kid": f"unknown {n}"})
            assert read(server, unknown).status_code == 401
        assert read(server, rotated.token(tenant="anna")).status_code == 401
        assert keys.fetched == 1
        assert read(server, identities.token(tenant="anna")).status_code == 200


def test_a_pem_key_is_taken_and_a_private_one_refused(tmp_path, identities):
    for name, pem in (("public", identities.public_pem), ("private", identities.private_pem)):
        (tmp_path / name).write_bytes(pem)

    def verifier(name):
        settings = Settings(issuer=ISSUER, audience=AUDIENCE, jwks=str(tmp_path / name))
        return Verifier.of(settings, AUDIENCE)

    assert verifier("public") is not None
    with pytest.raises(InvalidSettingsError, match="private key"):
        verifier("private")
    (tmp_path / "shared").write_text('{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}')
    with pytest.raises(InvalidSettingsError, match="no public key"):
        verifier("shared")


ODD = [
    *("", " ", ".", "..", "a.b.c", "nf", "nf_", "nf__", "nf_\xe9_\xe9", "\xe9.\xe9.\xe9"),
    *("eyJhbGciOiJub25lIn0.e30.", "e30.e30.e30", "W10.W10.W10", "." * 1000, "nf_" * 1000),
    "bnVsbA.bnVsbA.bnVsbA",
    base64.urlsafe_b64encode(b'{"alg":"RS256","kid":["a"]}').decode().rstrip("=") + ".e30.AA",
    base64.urlsafe_b64encode(b'{"alg":"RS256","kid":{"a":1}}').decode().rstrip("=") + ".e30.AA",
    base64.urlsafe_b64encode(b'{"alg":"RS256","crit":["b64"]}').decode().rstrip("=") + ".e30.AA",
    base64.urlsafe_b64encode(b"[" * 5000).decode().rstrip("=") + ".e30.AA",
]


async def test_odd_tokens_are_wrong_and_nothing_worse(tmp_path, identities):
    (tmp_path / "keys").write_text(json.dumps(identities.key_set))
    (tmp_path / "tokens.json").write_text('{"format": 1, "tokens": []}')
    (tmp_path / "tokens.json").chmod(0o600)
    settings = Settings(
        issuer=ISSUER,
        audience=AUDIENCE,
        jwks=str(tmp_path / "keys"),
        tokens=tmp_path / "tokens.json",
    )
    verifier = Verifier.of(settings, AUDIENCE)
    for odd in ODD:
        assert await verifier.verify_token(odd) is None
    for claims in ({"scope": 7}, {"scope": [7]}, {"scp": {}, "scope": None}, {"sub": 7}):
        accepted = await verifier.verify_token(identities.token(**claims))
        assert accepted is None or not accepted.grants.rights


async def test_a_pem_key_checks_tokens(tmp_path, identities):
    (tmp_path / "public").write_bytes(identities.public_pem)
    settings = Settings(issuer=ISSUER, audience=AUDIENCE, jwks=str(tmp_path / "public"))
    verifier = Verifier.of(settings, AUDIENCE)
    accepted = await verifier.verify_token(identities.token(sub="carl"))
    assert accepted is not None
    assert accepted.grants.subject == "carl"
    assert accepted.token == ""
    assert await verifier.verify_token(hs256_with(identities.public_pem, identities)) is None


async def test_a_token_for_a_tenant_is_refused_where_data_are_not_apart(tmp_path):
    file = TokenFile(tmp_path / "tokens.json")
    token = file.create(scopes=["read"], tenant="anna")
    assert await Verifier(tokens=file, jwt=None, by_tenant=True).verify_token(token) is not None
    assert await Verifier(tokens=file, jwt=None, by_tenant=False).verify_token(token) is None


def test_the_file_of_tokens_is_its_owners_and_holds_salted_hashes(tmp_path):
    path = tmp_path / "tokens.json"
    file = TokenFile(path)
    made = [file.create(scopes=["read"]) for _ in range(2)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    stored = json.loads(path.read_text())["tokens"]
    assert len({entry["salt"] for entry in stored}) == len({entry["hash"] for entry in stored}) == 2
    assert not [token for token in made if token.split("_", 2)[2] in path.read_text()]
    assert [file.find(token).id for token in made] == [entry["id"] for entry in stored]
    first, second = made
    assert file.find(first.rpartition("_")[0] + "_" + second.split("_", 2)[2]) is None


def test_a_file_of_tokens_that_others_may_write_is_refused(tmp_path):
    path = tmp_path / "tokens.json"
    token = TokenFile(path).create(scopes=["admin"])
    path.chmod(0o666)
    with pytest.raises(TokenFileError, match="chmod 600"):
        TokenFile(path).tokens()
    assert TokenFile(path).find(token) is None


def test_a_file_of_tokens_that_is_damaged_or_gone_lets_nobody_in(tmp_path):
    path = tmp_path / "tokens.json"
    file = TokenFile(path)
    token = file.create(scopes=["admin"])
    assert file.find(token) is not None
    path.write_text('{"format": 1, "tokens": [{}]}')
    assert file.find(token) is None
    path.unlink()
    assert file.find(token) is None


def test_a_server_does_not_start_with_a_file_of_tokens_that_is_missing(tmp_path):
    refused = run("--transport", "http", "--tokens", tmp_path / "none.json")
    assert refused.returncode == 2
    assert "none.json" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_token_for_no_collection_is_not_listed_as_one_for_all(tmp_path):
    file = tmp_path / "tokens.json"
    make_token(file, "--collections", "")
    make_token(file, "--name", "ann")
    nothing, everything = run("token", "list", "--tokens", file).stdout.splitlines()
    assert "collections=none" in nothing
    assert "collections=all" in everything


def test_a_token_is_made_for_known_scopes_and_well_named_tenants_only(tmp_path):
    for wrong in (("--scope", "root"), ("--tenant", "../x"), ("--tenant", "A")):
        refused = run("token", "create", "--tokens", tmp_path / "tokens.json", *wrong)
        assert refused.returncode == 2
        assert refused.stdout == ""
    assert not (tmp_path / "tokens.json").exists()
