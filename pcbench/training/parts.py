"""Which images `--data` has for training, and which accuracy is reported on."""

import os
from pathlib import Path

from pcbench.data.arrays import read_image_array
from pcbench.data.cifar10 import BATCHES, VARIABLE
from pcbench.data.classes import CIFAR10
from pcbench.data.folder import read_folder
from pcbench.data.images import ImageSet, choose_positions
from pcbench.data.registry import load_data, public_name
from pcbench.errors import UserError
from pcbench.training.batches import split

TRAIN, TEST = "train", "test"


def load_part(data: str, part: str) -> ImageSet | None:
    """The training or the test images of `--data`, or None when it has no such part.

    Args:
        data: a .npz file with x_train, y_train, x_test, y_test; the root of torchvision's CIFAR-10; a folder with
            train/ and test/ (or val/) folders of class folders; or a folder of class folders, which is all training.
            The name "cifar10" stands for the path in PCBENCH_CIFAR10.
        part: "train" or "test".

    Raises:
        UserError: no such data, or not as they should be.
    """
    if data == "cifar10" and os.environ.get(VARIABLE):
        data = os.environ[VARIABLE]
    path = Path(data).expanduser()
    if path.suffix == ".npz" and path.is_file():
        return read_image_array(path, public_name(path), "cifar10", len(CIFAR10), part)
    root = path.parent if path.name == BATCHES else path
    if (root / BATCHES).is_dir():
        return _torchvision(root, part)
    if (path / TRAIN).is_dir():
        if part == TRAIN:
            return read_folder(path / TRAIN, public_name(path))
        return load_data(data) if any((path / name).is_dir() for name in ("val", "validation", TEST)) else None
    return load_data(data) if part == TRAIN else None


def load_training_images(data: str, space: str | None = None) -> ImageSet:
    """The training images of `--data`; see `load_part`. A test part that lies beside them is not touched.

    Args:
        data: see `load_part`.
        space: whose classes the labels must be; None for any.

    Raises:
        UserError: no such data, not as they should be, or labels of other classes.
    """
    images = load_part(data, TRAIN)
    assert images is not None  # every form of data has something to train on
    if space is not None and images.label_space != space:
        raise UserError(f"data {images.name} has labels of {images.label_space}; the model knows {space}")
    return images


def load_training_and_test(
    data: str, space: str, *, limit: int | None = None, held_out: float = 0.0
) -> tuple[ImageSet, ImageSet]:
    """Training images and those on which accuracy is reported.

    Args:
        data: see `load_part`.
        space: whose classes the model knows ("cifar10").
        limit: use this many training images, balanced over classes; and as many of the others at most.
        held_out: report on this share of the training images, which are then not trained on, instead of the test part.

    Raises:
        UserError: also labels of other classes, no test part and nothing held out.
    """
    train = load_training_images(data, space)
    train = train if limit is None else train.subset(choose_positions(train, limit))
    test: ImageSet | None
    if held_out:
        kept, reported = split(train.ids, held_out)
        train, test = train.subset(kept), train.subset(reported)
    else:
        test = load_part(data, TEST)
        if test is None:
            raise UserError(f"data {train.name} has no test part; --held-out 0.1 reports on a tenth of its images")
        test = test if limit is None else test.subset(choose_positions(test, limit))
    return train, test


def _torchvision(root: Path, part: str) -> ImageSet:
    from pcbench.data.cifar10 import TorchvisionCifar10

    return TorchvisionCifar10(public_name(root), root, train=part == TRAIN)
