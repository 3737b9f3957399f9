"""`cifar10`: the CIFAR-10 test images: torchvision's files, an array file, or class folders."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcbench.data.arrays import read_image_array
from pcbench.data.classes import CIFAR10
from pcbench.data.folder import read_folder
from pcbench.data.images import Image8, ImageSet
from pcbench.data.registry import FORMS, DataForm, register_copy
from pcbench.errors import UserError

VARIABLE = "PCBENCH_CIFAR10"
BATCHES = "cifar-10-batches-py"
NEEDS = (
    f"set {VARIABLE} to torchvision's folder (`pcbench data cifar10 --download DIR` fetches it), to a .npz file with "
    "x_test and y_test, or to a folder with one folder a class (airplane, ...), or with test/ of that form"
)


class TorchvisionCifar10(ImageSet):
    """CIFAR-10's test or training images as torchvision stores them, its checksums verified; ids are "test/00000", ...

    Args:
        name: as ImageSet's.
        root: the folder that holds cifar-10-batches-py.
        rows: of the images to take; None for all of them.
        train: the training images; their ids are "train/00000", ...
    """

    def __init__(self, name: str, root: Path, rows: Sequence[int] | None = None, *, train: bool = False) -> None:
        self.root = root
        self.train = train
        targets = self._dataset[1]
        self.rows = list(range(len(targets))) if rows is None else list(rows)
        ids = [f"{'train' if train else 'test'}/{row:05d}" for row in self.rows]
        super().__init__(name, "cifar10", ids, [targets[row] for row in self.rows])

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_dataset"}

    @cached_property
    def _dataset(self) -> tuple[NDArray[np.uint8], list[int]]:
        from torchvision import datasets

        try:
            dataset = datasets.CIFAR10(str(self.root), train=self.train, download=False)
        except RuntimeError as error:
            raise UserError(f"{BATCHES} is not torchvision's CIFAR-10: {' '.join(str(error).split())}") from None
        return dataset.data, dataset.targets

    def raw(self, index: int) -> bytes:
        """The image's pixels."""
        return bytes(self._dataset[0][self.rows[index]].tobytes())

    def decode(self, index: int, raw: bytes) -> Image8:
        """The image's pixels."""
        return np.frombuffer(raw, np.uint8).reshape(32, 32, 3)

    def subset(self, indices: Sequence[int]) -> "TorchvisionCifar10":
        """The images at these positions, in this order."""
        return TorchvisionCifar10(self.name, self.root, [self.rows[index] for index in indices], train=self.train)


def download(root: Path) -> None:
    """Fetch CIFAR-10 with torchvision. Raises UserError when that fails."""
    from torchvision import datasets

    try:
        datasets.CIFAR10(str(root), train=False, download=True)
    except (OSError, RuntimeError) as error:
        raise UserError(f"CIFAR-10 could not be downloaded: {' '.join(str(error).split())}") from None


def _torchvision_root(path: Path) -> Path:
    return path.parent if path.name == BATCHES else path


def _read_npz(path: Path, name: str) -> ImageSet:
    return read_image_array(path, name, "cifar10", len(CIFAR10))


def _read(path: Path) -> ImageSet:
    if path.suffix == ".npz":
        return _read_npz(path, "cifar10")
    if (_torchvision_root(path) / BATCHES).is_dir():
        return TorchvisionCifar10("cifar10", _torchvision_root(path))
    return read_folder(path, "cifar10")


FORMS.register("npz", DataForm(lambda path: path.suffix == ".npz", _read_npz))
FORMS.register(
    "cifar10-torchvision",
    DataForm(
        lambda path: (_torchvision_root(path) / BATCHES).is_dir(),
        lambda path, name: TorchvisionCifar10(name, _torchvision_root(path)),
    ),
)
register_copy("cifar10", "10,000 CIFAR-10 test images", VARIABLE, NEEDS, _read)
