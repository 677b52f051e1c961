"""How each LangChain store is opened, filled and filtered: as its documentation says."""

from __future__ import annotations

import datetime as dt
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from benchmarks.features.conditions import (
    All,
    Any_,
    Condition,
    Expression,
    InexpressibleError,
    Not,
    matches,
)
from benchmarks.features.door import Door, uuid_of
from benchmarks.features.langchain_embeddings import WordEmbeddings
from benchmarks.features.words import sparse_of, vector_of
from langchain_core.documents import Document

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from langchain_core.embeddings import Embeddings

__all__ = ["LANGCHAIN_STORES", "LangChainStore"]

_NAME = "features"
_SOME = {"kind": "probe"}
"""Where a probe is not about metadata; a document without any is a row of its own."""


class LangChainStore(Door):
    """A vector store of LangChain."""

    @abstractmethod
    def open(self, folder: Path, embedding: Embeddings | None = None, **options: Any) -> Any:
        """Open the store; without embeddings, with those of words."""

    @abstractmethod
    def filtered(self, where: Expression) -> dict[str, Any]:
        """The arguments of a search that spell a filter."""

    def put(
        self,
        store: Any,
        texts: Mapping[str, str],
        metadatas: Mapping[str, dict[str, Any]] | None = None,
    ) -> None:
        store.add_documents(
            [
                Document(page_content=text, metadata=(metadatas or {}).get(name, _SOME))
                for name, text in texts.items()
            ],
            ids=[self.id(name) for name in texts],
        )

    def remove(self, store: Any, ids: Sequence[str]) -> None:
        store.delete([self.id(name) for name in ids])

    def remove_where(self, store: Any, where: Expression) -> None:
        """Delete what matches a filter."""
        store.delete(**self.filtered(where))

    def nearest(
        self, store: Any, text: str, k: int, where: Expression | None = None
    ) -> list[tuple[str, float]]:
        arguments = {} if where is None else self.filtered(where)
        found = store.similarity_search_with_score(text, k=k, **arguments)
        return [(self.id_of(document), float(score)) for document, score in found]

    def id_of(self, document: Document) -> str:
        """The id of a document found."""
        return str(document.id)

    def present(self, store: Any, ids: Sequence[str]) -> set[str]:
        found = {self.id_of(one) for one in store.get_by_ids([self.id(name) for name in ids])}
        return {name for name in ids if self.id(name) in found}

    def keyword(self, store: Any, query: str, k: int) -> list[Document]:  # noqa: ARG002
        """Search by words alone.

        Raises:
            InexpressibleError: There is no such search.
        """
        raise InexpressibleError("no such search")

    def hybrid(self, store: Any, query: str, k: int) -> list[Document]:  # noqa: ARG002
        """Search by words and vectors at once; raises ``InexpressibleError`` likewise."""
        raise InexpressibleError("no such search")

    def open_for_words(self, folder: Path, *, hybrid: bool) -> Any:  # noqa: ARG002
        """Open it in the way that searching by words needs."""
        return self.open(folder)

    @abstractmethod
    def from_texts(self, folder: Path, texts: list[str]) -> Any:
        """Make the store of texts, with LangChain's class method."""

    def scored_retriever(self, store: Any) -> Any:
        """A retriever whose documents carry their scores, where there is one."""
        return store.as_retriever(search_kwargs={"k": 1})

    def translator(self) -> Any:
        """What spells structured queries as the store's filters.

        Raises:
            InexpressibleError: Neither LangChain nor the store has one.
        """
        raise InexpressibleError("there is no translator for it")

    def record_manager(self, store: Any) -> Any:  # noqa: ARG002
        """What remembers for ``index()`` what was written."""
        from langchain_core.indexing import InMemoryRecordManager

        manager = InMemoryRecordManager(namespace=_NAME)
        manager.create_schema()
        return manager


