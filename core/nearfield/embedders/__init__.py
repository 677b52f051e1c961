"""Embedders: models that turn texts and images into vectors, loaded at their first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from nearfield.embedders.base import (
    AsyncEmbedder,
    Embedder,
    ImageEmbedder,
    Item,
    ItemEmbedder,
    Sliced,
)
from nearfield.embedders.registry import load

if TYPE_CHECKING:
    from nearfield.embedders.cache import CachedEmbedder
    from nearfield.embedders.callable import CallableEmbedder
    from nearfield.embedders.callable_images import CallableImageEmbedder
    from nearfield.embedders.combined import CombinedEmbedder
    from nearfield.embedders.minilm import MiniLMEmbedder
    from nearfield.embedders.multimodal import MultimodalEmbedder
    from nearfield.embedders.openai import OpenAIEmbedder
    from nearfield.embedders.quantized import QuantizedEmbedder
    from nearfield.embedders.rate_limited import RateLimitedEmbedder
    from nearfield.embedders.retrying import RetryingEmbedder
    from nearfield.embedders.sentence_transformer import SentenceTransformerEmbedder
    from nearfield.embedders.truncated import TruncatedEmbedder

__all__ = [
    "AsyncEmbedder",
    "CachedEmbedder",
    "CallableEmbedder",
    "CallableImageEmbedder",
    "CombinedEmbedder",
    "Embedder",
    "ImageEmbedder",
    "Item",
    "ItemEmbedder",
    "MiniLMEmbedder",
    "MultimodalEmbedder",
    "OpenAIEmbedder",
    "QuantizedEmbedder",
    "RateLimitedEmbedder",
    "RetryingEmbedder",
    "SentenceTransformerEmbedder",
    "Sliced",
    "TruncatedEmbedder",
    "load",
]

_MODULES = {
    "CachedEmbedder": "nearfield.embedders.cache",
    "CallableEmbedder": "nearfield.embedders.callable",
    "CallableImageEmbedder": "nearfield.embedders.callable_images",
    "CombinedEmbedder": "nearfield.embedders.combined",
    "MiniLMEmbedder": "nearfield.embedders.minilm",
    "MultimodalEmbedder": "nearfield.embedders.multimodal",
    "OpenAIEmbedder": "nearfield.embedders.openai",
    "QuantizedEmbedder": "nearfield.embedders.quantized",
    "RateLimitedEmbedder": "nearfield.embedders.rate_limited",
    "RetryingEmbedder": "nearfield.embedders.retrying",
    "SentenceTransformerEmbedder": "nearfield.embedders.sentence_transformer",
    "TruncatedEmbedder": "nearfield.embedders.truncated",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
