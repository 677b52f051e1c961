"""What went wrong with a request: whether to try again, and what to tell the user."""

from __future__ import annotations

import email.utils
import math
import random
import re
import socket
import ssl
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from openai import APIStatusError, APITimeoutError

from nearfield.errors import EmbeddingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nearfield.embedders.openai.secret import Secret

__all__ = ["describe", "is_too_long", "is_transient", "status_of", "to_error", "wait_s"]

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0
_JITTER = 0.25
_LONGEST_TEXT = 300
_KEY = re.compile(r"\b(sk|key|pk)-[\w*.-]{4,}")
_TOO_LONG = re.compile(
    r"context.?length|too long|too large|too many (tokens|inputs)|max\w*.{0,40}tokens"
    r"|tokens.{0,20}limit|less than \d+ tokens|reduce (your|the) (prompt|input|length)"
    r"|batch size",
    re.IGNORECASE | re.DOTALL,
)
_PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
_REFUSING = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)
_TOO_LARGE_A_REQUEST = "request too large"
"""More tokens at once than the account may send in a minute: waiting does not help."""
_NO_KEY = (
    "no key was sent: pass api_key=, or set OPENAI_API_KEY and, for a server that is neither "
    "OpenAI's nor on this machine, OPENAI_BASE_URL to the same address"
)
_WRONG_KEY = "check the key (api_key= or OPENAI_API_KEY) and what it may use"
_LIMITED = "the rate limit held on: lower concurrency or batch_size, or raise deadline_s"
_EMPTY_ACCOUNT = "the account's quota is used up: check its plan and billing"
_SERVER = "the server has a fault; try again later"
_REQUEST = "the server does not take this request: check the model and the options"


def is_transient(error: Exception) -> bool:
    """Tell whether the same request may succeed later.

    So after 429, 408, 5xx, a timeout and a broken connection; not after another 4xx, nor where
    the account is empty, the certificate is bad or the host does not exist.
    """
    if isinstance(error, APIStatusError):
        if error.code == "insufficient_quota" or error.type == "insufficient_quota":
            return False
        if error.response.headers.get("x-should-retry") == "false":
            return False
        return error.status_code in _PASSING or (
            error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
            and error.status_code != HTTPStatus.NOT_IMPLEMENTED
        )
    return not any(
        isinstance(cause, ssl.SSLCertVerificationError)
        or (isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME)
        for cause in _causes(error)
    )


def wait_s(error: Exception, retry: int) -> float:
    """Return how long to wait before the n-th retry, from 0.

    As long as the server asks for in ``Retry-After``, or twice as long each time from half a
    second up to half a minute; in both cases with a random part, so that many clients that were
    turned away together do not come back together.
    """
    if isinstance(error, APIStatusError):
        asked = _retry_after_s(error.response.headers)
        if asked is not None:
            return asked + random.uniform(0, _JITTER) * max(asked, 1.0)  # noqa: S311
    backoff = min(_FIRST_WAIT_S * 2.0 ** min(retry, 32), _LONGEST_WAIT_S)
    return backoff * random.uniform(0.5, 1.0)  # noqa: S311


def is_too_long(error: Exception, *, texts: int) -> bool:
    """Tell whether a request with less text in it, of so many texts, would be taken.

    Several texts are split for more reasons than one is cut: a server that is out of memory may
    take the same text later.
    """
    if not isinstance(error, APIStatusError):
        return False
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return True
    if error.status_code in _REFUSING:
        return bool(_TOO_LONG.search(_said(error)))
    if texts > 1 and error.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        return _TOO_LARGE_A_REQUEST in _said(error).lower()
    if texts > 1 and error.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
        return bool(_TOO_LONG.search(_said(error)))
    return False


def status_of(error: Exception) -> int | None:
    """Return the HTTP status, if there was an answer at all."""
    return error.status_code if isinstance(error, APIStatusError) else None


def describe(error: Exception, key: Secret | None) -> str:
    """Say in a line what happened, with no key in it."""
    if isinstance(error, APIStatusError):
        return f"HTTP {error.status_code}: {_clean(_said(error), key) or 'no reason given'}"
    if isinstance(error, APITimeoutError | TimeoutError):
        return "no answer in time"
    last = [*_causes(error)][-1]
    return f"{type(last).__name__}: {_clean(str(last), key)}"


def to_error(error: Exception, *, model: str, server: str, key: Secret | None) -> EmbeddingError:
    """Make the error that a user sees: what happened, and what to do."""
    remedy = _remedy(error, model, key)
    # Not chained to the client's error, in which the key may be.
    message = f"{server} did not embed: {describe(error, key)}; {remedy}"
    return EmbeddingError(message, may_pass=is_transient(error))


def _remedy(error: Exception, model: str, key: Secret | None) -> str:
    if isinstance(error, APITimeoutError | TimeoutError):
        return "check the server, lower batch_size, or raise timeout_s and deadline_s"
    status = status_of(error)
    if status is None:
        return "check base_url, the network and the server"
    remedies: dict[int, str] = {
        HTTPStatus.UNAUTHORIZED: _WRONG_KEY if key is not None else _NO_KEY,
        HTTPStatus.FORBIDDEN: _WRONG_KEY if key is not None else _NO_KEY,
        HTTPStatus.NOT_FOUND: (
            f"check the model's name, {model!r}, and base_url, which most often ends in /v1"
        ),
        HTTPStatus.TOO_MANY_REQUESTS: _LIMITED if is_transient(error) else _EMPTY_ACCOUNT,
    }
    server = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return remedies.get(status, _SERVER if server else _REQUEST)


def _said(error: APIStatusError) -> str:
    """Return the server's own words, whatever form they have."""
    body = error.body
    if isinstance(body, dict):
        body = body.get("message") or body.get("error") or body.get("detail") or ""
        parts = [body, error.type or "", error.code or ""]
        return " ".join(part if isinstance(part, str) else str(part) for part in parts).strip()
    return error.response.text


def _clean(text: str, key: Secret | None) -> str:
    """Cut a message to a line, and take out the key, which some servers repeat."""
    if key is not None:
        text = text.replace(key.value, "***")
    text = " ".join(_KEY.sub("***", text).split())
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:  # some name themselves as their cause
        yield cause
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read when to come back: in milliseconds, in seconds, or as a date."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit_s
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
    except (TypeError, ValueError):
        return None
    return max(date.timestamp() - time.time(), 0.0)
