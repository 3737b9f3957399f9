"""Named lists of conditions: one TOML file each."""
