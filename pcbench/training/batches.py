"""Images for training: which are held out, in which order the others come, and how each is cropped.

All of it is a function of (seed, epoch, image id), so a training that was killed goes on with the very batches that
it would have had, whatever the number of workers and processes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pcbench.data.geometry import Geometry
from pcbench.data.images import Image8, ImageSet
from pcbench.errors import UserError
from pcbench.models.base import Preprocessing
from pcbench.randomness import key, numpy_generator, torch_generator

Place = tuple[int, int]  # (epoch, position in the image set)
EVALUATION = -1  # the epoch of images that are not augmented


@dataclass(frozen=True)
class Augmentation:
    """Random resized crop and horizontal flip.

    Attributes:
        scale: smallest and largest share of the image's area that a crop covers, in (0, 1].
        ratio: smallest and largest width / height of a crop.
        flip: probability of a mirror image.
    """

    scale: tuple[float, float] = (0.35, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5

    def apply(self, image: Image8, size: tuple[int, int], generator: np.random.Generator) -> Image8:
        """One random view of an image, (H, W, 3) -> (*size, 3)."""
        height, width = image.shape[:2]
        area, left, top = generator.uniform(*self.scale) * height * width, generator.random(), generator.random()
        ratio = np.exp(generator.uniform(*np.log(self.ratio)))
        w, h = min(width, np.sqrt(area * ratio)), min(height, np.sqrt(area / ratio))
        x, y = left * (width - w), top * (height - h)
        picture = Image.fromarray(image).resize(
            (size[1], size[0]), Image.Resampling.BILINEAR, box=(x, y, x + w, y + h), reducing_gap=2.0
        )
        pixels = np.asarray(picture)
        return np.ascontiguousarray(pixels[:, ::-1]) if generator.random() < self.flip else pixels


def split(ids: list[str], held_out: float) -> tuple[list[int], list[int]]:
    """Positions for training and held-out positions: the images whose ids have the smallest hashes are held out.

    The split depends on the ids alone: not on the seed, so that no training ever learns from another's held-out part.

    Raises:
        UserError: the share is not in [0, 1), or leaves a part empty.
    """
    if not 0 <= held_out < 1:
        raise UserError(f"the held-out share is {held_out}; it is a share of the images, in [0, 1)")
    order = sorted(range(len(ids)), key=lambda position: key("held out", ids[position]))
    count = round(held_out * len(ids))
    if count == len(ids) or (held_out > 0 and count == 0):
        raise UserError(f"{len(ids)} images are too few to hold out a share of {held_out}")
    return sorted(order[count:]), sorted(order[:count])


class Views(Dataset[tuple[Tensor, int, int]]):
    """Views of images in [0, 1], float32 (3, H, W), with label and position; picklable for worker processes."""

    def __init__(
        self, images: ImageSet, preprocessing: Preprocessing, augmentation: Augmentation | None, seed: int
    ) -> None:
        self.images = images
        self.geometry = Geometry.of(preprocessing)
        self.augmentation = augmentation
        self.seed = seed

    def __getitem__(self, place: Place) -> tuple[Tensor, int, int]:
        """One view: augmented in a training epoch, the model's own preprocessing in `EVALUATION`."""
        epoch, position = place
        image = self.images.read(position)
        if epoch == EVALUATION or self.augmentation is None:
            pixels = self.geometry.prepare(image)
        else:
            generator = numpy_generator(self.seed, "augmentation", epoch, self.images.ids[position])
            pixels = self.augmentation.apply(image, self.geometry.size, generator)
        tensor = torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float() / 255
        return tensor, self.images.labels[position], position


def training_batches(
    positions: list[int], batch_size: int, steps: range, seed: int, rank: int = 0, world: int = 1
) -> Iterator[list[Place]]:
    """Batches of a training from step to step; each epoch is a new permutation, its incomplete last batch left out.

    Args:
        positions: to train on.
        batch_size: over all processes together.
        steps: first and last step, over all epochs.
        seed: of the permutations.
        rank: of this process, which gets every `world`-th image of each batch.
        world: number of processes.
    """
    per_epoch = len(positions) // batch_size
    order: list[int] = []
    current = -1
    for step in steps:
        epoch, batch = divmod(step, per_epoch)
        if epoch != current:
            generator = torch_generator(seed, "order of images", epoch)
            order = torch.randperm(len(positions), generator=generator).tolist()
            current = epoch
        chosen = order[batch * batch_size : (batch + 1) * batch_size]
        yield [(epoch, positions[index]) for index in chosen[rank::world]]


def evaluation_batches(positions: list[int], batch_size: int, rank: int = 0, world: int = 1) -> Iterator[list[Place]]:
    """All positions once, in order, in batches; every process gets its share (perhaps an empty one)."""
    own = positions[rank::world]
    for start in range(0, len(own), batch_size):
        yield [(EVALUATION, position) for position in own[start : start + batch_size]]


def loader(
    views: Views, batches: Iterator[list[Place]], workers: int, device: torch.device
) -> DataLoader[tuple[Tensor, int, int]]:
    """Batches of (images (B, 3, H, W), labels (B,), positions (B,)), read by `workers` processes ahead of time."""
    return DataLoader(
        views,
        batch_sampler=_Once(batches),
        num_workers=workers,
        generator=torch.Generator(),  # of its own: the loader would draw from the global one
        pin_memory=device.type == "cuda",
        multiprocessing_context="spawn" if workers and device.type == "cuda" else None,
    )


class _Once:
    """An iterator as the one-time iterable that DataLoader asks for."""

    def __init__(self, batches: Iterator[list[Place]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[list[Place]]:
        return self._batches
