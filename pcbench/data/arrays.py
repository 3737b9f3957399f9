"""Images that lie in one array."""

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import IO
from zipfile import ZipFile, ZipInfo

import numpy as np
import psutil
from numpy.typing import NDArray

from pcbench.data.images import Image8, ImageSet
from pcbench.errors import UserError

_MOST_COMPRESSION = 1100  # of deflate, which makes at best 1032 bytes of one


class ArraySet(ImageSet):
    """Images of one size in an array of a .npz file, opened in each process that reads it. See ImageSet.

    Args:
        name, label_space, ids, labels: as ImageSet's.
        path: the .npz file.
        array: name of the array in it, uint8 (N, H, W, 3).
        rows: row of each image.
    """

    def __init__(
        self,
        name: str,
        label_space: str,
        ids: Sequence[str],
        labels: Sequence[int],
        path: Path,
        array: str,
        rows: Sequence[int],
    ) -> None:
        super().__init__(name, label_space, ids, labels)
        self.path = path
        self.array = array
        self.rows = list(rows)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_images"}

    @cached_property
    def _images(self) -> NDArray[np.uint8]:
        return read_npz(self.path, self.array)

    def raw(self, index: int) -> bytes:
        """The image's pixels."""
        return bytes(self._images[self.rows[index]].tobytes())

    def decode(self, index: int, raw: bytes) -> Image8:
        """The image's pixels."""
        return np.frombuffer(raw, np.uint8).reshape(self._images.shape[1:])

    def subset(self, indices: Sequence[int]) -> "ArraySet":
        """The images at these positions, in this order."""
        return ArraySet(
            self.name,
            self.label_space,
            [self.ids[index] for index in indices],
            [self.labels[index] for index in indices],
            self.path,
            self.array,
            [self.rows[index] for index in indices],
        )


def read_npz(path: Path, array: str) -> NDArray[np.uint8]:
    """An array of a .npz file; never unpickles, and takes memory only for what is there.

    Raises:
        UserError: no such file, not a .npz file, no such array, or one that does not fit into memory.
    """
    try:
        with ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            if array not in names:
                raise UserError(f"{path.name} has no array {array}; it has {', '.join(sorted(names)) or 'none'}")
            entry = archive.getinfo(f"{array}.npy")
            with archive.open(entry) as file:
                _check_size(file, entry)
                file.seek(0)
                found: NDArray[np.uint8] = np.lib.format.read_array(file, allow_pickle=False)
                return found
    except FileNotFoundError:
        raise UserError(f"no file {path}") from None
    except UserError:
        raise
    except Exception as error:  # damaged archives raise nearly anything: zlib.error, NotImplementedError, tokenize's
        raise UserError(f"{path.name} is not a readable .npz file: {error or type(error).__name__}") from None


def _check_size(file: IO[bytes], entry: ZipInfo) -> None:
    """Raise ValueError where an array's header, or the archive, claims more than is there, or than memory holds."""
    major, _ = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(file)
    claimed, there = math.prod(shape) * dtype.itemsize, entry.file_size - file.tell()
    if claimed != there or entry.file_size > _MOST_COMPRESSION * max(1, entry.compress_size):
        raise ValueError(f"{entry.filename} is {dtype} {shape}, which is not the size of what is stored")
    free = psutil.virtual_memory().available
    if claimed > free:
        raise ValueError(f"{entry.filename} needs {claimed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free")


def read_image_array(path: Path, name: str, label_space: str, classes: int, split: str = "test") -> ArraySet:
    """The images `x_SPLIT` (uint8, N x H x W x 3) and labels `y_SPLIT` of a .npz file; ids are "SPLIT/00000", ...

    Raises:
        UserError: the arrays are missing or of another form.
    """
    images, labels = read_npz(path, f"x_{split}"), read_npz(path, f"y_{split}").reshape(-1)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise UserError(f"{path.name}: x_{split} is {images.dtype} {images.shape}; it must be uint8 (N, H, W, 3)")
    if len(labels) != len(images) or not len(labels) or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{path.name}: {len(images)} images and {len(labels)} labels ({labels.dtype}) do not match")
    if labels.min() < 0 or labels.max() >= classes:
        raise UserError(
            f"{path.name}: labels lie in {labels.min()}..{labels.max()}; {label_space} has 0..{classes - 1}"
        )
    ids = [f"{split}/{index:05d}" for index in range(len(labels))]
    return ArraySet(name, label_space, ids, labels.tolist(), path, f"x_{split}", range(len(labels)))
