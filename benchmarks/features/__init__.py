"""What vector stores can do, tried one feature at a time; see ``python -m benchmarks.features``."""
