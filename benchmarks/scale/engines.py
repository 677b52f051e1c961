"""The peers: what else a Python program can embed. Each is imported when it is made."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.scale.truth import K
from benchmarks.vectors import DIMENSION

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.scale.catalog import Shelf
    from numpy.typing import NDArray

    Vector = NDArray[Any]

FIELD = "random"
"""The metadata field that the filter asks for: below this value."""
_ROWS = 1_000


class Engine(Protocol):
    """A peer that holds a shelf. Its constructor takes an empty folder.

    Attributes:
        title: For tables.
        defaults: The settings that it has when nothing is said, by name.
        finer: Settings for more recall, in the order of their cost.
    """

    title: str
    defaults: Mapping[str, Any]
    finer: Mapping[str, Any]

    def __init__(self, folder: Path) -> None: ...

    def fill(self, shelf: Shelf) -> None:
        """Take all documents, with text and metadata, and build what there is to build."""
        ...

    def find(self, query: Vector, setting: Any, below: int | None) -> list[int]:
        """Return the rows of the best K documents, each fetched with its text and metadata."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


class Chroma:
    """Chroma's persistent client."""

    title = "Chroma"
    defaults: Mapping[str, Any] = {"ef_search 100": 100}
    finer: Mapping[str, Any] = {f"ef_search {ef}": ef for ef in (200, 400, 800)}

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._collection = self._client().create_collection(
            "benchmark", embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
        )
        self._opened = {100: self._collection}

    def fill(self, shelf: Shelf) -> None:
        for documents, vectors in shelf.documents():
            self._collection.add(
                ids=[document.id for document in documents],
                documents=[document.text for document in documents],
                metadatas=[dict(document.metadata) for document in documents],
                embeddings=vectors,
            )

    def find(self, query: Vector, setting: Any, below: int | None) -> list[int]:
        if setting not in self._opened:
            # The depth is read when a client first loads the index, and no more.
            self._collection.modify(configuration={"hnsw": {"ef_search": setting}})
            self._opened[setting] = self._client().get_collection("benchmark")
        where = None if below is None else {FIELD: {"$lt": below}}
        search = self._opened[setting].query
        found = search(query_embeddings=[query], n_results=K, where=where)
        return [int(identifier) for identifier in found["ids"][0]]

    def close(self) -> None:
        del self._collection, self._opened

    def _client(self) -> Any:
        import chromadb
        from chromadb.api.shared_system_client import SharedSystemClient

        SharedSystemClient.clear_system_cache()
        settings = chromadb.Settings(anonymized_telemetry=False)
        return chromadb.PersistentClient(str(self._folder), settings=settings)


class Lance:
    """LanceDB: a table, compared whole unless an index is made."""

    title = "LanceDB"
    defaults: Mapping[str, Any] = {"no index": None, "IVF_PQ": {}}
    finer: Mapping[str, Any] = {
        f"IVF_PQ, nprobes {probes}, refine {refine}": {"probes": probes, "refine": refine}
        for probes, refine in ((20, 5), (20, 20), (50, 20), (100, 20), (200, 40))
    }

    def __init__(self, folder: Path) -> None:
        import lancedb

        self._database = lancedb.connect(str(folder))

    def fill(self, shelf: Shelf) -> None:
        import pyarrow as pa
        from lancedb.index import IvfPq

        vectors = pa.FixedSizeListArray.from_arrays(pa.array(shelf.base.ravel()), DIMENSION)
        columns = {"id": range(len(shelf)), "text": shelf.texts, "vector": vectors}
        table = pa.table({**columns, **shelf.fields})
        self._table = self._database.create_table("benchmark", table)
        self._table.create_index("vector", config=IvfPq(distance_type="cosine"))

    def find(self, query: Vector, setting: Any, below: int | None) -> list[int]:
        search = self._table.search(query).distance_type("cosine").limit(K)
        if setting is None:
            search = search.bypass_vector_index()
        elif setting:
            search = search.nprobes(setting["probes"]).refine_factor(setting["refine"])
        if below is not None:
            search = search.where(f"{FIELD} < {below}")
        found = search.select(["id", "text", *_METADATA, "_distance"]).to_list()
        return [row["id"] for row in found]

    def close(self) -> None:
        del self._table, self._database


class SqliteVec:
    """sqlite-vec's table with a metadata column; it compares every vector."""

    title = "sqlite-vec"
    defaults: Mapping[str, Any] = {"exact": None}
    finer: Mapping[str, Any] = {}

    def __init__(self, folder: Path) -> None:
        import apsw  # Python's own SQLite is often built without extensions
        import sqlite_vec

        self._connection = apsw.Connection(str(folder / "benchmark.sqlite3"))
        self._connection.enable_load_extension(True)  # noqa: FBT003 - its signature
        self._connection.load_extension(sqlite_vec.loadable_path())

    def fill(self, shelf: Shelf) -> None:
        fields = ", ".join(f"{field} INTEGER" for field in _METADATA)
        self._connection.execute(
            f"CREATE VIRTUAL TABLE benchmark USING vec0(id INTEGER PRIMARY KEY, "
            f"embedding FLOAT[{DIMENSION}] distance_metric=cosine, {fields}, +text TEXT)"
        )
        for documents, vectors in shelf.documents():
            rows = [
                (int(document.id), row.tobytes(), *document.metadata.values(), document.text)
                for document, row in zip(documents, vectors, strict=True)
            ]
            with self._connection:
                self._connection.executemany("INSERT INTO benchmark VALUES (?,?,?,?,?,?)", rows)

    def find(self, query: Vector, setting: Any, below: int | None) -> list[int]:  # noqa: ARG002
        where = "" if below is None else f"AND {FIELD} < {below}"
        found = self._connection.execute(
            f"SELECT id, text, {', '.join(_METADATA)}, distance FROM benchmark "
            f"WHERE embedding MATCH ? AND k = {K} {where} ORDER BY distance",
            (query.tobytes(),),
        )
        return [row[0] for row in found]

    def close(self) -> None:
        self._connection.close()


