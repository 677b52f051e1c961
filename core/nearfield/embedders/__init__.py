"""Embedders: models that turn texts into vectors. None is loaded before its first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from nearfield.embedders.base import AsyncEmbedder, Embedder
from nearfield.embedders.registry import load

if TYPE_CHECKING:
    from nearfield.embedders.cache import CachedEmbedder
    from nearfield.embedders.minilm import MiniLMEmbedder
    from nearfield.embedders.sentence_transformer import SentenceTransformerEmbedder

__all__ = [
    "AsyncEmbedder",
    "CachedEmbedder",
    "Embedder",
    "MiniLMEmbedder",
    "SentenceTransformerEmbedder",
    "load",
]

_MODULES = {
    "CachedEmbedder": "nearfield.embedders.cache",
    "MiniLMEmbedder": "nearfield.embedders.minilm",
    "SentenceTransformerEmbedder": "nearfield.embedders.sentence_transformer",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
