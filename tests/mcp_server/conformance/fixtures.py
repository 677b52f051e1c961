"""What the conformance scenarios call for, on top of a real server.

The names and shapes are those that the scenarios of `@modelcontextprotocol/conformance` ask for.
Tests alone import this: no server that is shipped has any of it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import zlib
from typing import Annotated, Any

from mcp.server import MCPServer  # noqa: TC002  # the SDK reads signatures
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext  # noqa: TC002  # the SDK reads signatures
from mcp.server.mcpserver import Context  # noqa: TC002  # the SDK reads signatures
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.server.mcpserver.resolve import Elicit, Resolve, Sample
from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    ClientCapabilities,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    LoggingCapability,
    SamplingMessage,
    TextContent,
    TextResourceContents,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel

__all__ = ["add_fixtures"]

_PAUSE_S = 0.05
_LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")


def add_fixtures(server: MCPServer[Any]) -> None:
    """Register every tool, resource and prompt that a scenario calls."""
    legacy = _LegacyMethods()
    server.middleware.append(legacy)
    _add_contents(server)
    _add_notices(server, legacy)
    _add_questions(server)
    _add_input_rounds(server)
    _add_changes(server)
    _add_resources(server)
    _add_prompts(server)


class _LegacyMethods:
    """A method that the revisions before 2026-07-28 have: log levels."""

    def __init__(self) -> None:
        self._least = 0

    def lets_through(self, level: str) -> bool:
        """Whether the client wants logs of this level."""
        return _LEVELS.index(level) >= self._least

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS or ctx.request_id is None:
            return await call_next(ctx)
        params = ctx.params or {}
        if ctx.method == "logging/setLevel" and params.get("level") in _LEVELS:
            self._least = _LEVELS.index(params["level"])
            return EmptyResult()
        return _with_legacy_capabilities(ctx.method, await call_next(ctx))


def _with_legacy_capabilities(method: str, result: HandlerResult) -> HandlerResult:
    if method == "initialize" and isinstance(result, dict):
        capabilities = dict(result["capabilities"])
        capabilities["logging"] = LoggingCapability().model_dump(exclude_none=True)
        return {**result, "capabilities": capabilities}
    return result


def _add_contents(server: MCPServer[Any]) -> None:
    @server.tool(structured_output=False)
    def test_simple_text() -> str:
        """Answer with text."""
        return "This is a simple text response for testing."

    @server.tool(structured_output=False)
    def test_image_content() -> ImageContent:
        """Answer with an image."""
        return _image()

    @server.tool(structured_output=False)
    def test_audio_content() -> AudioContent:
        """Answer with a sound."""
        return AudioContent(type="audio", data=_encoded(_wav()), mime_type="audio/wav")

    @server.tool(structured_output=False)
    def test_embedded_resource() -> EmbeddedResource:
        """Answer with a resource."""
        return _embedded(
            "test://embedded-resource", "text/plain", "This is an embedded resource content."
        )

    @server.tool(structured_output=False)
    def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
        """Answer with text, an image and a resource."""
        data = json.dumps({"test": "data", "value": 123})
        return [
            TextContent(type="text", text="Multiple content types test:"),
            _image(),
            _embedded("test://mixed-content-resource", "application/json", data),
        ]

    @server.tool(structured_output=False)
    def test_error_handling() -> str:
        """Fail."""
        raise ToolError("This tool intentionally returns an error for testing")


def _add_notices(server: MCPServer[Any], legacy: _LegacyMethods) -> None:
    @server.tool(structured_output=False)
    async def test_tool_with_logging(ctx: Context) -> str:
        """Log three times."""
        for words in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            if legacy.lets_through("info"):
                await ctx.log("info", words)
            await asyncio.sleep(_PAUSE_S)
        return "Logged three times."

    @server.tool(structured_output=False)
    async def test_logging_tool(ctx: Context) -> str:
        """Log once; of use only to a client that asked for it."""
        await ctx.log("info", "Logged once.")
        return "Logged once."

    @server.tool(structured_output=False)
    async def test_tool_with_progress(ctx: Context) -> str:
        """Tell of progress three times."""
        for progress in (0, 50, 100):
            await ctx.report_progress(progress, 100)
            await asyncio.sleep(_PAUSE_S)
        return "Done."


class Person(BaseModel):
    username: str
    email: str


async def ask_person(message: str) -> Elicit[Person]:
    """Ask who the user is."""
    return Elicit(message, Person)


async def ask_model(prompt: str) -> Sample:
    """Ask the client's model."""
    return Sample([_said(prompt)], max_tokens=100)


