"""Prompts that a person can pick in the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS
from pydantic import Field, ValidationError

if TYPE_CHECKING:
    from mcp.server import MCPServer
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

__all__ = ["add_prompts"]


def add_prompts(server: MCPServer[None]) -> None:
    """Register the prompts, and tell of what is wrong with a request for one."""
    server.middleware.append(_refuse)

    @server.prompt(title="Answer with citations")
    def answer_with_citations(
        question: Annotated[str, Field(description="What you want to know")],
        collection: Annotated[str, Field(description="Where to look; empty for anywhere")] = "",
    ) -> str:
        """Answer a question from the documents, naming the source of every statement."""
        where = f"the collection {collection!r}" if collection else "the collections there are"
        return (
            f"Answer this question from the documents in {where}:\n\n{question}\n\n"
            "Search with several wordings, and fetch what a result leaves out. Rely on nothing but "
            "what you found, and put the url of the document behind each statement in brackets. "
            "Say so where the documents disagree, or where they do not tell."
        )

    @server.prompt(title="Explore a collection")
    def explore_collection(
        collection: Annotated[str, Field(description="Which one; empty if there is only one")] = "",
    ) -> str:
        """Get to know a collection: what it is about, and what can be asked of it."""
        where = f"the collection {collection!r}" if collection else "the collection"
        return (
            f"Describe {where}: call describe_collection, search for five subjects that its fields "
            "and examples suggest, and read a few results. Then tell what it is about, how its "
            "metadata can be used to narrow a search, and give five questions it can answer."
        )


async def _refuse(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Answer a prompt that is unknown, or its wrong arguments, as the caller's error.

    The SDK takes them for the server's own and logs them with a traceback.
    """
    if ctx.method != "prompts/get":
        return await call_next(ctx)
    try:
        return await call_next(ctx)
    except ValidationError:
        raise
    except ValueError as error:
        message = f"{error}; prompts/list tells the prompts and their arguments"
        raise MCPError(code=INVALID_PARAMS, message=message) from error
