"""The tables: one that lists the collections, and one of documents for each of them."""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import errors as sql_errors
from psycopg import sql

from nearfield.documents import EmbeddingInfo, Metric
from nearfield.errors import (
    CollectionExistsError,
    CollectionInUseError,
    CollectionNotFoundError,
    FormatVersionError,
    InvalidInputError,
    StoreError,
)
from nearfield.stores.base import CollectionInfo

if TYPE_CHECKING:
    from nearfield.stores.postgres.connections import Connection, Server

__all__ = [
    "INDEX_KINDS",
    "Birth",
    "IndexKind",
    "Names",
    "create",
    "drop",
    "names",
    "read",
    "rename",
    "template",
]

FORMAT_VERSION = 1
MIN_PGVECTOR = (0, 8)
MAX_DIMENSION = 16_000
"""What pgvector's type ``vector`` holds."""
_SETUP_LOCK = 0x6E66_7067
_SEARCHED_CHARACTERS = 150_000
"""Of a longer text, keyword search sees the beginning; PostgreSQL bounds what it indexes."""
_PUNCTUATION = "".join(chr(code) for code in range(33, 127) if not chr(code).isalnum())


@dataclass(frozen=True, slots=True)
class IndexKind:
    """How pgvector compares vectors under a metric.

    Attributes:
        operator: The distance's operator.
        operators: The operator class of an index, after the name of the vectors' type.
    """

    operator: str
    operators: str


INDEX_KINDS = {
    Metric.COSINE: IndexKind("<=>", "cosine_ops"),
    Metric.DOT: IndexKind("<#>", "ip_ops"),
    Metric.EUCLIDEAN: IndexKind("<->", "l2_ops"),
}


@dataclass(frozen=True, slots=True)
class Names:
    """What the database calls a collection's parts.

    Attributes:
        schema: The schema.
        key: What tells the collection from any other, for ever.
    """

    schema: str
    key: str

    @property
    def documents(self) -> sql.Identifier:
        """The table of its documents."""
        return sql.Identifier(self.schema, f"documents_{self.key}")

    @property
    def collections(self) -> sql.Identifier:
        """The table that lists the collections."""
        return sql.Identifier(self.schema, "collections")

    @property
    def index(self) -> sql.Identifier:
        """The index of its vectors."""
        return sql.Identifier(self.schema, self.index_name)

    @property
    def index_name(self) -> str:
        """The name of that, without the schema's."""
        return f"documents_{self.key}_vectors"

    @property
    def lock(self) -> int:
        """The advisory lock that whoever has the collection open shares."""
        return int(self.key[:15], 16)


@dataclass(frozen=True, slots=True)
class Birth:
    """What is recorded of a collection."""

    info: CollectionInfo
    names: Names


def names(connection: Connection, server: Server) -> list[str]:
    """Name the collections, sorted."""
    try:
        rows = connection.execute(_in_schema("SELECT name FROM {collections}", server)).fetchall()
    except (sql_errors.UndefinedTable, sql_errors.InvalidSchemaName):
        return []
    return sorted(row[0] for row in rows)


def read(connection: Connection, server: Server, name: str) -> Birth:
    """Read what is recorded of a collection, or raise ``CollectionNotFoundError``."""
    statement = _in_schema(
        "SELECT key, metric, embedding, format FROM {collections} WHERE name = %s", server
    )
    try:
        row = connection.execute(statement, (name,)).fetchone()
    except (sql_errors.UndefinedTable, sql_errors.InvalidSchemaName):
        row = None
    if row is None:
        raise _missing(connection, server, name)
    key, metric, embedding, version = row
    if version > FORMAT_VERSION:
        raise FormatVersionError(found=version, supported=FORMAT_VERSION, path=server.shown)
    _check_pgvector(connection, server)
    info = CollectionInfo(name, EmbeddingInfo.from_dict(embedding), Metric(metric))
    return Birth(info, Names(server.schema, key))


def create(connection: Connection, server: Server, info: CollectionInfo) -> None:
    """Make a collection, and before the first one the schema."""
    if info.embedding.dimension > MAX_DIMENSION:
        raise InvalidInputError(
            f"the vectors have dimension {info.embedding.dimension}, but pgvector stores at most "
            f"{MAX_DIMENSION}; shorten them, or use another store"
        )
    made = Names(server.schema, secrets.token_hex(16))
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SETUP_LOCK,))
        listed = made.collections.as_string(None)
        if connection.execute("SELECT to_regclass(%s)", (listed,)).fetchone() == (None,):
            _set_up(connection, server)
        _check_pgvector(connection, server)
        try:
            connection.execute(
                _in_schema(
                    "INSERT INTO {collections} (name, key, metric, embedding, format) "
                    "VALUES (%s, %s, %s, %s, %s)",
                    server,
                ),
                (
                    info.name,
                    made.key,
                    info.metric.value,
                    json.dumps(info.embedding.to_dict()),
                    FORMAT_VERSION,
                ),
            )
        except sql_errors.UniqueViolation:
            raise _taken(server, info.name) from None
        for statement in _TABLE:
            connection.execute(
                sql.SQL(statement).format(
                    schema=sql.Identifier(server.schema),
                    documents=made.documents,
                    dimension=sql.Literal(info.embedding.dimension),
                    config=sql.Literal(sql.Identifier(server.schema, "words").as_string(None)),
                    characters=sql.Literal(_SEARCHED_CHARACTERS),
                )
            )


