"""A set of labelled images with stable names: what every number of a run is about."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from pcbench.errors import UserError
from pcbench.keys import Condition
from pcbench.randomness import key

Image8 = NDArray[np.uint8]

# Those that data sets have. Pillow knows others, one of which (PostScript) is a program that it would have interpreted.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF", "GIF")
_MOST_PIXELS = 80_000_000  # below what Pillow warns of


class BadImageError(UserError):
    """An image that cannot be decoded; the message names it."""


class ImageSet(ABC):
    """Images by position, each with an id and a label. Picklable: it travels to worker processes, pixels do not.

    Args:
        name: what records call the data set. Never a path.
        label_space: whose classes the labels are ("imagenet", "cifar10", ...): a model's weights must be for the same.
        ids: one stable id an image, unique. Random numbers are keyed by it, so it must not depend on the machine.
        labels: class indices, as many as ids.

    Attributes:
        has_clean: False for a corrupted copy, which has images for some conditions only (see `variant`).
    """

    has_clean = True

    def __init__(self, name: str, label_space: str, ids: Sequence[str], labels: Sequence[int]) -> None:
        if len(ids) != len(labels):
            raise ValueError(f"{len(ids)} ids, {len(labels)} labels")
        if len(set(ids)) != len(ids):
            raise UserError(f"data set {name} has two images of the same id")
        self.name = name
        self.label_space = label_space
        self.ids = list(ids)
        self.labels = [int(label) for label in labels]

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def raw(self, index: int) -> bytes:
        """The stored bytes of an image: what its content digest is taken of. Raises BadImageError."""

    @abstractmethod
    def decode(self, index: int, raw: bytes) -> Image8:
        """The image, (height, width, 3), from its stored bytes. Raises BadImageError."""

    @abstractmethod
    def subset(self, indices: Sequence[int]) -> "ImageSet":
        """The images at these positions, in this order."""

    def read(self, index: int) -> Image8:
        """The image at a position, uint8 (height, width, 3). Raises BadImageError."""
        return self.decode(index, self.raw(index))

    def variant(self, condition: Condition) -> "ImageSet | None":
        """The same images, same ids and labels, already perturbed as the condition says; None: perturb them yourself.

        Raises:
            UserError: the set should have them and has not.
        """
        return None


def choose_positions(images: ImageSet, limit: int | None) -> list[int]:
    """The positions that `--limit` keeps, ascending: balanced over classes, and the same on every machine.

    Each class's images are ordered by a hash of their ids, and classes take turns; so a smaller limit's images are
    among a larger one's, and folder order plays no part.

    Raises:
        UserError: limit below 1.
    """
    if limit is None:
        return list(range(len(images)))
    if limit < 1:
        raise UserError(f"limit is {limit}; it counts images, so 1 or more")
    hashes = [key("limit", name) for name in images.ids]
    by_class: dict[int, int] = {}
    turns = []
    for position in sorted(range(len(images)), key=hashes.__getitem__):
        turn = by_class.get(images.labels[position], 0)
        by_class[images.labels[position]] = turn + 1
        turns.append((turn, hashes[position], position))
    return sorted(position for _, _, position in sorted(turns)[:limit])


def digest(raw: bytes) -> str:
    """Content digest of one image."""
    return hashlib.sha256(raw).hexdigest()


def fingerprint(ids: Iterable[str], labels: Iterable[int], digests: Iterable[str]) -> str:
    """Hexadecimal fingerprint over ids, labels and contents; independent of the order of the images."""
    lines = sorted(f"{name}\x1f{label}\x1f{content}" for name, label, content in zip(ids, labels, digests, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def decode_file(name: str, raw: bytes) -> Image8:
    """An image file's pixels as RGB, uint8 (height, width, 3). Raises BadImageError, which names the file."""
    from PIL import Image

    try:
        with Image.open(BytesIO(raw), formats=_FORMATS) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise ValueError(f"it claims {image.width} x {image.height} pixels, more than images have")
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # decoders of damaged files raise nearly anything: OSError, SyntaxError, struct.error
        reason = str(error) or type(error).__name__
        if "<_io.BytesIO" in reason:
            reason = "not an image that can be read"
        raise BadImageError(f"image {name} cannot be decoded: {reason}; --skip-bad-images goes on without it") from None
