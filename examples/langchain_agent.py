"""An agent that looks things up in your documents, with LangChain.

    pip install "nearfield[langchain]" langchain
    python examples/langchain_agent.py "Which page tells how to descale the kettle?"

It runs offline, with a stand-in for the language model that calls the tool once and repeats what
it got. Set MODEL to use a real one, such as MODEL=openai:gpt-5-mini (with langchain-openai and
OPENAI_API_KEY).
"""

import os
import sys

from langchain.agents import create_agent
from langchain.chat_models import init_chat_model
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import create_retriever_tool

from langchain_nearfield import NearfieldVectorStore

MANUAL = [
    Document("Fill the kettle to the mark and boil the water.", metadata={"page": 1}),
    Document("Warm the teapot before the tea goes in.", metadata={"page": 2}),
    Document("Let black tea steep for four minutes, then add the milk.", metadata={"page": 3}),
    Document("Descale the kettle with vinegar once a month.", metadata={"page": 7}),
]


class OneCall(BaseChatModel):
    """Stands in for a language model: it calls the tool with the question, then quotes it."""

    _llm_type = "one-call"

    def bind_tools(self, tools, **kwargs):
        return self

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        last = messages[-1]
        if last.type == "tool":
            message = AIMessage(f"The manual says: {last.content.splitlines()[0]}")
        else:
            call = {"name": "search_manual", "args": {"query": last.content}, "id": "call-1"}
            message = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=message)])


def main() -> None:
    question = " ".join(sys.argv[1:]) or "How do I get rid of limescale in the kettle?"
    model = os.environ.get("MODEL")
    # Without url= the store is temporary; url="./data" keeps it.
    with NearfieldVectorStore.from_documents(MANUAL) as store:
        tool = create_retriever_tool(
            store.as_retriever(k=2), "search_manual", "Search the manual of the kettle."
        )
        agent = create_agent(init_chat_model(model) if model else OneCall(), [tool])
        answer = agent.invoke({"messages": [{"role": "user", "content": question}]})
        for message in answer["messages"]:
            message.pretty_print()


if __name__ == "__main__":
    main()
