"""Settings: where they come from, which come first, and what is refused."""

from __future__ import annotations

import pytest

pytest.importorskip("mcp", reason="the MCP server is an extra: pip install 'nearfield[mcp]'")

from tests.mcp_server.processes import run

from nearfield_mcp import cli
from nearfield_mcp.settings import InvalidSettingsError, Settings, flag_of, load_settings


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    import os

    for name in list(os.environ):
        if name.startswith("NEARFIELD_MCP_"):
            monkeypatch.delenv(name)


def settings_of(*flags):
    return load_settings(cli._flags(list(flags)))


def refusal_of(*flags):
    with pytest.raises(InvalidSettingsError) as refused:
        settings_of(*flags)
    return str(refused.value)


def test_a_flag_comes_before_the_environment_and_that_before_the_file(tmp_path, monkeypatch):
    file = tmp_path / "server.toml"
    file.write_text('port = 1001\nhost = "127.0.0.2"\nmax_calls = 3\n')
    monkeypatch.setenv("NEARFIELD_MCP_PORT", "1002")
    monkeypatch.setenv("NEARFIELD_MCP_MAX_CALLS", "4")
    settings = settings_of("--config", str(file), "--port", "1003")
    assert (settings.port, settings.max_calls, settings.host) == (1003, 4, "127.0.0.2")
    assert settings.rate_burst == Settings.model_fields["rate_burst"].default


def test_the_file_can_be_named_in_the_environment(tmp_path, monkeypatch):
    file = tmp_path / "server.toml"
    file.write_text("port = 1001\n")
    monkeypatch.setenv("NEARFIELD_MCP_CONFIG", str(file))
    assert settings_of().port == 1001


def test_one_database_or_several_are_named_on_the_command_line():
    assert settings_of().urls == {"default": ".nearfield"}
    assert settings_of("/notes").urls == {"default": "/notes"}
    assert settings_of("a=/x", "b=/y").urls == {"a": "/x", "b": "/y"}
    assert settings_of("postgresql://db/x?sslmode=require").urls == {
        "default": "postgresql://db/x?sslmode=require"
    }


def test_a_url_in_the_place_of_a_name_is_not_shown():
    with pytest.raises(ValueError, match="got a URL without a name") as refusal:
        Settings(databases=["postgresql://anna:walrus@db.example/x?schema=a"])
    assert "walrus" not in str(refusal.value)


def test_databases_of_the_command_line_replace_those_of_the_file(tmp_path):
    file = tmp_path / "server.toml"
    file.write_text('[databases]\nold = "/old"\n[embedders]\nnotes = "hash"\n')
    assert settings_of("--config", str(file)).urls == {"old": "/old"}
    assert settings_of("--config", str(file), "/new").urls == {"default": "/new"}
    assert settings_of("--config", str(file), "new=/new").urls == {"new": "/new"}
    assert settings_of("--config", str(file)).embedder_of("notes") == "hash"


def test_the_environment_gives_lists_and_tables_with_commas_or_as_json(monkeypatch):
    monkeypatch.setenv("NEARFIELD_MCP_DATABASES", "a=/x, b=/y")
    monkeypatch.setenv("NEARFIELD_MCP_ALLOWED_HOSTS", '["one", "two:*"]')
    settings = settings_of()
    assert settings.urls == {"a": "/x", "b": "/y"}
    assert settings.allowed_hosts == ["one", "two:*"]


def test_a_model_is_chosen_for_all_collections_or_for_one():
    settings = settings_of("--embedder", "one", "--embedder-for", "notes=two")
    assert settings.embedder_of("notes") == "two"
    assert settings.embedder_of("others") == "one"


def test_a_reranker_is_chosen_for_all_collections_or_for_one(tmp_path, monkeypatch):
    assert settings_of().reranker_of("notes") is None
    flags = ("--reranker", "one", "--reranker-for", "notes=two", "--reranker-for", "logs=none")
    settings = settings_of(*flags)
    assert settings.reranker_of("notes") == "two"
    assert settings.reranker_of("logs") is None
    assert settings.reranker_of("others") == "one"
    file = tmp_path / "server.toml"
    file.write_text('reranker = "filed"\n[rerankers]\nnotes = "own"\n')
    assert settings_of("--config", str(file)).reranker_of("notes") == "own"
    monkeypatch.setenv("NEARFIELD_MCP_RERANKERS", "notes=given")
    settings = settings_of("--config", str(file))
    assert (settings.reranker_of("notes"), settings.reranker_of("x")) == ("given", "filed")


