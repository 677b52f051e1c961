"""What a database has to be: its names, rights, versions, encoding."""

from __future__ import annotations

import uuid
from functools import partial
from urllib.parse import quote

import pytest
from tests.postgres_server import psycopg

import nearfield
from nearfield import Document
from nearfield.errors import (
    CollectionNotFoundError,
    FormatVersionError,
    InvalidInputError,
    InvalidURLError,
    ReadOnlyError,
    StoreError,
)
from nearfield.stores.postgres.connections import Server, connected
from nearfield.stores.postgres.schema import drop, read, rename


@pytest.fixture
def database(postgres):
    """A database of its own, and a connection of its owner's."""
    name = f"database_{uuid.uuid4().hex}"
    with psycopg.connect(postgres.url(), autocommit=True) as owner:
        owner.execute(f"CREATE DATABASE {name}")
    with psycopg.connect(postgres.url(name), autocommit=True) as owner:
        yield postgres.url(name), owner


@pytest.fixture
def weak(database):
    """A role with no rights but to connect, and its URL."""
    url, owner = database
    name = f"weak_{uuid.uuid4().hex}"
    owner.execute(f"CREATE ROLE {name} LOGIN")
    return name, url.replace("//nearfield@", f"//{name}@")


@pytest.mark.parametrize("schema", ['a"b', "x'y;--", "世界", "A B.c", "{documents}", "public"])
def test_any_name_can_be_the_schemas(database, schema):
    url = f"{database[0]}?schema={quote(schema)}"
    with nearfield.open(url, dimension=2, durability="normal") as collection:
        collection.upsert(Document("hello world", id="a"), vectors=[1, 0])
        assert [hit.id for hit in collection.search("hello", mode="keyword")] == ["a"]
        assert collection.maintain() == 0
        assert collection.stats()["documents"] == 1


@pytest.mark.parametrize("schema", ["", "x" * 64, "a%25b", "a%00b"])
def test_a_name_that_would_become_another_is_refused(postgres, schema):
    with pytest.raises(InvalidURLError, match="cannot name a schema"):
        nearfield.connect(f"{postgres.url()}?schema={schema}")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:s3/cret@host/db",
        "postgresql://user:12#s3cret@host/db",
        "postgresql://user:12?s3cret@host/db",
        "postgresql://user:s3cret@[::1/db",
        "postgresql://user:s3cret%zz@host/db",
    ],
)
def test_a_password_that_cuts_the_url_in_two_is_not_shown(url):
    with pytest.raises(InvalidURLError) as refusal:
        nearfield.connect(url)
    for part in ("s3", "12", "cret"):
        assert part not in str(refusal.value)


def test_a_server_is_shown_without_its_password():
    server = Server.at(
        "postgresql://user:s3cret@host/db?password=s3cret",
        timeout_s=1,
        read_only=False,
        durable=True,
    )
    assert "s3cret" in server.address
    assert "s3cret" not in repr(server)


def test_a_user_who_may_not_make_schemas_uses_one_that_is_there(database, weak):
    url, owner = database
    role, weak_url = weak
    with nearfield.open(url, dimension=2):
        pass  # pgvector is there from now on
    with pytest.raises(ReadOnlyError, match="permission denied"):
        nearfield.open(f"{weak_url}?schema=other", dimension=2)
    owner.execute(f"CREATE SCHEMA other AUTHORIZATION {role}")
    with nearfield.open(f"{weak_url}?schema=other", dimension=2) as collection:
        collection.upsert("a", vectors=[1, 0])
        assert len(collection.search([1, 0])) == 1


def test_a_user_who_may_only_read_can_search(database, weak):
    url, owner = database
    role, weak_url = weak
    with nearfield.open(url, dimension=2) as collection:
        collection.upsert("a", vectors=[1, 0])
    owner.execute(f"GRANT USAGE ON SCHEMA nearfield TO {role}")
    owner.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA nearfield TO {role}")
    with nearfield.open(weak_url, create=False) as collection:
        assert len(collection.search([1, 0])) == 1
        with pytest.raises(ReadOnlyError, match="permission denied"):
            collection.upsert("b", vectors=[1, 0])


