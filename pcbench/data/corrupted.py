"""Published corrupted copies, as they are on disk: ImageNet-C folders, CIFAR-10-C and CIFAR-100-C arrays.

Their images were corrupted once and for all, ImageNet-C's also saved as JPEG: results on them are not results of
corrupting on the fly, and are recorded under the copy's own name.
"""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcbench.data.arrays import open_array
from pcbench.data.classes import class_indices, space_of_labels
from pcbench.data.dataset import DATA
from pcbench.data.folder import FileSet, class_folders, images_in
from pcbench.data.images import Image8, ImageSet
from pcbench.errors import UserError, did_you_mean
from pcbench.keys import Condition
from pcbench.perturbations.corruptions.constants import NAMES, SEVERITIES


def _wanted(condition: Condition, name: str, present: Sequence[str]) -> bool:
    """Whether a copy has to answer for this condition. Raises UserError where it cannot."""
    if condition.kind != "corruption":
        return False
    for option, default in (("jpeg85", False), ("backend", "native"), ("frost_textures", 5)):
        if condition.params.get(option, default) != default:
            raise UserError(
                f"data {name} is a corrupted copy, stored as it was published; {option} is for corrupting here"
            )
    if condition.perturbation not in present:
        raise UserError(
            f"data {name} has no {condition.perturbation}; {did_you_mean(condition.perturbation, present)}"
            f" (it has {len(present)} of the {len(NAMES)} corruptions)"
        )
    return True


class ImagenetC(FileSet):
    """ROOT/<corruption>/<severity>/<WordNet id>/<file>. Ids are "<WordNet id>/<file>", the same in every condition.

    Args:
        name, label_space, ids, labels: as ImageSet's.
        root: of the copy.
        present: the corruptions that are there.
        first: "<corruption>/<severity>" of the images that are read when no condition is named.
        count: how many images every condition must have.
    """

    has_clean = False

    def __init__(
        self,
        name: str,
        label_space: str,
        ids: Sequence[str],
        labels: Sequence[int],
        root: Path,
        present: Sequence[str],
        first: str,
        count: int,
    ) -> None:
        super().__init__(name, label_space, ids, labels, [root / first / image_id for image_id in ids])
        self.root, self.present, self.first, self.count = root, list(present), first, count

    def subset(self, indices: Sequence[int]) -> "ImagenetC":
        """The images at these positions, in this order."""
        ids, labels = [self.ids[i] for i in indices], [self.labels[i] for i in indices]
        return ImagenetC(self.name, self.label_space, ids, labels, self.root, self.present, self.first, self.count)

    def variant(self, condition: Condition) -> FileSet | None:
        """The images of one corruption and severity. Raises UserError: they are not there, or not all of them."""
        if not _wanted(condition, self.name, self.present):
            return None
        below = f"{condition.perturbation}/{int(condition.severity)}"
        folder = self.root / below
        if not folder.is_dir():
            raise UserError(f"data {self.name} has no severity {int(condition.severity)} of {condition.perturbation}")
        there = {f"{each.name}/{path.name}" for each in class_folders(folder) for path in images_in(each)}
        missing = [image_id for image_id in self.ids if image_id not in there]
        if missing:
            raise UserError(
                f"data {self.name} is a partial copy: {below} lacks {len(missing)} of {len(self)} images, "
                f"{missing[0]} first"
            )
        if len(there) != self.count:
            raise UserError(
                f"data {self.name} is a partial copy: {self.first} has {self.count} images, {below} {len(there)}"
            )
        paths = [folder / image_id for image_id in self.ids]
        return FileSet(self.name, self.label_space, self.ids, self.labels, paths)


def has_corruption_folders(root: Path) -> bool:
    """Whether a path looks like a copy in ImageNet-C's layout."""
    return any((root / name).is_dir() for name in NAMES)


def read_imagenet_c(root: Path, name: str) -> ImagenetC:
    """A copy in ImageNet-C's layout; its images are those of the first corruption and severity that it has.

    Raises:
        UserError: no severity folder, no class folders, unknown classes, no images.
    """
    present = [corruption for corruption in NAMES if (root / corruption).is_dir()]
    conditions = [f"{c}/{s}" for c in present for s in SEVERITIES if (root / c / str(s)).is_dir()]
    if not conditions:
        raise UserError(f"data {name} has folders of corruptions ({present[0]}, ...), but none of severities 1 to 5")
    folders = class_folders(root / conditions[0])
    if not folders:
        raise UserError(f"data {name}: {conditions[0]} has no class folders")
    space, indices = class_indices([folder.name for folder in folders], f"data {name}, {conditions[0]},")
    found = [(f"{folder.name}/{path.name}", indices[folder.name]) for folder in folders for path in images_in(folder)]
    if not found:
        raise UserError(f"data {name}: {conditions[0]} has no images")
    ids, labels = zip(*found, strict=True)
    return ImagenetC(name, space, ids, labels, root, present, conditions[0], len(ids))


