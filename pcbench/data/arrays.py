"""Images that lie in one array, and arrays from outside: never unpickled, never larger than what is there."""

import io
import math
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO
from zipfile import ZipFile, ZipInfo

import numpy as np
import psutil
from numpy.typing import NDArray

from pcbench.data.classes import class_names, space_of_labels
from pcbench.data.dataset import DATA, TEST, DataSet
from pcbench.data.images import Image8, ImageSet
from pcbench.errors import UserError
from pcbench.files import open_file

_LONGEST_HEADER = 10_000  # bytes of an array's, as NumPy has it; but NumPy reads longer ones before it refuses them
_LONGEST_READ = 1 << 20  # bytes of an archive read at once: its list of contents is, and NumPy asks for less
_MOST_COMPRESSION, _SMALL = 50, 1 << 28  # photographs compress to a half; what takes little memory may be of anything
_LONGEST_NAME = 100  # characters of a label space


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
        with _archive(self.path) as archive:
            return _read(archive, self.array)

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


def read_image_array(path: Path, name: str, part: str = TEST, mine: DataSet | None = None) -> ArraySet:
    """The images `x_PART` (uint8, N x H x W x 3) and labels `y_PART` of a .npz file; ids are "PART/00000", ...

    Args:
        path: of the file.
        name: what to call the images.
        part: "test" or "train".
        mine: the data set whose classes the labels are, unless the file's own text `label_space` says another; where
            neither does, the labels and the size of the images do, see `pcbench.data.classes.space_of_labels`.

    Raises:
        UserError: the file or the arrays are missing or of another form.
    """
    with _archive(path) as archive:
        images = _form(archive, f"x_{part}")
        if images.dtype != np.uint8 or len(images.shape) != 4 or images.shape[3] != 3:
            raise UserError(f"{path.name}: x_{part} is {images}; it must be uint8 (N, H, W, 3)")
        count, height, width, _ = images.shape
        form = _form(archive, f"y_{part}")
        if form.dtype.kind not in "iu" or math.prod(form.shape) != count or not count:
            raise UserError(f"{path.name}: {count} images and labels that are {form} do not match")
        labels = _read(archive, f"y_{part}").reshape(-1)
        said = _label_space(archive, path)
    largest = int(labels.max())
    found = said or (mine.label_space if mine is not None else space_of_labels(largest, (height, width), path.name))
    classes = len(class_names(found, mine))
    side = mine.side if mine is not None and mine.label_space == found else DATA[found].side
    if labels.min() < 0 or largest >= classes:
        raise UserError(f"{path.name}: labels lie in {labels.min()}..{largest}; {found} has 0..{classes - 1}")
    if side is not None and (height, width) != (side, side):
        raise UserError(
            f"{path.name}: x_{part} has images of {height} x {width} pixels; those of {found} have {side} x {side}"
        )
    ids = [f"{part}/{index:05d}" for index in range(count)]
    return ArraySet(name, found, ids, labels.tolist(), path, f"x_{part}", range(count))


def open_array(path: Path) -> NDArray[np.uint8]:
    """An array of a .npy file, mapped, not read.

    Raises:
        UserError: no such file, or not a .npy file.
    """
    try:
        with open_file(path, what=f"file {path.name}", follow=True) as file:
            form = _read_form(file)
            length, there = math.prod(form.shape) * form.dtype.itemsize, os.fstat(file.fileno()).st_size - form.start
            if form.dtype.hasobject or length != there:
                raise ValueError(f"it is {form}, which is not what is stored")
            return np.memmap(file, form.dtype, "r", form.start, form.shape, "F" if form.fortran else "C")
    except UserError:
        raise
    except Exception as error:  # NumPy parses the header as Python, whose tokeniser and parser raise what they like
        raise UserError(f"{path.name} is not a readable .npy file: {error or type(error).__name__}") from None


@dataclass(frozen=True)
class _Form:
    """What an array's header says, and the position of the first value."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    fortran: bool
    start: int

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


class _Portions(io.BufferedReader):
    """A file that is read in portions, however much `zipfile` would like at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        whole = size is None or size < 0
        content = super().read(_LONGEST_READ + 1 if whole or size is None else min(size, _LONGEST_READ + 1))
        if len(content) > _LONGEST_READ:
            raise ValueError("its list of contents is longer than that of any file of arrays")
        return content


@contextmanager
def _archive(path: Path) -> Iterator[ZipFile]:
    """A .npz file. Whatever is wrong with it, within as well, is a UserError."""
    try:
        with (
            open_file(path, what=f"file {path.name}", follow=True) as file,
            _Portions(file) as portions,
            ZipFile(portions) as archive,
        ):
            archive.filename = path.name  # for messages
            yield archive
    except UserError:
        raise
    except Exception as error:  # damaged archives raise nearly anything: zlib.error, NotImplementedError, tokenize's
        raise UserError(f"{path.name} is not a readable .npz file: {error or type(error).__name__}") from None


def _entry(archive: ZipFile, array: str) -> ZipInfo:
    names = [name.removesuffix(".npy") for name in archive.namelist()]
    if array not in names:
        raise UserError(f"{archive.filename} has no array {array}; it has {', '.join(sorted(names)[:24]) or 'none'}")
    return archive.getinfo(f"{array}.npy")


def _form(archive: ZipFile, array: str) -> _Form:
    """What an array is, none of its values read."""
    entry = _entry(archive, array)
    with archive.open(entry) as file:
        form = _read_form(file)
    claimed, there = math.prod(form.shape) * form.dtype.itemsize, entry.file_size - form.start
    if claimed != there or entry.file_size > max(_SMALL, _MOST_COMPRESSION * entry.compress_size):
        raise ValueError(f"{entry.filename} is {form}, which is not the size of what is stored")
    return form


def _read(archive: ZipFile, array: str) -> NDArray[np.uint8]:
    """An array. Raises ValueError where it, or the archive, claims more than is there, or than memory holds."""
    form, entry = _form(archive, array), _entry(archive, array)
    size, free = entry.file_size, psutil.virtual_memory().available
    if size > free:
        raise ValueError(f"{entry.filename} needs {size / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free")
    if form.dtype.itemsize > _LONGEST_READ:
        raise ValueError(f"{entry.filename} is {form}")
    with archive.open(entry) as file:
        found: NDArray[np.uint8] = np.lib.format.read_array(file, allow_pickle=False)
        return found


def _read_form(file: IO[bytes]) -> _Form:
    """The header of an array at the beginning of a file. Raises ValueError, and what NumPy raises."""
    major, _ = np.lib.format.read_magic(file)
    size = struct.Struct("<H" if major == 1 else "<I")
    (length,) = size.unpack(file.read(size.size))
    if length > _LONGEST_HEADER:
        raise ValueError(f"its header claims {length:,} bytes")
    file.seek(np.lib.format.MAGIC_LEN)
    header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(file)
    if min(shape, default=0) < 0:
        raise ValueError(f"its header claims the shape {shape}")
    return _Form(dtype, shape, fortran, file.tell())


def _label_space(archive: ZipFile, path: Path) -> str | None:
    """What the text `label_space` of a file says; None where it has none."""
    if "label_space.npy" not in archive.namelist():
        return None
    form = _form(archive, "label_space")
    if form.dtype.kind != "U" or math.prod(form.shape) != 1 or form.dtype.itemsize > 4 * _LONGEST_NAME:
        raise UserError(f"{path.name}: label_space is {form}; it must be one text, such as 'cifar100'")
    return str(_read(archive, "label_space").reshape(-1)[0])