class Nearfield(LangChainStore):
    name = "nearfield"
    title = "nearfield"
    packages = ("nearfield",)
    modules = ("langchain_nearfield", "nearfield")

    def open(self, folder: Path, embedding: Embeddings | None = None, **options: Any) -> Any:
        from langchain_nearfield import NearfieldVectorStore

        return NearfieldVectorStore(folder, embedding=embedding or WordEmbeddings(), **options)

    def close(self, store: Any) -> None:
        store.close()

    def filtered(self, where: Expression) -> dict[str, Any]:
        return {"filter": self._spelt(where)}

    def _spelt(self, where: Expression) -> dict[str, Any]:
        match where:
            case Condition("text", field, value):
                return {field: {"$text_match": value}}
            case Condition(op, field, value):
                return {field: {f"${op}": value}}
            case All(parts):
                return {"$and": [self._spelt(part) for part in parts]}
            case Any_(parts):
                return {"$or": [self._spelt(part) for part in parts]}
            case Not(part):
                return {"$not": self._spelt(part)}

    def keyword(self, store: Any, query: str, k: int) -> list[Document]:
        return store.similarity_search(query, k=k, mode="keyword")

    def hybrid(self, store: Any, query: str, k: int) -> list[Document]:
        return store.similarity_search(query, k=k, mode="hybrid")

    def from_texts(self, folder: Path, texts: list[str]) -> Any:
        from langchain_nearfield import NearfieldVectorStore

        return NearfieldVectorStore.from_texts(texts, WordEmbeddings(), url=folder)

    def scored_retriever(self, store: Any) -> Any:
        return store.as_retriever(search_kwargs={"k": 1}, score_key="score")

    def translator(self) -> Any:
        from langchain_nearfield import NearfieldTranslator

        return NearfieldTranslator()

    def record_manager(self, store: Any) -> Any:
        from langchain_nearfield.record_manager import NearfieldRecordManager

        manager = NearfieldRecordManager(store)
        manager.create_schema()
        return manager


class Faiss(LangChainStore):
    name = "faiss"
    title = "FAISS (community)"
    packages = ("langchain-community", "faiss-cpu")
    modules = ("langchain_community.vectorstores.faiss", "faiss")
    saves = True

    def open(self, folder: Path, embedding: Embeddings | None = None, **options: Any) -> Any:  # noqa: ARG002
        import faiss
        from langchain_community.docstore.in_memory import InMemoryDocstore
        from langchain_community.vectorstores import FAISS

        embedding = embedding or WordEmbeddings()
        return FAISS(
            embedding_function=embedding,
            index=faiss.IndexFlatL2(len(embedding.embed_query("hello world"))),
            docstore=InMemoryDocstore(),
            index_to_docstore_id={},
        )

    def save(self, store: Any, folder: Path) -> None:
        store.save_local(str(folder / "index"))

    def restore(self, folder: Path) -> Any:
        from langchain_community.vectorstores import FAISS

        return FAISS.load_local(
            str(folder / "index"), WordEmbeddings(), allow_dangerous_deserialization=True
        )

    def from_texts(self, folder: Path, texts: list[str]) -> Any:  # noqa: ARG002
        from langchain_community.vectorstores import FAISS

        return FAISS.from_texts(texts, WordEmbeddings())

    def replace(self, store: Any, texts: Mapping[str, str]) -> None:
        self.remove(store, list(texts))
        self.put(store, texts)

    def filtered(self, where: Expression) -> dict[str, Any]:
        return {"filter": self._spelt(where)}

    def _spelt(self, where: Expression) -> Any:
        match where:
            case Condition("contains" | "text"):
                return lambda metadata: matches(where, metadata)  # its own way to say anything
            case Condition("ne", field, value):
                return {field: {"$neq": value}}
            case Condition(op, field, value):
                return {field: {f"${op}": value}}
            case All(parts):
                return {"$and": [self._spelt(part) for part in parts]}
            case Any_(parts):
                return {"$or": [self._spelt(part) for part in parts]}
            case Not(part):
                return {"$not": self._spelt(part)}

    def remove_where(self, store: Any, where: Expression) -> None:  # noqa: ARG002
        raise InexpressibleError("delete takes ids only")


class Chroma(LangChainStore):
    name = "chroma"
    title = "langchain-chroma"
    packages = ("langchain-chroma", "chromadb")
    modules = ("langchain_chroma", "chromadb")

    def open(self, folder: Path, embedding: Embeddings | None = None, **options: Any) -> Any:  # noqa: ARG002
        from chromadb.config import Settings
        from langchain_chroma import Chroma as ChromaStore

        return ChromaStore(
            collection_name=_NAME,
            embedding_function=embedding or WordEmbeddings(),
            persist_directory=str(folder),
            client_settings=Settings(anonymized_telemetry=False),
        )

    def filtered(self, where: Expression) -> dict[str, Any]:
        return {"filter": self._spelt(where)}

    def _spelt(self, where: Expression) -> dict[str, Any]:
        match where:
            case Condition("text"):
                raise InexpressibleError("text in metadata")
            case Condition(op, field, value):
                return {field: {f"${op}": value}}
            case All(parts):
                return {"$and": [self._spelt(part) for part in parts]}
            case Any_(parts):
                return {"$or": [self._spelt(part) for part in parts]}
            case Not():
                raise InexpressibleError("not")

    def remove_where(self, store: Any, where: Expression) -> None:
        store.delete(where=self._spelt(where))

    def from_texts(self, folder: Path, texts: list[str]) -> Any:
        from langchain_chroma import Chroma as ChromaStore

        return ChromaStore.from_texts(texts, WordEmbeddings(), persist_directory=str(folder))

    def translator(self) -> Any:
        from langchain_community.query_constructors.chroma import ChromaTranslator

        return ChromaTranslator()

    def hybrid(self, store: Any, query: str, k: int) -> list[Document]:
        from chromadb import K, Knn, Search

        ranked = Search().rank(Knn(query=vector_of(query))).limit(k).select(K.DOCUMENT)
        return store.hybrid_search(ranked)


