"""How each LlamaIndex store is opened and filled: as its documentation says."""

from __future__ import annotations

import os
from abc import abstractmethod
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.features.conditions import (
    All,
    Any_,
    Condition,
    Expression,
    Not,
)
from benchmarks.features.door import Door, uuid_of
from benchmarks.features.words import DIMENSION, sparse_of, vector_of
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["LLAMA_INDEX_STORES", "LlamaIndexStore"]

_NAME = "features"
_OPERATORS = {
    "eq": FilterOperator.EQ,
    "ne": FilterOperator.NE,
    "gt": FilterOperator.GT,
    "gte": FilterOperator.GTE,
    "lt": FilterOperator.LT,
    "lte": FilterOperator.LTE,
    "in": FilterOperator.IN,
    "nin": FilterOperator.NIN,
    "contains": FilterOperator.CONTAINS,
    "text": FilterOperator.TEXT_MATCH,
}


class LlamaIndexStore(Door):
    """A vector store of LlamaIndex."""

    @abstractmethod
    def open(self, folder: Path, **options: Any) -> Any:
        """Open the store."""

    def put(
        self,
        store: Any,
        texts: Mapping[str, str],
        metadatas: Mapping[str, dict[str, Any]] | None = None,
    ) -> None:
        store.add(self.nodes(texts, metadatas))

    def nodes(
        self, texts: Mapping[str, str], metadatas: Mapping[str, dict[str, Any]] | None = None
    ) -> list[TextNode]:
        """Nodes with vectors, as an index hands them to a store."""
        return [
            TextNode(
                id_=self.id(name),
                text=text,
                metadata=(metadatas or {}).get(name, {}),
                embedding=vector_of(text),
            )
            for name, text in texts.items()
        ]

    def remove(self, store: Any, ids: Sequence[str]) -> None:
        store.delete_nodes([self.id(name) for name in ids])

    def nearest(
        self, store: Any, text: str, k: int, where: Expression | None = None
    ) -> list[tuple[str, float]]:
        query = VectorStoreQuery(
            query_embedding=vector_of(text),
            query_str=text,
            similarity_top_k=k,
            filters=None if where is None else spelt(where),
        )
        found = store.query(query)
        return list(zip(found.ids or [], map(float, found.similarities or []), strict=True))

    def present(self, store: Any, ids: Sequence[str]) -> set[str]:
        found = {node.node_id for node in store.get_nodes([self.id(name) for name in ids])}
        return {name for name in ids if self.id(name) in found}

    def open_async(self, folder: Path) -> Any:
        """Open it for asynchronous calls."""
        return self.open(folder)

    def open_for_words(self, folder: Path) -> Any:
        """Open it in the way that searching by words needs."""
        return self.open(folder)


def spelt(where: Expression) -> MetadataFilters:
    """A filter as LlamaIndex's own objects, the same for every store."""
    match where:
        case All(parts):
            return MetadataFilters(filters=[_part(p) for p in parts], condition=FilterCondition.AND)
        case Any_(parts):
            return MetadataFilters(filters=[_part(p) for p in parts], condition=FilterCondition.OR)
        case Not(part):
            return MetadataFilters(filters=[_part(part)], condition=FilterCondition.NOT)
        case Condition():
            return MetadataFilters(filters=[_part(where)])


def _part(where: Expression) -> Any:
    if isinstance(where, Condition):
        return MetadataFilter(key=where.field, value=where.value, operator=_OPERATORS[where.op])
    return spelt(where)


class Nearfield(LlamaIndexStore):
    name = "nearfield"
    title = "nearfield"
    packages = ("nearfield",)
    modules = ("llama_index.vector_stores.nearfield", "nearfield")

    def open(self, folder: Path, **options: Any) -> Any:
        from llama_index.vector_stores.nearfield import NearfieldVectorStore

        return NearfieldVectorStore(folder, _NAME, **options)

    def close(self, store: Any) -> None:
        store.close()


class Faiss(LlamaIndexStore):
    name = "faiss"
    title = "FAISS (map store)"
    packages = ("llama-index-vector-stores-faiss", "faiss-cpu")
    modules = ("llama_index.vector_stores.faiss", "faiss")
    saves = True

    def open(self, folder: Path, **options: Any) -> Any:  # noqa: ARG002
        import faiss
        from llama_index.vector_stores.faiss import FaissMapVectorStore

        return FaissMapVectorStore(faiss_index=faiss.IndexIDMap2(faiss.IndexFlatL2(DIMENSION)))

    def save(self, store: Any, folder: Path) -> None:
        store.persist(str(folder / "default__vector_store.json"))

    def restore(self, folder: Path) -> Any:
        from llama_index.vector_stores.faiss import FaissMapVectorStore

        return FaissMapVectorStore.from_persist_dir(str(folder))

    def replace(self, store: Any, texts: Mapping[str, str]) -> None:
        self.remove(store, list(texts))
        self.put(store, texts)

    def present(self, store: Any, ids: Sequence[str]) -> set[str]:
        found = {name for name, _ in self.nearest(store, "any", 20_000)}
        return {name for name in ids if self.id(name) in found}


