"""Image files in folders, one folder a class."""

import os
from collections.abc import Sequence
from pathlib import Path

from pcbench.data.classes import class_indices
from pcbench.data.dataset import TEST, TRAIN, DataSet
from pcbench.data.images import Image8, ImageSet, decode_file, read_image
from pcbench.errors import UserError

EXTENSIONS = {".jpeg", ".jpg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff"}


class FileSet(ImageSet):
    """Images that are files. See ImageSet.

    Args:
        name, label_space, ids, labels: as ImageSet's.
        paths: of the files, as many as ids.
    """

    def __init__(
        self, name: str, label_space: str, ids: Sequence[str], labels: Sequence[int], paths: Sequence[Path]
    ) -> None:
        super().__init__(name, label_space, ids, labels)
        self.paths = list(paths)

    def raw(self, index: int) -> bytes:
        """The file's bytes."""
        return read_image(self.paths[index], self.ids[index])

    def decode(self, index: int, raw: bytes) -> Image8:
        """The file's pixels as RGB."""
        return decode_file(self.ids[index], raw)

    def subset(self, indices: Sequence[int]) -> "FileSet":
        """The images at these positions, in this order."""
        return FileSet(
            self.name,
            self.label_space,
            [self.ids[index] for index in indices],
            [self.labels[index] for index in indices],
            [self.paths[index] for index in indices],
        )


def class_folders(root: Path) -> list[Path]:
    """The folders of a folder, hidden ones apart, in order of their names. Raises UserError: no such folder."""
    return [path for path in _inside(root) if path.is_dir()]


def images_in(folder: Path) -> list[Path]:
    """The files of a class folder whose names are those of images, in order of their names. Raises UserError."""
    return [path for path in _inside(folder) if path.suffix.lower() in EXTENSIONS]


def read_folder(root: Path, name: str, part: str | None = None, mine: DataSet | None = None) -> FileSet | None:
    """A folder of class folders, or of parts that are: train/, and val/, validation/ or test/.

    Ids are the paths below the folder of class folders ("n01440764/ILSVRC2012_val_00000293.JPEG").

    Args:
        root: the folder.
        name: what to call the images.
        part: "train", "test" or None, see `pcbench.data.dataset.DataForm`.
        mine: the data set to take where the class folders could be of several.

    Returns:
        The images; None when there is no such part.

    Raises:
        UserError: no such folder, no class folders, unknown class folders, no images.
    """
    folders = class_folders(root)
    names = [folder.name for folder in folders]
    tests = [each for each in ("val", "validation", TEST) if each in names]
    if part == TRAIN and TRAIN in names:
        below = [TRAIN]
    elif part == TRAIN and tests:
        raise UserError(f"data folder {root} has {tests[0]}/ but no {TRAIN}/; name the folder of the training images")
    elif part == TEST and not tests:
        return None
    else:
        below = [] if part == TRAIN else tests[:1]
    if below:
        root = root / below[0]
        folders = class_folders(root)
    if not folders:
        raise UserError(f"data folder {root} has no class folders; images belong in one folder a class")
    found, indices = class_indices([folder.name for folder in folders], f"data folder {root}", mine)
    files = [(folder.name, path) for folder in folders for path in images_in(folder)]
    if not files:
        raise UserError(f"data folder {root} has no images in its class folders ({', '.join(sorted(EXTENSIONS))})")
    ids = [f"{label}/{path.name}" for label, path in files]
    return FileSet(name, found, ids, [indices[label] for label, _ in files], [path for _, path in files])


def _inside(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder" if os.path.lexists(folder) else f"no data folder {folder}")
    try:
        found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"data folder {folder} cannot be read: {error.strerror}") from None
    for path in found:
        try:
            path.name.encode()
        except UnicodeEncodeError:  # ids are text: random numbers are keyed by their bytes, and records hold them
            raise UserError(f"data folder {folder} has a name that is not UTF-8: {path.name!a}; rename it") from None
    return found