_DEFAULTS = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}
_TITLED = [
    {"const": f"value{number}", "title": title}
    for number, title in enumerate(("First Option", "Second Option", "Third Option"), 1)
]
_PLAIN = ["option1", "option2", "option3"]
_ENUMS = {
    "untitledSingle": {"type": "string", "enum": _PLAIN},
    "titledSingle": {"type": "string", "oneOf": _TITLED},
    "legacyEnum": {
        "type": "string",
        "enum": ["opt1", "opt2", "opt3"],
        "enumNames": ["Option One", "Option Two", "Option Three"],
    },
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": _PLAIN}},
    "titledMulti": {"type": "array", "items": {"anyOf": _TITLED}},
}


def _add_questions(server: MCPServer[Any]) -> None:
    """Register what asks the client while a call runs: the revisions before 2026-07-28."""

    @server.tool(structured_output=False)
    async def test_sampling(
        prompt: str, answer: Annotated[CreateMessageResult, Resolve(ask_model)]
    ) -> str:
        """Answer with what the client's model says."""
        return f"LLM response: {_spoken(answer)}"

    @server.tool(structured_output=False)
    async def test_elicitation(message: str, who: Annotated[Person, Resolve(ask_person)]) -> str:
        """Ask who the user is."""
        return f"User response: {who.model_dump_json()}"

    @server.tool(structured_output=False)
    async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
        """Ask with a default for every type."""
        return await _asked(ctx, _DEFAULTS)

    @server.tool(structured_output=False)
    async def test_elicitation_sep1330_enums(ctx: Context) -> str:
        """Ask to choose, in every way there is to spell a choice."""
        return await _asked(ctx, _ENUMS)


async def _asked(ctx: Context, properties: dict[str, Any]) -> str:
    schema = {"type": "object", "properties": properties}
    reply = await ctx.session.elicit_form("Please fill this in", schema, ctx.request_id)
    return f"Elicitation completed: action={reply.action}, content={json.dumps(reply.content)}"


