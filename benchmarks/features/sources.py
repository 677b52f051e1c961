"""What could not be tried here, and was read instead. Most of it speaks for the others."""

from __future__ import annotations

from benchmarks.features.verdict import Answer, Verdict

__all__ = ["SOURCES"]

_NEARFIELD = "nearfield: `connect` takes a folder and nothing else (core/nearfield/connect.py)"
_FAISS_FILE = "FAISS: the store is an index and dicts in memory (community vectorstores/faiss.py)"
_FAISS_MAP = "FAISS: the store is an index and two dicts in memory (map_store.py)"
_CHROMA_LC = "Chroma: `host`, `port`, `chroma_cloud_api_key` of the store (vectorstores.py)"
_CHROMA_LI = "Chroma: `host`, `port` of the store (base.py), `chromadb.CloudClient`"
_QDRANT_CLIENT = "Qdrant: `url`, `api_key` of `QdrantClient` (qdrant_client.py)"
_DUCKDB_FILE = "DuckDB: `_connect` opens a file in the process (base.py)"
_QDRANT_GPU = "Qdrant: its documentation, Running with GPU, server 1.13 and later"
_QDRANT_MODELS = "Qdrant: the client's models.py"
_CHROMA_CONFIGURATION = "Chroma: api/collection_configuration.py of chromadb"
_CHROMA_SDKS = "Chroma: its documentation, Reference, SDKs"
_QDRANT_SDKS = "Qdrant: its documentation, API & SDKs"


def _yes(reason: str, source: str) -> Verdict:
    return Verdict(Answer.YES, reason, source)


def _partly(reason: str, source: str) -> Verdict:
    return Verdict(Answer.PARTLY, reason, source)


def _no(reason: str, source: str) -> Verdict:
    return Verdict(Answer.NO, reason, source)


def _shared(chroma: str, faiss: str) -> dict[str, dict[str, Verdict]]:
    """The rows that both frameworks have, since the engines are the same."""
    return {
        "a server that several machines use": {
            "nearfield": _no("a folder on one machine", _NEARFIELD),
            "faiss": _no("", faiss),
            "chroma": _yes("chroma run", chroma),
            "qdrant": _yes("the store is the same, with a URL", _QDRANT_CLIENT),
            "duckdb": _no("", _DUCKDB_FILE),
        },
        "a hosted service": {
            "nearfield": _no("", _NEARFIELD),
            "faiss": _no("", faiss),
            "chroma": _yes("Chroma Cloud", chroma),
            "qdrant": _yes("Qdrant Cloud", _QDRANT_CLIENT),
            "duckdb": _no("not of this store", _DUCKDB_FILE),
        },
        "shards and replicas": {
            "nearfield": _no("", _NEARFIELD),
            "faiss": _no("", faiss),
            "chroma": _partly("in its distributed deployment (SPANN)", _CHROMA_CONFIGURATION),
            "qdrant": _yes("on a server", "Qdrant: `create_collection` of qdrant_client.py"),
            "duckdb": _no("", _DUCKDB_FILE),
        },
        "GPU": {
            "nearfield": _no("", "nearfield: faiss-cpu is its kernel (pyproject.toml)"),
            "faiss": _partly(
                "with a GPU build of faiss, whose index is given to the store",
                "FAISS: gpu_wrappers.py of faiss",
            ),
            "chroma": _no("nothing in its configuration", _CHROMA_CONFIGURATION),
            "qdrant": _yes("the server builds indexes on it", _QDRANT_GPU),
            "duckdb": _no("", _DUCKDB_FILE),
        },
        "compressed vectors of a kind you name": {
            "nearfield": _partly(
                "product quantisation, by measuring your data; it cannot be named",
                "nearfield: docs/design.md",
            ),
            "faiss": _yes("any index of faiss", faiss),
            "chroma": _no("nothing in its configuration", _CHROMA_CONFIGURATION),
            "qdrant": _yes("scalar, product, binary; on a server", _QDRANT_MODELS),
            "duckdb": _no("", _DUCKDB_FILE),
        },
        "several vectors a document (late interaction)": {
            "nearfield": _no("", "nearfield: one vector a document (core/nearfield/documents.py)"),
            "faiss": _no("", faiss),
            "chroma": _no("nothing in its configuration", _CHROMA_CONFIGURATION),
            "qdrant": _partly("in its client, not in this store", _QDRANT_MODELS),
            "duckdb": _no("", _DUCKDB_FILE),
        },
        "clients in other languages": {
            "nearfield": _no("Python only", "nearfield: pyproject.toml"),
            "faiss": _partly("C++ reads the index, not the documents", "FAISS: its metadata"),
            "chroma": _yes("TypeScript, Rust; by way of the server", _CHROMA_SDKS),
            "qdrant": _yes("TypeScript, Rust, Go, .NET, Java; with a server", _QDRANT_SDKS),
            "duckdb": _yes("whatever opens a DuckDB file", _DUCKDB_FILE),
        },
    }


_MATURITY_NEARFIELD = _no(
    "0.1, alpha; hardly any users yet", "nearfield: classifiers of pyproject.toml"
)

SOURCES: dict[str, dict[str, dict[str, Verdict]]] = {
    "langchain": {
        **_shared(_CHROMA_LC, _FAISS_FILE),
        "in memory, without a folder": {
            "nearfield": _partly(
                "from_texts without a URL: a temporary folder",
                "nearfield: langchain_nearfield/vectorstore.py",
            ),
            "faiss": _yes("only that, until it is saved", _FAISS_FILE),
            "chroma": _yes("", "Chroma: `__init__` without `persist_directory`"),
            "qdrant": _yes(":memory:", "Qdrant: `location` of `QdrantClient`"),
        },
        "images put in as files": {
            "nearfield": _no("", "nearfield: langchain_nearfield/vectorstore.py"),
            "faiss": _no("", _FAISS_FILE),
            "chroma": _yes("add_images", "Chroma: `add_images` of vectorstores.py"),
            "qdrant": _no("", "Qdrant: `add_texts` of qdrant.py"),
        },
        "mature and widely used": {
            "nearfield": _MATURITY_NEARFIELD,
            "faiss": _partly(
                "faiss is; langchain-community is being sunset",
                "FAISS: the descriptions of faiss-cpu and langchain-community",
            ),
            "chroma": _yes("1.x", "Chroma: releases of langchain-chroma and chromadb"),
            "qdrant": _yes("1.x", "Qdrant: releases of langchain-qdrant and qdrant-client"),
        },
    },
    "llama_index": {
        **_shared(_CHROMA_LI, _FAISS_MAP),
        "in memory, without a folder": {
            "nearfield": _no("", _NEARFIELD),
            "faiss": _yes("only that, until it is persisted", _FAISS_MAP),
            "chroma": _yes("EphemeralClient", "Chroma: chromadb/__init__.py"),
            "qdrant": _yes(":memory:", "Qdrant: `location` of `QdrantClient`"),
            "duckdb": _yes(":memory:, the default", _DUCKDB_FILE),
        },
        "mature and widely used": {
            "nearfield": _MATURITY_NEARFIELD,
            "faiss": _yes("faiss is; the store is thin", "FAISS: the description of faiss-cpu"),
            "chroma": _yes("", "Chroma: releases of the store and chromadb"),
            "qdrant": _yes("", "Qdrant: releases of the store and qdrant-client"),
            "duckdb": _yes("DuckDB is; the store holds it below 1.4", "DuckDB: requirements of it"),
        },
    },
}
