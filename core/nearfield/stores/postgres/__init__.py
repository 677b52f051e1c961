"""Collections in PostgreSQL with pgvector: ``postgresql://user@host/database``."""
