"""The figures of the papers whose experiments pcbench repeats: one module for each, found automatically."""
