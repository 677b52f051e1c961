"""Tools that refuse what they do not know, and whose errors say what to do next."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp_types import ToolAnnotations
from pydantic import ValidationError, create_model

from nearfield_mcp.failures import UnknownCollectionError, named_in, told_of

__all__ = ["StrictTool"]

_SHOWN_PROBLEMS = 3
_HEAD_CHARS, _TAIL_CHARS = 700, 300
"""Of a message that is longer: what went wrong is at its beginning, what to do at its end."""
_logger = logging.getLogger(__name__)


class StrictTool(Tool):
    """A tool that refuses unknown arguments and answers errors in one line."""

    @classmethod
    def made_of(
        cls, function: Callable[..., Any], *, title: str, annotations: ToolAnnotations
    ) -> StrictTool:
        """Make a tool of a function: its name, its docstring, its arguments."""
        tool = cls.from_function(function, title=title, annotations=annotations)
        arguments = tool.fn_metadata.arg_model
        strict = create_model(
            arguments.__name__,
            __base__=arguments,
            __cls_kwargs__={"extra": "forbid"},
        )
        tool.fn_metadata.arg_model = strict
        tool.parameters = strict.model_json_schema(by_alias=True)
        return tool  # type: ignore[return-value]  # from_function makes one of its own class

    async def run(
        self,
        arguments: dict[str, Any],
        context: Any,
        convert_result: bool = False,  # noqa: FBT001, FBT002  # the base's
    ) -> Any:
        """Call the function; see :class:`Tool`."""
        try:
            return await super().run(arguments, context, convert_result=convert_result)
        except ToolError as error:
            cause = error.__cause__
            if isinstance(cause, ValidationError):
                raise ToolError(_problems(self.name, cause)) from cause
            raise _told(self.name, arguments, cause, error) from cause


def _told(
    name: str, arguments: dict[str, Any], cause: BaseException | None, error: ToolError
) -> ToolError:
    from nearfield.errors import NearfieldError

    if isinstance(cause, NearfieldError):
        return ToolError(_shortened(f"{name}: {told_of(cause, named_in(arguments))}"))
    if isinstance(cause, UnknownCollectionError | ToolError):
        return ToolError(_shortened(f"{name}: {cause}"))
    if cause is not None:
        _logger.error("%s failed", name, exc_info=cause)
    return error


def _problems(name: str, error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False)
    told = [
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        for problem in found[:_SHOWN_PROBLEMS]
    ]
    if len(found) > _SHOWN_PROBLEMS:
        told.append(f"and {len(found) - _SHOWN_PROBLEMS} more")
    return _shortened(f"{name}: {'; '.join(told)}. Correct the arguments and call again.")


def _shortened(message: str) -> str:
    """Cut a message that repeats something long of the caller's."""
    if len(message) <= _HEAD_CHARS + _TAIL_CHARS:
        return message
    return f"{message[:_HEAD_CHARS]} … {message[-_TAIL_CHARS:]}"
