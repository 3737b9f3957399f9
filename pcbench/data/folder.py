"""Image files in folders, one folder a class."""

from collections.abc import Sequence
from pathlib import Path

from pcbench.data.classes import class_indices
from pcbench.data.images import BadImageError, Image8, ImageSet, decode_file
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
        try:
            return self.paths[index].read_bytes()
        except OSError as error:
            reason = error.strerror or "it cannot be read"
            raise BadImageError(f"image {self.ids[index]}: {reason}; --skip-bad-images goes on without it") from None

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
    if not root.exists():
        raise UserError(f"no data folder {root}")
    if not root.is_dir():
        raise UserError(f"{root} is not a folder")
    try:
        return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"data folder {root} cannot be read: {error.strerror}") from None


def read_folder(root: Path, name: str) -> FileSet:
    """A folder of class folders. ROOT/val, ROOT/validation or ROOT/test is taken where ROOT has one.

    Ids are the paths below that folder ("n01440764/ILSVRC2012_val_00000293.JPEG").

    Raises:
        UserError: no such folder, no class folders, unknown class folders, no images.
    """
    folders = class_folders(root)
    for split in ("val", "validation", "test"):
        if split in [folder.name for folder in folders]:
            root = root / split
            folders = class_folders(root)
            break
    if not folders:
        raise UserError(f"data folder {root} has no class folders; images belong in one folder a class")
    space, indices = class_indices([folder.name for folder in folders], f"data folder {root}")
    ids, labels, paths = [], [], []
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in EXTENSIONS and not path.name.startswith("."):
                ids.append(f"{folder.name}/{path.name}")
                labels.append(indices[folder.name])
                paths.append(path)
    if not ids:
        raise UserError(f"data folder {root} has no images in its class folders ({', '.join(sorted(EXTENSIONS))})")
    return FileSet(name, space, ids, labels, paths)
