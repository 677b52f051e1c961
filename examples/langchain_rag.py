"""A question answered from your own documents, with LangChain.

    pip install "nearfield[langchain]" langchain
    python examples/langchain_rag.py "What must be done before the milk is added?"

It runs offline, with a stand-in for the language model that repeats what was retrieved. Set MODEL
to use a real one, such as MODEL=openai:gpt-5-mini (with langchain-openai and OPENAI_API_KEY).
"""

import os
import sys

from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.fake_chat_models import SimpleChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough

from langchain_nearfield import NearfieldVectorStore

MANUAL = [
    Document("Fill the kettle to the mark and boil the water.", metadata={"page": 1}),
    Document("Warm the teapot before the tea goes in.", metadata={"page": 2}),
    Document("Let black tea steep for four minutes, then add the milk.", metadata={"page": 3}),
    Document("Descale the kettle with vinegar once a month.", metadata={"page": 7}),
]
PROMPT = ChatPromptTemplate.from_template(
    "Answer from these pages only, and name the page.\n\n{context}\n\nQuestion: {question}"
)


class Repeater(SimpleChatModel):
    """Stands in for a language model: it answers with the first page it was given."""

    _llm_type = "repeater"

    def _call(self, messages, stop=None, run_manager=None, **kwargs):
        return messages[-1].content.split("\n\n")[1].splitlines()[0]


def language_model() -> BaseChatModel:
    if name := os.environ.get("MODEL"):
        from langchain.chat_models import init_chat_model

        return init_chat_model(name)
    return Repeater()


def numbered(pages: list[Document]) -> str:
    return "\n".join(f"page {page.metadata['page']}: {page.page_content}" for page in pages)


def main() -> None:
    question = " ".join(sys.argv[1:]) or "How often should I descale the kettle?"
    # Without url= the store is temporary; url="./data" keeps it.
    with NearfieldVectorStore.from_documents(MANUAL) as store:
        retriever = store.as_retriever(search_type="hybrid", k=2)
        chain = (
            {"context": retriever | numbered, "question": RunnablePassthrough()}
            | PROMPT
            | language_model()
            | StrOutputParser()
        )
        print("Question:", question)
        for page in retriever.invoke(question):
            print("   found:", page.page_content, page.metadata)
        print("  Answer:", chain.invoke(question))


if __name__ == "__main__":
    main()
