"""The default embedder, with its model's files beside it."""

from nearfield.embedders.minilm.embedder import MiniLMEmbedder

__all__ = ["MiniLMEmbedder"]
