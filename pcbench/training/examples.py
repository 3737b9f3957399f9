"""Labelled images for training a classifier, in batches: small ones from memory, large ones from their files."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pcbench.data.images import ImageSet
from pcbench.errors import UserError
from pcbench.models.base import Preprocessing
from pcbench.randomness import torch_generator
from pcbench.training.batches import Augmentation, Place, Views, evaluation_batches, loader
from pcbench.training.recipes import ClassifierRecipe

Labelled = tuple[Tensor, Tensor]  # images (B, C, H, W) in [0, 1], channels last in memory, and labels (B,)

SMALL = 64  # pixels: the longest side of images that are kept in memory


class Examples(ABC):
    """Labelled images of a data set `name`."""

    name: str

    @abstractmethod
    def __len__(self) -> int:
        """How many there are."""

    @abstractmethod
    def to(self, device: torch.device) -> "Examples":
        """The same, with batches on a device."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Hexadecimal digest of what is trained on."""

    @abstractmethod
    def views(self, places: Iterator[list[Place]], recipe: ClassifierRecipe) -> Iterator[Labelled]:
        """Augmented batches; each view is drawn from (seed, epoch, image), whatever the batches."""

    @abstractmethod
    def evaluation(self, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Labelled]:
        """All examples once, as they are evaluated; each process gets its share."""


@dataclass(frozen=True)
class InMemory(Examples):
    """Images of the model's own size, in memory, where the model is. Views are padded crops and mirror images.

    Attributes:
        name: of the data set.
        images: (N, C, H, W) uint8.
        labels: (N,) int64.
    """

    name: str
    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """N."""
        return len(self.labels)

    def to(self, device: torch.device) -> "InMemory":
        """See Examples."""
        return InMemory(self.name, self.images.to(device), self.labels.to(device))

    def fingerprint(self) -> str:
        """Of images and labels."""
        digest = hashlib.sha256(self.images.cpu().numpy().tobytes())
        digest.update(self.labels.cpu().numpy().tobytes())
        return digest.hexdigest()

    def views(self, places: Iterator[list[Place]], recipe: ClassifierRecipe) -> Iterator[Labelled]:
        """See Examples; one draw of crops serves an epoch."""
        drawn: tuple[int, Crops] | None = None
        for batch in places:
            epoch = batch[0][0]
            if drawn is None or drawn[0] != epoch:
                drawn = epoch, Crops.draw(self.images, recipe.padding, recipe.cutout, recipe.seed, epoch)
            where = torch.tensor([position for _, position in batch]).to(self.images.device)
            yield drawn[1].of(self.images, where), self.labels[where]

    def evaluation(self, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Labelled]:
        """See Examples."""
        for start in range(rank * batch_size, len(self), world * batch_size):
            stop = start + batch_size
            images = self.images[start:stop].float() / 255
            yield images.contiguous(memory_format=torch.channels_last), self.labels[start:stop]


@dataclass(frozen=True)
class Streamed(Examples):
    """Images that worker processes read and crop as they are needed, so that any number of them can be trained on.

    Views are random resized crops and mirror images; evaluation has the model's own preprocessing.

    Attributes:
        name: of the data set.
        images: of any size.
        preprocessing: of the model.
        workers: processes that read.
        device: where batches go.
    """

    name: str
    images: ImageSet
    preprocessing: Preprocessing
    workers: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __len__(self) -> int:
        """How many there are."""
        return len(self.images)

    def to(self, device: torch.device) -> "Streamed":
        """See Examples."""
        return Streamed(self.name, self.images, self.preprocessing, self.workers, device)

    def fingerprint(self) -> str:
        """Of ids and labels; reading every image would take as long as an epoch."""
        lines = (f"{name}\x1f{label}" for name, label in zip(self.images.ids, self.images.labels, strict=True))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def views(self, places: Iterator[list[Place]], recipe: ClassifierRecipe) -> Iterator[Labelled]:
        """See Examples; one loader for all batches, so that workers start once and read across epochs."""
        return self._read(places, Augmentation(scale=(recipe.crop_scale, 1.0)), recipe.seed)

    def evaluation(self, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Labelled]:
        """See Examples."""
        places = evaluation_batches(list(range(len(self))), batch_size, rank, world)
        return self._read(places, None, 0)

    def _read(self, places: Iterator[list[Place]], augmentation: Augmentation | None, seed: int) -> Iterator[Labelled]:
        views = Views(self.images, self.preprocessing, augmentation, seed)
        for images, labels, _ in loader(views, places, self.workers, self.device):
            layout = torch.channels_last
            yield images.to(self.device, non_blocking=True, memory_format=layout), labels.to(self.device)


@dataclass(frozen=True)
class Crops:
    """Where the images of one epoch are cropped and which are mirrored: drawn image by image, whatever the batches.

    Attributes:
        padding: black pixels around an image before the crop of its own size.
        offsets: (N, 2) row and column of each crop in the padded image.
        flips: (N,) bool.
        cutout: side of a black square in each view; 0 for none.
        centres: (N, 2) row and column of its middle, anywhere in the view, so that part of it may lie outside.
    """

    padding: int
    offsets: Tensor
    flips: Tensor
    cutout: int
    centres: Tensor

    @classmethod
    def draw(cls, images: Tensor, padding: int, cutout: int, seed: int, epoch: int) -> "Crops":
        """The draws of an epoch for (N, C, H, W) images, keyed by (seed, epoch)."""
        count, _, height, width = images.shape
        generator = torch_generator(seed, "crops and flips", epoch)
        offsets = torch.randint(0, 2 * padding + 1, (count, 2), generator=generator)
        flips = torch.rand(count, generator=generator) < 0.5
        apart = torch_generator(seed, "cutout", epoch)  # so that crops are the same with and without it
        places = torch.rand((count, 2), generator=apart) * torch.tensor([height, width])
        return cls(padding, offsets, flips, cutout, places.floor().long())

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
        if self.cutout:
            down, right = self.centres[positions.cpu(), :, None].unbind(1)  # (B, 1) each
            first = self.cutout // 2
            inside = [
                (at - middle + first >= 0) & (at - middle + first < self.cutout)
                for at, middle in ((torch.arange(height), down), (torch.arange(width), right))
            ]
            hidden = inside[0][:, :, None] & inside[1][:, None, :]
            views = views.masked_fill(hidden[..., None].to(views.device), 0)
        return views.permute(0, 3, 1, 2).float() / 255


def examples_of(images: ImageSet, preprocessing: Preprocessing, workers: int) -> Examples:
    """Images for a model: in memory where its images are small, else read as they are needed.

    Raises:
        UserError: small images of another size than the model's.
    """
    if max(preprocessing.size) > SMALL:
        return Streamed(images.name, images, preprocessing, workers)
    height, width = preprocessing.size
    pixels = np.empty((len(images), height, width, 3), np.uint8)
    for index, name in enumerate(images.ids):
        image = images.read(index)
        if image.shape[:2] != (height, width):
            raise UserError(
                f"image {name} is {image.shape[0]} x {image.shape[1]}; this model trains on images of its own size, "
                f"{height} x {width}"
            )
        pixels[index] = image
    return InMemory(images.name, torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.tensor(images.labels))
