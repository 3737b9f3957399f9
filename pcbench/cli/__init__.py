"""The command line: one module per verb, which turns arguments into calls and results into text."""
