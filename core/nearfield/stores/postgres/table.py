"""A collection's table: what is said of it, with its names in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg.sql import Composed, Identifier, Literal

from nearfield.stores.postgres.schema import template

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearfield.stores.postgres.connections import Connection
    from nearfield.stores.postgres.pool import Pool
    from nearfield.stores.postgres.schema import Names

__all__ = ["Table", "read_many"]

_STATEMENTS = 256
"""Texts of statements that are kept ready."""


class Table:
    """The documents of one collection.

    Args:
        pool: Connections to where they are.
        names: What its parts are called.
    """

    def __init__(self, pool: Pool, names: Names) -> None:
        self.pool = pool
        self.names = names
        self._statements: dict[str, bytes] = {}

    def rows(self, statement: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        """Run a statement that reads."""
        return self.pool.run(
            lambda connection: read_many(connection, self.sql(statement), [parameters])[0]
        )

    def sql(self, statement: str) -> bytes:
        """Put the collection's names into a statement; values are always parameters."""
        made = self._statements.get(statement)
        if made is None:
            if len(self._statements) >= _STATEMENTS:
                self._statements.clear()
            made = self._statements[statement] = self._composed(statement).as_bytes(None)
        return made

    def _composed(self, statement: str) -> Composed:
        return template(statement).format(
            documents=self.names.documents,
            collections=self.names.collections,
            writes=self.names.writes,
            ledger=self.names.ledger,
            clocks=self.names.clocks,
            key=Literal(self.names.key),
            name=Literal(self.names.documents.as_string(None)),
            index=Literal(self.names.index.as_string(None)),
            plain=Identifier(self.names.schema, "plain"),
            config=Literal(Identifier(self.names.schema, "words").as_string(None)),
        )


def read_many(
    connection: Connection, statement: bytes, parameters: Sequence[Any]
) -> list[list[tuple[Any, ...]]]:
    """Run a statement once with each set of parameters, without waiting in between."""
    with connection.cursor(binary=True) as cursor:
        if len(parameters) == 1:
            return [cursor.execute(statement, parameters[0]).fetchall()]
        cursor.executemany(statement, parameters, returning=True)
        found = [cursor.fetchall()]
        while cursor.nextset():
            found.append(cursor.fetchall())
        return found