def test_a_tenants_role_sees_no_other_tenants_documents(database, weak):
    url, owner = database
    role, weak_url = weak
    for tenant in ("anna", "bert"):
        with nearfield.open(f"{url}?schema=tenant_{tenant}", dimension=2) as collection:
            collection.upsert(f"of {tenant}", vectors=[1, 0])
            table = collection.stats()["table"]
    owner.execute(f"GRANT USAGE ON SCHEMA tenant_anna TO {role}")
    owner.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA tenant_anna TO {role}")
    with nearfield.open(f"{weak_url}?schema=tenant_anna", create=False) as collection:
        assert [hit.text for hit in collection.search([1, 0])] == ["of anna"]
    with pytest.raises(ReadOnlyError, match="permission denied"):
        nearfield.open(f"{weak_url}?schema=tenant_bert", create=False)
    with (
        psycopg.connect(weak_url) as intruder,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        intruder.execute(f"SELECT * FROM {table}")


def test_an_old_pgvector_is_refused(database):
    url, owner = database
    nearfield.open(url, dimension=2).close()
    owner.execute("UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'")
    for name in ("default", "another"):
        with pytest.raises(StoreError, match=r"0\.7\.4.*ALTER EXTENSION vector UPDATE"):
            nearfield.open(url, name, dimension=2)


@pytest.mark.parametrize("change", [drop, partial(rename, new_name="new")], ids=["drop", "rename"])
def test_what_is_dropped_meanwhile_is_not_there_to_be_changed(database, change):
    url, _ = database
    nearfield.open(url, "old", dimension=2).close()
    server = Server.at(url, timeout_s=5, read_only=False, durable=True)
    with connected(server) as connection:
        birth = read(connection, server, "old")
        nearfield.connect(url).drop("old")
        with pytest.raises(CollectionNotFoundError):
            change(connection, server, birth)
    assert nearfield.connect(url).names() == []


def test_a_newer_format_is_refused(database):
    url, owner = database
    nearfield.open(url, dimension=2).close()
    owner.execute("UPDATE nearfield.collections SET format = 2")
    with pytest.raises(FormatVersionError, match="upgrade"):
        nearfield.open(url, dimension=2)
    with pytest.raises(FormatVersionError):
        nearfield.connect(url).drop("default")


def test_a_database_that_is_not_unicode_is_refused(postgres):
    name = f"ascii_{uuid.uuid4().hex}"
    with psycopg.connect(postgres.url(), autocommit=True) as owner:
        owner.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(StoreError, match="SQL_ASCII, expected UTF8"):
        nearfield.open(postgres.url(name), dimension=2)


def test_an_id_that_no_index_holds_is_refused_and_nothing_is_written(database):
    numbers = uuid.uuid4().hex
    long = "".join(uuid.uuid5(uuid.NAMESPACE_URL, f"{numbers}{i}").hex for i in range(125))
    with nearfield.open(database[0], dimension=2) as collection:
        with pytest.raises(InvalidInputError, match="shorter ids"):
            collection.upsert([Document("", id="a"), Document("", id=long)], vectors=[[1, 0]] * 2)
        assert len(collection) == 0


def test_a_text_of_more_words_than_are_searched_is_kept_whole(database):
    syllables = [chr(0xAC00 + i % 11172) + chr(0xAC00 + i // 11172) for i in range(60_000)]
    text = " ".join(syllables)
    with nearfield.open(database[0], dimension=2) as collection:
        collection.upsert(Document(text, id="a"), vectors=[1, 0])
        assert collection.get("a").text == text
        assert len(collection.search(syllables[5], mode="keyword")) == 1


def test_tenants_have_a_schema_each(database):
    catalog = pytest.importorskip("nearfield_mcp.catalog", reason="mcp is not installed")
    from nearfield_mcp.scope import CURRENT, Scope

    url = f"{database[0]}?schema=tenant_{{tenant}}"
    for tenant in ("anna", "bert"):
        with nearfield.open(url.replace("{tenant}", tenant), "notes", dimension=2) as notes:
            notes.upsert(Document(f"of {tenant}", id=tenant), vectors=[1, 0])
    rooms = catalog.Catalog({"data": url})
    try:
        for tenant in ("anna", "bert"):
            reset = CURRENT.set(Scope(tenant=tenant))
            _, notes = rooms.open("notes")
            assert [document.id for document in notes.scan()] == [tenant]
            CURRENT.reset(reset)
    finally:
        rooms.close()
