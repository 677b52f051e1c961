"""OpenAI's embedding models, and any other behind a server that speaks the same API."""

from __future__ import annotations

from nearfield.embedders.openai.embedder import OpenAIEmbedder
from nearfield.embedders.openai.usage import Usage

__all__ = ["OpenAIEmbedder", "Usage"]
