"""Pictures: each figure is one small module of data in, one matplotlib figure out."""
