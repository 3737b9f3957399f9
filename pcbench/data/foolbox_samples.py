"""Real labelled images that come with Foolbox, so that a first run needs no download."""

import re
from importlib.util import find_spec
from pathlib import Path

from pcbench.data.dataset import TEST, DataSet
from pcbench.data.folder import FileSet
from pcbench.errors import UserError


def foolbox_samples(name: str, label_space: str, description: str) -> DataSet:
    """The samples of a data set. Their files are named DATASET_NUMBER_LABEL.png or .jpg.

    Args:
        name: of the samples.
        label_space: the data set that they are of, as Foolbox calls it too.
        description: one line.
    """

    def open_samples(part: str | None) -> FileSet | None:
        files = _files(label_space)
        if not files:
            raise UserError(f"data set {name} is missing: it comes with foolbox (pip install 'pcbench[samples]')")
        if part == TEST:
            return None
        paths, labels = zip(*files, strict=True)
        return FileSet(name, label_space, [path.stem for path in paths], labels, paths)

    return DataSet(
        description,
        label_space,
        at_hand=lambda: bool(_files(label_space)),
        needs="comes with foolbox (pip install 'pcbench[samples]')",
        open=open_samples,
    )


def _files(prefix: str) -> list[tuple[Path, int]]:
    spec = find_spec("foolbox")
    folder = Path(spec.origin).parent / "data" if spec is not None and spec.origin is not None else None
    found = []
    for path in sorted(folder.iterdir()) if folder is not None and folder.is_dir() else ():
        match = re.fullmatch(rf"{prefix}_\d+_(\d+)\.(?:jpg|png)", path.name)
        if match:
            found.append((path, int(match[1])))
    return found
