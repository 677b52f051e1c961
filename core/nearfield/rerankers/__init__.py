"""Rerankers: models that judge the candidates of a search by reading them with the query."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from nearfield.rerankers.base import Reranker
from nearfield.rerankers.registry import load

if TYPE_CHECKING:
    from nearfield.rerankers.cross_encoder import CrossEncoderReranker

__all__ = ["CrossEncoderReranker", "Reranker", "load"]

_MODULES = {"CrossEncoderReranker": "nearfield.rerankers.cross_encoder"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
