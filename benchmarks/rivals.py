"""What the collection is compared with: bare SQLite, bare FAISS and, if installed, Chroma."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearfield import Document

__all__ = ["BareFaiss", "BareSQLite", "Chroma", "MetadataArrays", "sqlite_rows"]

PAGE_SIZE_BYTES = 8192
"""The page size of a collection's file, so that both write pages alike."""


class BareSQLite:
    """Documents and vectors in tables, as durable as the collection, and nothing else.

    Args:
        path: The file to make.
        keyword_index: Whether to fill an FTS5 index with the collection's tokenizer too.
    """

    def __init__(self, path: Path, *, keyword_index: bool = False) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._keyword_index = keyword_index
        self._connection.executescript(
            f"""
            PRAGMA page_size = {PAGE_SIZE_BYTES};
            PRAGMA journal_mode = WAL;
            PRAGMA synchronous = FULL;
            PRAGMA cache_size = -16000;
            CREATE TABLE documents (
                slot INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, metadata BLOB, text TEXT
            );
            CREATE TABLE vectors (slot INTEGER PRIMARY KEY, vector BLOB);
            CREATE VIRTUAL TABLE documents_fts USING fts5 (
                text, content = 'documents', content_rowid = 'slot',
                tokenize = 'porter unicode61 remove_diacritics 2'
            );
            """
        )

    def insert(self, rows: Sequence[tuple[Any, ...]], vectors: Sequence[tuple[int, bytes]]) -> None:
        """Write rows (slot, id, metadata, text) and (slot, vector) in one durable transaction."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO documents VALUES (?, ?, ?, ?)", rows)
        connection.executemany("INSERT INTO vectors VALUES (?, ?)", vectors)
        if self._keyword_index:
            connection.execute(
                "INSERT INTO documents_fts (rowid, text) "
                "SELECT slot, text FROM documents WHERE slot >= ?",
                (rows[0][0],),
            )
        connection.execute("COMMIT")

    def fetch(self, slots: list[int]) -> list[tuple[Any, ...]]:
        """Select documents by primary key in one statement."""
        marks = ",".join("?" * len(slots))
        return self._connection.execute(
            f"SELECT slot, id, metadata, text FROM documents WHERE slot IN ({marks})", slots
        ).fetchall()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def sqlite_rows(
    documents: Sequence[Document], vectors: np.ndarray, first: int
) -> tuple[list[tuple[Any, ...]], list[tuple[int, bytes]]]:
    """Return what :meth:`BareSQLite.insert` takes, slots counted from ``first``."""
    rows = [
        (slot, document.id, json.dumps(document.metadata).encode(), document.text)
        for slot, document in enumerate(documents, start=first)
    ]
    return rows, [(slot, row.tobytes()) for slot, row in enumerate(vectors, start=first)]


class BareFaiss:
    """An exact FAISS index, searched on one thread for each query.

    Args:
        vectors: float32 of shape (n, dimension), of length 1.
    """

    def __init__(self, vectors: np.ndarray) -> None:
        self._index = faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(vectors)

    def search(self, query: np.ndarray, k: int = 10) -> list[int]:
        """Return the positions of the k best."""
        return self._index.search(query[np.newaxis], k)[1][0].tolist()

    def search_masked(self, query: np.ndarray, mask: np.ndarray, k: int = 10) -> list[int]:
        """Return the positions of the k best of the rows that a mask allows."""
        bits = np.packbits(mask, bitorder="little")
        selector = faiss.IDSelectorBitmap(len(mask), faiss.swig_ptr(bits))
        parameters = faiss.SearchParameters(sel=selector)
        return self._index.search(query[np.newaxis], k, params=parameters)[1][0].tolist()

    def search_many(self, queries: np.ndarray, k: int = 10) -> list[list[int]]:
        """Return the positions of the k best for each query."""
        return self._index.search(queries, k)[1].tolist()


class MetadataArrays:
    """Metadata as someone who knows the filters in advance would lay it out for numpy."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._code_of: dict[str, int] = {}
        self._strings = {
            field: np.array([self._code(document.metadata[field]) for document in documents])
            for field in ("shelf", "section", "kind", "language")
        }
        self._positions = np.array([document.metadata["position"] for document in documents])
        self._labels = np.array(
            [[self._code(label) for label in document.metadata["labels"]] for document in documents]
        )

    def equals(self, field: str, value: str) -> np.ndarray:
        """Mask the documents whose field is this value."""
        return self._strings[field] == self._code_of[value]

    def below(self, position: float) -> np.ndarray:
        """Mask the documents whose position is below a number."""
        return self._positions < position

    def has_label(self, value: str) -> np.ndarray:
        """Mask the documents that have a label."""
        return (self._labels == self._code_of[value]).any(axis=1)

    def _code(self, value: str) -> int:
        return self._code_of.setdefault(value, len(self._code_of))


class Chroma:
    """A collection of Chroma's embedded client, with the vectors given.

    Args:
        folder: Where it keeps its files.
    """

    def __init__(self, folder: Path) -> None:
        import chromadb

        settings = chromadb.Settings(anonymized_telemetry=False)
        client = chromadb.PersistentClient(str(folder), settings=settings)
        self._collection = client.create_collection(
            "benchmark", embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
        )

    def upsert(self, documents: Sequence[Document], vectors: np.ndarray) -> None:
        """Write documents."""
        self._collection.upsert(
            ids=[document.id for document in documents],
            documents=[document.text for document in documents],
            metadatas=[document.metadata for document in documents],
            embeddings=vectors,
        )

    def search(self, query: np.ndarray, k: int = 10) -> Any:
        """Return the k best documents."""
        return self._collection.query(query_embeddings=[query], n_results=k)
