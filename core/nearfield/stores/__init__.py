"""The places a collection can live in: the embedded engine and, by one protocol, others."""
