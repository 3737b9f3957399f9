"""Data sets as torchvision stores them, their checksums verified by torchvision."""

from collections.abc import Callable, Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcbench.data.dataset import TEST, TRAIN, DataForm
from pcbench.data.images import Image8, ImageSet
from pcbench.errors import UserError


class TorchvisionSet(ImageSet):
    """The test or the training images of a data set of torchvision's; ids are "test/00000" or "train/00000", ...

    Args:
        name, label_space: as ImageSet's.
        dataset: class of torchvision.datasets, whose `data` is uint8 (N, H, W, 3) and `targets` are class indices.
        root: the folder that holds torchvision's folder.
        part: "train" or "test".
        rows: of the images to take; None for all of them.
    """

    def __init__(
        self, name: str, label_space: str, dataset: str, root: Path, part: str, rows: Sequence[int] | None = None
    ) -> None:
        self.dataset, self.root, self.part = dataset, root, part
        targets = self._content[1]
        self.rows = list(range(len(targets))) if rows is None else list(rows)
        super().__init__(
            name, label_space, [f"{part}/{row:05d}" for row in self.rows], [targets[row] for row in self.rows]
        )

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_content"}

    @cached_property
    def _content(self) -> tuple[NDArray[np.uint8], list[int]]:
        try:
            content = _torchvision(self.dataset)(str(self.root), train=self.part == TRAIN, download=False)
        except RuntimeError as error:
            raise UserError(f"the files are not torchvision's {self.dataset}: {' '.join(str(error).split())}") from None
        return content.data, content.targets

    def raw(self, index: int) -> bytes:
        """The image's pixels."""
        return bytes(self._content[0][self.rows[index]].tobytes())

    def decode(self, index: int, raw: bytes) -> Image8:
        """The image's pixels."""
        return np.frombuffer(raw, np.uint8).reshape(self._content[0].shape[1:])

    def subset(self, indices: Sequence[int]) -> "TorchvisionSet":
        """The images at these positions, in this order."""
        rows = [self.rows[index] for index in indices]
        return TorchvisionSet(self.name, self.label_space, self.dataset, self.root, self.part, rows)


def torchvision_form(label_space: str, dataset: str, folder: str) -> DataForm:
    """The form of a data set in torchvision's folder, named by that folder or by the one that holds it.

    Args:
        label_space: name of the data set.
        dataset: class of torchvision.datasets, see TorchvisionSet.
        folder: name of torchvision's folder.
    """

    def root(path: Path) -> Path:
        return path.parent if path.name == folder else path

    return DataForm(
        lambda path: (root(path) / folder).is_dir(),
        lambda path, name, part: TorchvisionSet(name, label_space, dataset, root(path), part or TEST),
    )


def torchvision_download(dataset: str, variable: str) -> Callable[[Path], str]:
    """What fetches a data set with torchvision into a folder, and says which environment variable to set."""

    def download(root: Path) -> str:
        try:
            _torchvision(dataset)(str(root), train=False, download=True)
        except (OSError, RuntimeError) as error:
            raise UserError(f"{dataset} could not be downloaded: {' '.join(str(error).split())}") from None
        return f"{variable}={root.resolve()}"

    return download


def _torchvision(dataset: str) -> Any:
    return getattr(import_module("torchvision.datasets"), dataset)  # here: importing torchvision takes seconds
