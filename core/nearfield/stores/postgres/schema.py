"""The tables: one that lists the collections, and one of documents for each of them."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import errors as sql_errors
from psycopg import sql

from nearfield.documents import EmbeddingInfo, Metric
from nearfield.errors import (
    CollectionInUseError,
    FormatVersionError,
    InvalidInputError,
    StoreError,
)
from nearfield.stores.base import CollectionInfo
from nearfield.stores.postgres.tables import check_pgvector, make_table, set_up
from nearfield.stores.refusals import missing, taken

if TYPE_CHECKING:
    from nearfield.stores.postgres.connections import Connection, Server

__all__ = [
    "INDEX_KINDS",
    "Birth",
    "IndexKind",
    "Names",
    "Part",
    "create",
    "drop",
    "find",
    "finish",
    "hold",
    "names",
    "new_key",
    "read",
    "rename",
    "template",
    "unfinish",
]

FORMAT_VERSION = 1
MAX_DIMENSION = 16_000
"""What pgvector's type ``vector`` holds."""
_SETUP_LOCK = 0x6E66_7067


@dataclass(frozen=True, slots=True)
class IndexKind:
    """How pgvector compares vectors under a metric.

    Attributes:
        operator: The distance's operator.
        operators: The operator class of an index, after the name of the vectors' type.
        score: What makes a score of a distance.
    """

    operator: str
    operators: str
    score: str


INDEX_KINDS = {
    # As the embedded engine's: vectors that differ only in length tie.
    Metric.COSINE: IndexKind("<=>", "cosine_ops", "(1 - ({distance}))::real"),
    Metric.DOT: IndexKind("<#>", "ip_ops", "-({distance})"),
    Metric.EUCLIDEAN: IndexKind("<->", "l2_ops", "1 / (1 + ({distance}))"),
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
    def writes(self) -> sql.Identifier:
        """The table that counts writes."""
        return sql.Identifier(self.schema, "writes")

    @property
    def ledger(self) -> sql.Identifier:
        """The table of all ledgers' records."""
        return sql.Identifier(self.schema, "ledger")

    @property
    def clocks(self) -> sql.Identifier:
        """The table of the last time that each collection's ledgers gave out."""
        return sql.Identifier(self.schema, "clocks")

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
class Part:
    """What a server records of its part of a collection that is spread over several.

    Attributes:
        of: The keys of all parts, this one's too, sorted.
        finished: Whether all of them were there once, and none was about to be dropped since. A
            part that is not has no documents, or none that anyone wants.
    """

    of: tuple[str, ...]
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Birth:
    """What is recorded of a collection, or of a part of one."""

    info: CollectionInfo
    names: Names
    part: Part | None = None


def new_key() -> str:
    """Return a key that no other collection or part has."""
    return secrets.token_hex(16)


def names(connection: Connection, server: Server, *, parts: bool = False) -> list[str]:
    """Name the collections, sorted.

    Args:
        connection: To the server.
        server: The server.
        parts: Whether to name those that have a part here; else those that are here as a whole.
    """
    statement = _in_schema(
        f"SELECT name FROM {{collections}} WHERE parts IS {'NOT ' if parts else ''}NULL", server
    )
    try:
        rows = connection.execute(statement).fetchall()
    except (sql_errors.UndefinedTable, sql_errors.InvalidSchemaName):
        return []
    return sorted(row[0] for row in rows)


def read(connection: Connection, server: Server, name: str) -> Birth:
    """Read what is recorded of a collection that is here as a whole.

    Raises:
        CollectionNotFoundError: There is none of this name.
        StoreError: A part of one is here.
    """
    birth = find(connection, server, name)
    if birth is None:
        raise missing(server.shown, name, names(connection, server))
    if birth.part is not None:
        raise StoreError(
            f"{server.shown} has only a part of the collection {name!r}, which is spread over "
            f"{len(birth.part.of)} servers; open it with all of them: postgresql+sharded://"
        )
    return birth


def find(connection: Connection, server: Server, name: str) -> Birth | None:
    """Read what is recorded of a collection, or of its part; None where there is nothing."""
    statement = _in_schema(
        "SELECT key, metric, embedding, format, parts, finished FROM {collections} WHERE name = %s",
        server,
    )
    try:
        row = connection.execute(statement, (name,)).fetchone()
    except (sql_errors.UndefinedTable, sql_errors.InvalidSchemaName):
        return None
    if row is None:
        return None
    key, metric, embedding, version, parts, finished = row
    if version > FORMAT_VERSION:
        raise FormatVersionError(found=version, supported=FORMAT_VERSION, path=server.shown)
    check_pgvector(connection, server)
    info = CollectionInfo(name, EmbeddingInfo.from_dict(embedding), Metric(metric))
    part = None if parts is None else Part(tuple(parts), finished)
    return Birth(info, Names(server.schema, key), part)


def create(
    connection: Connection,
    server: Server,
    info: CollectionInfo,
    part: tuple[str, Part] | None = None,
) -> None:
    """Make a collection, and before the first one the schema.

    Args:
        connection: To the server.
        server: The server.
        info: What is fixed about the collection.
        part: Make a part of it, of this key.
    """
    if info.embedding.dimension > MAX_DIMENSION:
        raise InvalidInputError(
            f"the vectors have dimension {info.embedding.dimension}, but pgvector stores at most "
            f"{MAX_DIMENSION}; shorten them, or use another store"
        )
    key, parts = (new_key(), None) if part is None else (part[0], list(part[1].of))
    made = Names(server.schema, key)
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SETUP_LOCK,))
        listed = made.collections.as_string(None)
        if connection.execute("SELECT to_regclass(%s)", (listed,)).fetchone() == (None,):
            set_up(connection, server)
        check_pgvector(connection, server)
        try:
            connection.execute(
                _in_schema(
                    "INSERT INTO {collections} (name, key, metric, embedding, format, parts) "
                    "VALUES (%s, %s, %s, %s, %s, %s)",
                    server,
                ),
                (
                    info.name,
                    made.key,
                    info.metric.value,
                    json.dumps(info.embedding.to_dict()),
                    FORMAT_VERSION,
                    parts,
                ),
            )
        except sql_errors.UniqueViolation:
            raise taken(server.shown, info.name) from None
        make_table(connection, made, info.embedding.dimension)


