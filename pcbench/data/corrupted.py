"""Published corrupted copies, as they are on disk: ImageNet-C folders, CIFAR-10-C and CIFAR-100-C arrays.

Their images were corrupted once and for all, ImageNet-C's also saved as JPEG: results on them are not results of
corrupting on the fly, and are recorded under the copy's own name.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcbench.data.classes import class_indices
from pcbench.data.folder import EXTENSIONS, FileSet, class_folders
from pcbench.data.images import Image8, ImageSet
from pcbench.data.registry import FORMS, DataForm
from pcbench.errors import UserError, did_you_mean
from pcbench.keys import Condition
from pcbench.perturbations.corruptions.constants import NAMES, SEVERITIES

CIFAR_TEST = 10_000  # images at each severity of a CIFAR-C array


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
        there = {f"{path.parent.name}/{path.name}" for path in folder.glob("*/*") if path.suffix.lower() in EXTENSIONS}
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


def _corruptions_in(root: Path) -> list[str]:
    return [name for name in NAMES if (root / name).is_dir()] if root.is_dir() else []


def read_imagenet_c(root: Path, name: str) -> ImagenetC:
    """A copy in ImageNet-C's layout; its images are those of the first corruption and severity that it has.

    Raises:
        UserError: no severity folder, no class folders, unknown classes, no images.
    """
    present = _corruptions_in(root)
    conditions = [f"{c}/{s}" for c in present for s in SEVERITIES if (root / c / str(s)).is_dir()]
    if not conditions:
        raise UserError(f"data {name} has folders of corruptions ({present[0]}, ...), but none of severities 1 to 5")
    folders = class_folders(root / conditions[0])
    if not folders:
        raise UserError(f"data {name}: {conditions[0]} has no class folders")
    space, indices = class_indices([folder.name for folder in folders], f"data {name}, {conditions[0]},")
    found = [
        (f"{folder.name}/{path.name}", indices[folder.name])
        for folder in folders
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in EXTENSIONS
    ]
    if not found:
        raise UserError(f"data {name}: {conditions[0]} has no images")
    ids, labels = zip(*found, strict=True)
    return ImagenetC(name, space, ids, labels, root, present, conditions[0], len(ids))


class CifarC(ImageSet):
    """ROOT/<corruption>.npy of 50,000 images and ROOT/labels.npy. Ids are "test/00000", ..., as of the clean images.

    Args:
        name, label_space, labels: as ImageSet's.
        root: of the copy.
        present: the corruptions that are there.
        rows: of the 10,000 test images, those to take.
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
        rows: Sequence[int],
        shown: tuple[str, int],
    ) -> None:
        super().__init__(name, label_space, [f"test/{row:05d}" for row in rows], labels)
        self.root, self.present, self.rows, self.shown = root, list(present), list(rows), shown

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_images"}

    @cached_property
    def _images(self) -> NDArray[np.uint8]:
        return _open_array(self.root / f"{self.shown[0]}.npy")

    def raw(self, index: int) -> bytes:
        """The image's pixels."""
        return bytes(self._images[(self.shown[1] - 1) * CIFAR_TEST + self.rows[index]].tobytes())

    def decode(self, index: int, raw: bytes) -> Image8:
        """The image's pixels."""
        return np.frombuffer(raw, np.uint8).reshape(32, 32, 3)

    def _like(self, positions: Sequence[int], shown: tuple[str, int]) -> "CifarC":
        labels, rows = [self.labels[i] for i in positions], [self.rows[i] for i in positions]
        return CifarC(self.name, self.label_space, labels, self.root, self.present, rows, shown)

    def subset(self, indices: Sequence[int]) -> "CifarC":
        """The images at these positions, in this order."""
        return self._like(indices, self.shown)

    def variant(self, condition: Condition) -> "CifarC | None":
        """The images of one corruption and severity. Raises UserError: they are not there, or not all of them."""
        if not _wanted(condition, self.name, self.present):
            return None
        copy = self._like(range(len(self)), (condition.perturbation, int(condition.severity)))
        expected = (len(SEVERITIES) * CIFAR_TEST, 32, 32, 3)
        if copy._images.dtype != np.uint8 or copy._images.shape != expected:
            raise UserError(
                f"data {self.name}: {condition.perturbation}.npy is {copy._images.dtype} {copy._images.shape}; "
                f"it must be uint8 {expected}"
            )
        return copy


def read_cifar_c(root: Path, name: str) -> CifarC:
    """A copy of CIFAR-10-C or CIFAR-100-C; which one, its labels say (0..9 or 0..99).

    Raises:
        UserError: labels.npy or an array is missing or of another form.
    """
    if not (root / "labels.npy").is_file():
        raise UserError(f"data {name} has arrays of corruptions, but no labels.npy")
    labels = _open_array(root / "labels.npy")
    if labels.shape not in [(CIFAR_TEST,), (len(SEVERITIES) * CIFAR_TEST,)] or labels.dtype.kind not in "iu":
        raise UserError(f"data {name}: labels.npy is {labels.dtype} {labels.shape}; 50,000 whole numbers are expected")
    blocks = labels.reshape(-1, CIFAR_TEST)
    if (blocks != blocks[0]).any():
        raise UserError(f"data {name}: labels.npy must repeat the same {CIFAR_TEST} labels for each severity")
    if blocks.min() < 0 or blocks.max() > 99:
        raise UserError(f"data {name}: labels lie in {blocks.min()}..{blocks.max()}; CIFAR's are 0..9 or 0..99")
    space = "cifar10" if blocks.max() < 10 else "cifar100"
    present = [corruption for corruption in NAMES if (root / f"{corruption}.npy").is_file()]
    return CifarC(name, space, blocks[0].tolist(), root, present, range(CIFAR_TEST), (present[0], 1))


def _open_array(path: Path) -> NDArray[np.uint8]:
    """An array of a .npy file, mapped, never unpickled."""
    try:
        found: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
        return found
    except Exception as error:  # numpy parses the header as Python, whose tokeniser and parser raise what they like
        raise UserError(f"{path.name} is not a readable .npy file: {error}") from None


FORMS.register("imagenet-c", DataForm(lambda path: bool(_corruptions_in(path)), read_imagenet_c))
FORMS.register("cifar-c", DataForm(lambda path: any((path / f"{name}.npy").is_file() for name in NAMES), read_cifar_c))
