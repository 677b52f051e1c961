"""Answer questions about a few notes with a LlamaIndex query engine on a nearfield collection.

Runs offline: the notes are embedded by nearfield's default model, and LlamaIndex's MockLLM repeats
the prompt that a model would answer. For real answers:

    pip install llama-index-llms-openai
    OPENAI_API_KEY=… python examples/llama_index_query_engine.py
"""

import os
import sys
import tempfile

from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.llms import LLM, MockLLM
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters

from llama_index.embeddings.nearfield import NearfieldEmbedding
from llama_index.vector_stores.nearfield import NearfieldVectorStore

NOTES = {
    "kitchen": "The kettle boils water in two minutes. It stands beside the oven.",
    "garden": "The tomatoes are watered every evening. The roses are cut in March.",
    "garage": "The bicycle has a flat tyre. The pump hangs on the wall.",
}


def language_model() -> LLM:
    """Return a real model where there is a key for one."""
    if not os.environ.get("OPENAI_API_KEY"):
        print("Without OPENAI_API_KEY a mock model stands in: it repeats what it is asked.\n")
        return MockLLM()
    from llama_index.llms.openai import OpenAI

    return OpenAI(model=os.environ.get("OPENAI_MODEL", "gpt-4o-mini"))


def main(folder: str) -> None:
    model = NearfieldEmbedding()
    store = NearfieldVectorStore(folder, "notes", embed_model=model)
    index = VectorStoreIndex.from_documents(
        [
            Document(text=text, id_=place, metadata={"place": place})
            for place, text in NOTES.items()
        ],
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=model,
    )

    question = "How do I get hot water for tea?"
    print(f"Question: {question}")
    for item in index.as_retriever(similarity_top_k=2).retrieve(question):
        print(f"  {item.score:.2f}  {item.node.metadata['place']}: {item.node.text}")

    print("\nOnly what is outside the house:")
    outside = MetadataFilters(
        filters=[MetadataFilter(key="place", value=["garden", "garage"], operator="in")]
    )
    for item in index.as_retriever(similarity_top_k=2, filters=outside).retrieve(question):
        print(f"  {item.score:.2f}  {item.node.metadata['place']}: {item.node.text}")

    print("\nBoth meaning and words (hybrid):")
    hybrid = index.as_retriever(similarity_top_k=1, vector_store_query_mode="hybrid", alpha=0.5)
    for item in hybrid.retrieve("flat tyre"):
        print(f"  {item.node.metadata['place']}: {item.node.text}")

    print("\nThe answer of a query engine:")
    engine = index.as_query_engine(llm=language_model(), similarity_top_k=1)
    print(engine.query(question))

    store.close()
    with NearfieldVectorStore(folder, "notes") as again:
        print(f"\nOpened again, the collection holds {len(again.get_nodes())} notes.")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(temporary)
