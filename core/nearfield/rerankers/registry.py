"""Rerankers by name: what a command line asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from nearfield.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearfield.rerankers.base import Reranker

__all__ = ["load"]


def load(spec: str | Reranker) -> Reranker:
    """Make a reranker from its name.

    Args:
        spec: ``"cross-encoder:NAME"`` where NAME is a model's name or folder, with options after
            a question mark: ``?max_length=256&device=cpu``. A reranker is returned as it is.

    Raises:
        InvalidInputError: The name or an option is not known.
        MissingDependencyError: What the reranker runs on is not installed.
    """
    if not isinstance(spec, str):
        return spec
    kind, _, rest = spec.partition(":")
    model, _, query = rest.partition("?")
    if kind != "cross-encoder" or not model:
        raise InvalidInputError(
            f"no reranker is called {spec!r}; known is 'cross-encoder:NAME', such as "
            "'cross-encoder:cross-encoder/ms-marco-MiniLM-L6-v2', or pass an object with the "
            "methods of nearfield.rerankers.Reranker"
        )
    from nearfield.rerankers.cross_encoder import CrossEncoderReranker

    options = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        try:
            options[key] = _OPTIONS[key](value)
        except (KeyError, ValueError):
            raise InvalidInputError(
                f"the reranker {spec!r} has the option {key}={value!r}; expected some of "
                "device=NAME, dtype=float32|float16|bfloat16, batch_size=N and max_length=N"
            ) from None
    return CrossEncoderReranker(model, **options)  # type: ignore[arg-type]


_OPTIONS: dict[str, Callable[[str], object]] = {
    "device": str,
    "dtype": str,
    "batch_size": int,
    "max_length": int,
}
