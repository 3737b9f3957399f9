"""A run on disk: schema, store, provenance, loading."""
