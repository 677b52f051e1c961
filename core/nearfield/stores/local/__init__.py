"""The embedded engine: one SQLite database per collection is the only truth.

Everything else (vectors in memory, columns for filters) is rebuilt from it.
"""