class Chroma(LlamaIndexStore):
    name = "chroma"
    title = "Chroma"
    packages = ("llama-index-vector-stores-chroma", "chromadb")
    modules = ("llama_index.vector_stores.chroma", "chromadb")

    def open(self, folder: Path, **options: Any) -> Any:  # noqa: ARG002
        import chromadb
        from chromadb.config import Settings
        from llama_index.vector_stores.chroma import ChromaVectorStore

        client = chromadb.PersistentClient(
            str(folder), settings=Settings(anonymized_telemetry=False)
        )
        collection = client.get_or_create_collection(_NAME, embedding_function=None)
        return ChromaVectorStore(chroma_collection=collection)

    def replace(self, store: Any, texts: Mapping[str, str]) -> None:
        self.remove(store, list(texts))
        self.put(store, texts)


class Qdrant(LlamaIndexStore):
    name = "qdrant"
    title = "Qdrant, local"
    packages = ("llama-index-vector-stores-qdrant", "qdrant-client")
    modules = ("llama_index.vector_stores.qdrant", "qdrant_client")

    def id(self, text: str) -> str:
        return uuid_of(text)

    def open(self, folder: Path, **options: Any) -> Any:
        from llama_index.vector_stores.qdrant import QdrantVectorStore
        from qdrant_client import QdrantClient

        return QdrantVectorStore(_NAME, client=QdrantClient(path=str(folder)), **options)

    def open_async(self, folder: Path) -> Any:
        from llama_index.vector_stores.qdrant import QdrantVectorStore
        from qdrant_client import AsyncQdrantClient

        return QdrantVectorStore(_NAME, aclient=AsyncQdrantClient(path=str(folder)))

    def open_for_words(self, folder: Path) -> Any:
        return self.open(
            folder,
            enable_hybrid=True,
            sparse_doc_fn=_counts_of_words,
            sparse_query_fn=_counts_of_words,
        )

    def close(self, store: Any) -> None:
        if store.client is not None:
            store.client.close()


def _counts_of_words(texts: list[str]) -> tuple[list[list[int]], list[list[float]]]:
    pairs = [sparse_of(text) for text in texts]
    return [indices for indices, _ in pairs], [values for _, values in pairs]


class DuckDB(LlamaIndexStore):
    name = "duckdb"
    title = "DuckDB"
    packages = ("llama-index-vector-stores-duckdb", "duckdb")
    modules = ("llama_index.vector_stores.duckdb", "duckdb")
    lists_note = "lists only once flat_metadata is set to False"

    def open(self, folder: Path, **options: Any) -> Any:  # noqa: ARG002
        from llama_index.vector_stores.duckdb import DuckDBVectorStore

        _offer_extensions(folder.parent / "home")
        return DuckDBVectorStore("store.duckdb", embed_dim=DIMENSION, persist_dir=str(folder))

    def replace(self, store: Any, texts: Mapping[str, str]) -> None:
        self.remove(store, list(texts))
        self.put(store, texts)

    def allow_lists(self, store: Any) -> None:
        store.flat_metadata = False

    def close(self, store: Any) -> None:
        store._shared_conn.close()  # noqa: SLF001  # it has no close of its own


def _offer_extensions(home: Path) -> None:
    """Let DuckDB find the extensions that PyPI has, in place of downloading them."""
    for name in ("fts", "json"):
        package = find_spec(f"duckdb_extension_{name}")
        if package is None or package.origin is None:
            continue
        for file in Path(package.origin).parent.glob("extensions/*/*.duckdb_extension"):
            for platform in ("linux_amd64", "linux_amd64_gcc4", "linux_arm64", "osx_arm64"):
                link = home / ".duckdb/extensions" / file.parent.name / platform / file.name
                link.parent.mkdir(parents=True, exist_ok=True)
                if not link.exists():
                    link.symlink_to(file)
            os.environ["HOME"] = str(home)


LLAMA_INDEX_STORES: tuple[LlamaIndexStore, ...] = (
    Nearfield(),
    Faiss(),
    Chroma(),
    Qdrant(),
    DuckDB(),
)