def _add_input_rounds(server: MCPServer[Any]) -> None:
    """Register what answers with a question: 2026-07-28."""

    @server.tool(structured_output=False)
    def test_input_required_result_elicitation(ctx: Context) -> str | InputRequiredResult:
        """Greet by name."""
        reply = _accepted(ctx, "user_name")
        if reply is None or not isinstance(reply.get("name"), str):
            return InputRequiredResult(input_requests={"user_name": _form("Your name?", "name")})
        return f"Hello, {reply['name']}!"

    @server.tool(structured_output=False)
    def test_input_required_result_sampling(ctx: Context) -> str | InputRequiredResult:
        """Answer with what the client's model says."""
        reply = _response(ctx, "capital_question", CreateMessageResult)
        if reply is None:
            question = _sample("What is the capital of France?")
            return InputRequiredResult(input_requests={"capital_question": question})
        return _spoken(reply)

    @server.tool(structured_output=False)
    def test_input_required_result_list_roots(ctx: Context) -> str | InputRequiredResult:
        """Name the client's roots."""
        reply = _response(ctx, "client_roots", ListRootsResult)
        if reply is None:
            return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})
        return ", ".join(str(root.uri) for root in reply.roots)

    @server.tool(structured_output=False)
    def test_input_required_result_request_state(ctx: Context) -> str | InputRequiredResult:
        """Confirm, with a state that comes back."""
        return _confirmed(ctx)

    @server.tool(structured_output=False)
    def test_input_required_result_tampered_state(ctx: Context) -> str | InputRequiredResult:
        """Confirm, with a state that no one may change."""
        return _confirmed(ctx)

    @server.tool(structured_output=False)
    def test_input_required_result_multiple_inputs(ctx: Context) -> str | InputRequiredResult:
        """Ask three things at once."""
        name = _accepted(ctx, "user_name")
        greeting = _response(ctx, "greeting", CreateMessageResult)
        roots = _response(ctx, "client_roots", ListRootsResult)
        if name is None or greeting is None or roots is None or ctx.request_state != "three":
            return InputRequiredResult(
                input_requests={
                    "user_name": _form("What is your name?", "name"),
                    "greeting": _sample("Generate a greeting"),
                    "client_roots": ListRootsRequest(),
                },
                request_state="three",
            )
        return f"{_spoken(greeting)} {name['name']}, {len(roots.roots)} roots"

    @server.tool(structured_output=False)
    def test_input_required_result_multi_round(ctx: Context) -> str | InputRequiredResult:
        """Ask one thing after the other."""
        if ctx.request_state is not None and (colour := _accepted(ctx, "step2")):
            return f"{ctx.request_state} likes {colour['color']}."
        if ctx.request_state == "name" and (name := _accepted(ctx, "step1")):
            return InputRequiredResult(
                input_requests={"step2": _form("Step 2: What is your favorite color?", "color")},
                request_state=name["name"],
            )
        return InputRequiredResult(
            input_requests={"step1": _form("Step 1: What is your name?", "name")},
            request_state="name",
        )

    @server.tool(structured_output=False)
    def test_input_required_result_capabilities(ctx: Context) -> str | InputRequiredResult:
        """Ask only what the client can answer."""
        can = ctx.client_capabilities or ClientCapabilities()
        questions: dict[str, Any] = {}
        if can.elicitation is not None:
            questions["user_name"] = _form("What is your name?", "name")
        if can.sampling is not None:
            questions["greeting"] = _sample("Generate a greeting")
        if can.roots is not None:
            questions["client_roots"] = ListRootsRequest()
        if not questions or ctx.input_responses:
            return "There is nothing to ask."
        return InputRequiredResult(input_requests=questions)

    @server.tool(structured_output=False)
    def test_streaming_elicitation(ctx: Context) -> str | InputRequiredResult:
        """Ask for a name, on a stream."""
        if _accepted(ctx, "user_name") is None:
            return InputRequiredResult(input_requests={"user_name": _form("Your name?", "name")})
        return "Thank you."

    @server.tool(structured_output=False)
    def test_missing_capability(ctx: Context) -> str:
        """Refuse a client whose model cannot be asked."""
        can = ctx.client_capabilities
        if can is None or can.sampling is None:
            raise MCPError(
                code=MISSING_REQUIRED_CLIENT_CAPABILITY,
                message="this tool asks the client's model",
                data={"requiredCapabilities": {"sampling": {}}},
            )
        return "The client's model can be asked."


def _add_changes(server: MCPServer[Any]) -> None:
    def nothing() -> str:
        """Do nothing."""
        return "Nothing."

    names: list[str] = []

    @server.tool(structured_output=False)
    async def test_trigger_tool_change(ctx: Context) -> str:
        """Add a tool, or take it away again."""
        if "test_added_tool" in names:
            names.remove("test_added_tool")
            server.remove_tool("test_added_tool")
        else:
            names.append("test_added_tool")
            server.add_tool(nothing, name="test_added_tool")
        await ctx.notify_tools_changed()
        return "Changed."

    @server.tool(structured_output=False)
    async def test_trigger_prompt_change(ctx: Context) -> str:
        """Add a prompt."""
        name = f"test_added_prompt_{len(await server.list_prompts())}"
        server.prompt(name=name)(nothing)
        await ctx.notify_prompts_changed()
        return "Changed."


