"""FAISS, imported at first use: it is heavy, and carries no types."""

from __future__ import annotations

from functools import cache
from typing import Any

__all__ = ["faiss_library"]


@cache
def faiss_library() -> Any:
    """Import faiss."""
    import faiss

    return faiss