class Qdrant(LangChainStore):
    name = "qdrant"
    title = "langchain-qdrant, local"
    packages = ("langchain-qdrant", "qdrant-client")
    modules = ("langchain_qdrant", "qdrant_client")

    def id(self, text: str) -> str:
        return uuid_of(text)

    def open(
        self,
        folder: Path,
        embedding: Embeddings | None = None,
        mode: str = "dense",
        **options: Any,  # noqa: ARG002
    ) -> Any:
        from langchain_qdrant import QdrantVectorStore, RetrievalMode
        from qdrant_client import QdrantClient, models

        embedding = embedding or WordEmbeddings()
        client = QdrantClient(path=str(folder))
        if not client.collection_exists(_NAME):
            size = len(embedding.embed_query("hello world"))
            client.create_collection(
                _NAME,
                vectors_config=models.VectorParams(size=size, distance=models.Distance.COSINE),
                sparse_vectors_config={"langchain-sparse": models.SparseVectorParams()},
            )
        return QdrantVectorStore(
            client=client,
            collection_name=_NAME,
            embedding=embedding,
            retrieval_mode=RetrievalMode(mode),
            sparse_embedding=None if mode == "dense" else _counts_of_words(),
        )

    def close(self, store: Any) -> None:
        store.client.close()

    def id_of(self, document: Document) -> str:
        return str(document.metadata["_id"])  # its documents carry no id

    def filtered(self, where: Expression) -> dict[str, Any]:
        from qdrant_client import models

        condition = self._spelt(where)
        if not isinstance(condition, models.Filter):
            condition = models.Filter(must=[condition])
        return {"filter": condition}

    def _spelt(self, where: Expression) -> Any:
        from qdrant_client import models

        match where:
            case Condition(op, field, value):
                return self._condition(op, f"metadata.{field}", value)
            case All(parts):
                return models.Filter(must=[self._spelt(part) for part in parts])
            case Any_(parts):
                return models.Filter(should=[self._spelt(part) for part in parts])
            case Not(part):
                return models.Filter(must_not=[self._spelt(part)])

    def _condition(self, op: str, key: str, value: Any) -> Any:
        from qdrant_client import models

        if op in ("gt", "gte", "lt", "lte"):
            bounds = models.DatetimeRange if isinstance(value, dt.datetime) else models.Range
            return models.FieldCondition(key=key, range=bounds(**{op: value}))
        match: Any
        if op in ("eq", "contains"):
            match = models.MatchValue(value=value)
        elif op == "in":
            match = models.MatchAny(any=value)
        elif op == "text":
            match = models.MatchText(text=value)
        else:
            excluded = value if op == "nin" else [value]
            match = models.MatchExcept(**{"except": excluded})
        return models.FieldCondition(key=key, match=match)

    def remove_where(self, store: Any, where: Expression) -> None:  # noqa: ARG002
        raise InexpressibleError("the store's delete takes ids only (its client takes filters)")

    def from_texts(self, folder: Path, texts: list[str]) -> Any:
        from langchain_qdrant import QdrantVectorStore

        return QdrantVectorStore.from_texts(
            texts, WordEmbeddings(), path=str(folder), collection_name=_NAME
        )

    def translator(self) -> Any:
        from langchain_community.query_constructors.qdrant import QdrantTranslator

        return QdrantTranslator(metadata_key="metadata")

    def keyword(self, store: Any, query: str, k: int) -> list[Document]:
        return store.similarity_search(query, k=k)

    def hybrid(self, store: Any, query: str, k: int) -> list[Document]:
        return store.similarity_search(query, k=k)

    def open_for_words(self, folder: Path, *, hybrid: bool) -> Any:
        return self.open(folder, mode="hybrid" if hybrid else "sparse")


def _counts_of_words() -> Any:
    from langchain_qdrant.sparse_embeddings import SparseEmbeddings, SparseVector

    class CountsOfWords(SparseEmbeddings):
        def embed_documents(self, texts: list[str]) -> list[SparseVector]:
            return [self.embed_query(text) for text in texts]

        def embed_query(self, text: str) -> SparseVector:
            indices, values = sparse_of(text)
            return SparseVector(indices=indices, values=values)

    return CountsOfWords()


LANGCHAIN_STORES: tuple[LangChainStore, ...] = (Nearfield(), Faiss(), Chroma(), Qdrant())
