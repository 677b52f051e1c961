"""Who asked what of which collection: a line of JSON for every call, never its content."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mcp.shared.exceptions import MCPError

from nearfield_mcp.scope import CURRENT
from nearfield_mcp.uris import read_uri

if TYPE_CHECKING:
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

__all__ = ["Audit", "AuditLog", "outcome_of"]

_AUDITED = {"tools/call", "resources/read", "prompts/get", "completion/complete"}
_NAME = re.compile(r"[A-Za-z0-9._/-]{1,201}")
"""What a tool's and a collection's name look like; anything else may be content."""
_LISTS = ("results", "collections", "neighbours", "contents", "messages")
_COUNTS = ("deleted", "documents", "written", "added", "chunks", "files")


class AuditLog:
    """A file of JSON lines, its owner's alone, begun anew when it has grown.

    Args:
        path: Its folder must exist.
        most_bytes: When to begin a new one.
        kept: How many old ones to keep.

    Raises:
        OSError: It cannot be written.
    """

    def __init__(self, path: Path, *, most_bytes: int, kept: int) -> None:
        self._handler = _PrivateFile(
            path, maxBytes=most_bytes, backupCount=kept, encoding="utf-8", delay=False
        )

    def write(self, entry: Mapping[str, object]) -> None:
        """Note what happened; what is None is left out."""
        told = {"time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        told |= {name: value for name, value in entry.items() if value is not None}  # type: ignore[misc]
        line = json.dumps(told, ensure_ascii=True, separators=(",", ":"))
        self._handler.handle(logging.LogRecord("audit", logging.INFO, "", 0, line, None, None))

    def close(self) -> None:
        """Close the file."""
        self._handler.close()


class Audit:
    """Middleware: notes every call in an audit log, those that are refused too.

    Args:
        log: Where to.
    """

    def __init__(self, log: AuditLog) -> None:
        self._log = log

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Answer a request and note what it was about."""
        if ctx.method not in _AUDITED:
            return await call_next(ctx)
        begun = time.perf_counter()
        outcome, result = "error", None
        try:
            result = await call_next(ctx)
        except MCPError:
            outcome = "refused"
            raise
        else:
            outcome = outcome_of(result)
            return result
        finally:
            self._note(ctx, result, outcome, (time.perf_counter() - begun) * 1000)

    def _note(
        self,
        ctx: ServerRequestContext[Any, Any],
        result: HandlerResult,
        outcome: str,
        duration_ms: float,
    ) -> None:
        scope = CURRENT.get()
        params = ctx.params or {}
        answer = result if isinstance(result, dict) else {}
        self._log.write(
            {
                "subject": scope.subject,
                "tenant": scope.tenant,
                "method": ctx.method,
                "tool": _name(params.get("name")),
                "collection": _collection(params, answer),
                "count": _count(answer),
                "outcome": outcome,
                "duration_ms": round(duration_ms, 1),
                "request_id": _request_id(ctx.request_id),
            }
        )


def outcome_of(result: HandlerResult) -> str:
    """Say whether a tool answered or told of an error."""
    return "error" if isinstance(result, dict) and result.get("isError") else "ok"


class _PrivateFile(RotatingFileHandler):
    """A file that only its owner may read."""

    def _open(self) -> IO[str]:  # type: ignore[override]
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        return os.fdopen(os.open(self.baseFilename, flags, 0o600), "a", encoding="utf-8")


def _name(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    return value if _NAME.fullmatch(value) else "?"


def _collection(params: Mapping[str, Any], answer: Mapping[str, Any]) -> str | None:
    structured = answer.get("structuredContent")
    if isinstance(structured, dict) and isinstance(structured.get("collection"), str):
        return _name(structured["collection"])
    arguments = params.get("arguments")
    if isinstance(arguments, dict) and arguments.get("collection") is not None:
        return _name(arguments["collection"])
    uri = params.get("uri")
    found = read_uri(uri) if isinstance(uri, str) else None
    return _name(found[0]) if found else None


def _count(answer: Mapping[str, Any]) -> int | None:
    """Return how many results or documents an answer is about, where it says."""
    structured = answer.get("structuredContent")
    for shape in (structured if isinstance(structured, dict) else {}, answer):
        for name in _LISTS:
            if isinstance(shape.get(name), list):
                return len(shape[name])
        for name in _COUNTS:
            if isinstance(shape.get(name), int):
                return int(shape[name])
    return None


def _request_id(value: object) -> str | int | None:
    if isinstance(value, int):
        return value
    return _name(value)
