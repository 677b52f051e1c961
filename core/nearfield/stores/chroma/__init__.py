"""Collections in Chroma: ``chroma:///folder`` and ``chroma://host:port``."""
