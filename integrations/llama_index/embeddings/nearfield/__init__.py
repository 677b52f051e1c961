"""nearfield's embedders in LlamaIndex, and LlamaIndex's embedding models in nearfield.

::

    from llama_index.embeddings.nearfield import NearfieldEmbedding

    Settings.embed_model = NearfieldEmbedding()
"""

from nearfield.errors import MissingDependencyError

try:
    import llama_index.core  # noqa: F401
except ImportError as error:
    raise MissingDependencyError(
        "llama-index-core", extra="llama-index", purpose="nearfield for LlamaIndex"
    ) from error

from llama_index.embeddings.nearfield.embedder import LlamaIndexEmbedder, to_embedder
from llama_index.embeddings.nearfield.embedding import NearfieldEmbedding

__all__ = ["LlamaIndexEmbedder", "NearfieldEmbedding", "to_embedder"]
