"""Labelled images for training a classifier: from `--data`, with training and test parts, and in batches."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pcbench.data.arrays import read_image_array
from pcbench.data.cifar10 import BATCHES, VARIABLE
from pcbench.data.classes import CIFAR10
from pcbench.data.folder import read_folder
from pcbench.data.images import ImageSet, choose_positions
from pcbench.data.registry import load_data, public_name
from pcbench.errors import UserError
from pcbench.randomness import torch_generator
from pcbench.training.batches import split

TRAIN, TEST = "train", "test"


@dataclass(frozen=True)
class Examples:
    """Images in memory, where the model is.

    Attributes:
        name: of the data set.
        images: (N, C, H, W) uint8.
        labels: (N,) int64.
    """

    name: str
    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Examples":
        """The same on a device."""
        return Examples(self.name, self.images.to(device), self.labels.to(device))

    def fingerprint(self) -> str:
        """Hexadecimal digest of images and labels."""
        digest = hashlib.sha256(self.images.cpu().numpy().tobytes())
        digest.update(self.labels.cpu().numpy().tobytes())
        return digest.hexdigest()

    def evaluation(self, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        """All examples once, in [0, 1], with labels; each process gets its share."""
        for start in range(rank * batch_size, len(self), world * batch_size):
            stop = start + batch_size
            yield self.images[start:stop].float() / 255, self.labels[start:stop]


@dataclass(frozen=True)
class Crops:
    """Where the images of one epoch are cropped and which are mirrored: drawn image by image, whatever the batches.

    Attributes:
        padding: black pixels around an image before the crop of its own size.
        offsets: (N, 2) row and column of each crop in the padded image.
        flips: (N,) bool.
    """

    padding: int
    offsets: Tensor
    flips: Tensor

    @classmethod
    def draw(cls, count: int, padding: int, seed: int, epoch: int) -> "Crops":
        """The draws of an epoch, keyed by (seed, epoch)."""
        generator = torch_generator(seed, "crops and flips", epoch)
        offsets = torch.randint(0, 2 * padding + 1, (count, 2), generator=generator)
        return cls(padding, offsets, torch.rand(count, generator=generator) < 0.5)

    def of(self, images: Tensor, positions: Tensor) -> Tensor:
        """The views of the images at these positions: (B, C, H, W) in [0, 1], channels last in memory.

        Args:
            images: (N, C, H, W) uint8.
            positions: (B,) int64.
        """
        height, width = images.shape[-2:]
        padded = F.pad(images[positions], (self.padding,) * 4)
        offsets, flips = self.offsets[positions.cpu()], self.flips[positions.cpu()]
        rows = offsets[:, :1] + torch.arange(height)
        across = torch.arange(width)
        columns = offsets[:, 1:] + torch.where(flips[:, None], across.flip(0), across)
        batch = torch.arange(len(positions))[:, None, None].to(images.device)
        rows, columns = rows[:, :, None].to(images.device), columns[:, None, :].to(images.device)
        views = padded[batch, :, rows, columns]  # (B, H, W, C)
        return views.permute(0, 3, 1, 2).float() / 255


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


def load_examples(
    data: str, space: str, size: tuple[int, int], *, limit: int | None = None, held_out: float = 0.0
) -> tuple[Examples, Examples]:
    """Training examples and those on which accuracy is reported.

    Args:
        data: see `load_part`.
        space: whose classes the model knows ("cifar10").
        size: (height, width) that the model takes.
        limit: use this many training images, balanced over classes; and as many of the others at most.
        held_out: report on this share of the training images, which are then not trained on, instead of the test part.

    Raises:
        UserError: also labels of other classes, images of another size, no test part and nothing held out.
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
    return _in_memory(train, size), _in_memory(test, size)


def _in_memory(images: ImageSet, size: tuple[int, int]) -> Examples:
    pixels = np.empty((len(images), *size, 3), np.uint8)
    for index, name in enumerate(images.ids):
        image = images.read(index)
        if image.shape[:2] != size:
            raise UserError(
                f"image {name} is {image.shape[0]} x {image.shape[1]}; this recipe trains on images of the model's own "
                f"size, {size[0]} x {size[1]}"
            )
        pixels[index] = image
    return Examples(images.name, torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.tensor(images.labels))


def _torchvision(root: Path, part: str) -> ImageSet:
    from pcbench.data.cifar10 import TorchvisionCifar10

    return TorchvisionCifar10(public_name(root), root, train=part == TRAIN)