class CifarC(ImageSet):
    """ROOT/<corruption>.npy of all images five times, and ROOT/labels.npy. Ids are "test/00000", ..., as of the clean.

    Args:
        name, label_space, labels: as ImageSet's.
        root: of the copy.
        present: the corruptions that are there.
        shape: of the images at one severity: (number, side, side, 3).
        rows: those to take.
        shown: corruption and severity whose images these are.
    """

    has_clean = False

    def __init__(
        self,
        name: str,
        label_space: str,
        labels: Sequence[int],
        root: Path,
        present: Sequence[str],
        shape: tuple[int, ...],
        rows: Sequence[int],
        shown: tuple[str, int],
    ) -> None:
        super().__init__(name, label_space, [f"test/{row:05d}" for row in rows], labels)
        self.root, self.present, self.shape, self.rows, self.shown = root, list(present), shape, list(rows), shown

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_images"}

    @cached_property
    def _images(self) -> NDArray[np.uint8]:
        found, expected = open_array(self.root / f"{self.shown[0]}.npy"), _all_severities(self.shape)
        if found.dtype != np.uint8 or found.shape != expected:
            raise UserError(
                f"data {self.name}: {self.shown[0]}.npy is {found.dtype} {found.shape}; it must be uint8 {expected}"
            )
        return found

    def raw(self, index: int) -> bytes:
        """The image's pixels."""
        return bytes(self._images[(self.shown[1] - 1) * self.shape[0] + self.rows[index]].tobytes())

    def decode(self, index: int, raw: bytes) -> Image8:
        """The image's pixels."""
        return np.frombuffer(raw, np.uint8).reshape(self.shape[1:])

    def _like(self, positions: Sequence[int], shown: tuple[str, int]) -> "CifarC":
        labels, rows = [self.labels[i] for i in positions], [self.rows[i] for i in positions]
        return CifarC(self.name, self.label_space, labels, self.root, self.present, self.shape, rows, shown)

    def subset(self, indices: Sequence[int]) -> "CifarC":
        """The images at these positions, in this order."""
        return self._like(indices, self.shown)

    def variant(self, condition: Condition) -> "CifarC | None":
        """The images of one corruption and severity. Raises UserError: they are not there, or not all of them."""
        if not _wanted(condition, self.name, self.present):
            return None
        copy = self._like(range(len(self)), (condition.perturbation, int(condition.severity)))
        _ = copy._images  # of another form: now rather than in the middle of a run
        return copy


def has_corrupted_arrays(root: Path) -> bool:
    """Whether a path looks like a copy in CIFAR-C's layout."""
    return any(os.path.lexists(root / f"{name}.npy") for name in NAMES)


def read_cifar_c(root: Path, name: str) -> CifarC:
    """A copy of CIFAR-10-C, CIFAR-100-C or another in their layout; of which data set, labels and image size say.

    Raises:
        UserError: labels.npy or an array is missing or of another form, or the images are not a whole test set.
    """
    if not os.path.lexists(root / "labels.npy"):
        raise UserError(f"data {name} has arrays of corruptions, but no labels.npy")
    present = [corruption for corruption in NAMES if os.path.lexists(root / f"{corruption}.npy")]
    first, labels = open_array(root / f"{present[0]}.npy"), open_array(root / "labels.npy")
    if first.ndim != 4 or first.shape[3] != 3 or not len(first) or len(first) % len(SEVERITIES):
        raise UserError(
            f"data {name}: {present[0]}.npy is {first.dtype} {first.shape}; it must be uint8, of images in RGB at "
            f"{len(SEVERITIES)} severities"
        )
    shape = (len(first) // len(SEVERITIES), *first.shape[1:])
    if labels.shape not in [(shape[0],), (len(first),)] or labels.dtype.kind not in "iu":
        raise UserError(
            f"data {name}: {present[0]}.npy has {len(first):,} images at {len(SEVERITIES)} severities, which "
            f"labels.npy does not fit: {labels.dtype} {labels.shape}"
        )
    blocks = labels.reshape(-1, shape[0])
    if (blocks != blocks[0]).any():
        raise UserError(f"data {name}: labels.npy must repeat the same {shape[0]} labels for each severity")
    if blocks.min() < 0:
        raise UserError(f"data {name}: labels.npy has a label of {blocks.min()}")
    space = space_of_labels(int(blocks.max()), shape[1:3], f"data {name}")
    expected = DATA[space].test_images
    if expected is not None and shape[0] != expected:
        raise UserError(
            f"data {name} is a partial copy: {shape[0]:,} images a severity, of the {expected:,} of {space}"
        )
    return CifarC(name, space, blocks[0].tolist(), root, present, shape, range(shape[0]), (present[0], 1))


def _all_severities(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (len(SEVERITIES) * shape[0], *shape[1:])
