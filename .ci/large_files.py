"""Refuse large files where none belong: a clone stays small, and a large binary is committed once."""

import sys
from pathlib import Path

LIMIT = 1_000_000
HOMES = ("results/", "pcbench/models/weights/", "pcbench/report/vendor/", "pcbench/perturbations/corruptions/frost/")

large = [
    name
    for name in sys.argv[1:]
    if not name.startswith(HOMES) and Path(name).is_file() and Path(name).stat().st_size > LIMIT
]
for name in large:
    sys.stderr.write(f"{name} has {Path(name).stat().st_size / 1e6:.1f} MB; {LIMIT / 1e6:.0f} MB is the limit here\n")
sys.exit(bool(large))
