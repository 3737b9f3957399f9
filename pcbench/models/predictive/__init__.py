"""Predictive-coding networks: configuration, PCoders, the unrolled network."""