def drop(connection: Connection, server: Server, name: str) -> None:
    """Delete a collection and all its documents."""
    with connection.transaction():
        birth = _taken_alone(connection, server, name)
        connection.execute(sql.SQL("DROP TABLE {}").format(birth.names.documents))
        connection.execute(_in_schema("DELETE FROM {collections} WHERE name = %s", server), (name,))


def rename(connection: Connection, server: Server, name: str, new_name: str) -> None:
    """Give a collection another name."""
    with connection.transaction():
        if new_name in names(connection, server):
            read(connection, server, name)
            raise _taken(server, new_name)
        _taken_alone(connection, server, name)
        try:
            connection.execute(
                _in_schema("UPDATE {collections} SET name = %s WHERE name = %s", server),
                (new_name, name),
            )
        except sql_errors.UniqueViolation:
            raise _taken(server, new_name) from None


def _taken_alone(connection: Connection, server: Server, name: str) -> Birth:
    """Lock a collection that no one has open, until the transaction ends."""
    birth = read(connection, server, name)
    # A connection that was just closed lets go of its lock a moment later.
    for wait_s in (0, 0.05, 0.2, 0.5):
        connection.execute("SELECT pg_sleep(%s)", (wait_s,))
        held = connection.execute(
            "SELECT pg_try_advisory_xact_lock(%s)", (birth.names.lock,)
        ).fetchone()
        if held == (True,):
            return birth
    raise CollectionInUseError(
        f"collection {name!r} of {server.shown} is open, here or elsewhere; close it first"
    )


def _set_up(connection: Connection, server: Server) -> None:
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
                words=sql.Identifier(server.schema, "words"),
                stems=sql.Identifier(server.schema, "stems"),
                plain=sql.Identifier(server.schema, "plain"),
                punctuation=sql.Literal(_PUNCTUATION),
                spaces=sql.Literal(" " * len(_PUNCTUATION)),
            )
        )


def _check_pgvector(connection: Connection, server: Server) -> None:
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


def template(statement: str) -> sql.SQL:
    """Return a statement to put names into; it is made of constants, never of a value."""
    return sql.SQL(statement)  # pyright: ignore[reportArgumentType]


def _in_schema(statement: str, server: Server) -> sql.Composed:
    collections = sql.Identifier(server.schema, "collections")
    return template(statement).format(collections=collections)


def _missing(connection: Connection, server: Server, name: str) -> CollectionNotFoundError:
    known = ", ".join(names(connection, server)) or "none"
    return CollectionNotFoundError(
        f"{server.shown} has no collection {name!r}; it has: {known}", name=name
    )


def _taken(server: Server, name: str) -> CollectionExistsError:
    return CollectionExistsError(
        f"{server.shown} already has a collection {name!r}; open it, or choose another name",
        name=name,
    )


_SETUP = (
    "CREATE SCHEMA {schema}",
    """CREATE TABLE {collections} (
        name text COLLATE "C" PRIMARY KEY, key text NOT NULL UNIQUE, metric text NOT NULL,
        embedding jsonb NOT NULL, format integer NOT NULL,
        settings jsonb NOT NULL DEFAULT '{{}}',
        created_at timestamptz NOT NULL DEFAULT now()
    )""",
    # English stems, and no stop words: which words count is decided when a query is read.
    "CREATE TEXT SEARCH DICTIONARY {stems} (TEMPLATE = pg_catalog.snowball, Language = english)",
    "CREATE TEXT SEARCH CONFIGURATION {words} (COPY = pg_catalog.english)",
    """ALTER TEXT SEARCH CONFIGURATION {words} ALTER MAPPING
        FOR asciiword, asciihword, hword_asciipart, word, hword, hword_part WITH {stems}""",
    # Texts and queries alike: without accents, and with punctuation as spaces.
    """CREATE FUNCTION {plain}(text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
        RETURN translate(
            regexp_replace(normalize($1, NFD), '[\\u0300-\\u036f]', '', 'g'),
            {punctuation}, {spaces}
        )""",
)
_TABLE = (
    """CREATE TABLE {documents} (
        slot bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
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
    "CREATE INDEX ON {documents} USING gin (fields jsonb_path_ops)",
    "CREATE INDEX ON {documents} USING gin (words)",
)
