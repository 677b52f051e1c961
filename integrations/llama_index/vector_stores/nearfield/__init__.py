"""nearfield as a vector store of LlamaIndex.

::

    from llama_index.vector_stores.nearfield import NearfieldVectorStore

    store = NearfieldVectorStore("./data", "notes", embed_model=embed_model)
    index = VectorStoreIndex.from_vector_store(store, embed_model=embed_model)
"""

from nearfield.errors import MissingDependencyError

try:
    import llama_index.core  # noqa: F401
except ImportError as error:
    raise MissingDependencyError(
        "llama-index-core", extra="llama-index", purpose="nearfield for LlamaIndex"
    ) from error

from llama_index.vector_stores.nearfield.vector_store import NearfieldVectorStore

__all__ = ["NearfieldVectorStore"]
