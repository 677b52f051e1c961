"""LangChain FAISS stores of one's own making, written without LangChain."""

from __future__ import annotations

import pickle
import sys
import types
from contextlib import contextmanager

import faiss
import pytest
from tests.fixtures.langchain_faiss import make


class Docstore:
    """Pickled under the name of LangChain's class, with what it keeps."""

    __module__ = "langchain_community.docstore.in_memory"
    __qualname__ = "InMemoryDocstore"

    def __init__(self, documents):
        self._dict = documents


class Page:
    """Pickled as LangChain's Document is by Pydantic."""

    __module__ = "langchain_core.documents.base"
    __qualname__ = "Document"

    def __init__(self, text, metadata):
        self.fields = {"page_content": text, "metadata": metadata, "type": "Document"}

    def __getstate__(self):
        return {"__dict__": self.fields, "__pydantic_fields_set__": {"page_content", "metadata"}}


@contextmanager
def in_the_place_of_langchain():
    """Let pickle find the classes above under the names of LangChain's, installed or not."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in (Docstore, Page):
            module = kind.__module__
            stand_in = types.ModuleType(module)
            setattr(stand_in, kind.__qualname__, kind)
            patch.setitem(sys.modules, module, stand_in)
            parent = module
            while "." in parent:  # so that none is imported
                parent = parent.rpartition(".")[0]
                patch.setitem(sys.modules, parent, types.ModuleType(parent))
        yield


def pickled(value, protocol=4):
    with in_the_place_of_langchain():
        return pickle.dumps(value, protocol)


def saved(tmp_path, index, vectors=None, *, documents=None, positions=None, name="index"):
    """Save a store as LangChain does."""
    vectors = make.vectors() if vectors is None else vectors
    if vectors.size:
        if not index.is_trained:
            index.train(vectors)
        index.add(vectors)
    folder = tmp_path / "saved"
    folder.mkdir(exist_ok=True)
    faiss.write_index(index, str(folder / f"{name}.faiss"))
    ids = [f"id-{row}" for row in range(len(vectors))]
    if documents is None:
        documents = {each: Page(f"text of {each}", {"row": n}) for n, each in enumerate(ids)}
    positions = dict(enumerate(ids)) if positions is None else positions
    (folder / f"{name}.pkl").write_bytes(pickled((Docstore(documents), positions)))
    return folder