def test_http_is_read_only_unless_told_otherwise():
    assert settings_of().read_only is False
    assert settings_of("--read-only").read_only is True
    assert settings_of("--transport", "http").read_only is True
    assert settings_of("--transport", "http", "--read-write").read_only is False


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--port", "70000"], "--port: input should be less than or equal to 65535"),
        (["--transport", "carrier-pigeon"], "--transport: input should be 'stdio' or 'http'"),
        (["--embedder-for", "model"], "--embedder-for: expected NAME=VALUE"),
        (["--reranker-for", "model"], "--reranker-for: expected NAME=VALUE"),
        (["a=/x", "/y"], "NAME=DATABASE: expected NAME=VALUE"),
        (["a=/x", "a=/y"], "NAME=DATABASE: 'a' was given twice"),
        (["--jwks", "keys.json"], "--jwks and --audience go with --issuer"),
        (["--issuer", "https://idp.example"], "--issuer needs --jwks"),
        (["--issuer", "http://idp.example", "--jwks", "k"], "--issuer: expected https://"),
        (["--transport", "http", "--host", "0.0.0.0"], "nearfield-mcp token create"),
        (["./{tenant}", "--transport", "http"], "needs tokens that name the tenant"),
    ],
)
def test_a_bad_value_is_refused_with_its_flag_and_what_to_do(flags, told):
    assert told in refusal_of(*flags)


def test_an_unknown_setting_is_refused_with_the_one_that_was_meant(tmp_path, monkeypatch):
    file = tmp_path / "server.toml"
    file.write_text("read_onyl = true\n")
    assert refusal_of("--config", str(file)).endswith(
        "no setting 'read_onyl'; do you mean 'read_only'?"
    )
    monkeypatch.setenv("NEARFIELD_MCP_PROT", "1")
    assert "NEARFIELD_MCP_PROT in the environment; do you mean NEARFIELD_MCP_PORT?" in refusal_of()


def test_a_file_that_is_missing_or_no_toml_is_refused(tmp_path):
    assert "No such file" in refusal_of("--config", str(tmp_path / "none.toml"))
    broken = tmp_path / "broken.toml"
    broken.write_text("port = = 1\n")
    assert "is not TOML" in refusal_of("--config", str(broken))


def test_a_password_is_taken_from_the_environment_but_not_from_a_flag_and_never_shown(monkeypatch):
    url = "postgresql://me:hunter2@db/notes"
    refused = run(url)
    assert refused.returncode == 2
    assert "NEARFIELD_MCP_DATABASE" in refused.stderr
    assert "hunter2" not in refused.stderr
    monkeypatch.setenv("NEARFIELD_MCP_DATABASE", url)
    settings = settings_of()
    assert settings.database == url
    assert "hunter2" not in repr(settings)
    monkeypatch.setenv("NEARFIELD_MCP_DATABASES", f"a b={url}")
    assert "hunter2" not in refusal_of()


def test_the_help_tells_every_setting_and_its_default():
    told = run("--help")
    assert told.returncode == 0
    for flag in ("--transport", "--read-write", "--embedder-for", "--allowed-host", "--audit-log"):
        assert flag in told.stdout
    assert "[8321]" in told.stdout
    assert max(len(line) for line in told.stdout.splitlines()) <= 100
    shown = told.stdout.replace("\n", " ")
    settings = set(Settings.model_fields) - {"database", "databases"}
    assert not [name for name in settings if flag_of(name) not in shown]


def test_an_unknown_flag_is_refused():
    refused = run("--prot", "1")
    assert refused.returncode == 2
    assert "--prot" in refused.stderr
    assert "Traceback" not in refused.stderr
