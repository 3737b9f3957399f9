"""Images, labels, stable ids, fingerprints."""
