"""Collections in Milvus: ``milvus:///path/to/file.db`` and ``milvus://host:19530``."""
