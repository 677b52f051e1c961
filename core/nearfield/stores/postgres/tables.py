"""Setting a database up: the extension, the schema and what all collections share; their tables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from psycopg import errors as sql_errors
from psycopg import sql

from nearfield.errors import StoreError

if TYPE_CHECKING:
    from nearfield.stores.postgres.connections import Connection, Server
    from nearfield.stores.postgres.schema import Names

__all__ = ["check_pgvector", "make_table", "set_up"]

MIN_PGVECTOR = (0, 8)
_SEARCHED_CHARACTERS = 150_000
"""Of a longer text, keyword search sees the beginning; PostgreSQL bounds what it indexes."""


def set_up(connection: Connection, server: Server) -> None:
    """Make what all collections of a schema share."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StoreError(
            f"{server.shown} keeps text as {encoding}, expected UTF8; make a database with "
            "ENCODING 'UTF8' TEMPLATE template0"
        )
    if connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone() is None:
        try:
            connection.execute("CREATE EXTENSION vector")
        except (sql_errors.InsufficientPrivilege, sql_errors.FeatureNotSupported) as error:
            raise StoreError(
                f"{server.shown} has no pgvector, and it could not be added "
                f"({error.diag.message_primary}); install it, and let a superuser run: "
                "CREATE EXTENSION vector"
            ) from error
    statements: tuple[str, ...] = _SETUP
    # Who may not make schemas may not say IF NOT EXISTS of one, either.
    if connection.execute(
        "SELECT 1 FROM pg_namespace WHERE nspname = %s", (server.schema,)
    ).fetchone():
        statements = statements[1:]
    for statement in statements:
        connection.execute(
            sql.SQL(statement).format(
                schema=sql.Identifier(server.schema),
                collections=sql.Identifier(server.schema, "collections"),
                writes=sql.Identifier(server.schema, "writes"),
                ledger=sql.Identifier(server.schema, "ledger"),
                clocks=sql.Identifier(server.schema, "clocks"),
                words=sql.Identifier(server.schema, "words"),
                stems=sql.Identifier(server.schema, "stems"),
                plain=sql.Identifier(server.schema, "plain"),
            )
        )


def check_pgvector(connection: Connection, server: Server) -> None:
    """Refuse a pgvector that is too old."""
    row = connection.execute(
        "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
    ).fetchone()
    version = str(row[0]) if row else "0"
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < MIN_PGVECTOR:
        raise StoreError(
            f"{server.shown} has pgvector {version if row else 'no more'}, expected "
            f"{'.'.join(map(str, MIN_PGVECTOR))} or newer, whose searches find what matches a "
            "filter; install it, and run: ALTER EXTENSION vector UPDATE"
        )


def make_table(connection: Connection, names: Names, dimension: int) -> None:
    """Make the table of a collection's documents, and its indexes but that of the vectors."""
    for statement in _TABLE:
        connection.execute(
            sql.SQL(statement).format(
                schema=sql.Identifier(names.schema),
                documents=names.documents,
                dimension=sql.Literal(dimension),
                config=sql.Literal(sql.Identifier(names.schema, "words").as_string(None)),
                characters=sql.Literal(_SEARCHED_CHARACTERS),
            )
        )


_SETUP = (
    "CREATE SCHEMA {schema}",
    """CREATE TABLE {collections} (
        name text COLLATE "C" PRIMARY KEY, key text NOT NULL UNIQUE, metric text NOT NULL,
        embedding jsonb NOT NULL, format integer NOT NULL,
        settings jsonb NOT NULL DEFAULT '{{}}',
        parts text[], finished boolean NOT NULL DEFAULT false,
        created_at timestamptz NOT NULL DEFAULT now()
    )""",
    """CREATE TABLE {writes} (
        key text NOT NULL, part integer NOT NULL, count bigint NOT NULL, PRIMARY KEY (key, part)
    )""",
    """CREATE TABLE {ledger} (
        key text NOT NULL, namespace text COLLATE "C" NOT NULL, id text COLLATE "C" NOT NULL,
        group_id text COLLATE "C", updated_us bigint NOT NULL, slot bigint NOT NULL,
        PRIMARY KEY (key, namespace, id)
    )""",
    "CREATE INDEX ON {ledger} (key, namespace, updated_us)",
    "CREATE TABLE {clocks} (key text PRIMARY KEY, at_us bigint NOT NULL)",
    # English stems, and no stop words: which words count is decided when a query is read.
    "CREATE TEXT SEARCH DICTIONARY {stems} (TEMPLATE = pg_catalog.snowball, Language = english)",
    "CREATE TEXT SEARCH CONFIGURATION {words} (COPY = pg_catalog.english)",
    """ALTER TEXT SEARCH CONFIGURATION {words} ALTER MAPPING
        FOR asciiword, asciihword, hword_asciipart, word, hword, hword_part WITH {stems}""",
    # Texts and queries alike: without accents, and with punctuation as spaces. What translate()
    # does in place of the second expression takes five times as long.
    """CREATE FUNCTION {plain}(text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
        RETURN regexp_replace(
            regexp_replace(normalize($1, NFD), '[\\u0300-\\u036f]', '', 'g'),
            '[!-/:-@[-`{{-~]', ' ', 'g'
        )""",
)
_TABLE = (
    """CREATE TABLE {documents} (
        slot bigint GENERATED ALWAYS AS IDENTITY,
        id text COLLATE "C" PRIMARY KEY,
        text text NOT NULL,
        metadata text NOT NULL,
        fields jsonb NOT NULL,
        instants jsonb,
        folded jsonb,
        created_at timestamptz NOT NULL,
        embedding vector({dimension}) NOT NULL,
        words tsvector GENERATED ALWAYS AS
            (to_tsvector({config}::regconfig,
                left({schema}.plain(left(text, {characters})), {characters}))) STORED
    )""",
    "CREATE INDEX ON {documents} (slot)",
    "CREATE INDEX ON {documents} USING gin (fields jsonb_path_ops)",
    "CREATE INDEX ON {documents} USING gin (words)",
)