def finish(connection: Connection, server: Server, name: str) -> None:
    """Record that all parts of a collection are there."""
    _record_finished(connection, server, name, finished=True)


def unfinish(connection: Connection, server: Server, name: str) -> None:
    """Record that a part is about to be dropped with the others."""
    _record_finished(connection, server, name, finished=False)


def drop(connection: Connection, server: Server, birth: Birth) -> None:
    """Delete a collection, or its part, and all documents in it."""
    with connection.transaction():
        hold(connection, server, birth)
        connection.execute(sql.SQL("DROP TABLE {}").format(birth.names.documents))
        of = birth.names
        for table in (of.writes, of.ledger, of.clocks, of.collections):
            connection.execute(
                sql.SQL("DELETE FROM {} WHERE key = %s").format(table), (birth.names.key,)
            )


def rename(connection: Connection, server: Server, birth: Birth, new_name: str) -> None:
    """Give a collection, or its part, another name."""
    with connection.transaction():
        if find(connection, server, new_name) is not None:
            raise taken(server.shown, new_name)
        hold(connection, server, birth)
        try:
            connection.execute(
                _in_schema("UPDATE {collections} SET name = %s WHERE key = %s", server),
                (new_name, birth.names.key),
            )
        except sql_errors.UniqueViolation:
            raise taken(server.shown, new_name) from None


def hold(connection: Connection, server: Server, birth: Birth) -> None:
    """Lock a collection that no one has open, until the connection is closed.

    Raises:
        CollectionInUseError: Someone has it open.
        CollectionNotFoundError: Someone dropped it meanwhile.
    """
    name, is_part = birth.info.name, birth.part is not None
    # A connection that was just closed lets go of its lock a moment later.
    for wait_s in (0, 0.05, 0.2, 0.5):
        connection.execute("SELECT pg_sleep(%s)", (wait_s,))
        held = connection.execute("SELECT pg_try_advisory_lock(%s)", (birth.names.lock,)).fetchone()
        if held == (True,):
            break
    else:
        raise CollectionInUseError(
            f"collection {name!r} of {server.shown} is open, here or elsewhere; close it first"
        )
    listed = _in_schema("SELECT 1 FROM {collections} WHERE key = %s AND name = %s", server)
    if connection.execute(listed, (birth.names.key, name)).fetchone() is None:
        raise missing(server.shown, name, names(connection, server, parts=is_part))


def _record_finished(connection: Connection, server: Server, name: str, *, finished: bool) -> None:
    connection.execute(
        _in_schema("UPDATE {collections} SET finished = %s WHERE name = %s", server),
        (finished, name),
    )


def template(statement: str) -> sql.SQL:
    """Return a statement to put names into; it is made of constants, never of a value."""
    return sql.SQL(statement)  # pyright: ignore[reportArgumentType]


def _in_schema(statement: str, server: Server) -> sql.Composed:
    collections = sql.Identifier(server.schema, "collections")
    return template(statement).format(collections=collections)
