"""A collection to be damaged, and what it must answer."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import nearfield
from nearfield import Document, F
from nearfield.errors import CorruptionError, FormatVersionError

if TYPE_CHECKING:
    from pathlib import Path

    from nearfield import Collection

NAME = "specimen"
DIMENSION = 24
DOCUMENTS = 240
GROUPS = 4
PAGE_SIZE_BYTES = 8192

EVERYTHING = ("text", "metadata", "embedding")

QUERIES = np.random.default_rng(99).standard_normal((6, DIMENSION), dtype=np.float32)
VECTORS = np.random.default_rng(98).standard_normal((DOCUMENTS, DIMENSION), dtype=np.float32)


def identifier(number: int) -> str:
    return f"document-{number}"


def document(number: int) -> Document:
    """Return a document; every seventh has a text of several pages."""
    words = f"common word{number} group{number % GROUPS} "
    text = words * (500 if number % 7 == 0 else 1 + number % 5)
    return Document(text, id=identifier(number), metadata=metadata(number))


def metadata(number: int) -> dict[str, Any]:
    return {"number": number, "group": number % GROUPS, "tags": [f"t{number % 3}", "all"]}


def database_file(folder: Path) -> Path:
    return folder / NAME / "collection.sqlite3"


def make(folder: Path) -> None:
    """Make the specimen: written in several calls, some documents twice, some deleted."""
    numbers = range(DOCUMENTS)
    with nearfield.open(folder, NAME, dimension=DIMENSION) as collection:
        first = numbers[: DOCUMENTS // 2]
        collection.upsert(
            [Document("an older text", id=identifier(n)) for n in first], vectors=VECTORS[first]
        )
        collection.upsert([Document("gone", id="gone")], vectors=QUERIES[:1])
        for start in range(0, DOCUMENTS, 60):
            batch = numbers[start : start + 60]
            collection.upsert([document(n) for n in batch], vectors=VECTORS[batch])
        collection.delete("gone")


def copy(original: Path, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(original, folder)
    return folder


def reopen(folder: Path, **options: Any) -> Collection:
    return nearfield.open(folder, NAME, create=False, timeout_s=5.0, **options)


def sql(folder: Path, statement: str, *parameters: object) -> None:
    """Change the closed database behind the engine's back."""
    with closing(sqlite3.connect(database_file(folder))) as connection, connection:
        connection.execute(statement, parameters)


@dataclass(frozen=True)
class Answer:
    """What one way of reading gave: a value, or the discovery of damage."""

    value: Any = None
    detected: bool = False


def answers(folder: Path) -> dict[str, Answer]:
    """Read the specimen in every way there is; empty when it does not even open."""
    try:
        collection = reopen(folder)
    except (CorruptionError, FormatVersionError):
        return {}
    with collection:
        return {name: answer(read, collection) for name, read in READINGS.items()}


def answer(read, collection: Collection) -> Answer:
    try:
        return Answer(read(collection))
    except CorruptionError:
        return Answer(detected=True)


def shown(read: Document) -> tuple[Any, ...]:
    """Return all there is of a document, to be compared."""
    embedding = None if read.embedding is None else read.embedding.tobytes()
    return read.id, read.text, read.metadata, read.created_at, embedding


def hits(found: list[Any]) -> list[tuple[Any, ...]]:
    return [(*shown(hit.document), hit.score, hit.rank) for hit in found]


IDS = [identifier(number) for number in range(DOCUMENTS)]
WORDS = [f"word{number}" for number in range(0, DOCUMENTS, 5)] + ["group2", "common", "older"]

READINGS = {
    "search": lambda c: [hits(c.search(q, k=5, include=EVERYTHING)) for q in QUERIES],
    "filtered": lambda c: [hits(c.search(q, k=5, where=F.group == 2)) for q in QUERIES],
    "tagged": lambda c: [hits(c.search(q, k=5, where=F.tags.contains("t1"))) for q in QUERIES],
    "many": lambda c: [hits(found) for found in c.search_many(QUERIES, k=3)],
    "count": lambda c: (len(c), c.count(F.number < 50)),
    "scan": lambda c: [shown(read) for read in c.scan(include=EVERYTHING)],
    "scan_where": lambda c: [shown(read) for read in c.scan(where=F.group == 1)],
    "get": lambda c: [read and shown(read) for read in c.get(IDS, include=EVERYTHING)],
    "keyword": lambda c: [hits(c.search(word, mode="keyword", k=5)) for word in WORDS],
}
