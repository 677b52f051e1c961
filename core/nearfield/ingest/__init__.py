"""Ingest: files and other documents into a collection, split into chunks, kept up to date."""

from nearfield.ingest.chunkers import Chunker, TextChunker, TokenCounter
from nearfield.ingest.entries import Entry, Markup, Section
from nearfield.ingest.langchain_faiss import FaissImport, import_langchain_faiss
from nearfield.ingest.readers import read
from nearfield.ingest.report import Failure, IngestReport, Progress
from nearfield.ingest.sync import async_sync, async_sync_documents, sync, sync_documents

__all__ = [
    "Chunker",
    "Entry",
    "Failure",
    "FaissImport",
    "IngestReport",
    "Markup",
    "Progress",
    "Section",
    "TextChunker",
    "TokenCounter",
    "async_sync",
    "async_sync_documents",
    "import_langchain_faiss",
    "read",
    "sync",
    "sync_documents",
]
