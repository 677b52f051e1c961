"""Collections in Pinecone: ``pinecone://`` and ``pinecone://host:port``."""
