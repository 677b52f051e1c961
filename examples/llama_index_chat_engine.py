"""Chat about a few notes with a LlamaIndex chat engine on a nearfield collection.

Runs offline: the notes are embedded by nearfield's default model, and LlamaIndex's MockLLM stands
for a model. For real answers:

    pip install llama-index-llms-openai
    OPENAI_API_KEY=… python examples/llama_index_chat_engine.py
"""

import asyncio
import os
import sys
import tempfile

from llama_index.core import Document, VectorStoreIndex
from llama_index.core.chat_engine import ContextChatEngine
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.llms import LLM, MockLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.storage.docstore import SimpleDocumentStore

from llama_index.embeddings.nearfield import NearfieldEmbedding
from llama_index.vector_stores.nearfield import NearfieldVectorStore

NOTES = {
    "whales": "The blue whale is the largest animal. It sings, and eats krill.",
    "foxes": "The red fox hunts mice at night. It lives in a den.",
    "owls": "The barn owl flies without a sound. It hunts mice, too.",
}


def language_model() -> LLM:
    """Return a real model where there is a key for one."""
    if not os.environ.get("OPENAI_API_KEY"):
        print("Without OPENAI_API_KEY a mock model stands in: it repeats what it is asked.\n")
        return MockLLM()
    from llama_index.llms.openai import OpenAI

    return OpenAI(model=os.environ.get("OPENAI_MODEL", "gpt-4o-mini"))


async def main(folder: str) -> None:
    model = NearfieldEmbedding()
    async with NearfieldVectorStore(folder, "animals", embed_model=model) as store:
        # Run again with changed notes, it replaces only what belongs to them.
        pipeline = IngestionPipeline(
            transformations=[SentenceSplitter(), model],
            vector_store=store,
            docstore=SimpleDocumentStore(),
            docstore_strategy=DocstoreStrategy.UPSERTS,
        )
        documents = [Document(text=text, id_=name) for name, text in NOTES.items()]
        await pipeline.arun(documents=documents)

        index = VectorStoreIndex.from_vector_store(store, embed_model=model)
        engine = ContextChatEngine.from_defaults(
            retriever=index.as_retriever(similarity_top_k=1),
            llm=language_model(),
            memory=ChatMemoryBuffer.from_defaults(token_limit=3000),
        )
        for question in ("Who sings in the sea?", "Who flies silently?"):
            answer = await engine.achat(question)
            [source] = answer.source_nodes
            print(f"You: {question}")
            print(f"Read: {source.node.ref_doc_id} ({source.score:.2f}): {source.node.text}")
            print(f"Engine: {answer}\n")
        print(f"{len(engine.chat_history)} messages are remembered.")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            asyncio.run(main(temporary))
