"""The approximate tier measured against its bars and its peers: ``python -m benchmarks.scale``."""