class MilvusLite:
    """Milvus Lite through pymilvus; its AUTOINDEX is HNSW."""

    title = "Milvus Lite"
    defaults: Mapping[str, Any] = {"AUTOINDEX": {}}
    finer: Mapping[str, Any] = {f"AUTOINDEX, ef {ef}": {"ef": ef} for ef in (128, 256, 512)}

    def __init__(self, folder: Path) -> None:
        import milvus_lite  # noqa: F401 - pymilvus takes it for a missing server otherwise
        from pymilvus import MilvusClient

        self._client = MilvusClient(str(folder / "benchmark.db"))

    def fill(self, shelf: Shelf) -> None:
        from pymilvus import DataType

        schema = self._client.create_schema()
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIMENSION)
        schema.add_field("text", DataType.VARCHAR, max_length=65_535)
        for field in _METADATA:
            schema.add_field(field, DataType.INT64)
        index = self._client.prepare_index_params()
        index.add_index("vector", index_type="AUTOINDEX", metric_type="COSINE")
        self._client.create_collection("benchmark", schema=schema, index_params=index)
        for documents, vectors in shelf.documents():
            rows = [
                {"id": int(document.id), "vector": row, "text": document.text, **document.metadata}
                for document, row in zip(documents, vectors, strict=True)
            ]
            self._client.insert("benchmark", rows)
        self._client.flush("benchmark")
        self._client.load_collection("benchmark")

    def find(self, query: Vector, setting: Any, below: int | None) -> list[int]:
        found = self._client.search(
            "benchmark",
            data=[query],
            limit=K,
            filter="" if below is None else f"{FIELD} < {below}",
            output_fields=["text", *_METADATA],
            search_params={"params": setting},
        )
        return [hit["id"] for hit in found[0]]

    def close(self) -> None:
        self._client.close()


class QdrantEdge:
    """Qdrant's embedded shard, with an index on the payload field."""

    title = "qdrant-edge"
    defaults: Mapping[str, Any] = {"HNSW": None}
    finer: Mapping[str, Any] = {f"HNSW, ef {ef}": ef for ef in (200, 400, 800)}

    def __init__(self, folder: Path) -> None:
        import qdrant_edge

        self._edge = qdrant_edge
        vectors = qdrant_edge.EdgeVectorParams(DIMENSION, qdrant_edge.Distance.Cosine)
        config = qdrant_edge.EdgeConfig(vectors=vectors)
        self._shard = qdrant_edge.EdgeShard.create(str(folder), config)

    def fill(self, shelf: Shelf) -> None:
        edge = self._edge
        for field in _METADATA:
            operation = edge.UpdateOperation.create_field_index(
                field, edge.PayloadSchemaType.Integer
            )
            self._shard.update(operation)
        for documents, vectors in shelf.documents():
            points = [
                edge.Point(int(document.id), row, {"text": document.text, **document.metadata})
                for document, row in zip(documents, vectors.tolist(), strict=True)
            ]
            self._shard.update(edge.UpdateOperation.upsert_points(points))
        self._shard.optimize()

    def find(self, query: Vector, setting: Any, below: int | None) -> list[int]:
        edge = self._edge
        condition = None
        if below is not None:
            condition = edge.Filter(
                must=[edge.FieldCondition(FIELD, range=edge.RangeFloat(lt=below))]
            )
        request = edge.QueryRequest(
            limit=K,
            query=edge.Query.Nearest(query.tolist()),
            with_payload=True,
            filter=condition,
            params=None if setting is None else edge.SearchParams(hnsw_ef=setting),
        )
        return [point.id for point in self._shard.query(request) if point.payload is not None]

    def close(self) -> None:
        self._shard.close()


class LangChainFaiss:
    """LangChain's FAISS store: exact, documents in a dict, filters applied to what was found."""

    title = "LangChain FAISS"
    defaults: Mapping[str, Any] = {"exact, fetch_k 20": {}}
    finer: Mapping[str, Any] = {
        f"exact, fetch_k {fetched}": {"fetch_k": fetched} for fetched in (200, 1_000, 10_000)
    }

    def __init__(self, folder: Path) -> None:  # noqa: ARG002 - it is kept in memory
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the package is no longer developed
            from langchain_community.vectorstores import FAISS
            from langchain_core.embeddings import FakeEmbeddings
        self._class, self._unused = FAISS, FakeEmbeddings(size=DIMENSION)

    def fill(self, shelf: Shelf) -> None:
        metadata = [
            {"row": int(document.id), **document.metadata}
            for documents, _ in shelf.documents()
            for document in documents
        ]
        pairs: Sequence[tuple[str, Any]] = list(zip(shelf.texts, shelf.base, strict=True))
        self._store = self._class.from_embeddings(pairs, self._unused, metadatas=metadata)

    def find(self, query: Vector, setting: Any, below: int | None) -> list[int]:
        if below is not None:
            setting = {**setting, "filter": {FIELD: {"$lt": below}}}
        found = self._store.similarity_search_by_vector(query, k=K, **setting)
        return [document.metadata["row"] for document in found]

    def close(self) -> None:
        del self._store


_METADATA = ("random", "slope", "axis")

ENGINES: tuple[type[Engine], ...] = (
    Chroma, Lance, SqliteVec, MilvusLite, QdrantEdge, LangChainFaiss,
)  # fmt: skip
