"""Embedders by name: what a collection, a command line or an environment variable asks for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from nearfield.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearfield.embedders.base import Embedder

__all__ = ["load"]

ENVIRONMENT_VARIABLE = "NEARFIELD_EMBEDDER"
_DEFAULT = "minilm"


def load(spec: str | Embedder | None = None) -> Embedder:
    """Make an embedder from its name.

    ``info.model`` of the embedders that come with nearfield is such a name.

    Args:
        spec: ``"minilm"``, or ``"sentence-transformers:NAME"`` where NAME is a model's name or
            folder, with options after a question mark: ``?truncate_dim=256&normalize=true``; or
            ``"openai:MODEL"``, with ``?dimensions=256``, ``?base_url=http://127.0.0.1:8080/v1``
            and the other options of ``OpenAIEmbedder`` but the key.
            An embedder is returned as it is. None means the environment variable
            ``NEARFIELD_EMBEDDER``, and ``"minilm"`` where that is not set.

    Raises:
        InvalidInputError: The name or an option is not known.
        MissingDependencyError: What the embedder runs on is not installed.
    """
    if spec is None:
        spec = os.environ.get(ENVIRONMENT_VARIABLE) or _DEFAULT
    if not isinstance(spec, str):
        return spec
    name, _, rest = spec.partition(":")
    if name == "minilm" and not rest:
        from nearfield.embedders.minilm import MiniLMEmbedder

        return MiniLMEmbedder()
    if name == "sentence-transformers" and rest:
        return _sentence_transformer(spec, rest)
    if name == "openai" and rest:
        return _openai(rest)
    raise InvalidInputError(
        f"no embedder is called {spec.partition('?')[0]!r}; known are 'minilm', "
        "'sentence-transformers:NAME', such as 'sentence-transformers:all-MiniLM-L6-v2', and "
        "'openai:MODEL', such as 'openai:text-embedding-3-small', or pass an object with the "
        "methods of nearfield.embedders.Embedder"
    )


def _sentence_transformer(spec: str, rest: str) -> Embedder:
    from nearfield.embedders.sentence_transformer import SentenceTransformerEmbedder

    model, _, query = rest.partition("?")
    options = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        try:
            options[key] = _OPTIONS[key](value)
        except (KeyError, ValueError):
            raise InvalidInputError(
                f"the embedder {spec!r} has the option {key}={value!r}; expected some of "
                "truncate_dim=N, normalize=true|false, device=NAME, batch_size=N, "
                "query_prompt=TEXT, document_prompt=TEXT, dtype=float32|float16|bfloat16, "
                "backend=torch|onnx and onnx_file=NAME"
            ) from None
    return SentenceTransformerEmbedder(model, **options)  # type: ignore[arg-type]


def _openai(rest: str) -> Embedder:
    from nearfield.embedders.openai import OpenAIEmbedder

    model, _, query = rest.partition("?")
    options = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        try:
            options[key] = _OPENAI_OPTIONS[key](value)
        except (KeyError, ValueError):
            # The value is not shown: it may be a key, which has no place in a name.
            raise InvalidInputError(
                f"the embedder 'openai:{model}' has an option {key!r} that is not known, or whose "
                f"value is no such; expected some of {', '.join(_OPENAI_OPTIONS)}; the key is "
                "taken from the variable OPENAI_API_KEY"
            ) from None
    return OpenAIEmbedder(model, **options)  # type: ignore[arg-type]


def _boolean(text: str) -> bool:
    try:
        return {"true": True, "false": False}[text.lower()]
    except KeyError:
        raise ValueError(text) from None


_OPTIONS: dict[str, Callable[[str], object]] = {
    "truncate_dim": int,
    "normalize": _boolean,
    "device": str,
    "batch_size": int,
    "query_prompt": str,
    "document_prompt": str,
    "dtype": str,
    "backend": str,
    "onnx_file": str,
}
_OPENAI_OPTIONS: dict[str, Callable[[str], object]] = {
    "base_url": str,
    "dimensions": int,
    "dimension": int,
    "space": str,
    "normalize": _boolean,
    "query_prompt": str,
    "document_prompt": str,
    "over_long": str,
    "max_tokens": int,
    "batch_size": int,
    "concurrency": int,
    "max_retries": int,
    "timeout_s": float,
    "deadline_s": float,
    "encoding_format": str,
}
