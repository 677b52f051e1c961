"""What is known of OpenAI's own models."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["KNOWN_MODELS", "MAX_INPUTS", "MAX_REQUEST_TOKENS", "KnownModel"]

MAX_INPUTS = 2048
"""Texts in a request, by the API's reference."""
MAX_REQUEST_TOKENS = 300_000
"""Tokens of all texts in a request, by the API's reference."""


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model of OpenAI's; all of them give vectors of length 1.

    Attributes:
        dimension: The components of a vector that is not shortened.
        shortens: Whether the model was trained for fewer components (Matryoshka).
        max_tokens: Tokens of a text that it reads; more are refused. By the API's reference.
    """

    dimension: int
    shortens: bool
    max_tokens: int = 8192


KNOWN_MODELS = {
    "text-embedding-3-large": KnownModel(3072, shortens=True),
    "text-embedding-3-small": KnownModel(1536, shortens=True),
    "text-embedding-ada-002": KnownModel(1536, shortens=False),
}
"""All three read the tokens of the vocabulary cl100k_base."""
