"""`samples`: real labelled images that come with an installed package, so that a first run needs no download."""

import re
from importlib.util import find_spec
from pathlib import Path

from pcbench.data.folder import FileSet
from pcbench.data.registry import DATA, DataSource
from pcbench.errors import UserError


def _folder() -> Path | None:
    spec = find_spec("foolbox")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "data"


def _files(prefix: str) -> list[tuple[Path, int]]:
    folder = _folder()
    found = []
    for path in sorted(folder.iterdir()) if folder is not None and folder.is_dir() else ():
        match = re.fullmatch(rf"{prefix}_\d+_(\d+)\.(?:jpg|png)", path.name)
        if match:
            found.append((path, int(match[1])))
    return found


def _open(name: str, label_space: str, prefix: str) -> FileSet:
    files = _files(prefix)
    if not files:
        raise UserError(f"data set {name} is missing: it comes with foolbox (pip install foolbox)")
    paths = [path for path, _ in files]
    return FileSet(name, label_space, [path.stem for path in paths], [label for _, label in files], paths)


def _register(name: str, label_space: str, prefix: str, description: str) -> None:
    DATA.register(
        name,
        DataSource(
            description,
            label_space,
            at_hand=lambda: bool(_files(prefix)),
            needs="comes with foolbox (pip install foolbox)",
            open=lambda: _open(name, label_space, prefix),
        ),
    )


_register("samples", "imagenet", "imagenet", "20 labelled ImageNet validation images that Foolbox ships")
_register("samples-cifar10", "cifar10", "cifar10", "20 labelled CIFAR-10 test images that Foolbox ships")
