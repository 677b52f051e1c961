"""nearfield: the retrieval layer for RAG and agents.

>>> import nearfield
>>> notes = nearfield.open("data", "notes")
>>> notes.upsert(["The kettle is in the kitchen.", "Paris is the capital of France."])
>>> notes.search("Where can I boil water?", k=1)[0].text
'The kettle is in the kitchen.'
"""

from nearfield import errors
from nearfield.collection import Collection
from nearfield.connect import Database, connect, open
from nearfield.documents import (
    Document,
    EmbeddingInfo,
    EmbeddingKind,
    Hit,
    Metric,
    SearchMode,
)
from nearfield.errors import NearfieldError
from nearfield.filters import F, Filter

__version__ = "0.1.0"

__all__ = [
    "Collection",
    "Database",
    "Document",
    "EmbeddingInfo",
    "EmbeddingKind",
    "F",
    "Filter",
    "Hit",
    "Metric",
    "NearfieldError",
    "SearchMode",
    "connect",
    "errors",
    "open",
]
