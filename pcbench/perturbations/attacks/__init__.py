"""Adversarial attacks through time."""
