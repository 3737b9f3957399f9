"""The code that results depend on: its version, which is raised when results change, and a digest of its sources."""

import hashlib
from functools import cache
from pathlib import Path

# Raised by hand whenever the same key would give other records: it is part of every cell's key.
NUMERICS = "3"

# What computes records. The rest (the harness's bookkeeping, statistics, figures, the command line) does not.
_SOURCES = ("data", "models", "perturbations", "randomness.py", "harness/evaluate.py")
_ENDINGS = {".py", ".npz", ".json", ".toml"}


@cache
def sources_digest() -> str:
    """SHA-256 over the sources that compute records: two installations of equal digests compute the same.

    Every cell's provenance has it, and a run does not mix cells of one numerics version and different sources unless
    it is told to.
    """
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for name in _SOURCES:
        place = root / name
        files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.suffix in _ENDINGS)
        for path in files:
            if "weights" in path.relative_to(root).parts:  # parameters are in the model's own key
                continue
            digest.update(f"{path.relative_to(root).as_posix()}\x1f".encode())
            digest.update(hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).digest())
    return digest.hexdigest()