def _add_resources(server: MCPServer[Any]) -> None:
    @server.resource("test://static-text", mime_type="text/plain")
    def static_text() -> str:
        """A text."""
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        """An image."""
        return _png()

    @server.resource("test://watched-resource", mime_type="text/plain")
    def watched() -> str:
        """A text that can be subscribed to."""
        return "Watched."

    @server.resource("test://template/{id}/data", mime_type="application/json")
    def templated(id: str) -> str:
        """A text with a part of the URI in it."""
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def _add_prompts(server: MCPServer[Any]) -> None:
    @server.prompt()
    def test_simple_prompt() -> str:
        """A prompt without arguments."""
        return "This is a simple prompt for testing."

    @server.prompt()
    def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        """A prompt with arguments."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt()
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803
        """A prompt with a resource."""
        content = "Embedded resource content for testing."
        return [
            UserMessage(_embedded(resourceUri, "text/plain", content)),
            UserMessage("Please process the embedded resource above."),
        ]

    @server.prompt()
    def test_prompt_with_image() -> list[UserMessage]:
        """A prompt with an image."""
        return [UserMessage(_image()), UserMessage("Please analyze the image above.")]

    @server.prompt()
    def test_input_required_result_prompt(ctx: Context) -> str | InputRequiredResult:
        """A prompt that asks first."""
        reply = _accepted(ctx, "user_context")
        if reply is None:
            question = _form("What context should the prompt use?", "context")
            return InputRequiredResult(input_requests={"user_context": question})
        return f"Consider: {reply['context']}"


def _confirmed(ctx: Context) -> str | InputRequiredResult:
    if _accepted(ctx, "confirm") is not None and ctx.request_state == "asked":
        return "state-ok"
    question = _form("Please confirm", "ok", "boolean")
    return InputRequiredResult(input_requests={"confirm": question}, request_state="asked")


def _response(ctx: Context, key: str, kind: type[Any]) -> Any:
    reply = (ctx.input_responses or {}).get(key)
    return reply if isinstance(reply, kind) else None


def _accepted(ctx: Context, key: str) -> dict[str, Any] | None:
    reply = _response(ctx, key, ElicitResult)
    return reply.content if reply is not None and reply.action == "accept" else None


def _form(message: str, field: str, kind: str = "string") -> ElicitRequest:
    schema = {"type": "object", "properties": {field: {"type": kind}}, "required": [field]}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def _sample(question: str) -> CreateMessageRequest:
    return CreateMessageRequest(
        params=CreateMessageRequestParams(messages=[_said(question)], max_tokens=100)
    )


def _said(text: str) -> SamplingMessage:
    return SamplingMessage(role="user", content=TextContent(type="text", text=text))


def _spoken(reply: CreateMessageResult) -> str:
    content = reply.content
    return content.text if isinstance(content, TextContent) else content.type


def _embedded(uri: str, mime_type: str, text: str) -> EmbeddedResource:
    contents = TextResourceContents(uri=uri, mime_type=mime_type, text=text)
    return EmbeddedResource(type="resource", resource=contents)


def _image() -> ImageContent:
    return ImageContent(type="image", data=_encoded(_png()), mime_type="image/png")


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _png() -> bytes:
    """Return one red pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixel = zlib.compress(b"\0\xff\0\0")
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")
    )


def _wav() -> bytes:
    """Return one silent sample."""
    form = struct.pack("<HHIIHH", 1, 1, 8000, 8000, 1, 8)
    body = (
        b"WAVEfmt "
        + struct.pack("<I", len(form))
        + form
        + b"data"
        + struct.pack("<I", 1)
        + b"\x80\0"
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body
