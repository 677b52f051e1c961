"""nearfield for LangChain: a vector store, embeddings, retrievers and a record manager.

::

    from langchain_nearfield import NearfieldVectorStore

    store = NearfieldVectorStore("./data")
    store.add_texts(["The kettle is in the kitchen."])
    store.similarity_search("Where can I boil water?", k=1)
"""

from nearfield.errors import MissingDependencyError

try:
    import langchain_core  # noqa: F401
except ImportError as error:
    raise MissingDependencyError(
        "langchain-core", extra="langchain", purpose="nearfield for LangChain"
    ) from error

from langchain_nearfield.document_index import NearfieldDocumentIndex
from langchain_nearfield.embeddings import LangChainEmbedder, NearfieldEmbeddings
from langchain_nearfield.faiss_import import import_faiss
from langchain_nearfield.filters import NearfieldTranslator
from langchain_nearfield.record_manager import NearfieldRecordManager
from langchain_nearfield.retrievers import NearfieldRetriever
from langchain_nearfield.search_types import SearchType
from langchain_nearfield.vectorstore import NearfieldVectorStore

__all__ = [
    "LangChainEmbedder",
    "NearfieldDocumentIndex",
    "NearfieldEmbeddings",
    "NearfieldRecordManager",
    "NearfieldRetriever",
    "NearfieldTranslator",
    "NearfieldVectorStore",
    "SearchType",
    "import_faiss",
]
