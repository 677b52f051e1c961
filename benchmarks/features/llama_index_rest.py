"""Rows about asynchronous use and persistence in LlamaIndex."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from benchmarks.features.blocking import BLOCKED_MS, longest_block_ms
from benchmarks.features.trial import told
from benchmarks.features.verdict import Verdict, no, probe, yes
from benchmarks.features.words import DIMENSION, vector_of
from llama_index.core import (
    Document,
    MockEmbedding,
    StorageContext,
    VectorStoreIndex,
    load_index_from_storage,
)
from llama_index.core.vector_stores.types import VectorStoreQuery

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.features.llama_index_stores import LlamaIndexStore

_SECTION = "Asynchronous use and persistence"
_COUNT = 2_000
_TRIES = 3


@probe(_SECTION, "async calls leave the event loop free", framework="llama_index", limit_s=240)
def asynchronous(door: LlamaIndexStore, folder: Path) -> Verdict:
    """The longest block while 2,000 nodes are added and one is looked for; the best of three."""
    blocks = []
    for number in range(_TRIES):
        nodes = door.nodes({f"n{i}": f"text {i}" for i in range(_COUNT)})
        query = VectorStoreQuery(query_embedding=vector_of("text"), similarity_top_k=4)
        place = folder / str(number)
        place.mkdir()

        async def trial(place: Path = place, nodes: Any = nodes, query: Any = query) -> float:
            store = door.open_async(place)

            async def work() -> None:
                await store.async_add(nodes)
                await store.aquery(query)

            return await longest_block_ms(work())

        blocks.append(asyncio.run(trial()))
    block = min(blocks)
    reason = f"blocks for {block:.0f} ms at most"
    return yes(reason) if block <= BLOCKED_MS else no(reason)


@probe(_SECTION, "storage context: persist, then load the index again", framework="llama_index")
def storage_context(door: LlamaIndexStore, folder: Path) -> Verdict:
    """``from_defaults(persist_dir=…)`` with the store given again, as its documentation does."""
    data, kept = folder / "data", folder / "kept"
    data.mkdir()
    context = StorageContext.from_defaults(vector_store=door.open(data))
    model = MockEmbedding(DIMENSION)
    documents = [Document(text=f"text {i}") for i in range(3)]
    VectorStoreIndex.from_documents(documents, storage_context=context, embed_model=model)
    context.persist(str(kept))
    door.close(context.vector_store)
    from_persist_dir = getattr(type(context.vector_store), "from_persist_dir", None)
    store = door.open(data) if not door.saves else from_persist_dir(str(kept))
    again = StorageContext.from_defaults(vector_store=store, persist_dir=str(kept))
    index = load_index_from_storage(again, embed_model=model)
    found = len(index.as_retriever(similarity_top_k=5).retrieve("text"))
    return yes(f"{found} of 3") if found == 3 else no(f"{found} of 3")


@probe(_SECTION, "storage context: loading it without the store is refused clearly",
       framework="llama_index")  # fmt: skip
def forgotten_store(door: LlamaIndexStore, folder: Path) -> Verdict:
    """Not an empty store in its place, and no error about something else."""
    data, kept = folder / "data", folder / "kept"
    data.mkdir()
    context = StorageContext.from_defaults(vector_store=door.open(data))
    model = MockEmbedding(DIMENSION)
    documents = [Document(text=f"text {i}") for i in range(3)]
    VectorStoreIndex.from_documents(documents, storage_context=context, embed_model=model)
    context.persist(str(kept))
    try:
        again = StorageContext.from_defaults(persist_dir=str(kept))
    except Exception as error:  # noqa: BLE001
        named = "from_persist_dir" in str(error) or "vector_store=" in str(error)
        return yes("says what to pass") if named else no(told(error))
    found = len(
        load_index_from_storage(again, embed_model=model)
        .as_retriever(similarity_top_k=5)
        .retrieve("text")
    )
    return no(f"loads an empty store: {found} of 3")
