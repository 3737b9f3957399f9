"""A set of labelled images with stable names: what every number of a run is about."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pcbench.errors import UserError
from pcbench.files import read_file
from pcbench.keys import Condition
from pcbench.randomness import key

Image8 = NDArray[np.uint8]

# Those that data sets have. Pillow knows others, one of which (PostScript) is a program that it would have interpreted.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF", "GIF")
_MOST_PIXELS = 80_000_000  # below what Pillow warns of
_MOST_BYTES = 1 << 28  # as many pixels, uncompressed
_BITS, _PHOTOMETRIC, _PLANES, _FORMAT = 258, 262, 284, 339  # tags of TIFF


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


def read_image(path: Path, name: str) -> bytes:
    """The bytes of an image file, which may be linked from elsewhere. Raises BadImageError, which names it `name`."""
    try:
        return read_file(path, limit=_MOST_BYTES, what=f"image {name}", follow=True)
    except UserError as error:
        raise BadImageError(str(error)) from None


def decode_file(name: str, raw: bytes) -> Image8:
    """An image file's pixels as RGB, uint8 (height, width, 3), upright as its EXIF orientation says.

    Transparency is dropped; of 16 bits the upper 8 are taken. Formats whose white is not known (integers of 32 bits,
    floating point) are refused.

    Raises:
        BadImageError: the file cannot be decoded, or not to known colours; the message names it.
    """
    try:
        with Image.open(BytesIO(raw), formats=_FORMATS) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise ValueError(f"it claims {image.width} x {image.height} pixels, more than images have")
            deep = _is_deep(image)
            upright = ImageOps.exif_transpose(image)
            if not deep:
                return np.asarray(upright.convert("RGB"))
            grey = (np.asarray(upright).astype(np.uint32) >> 8).astype(np.uint8)
            return np.stack([grey, grey, grey], axis=2)
    except Exception as error:  # decoders of damaged files raise nearly anything: OSError, SyntaxError, struct.error
        reason = str(error) or type(error).__name__
        if "<_io.BytesIO" in reason:
            reason = "not an image that can be read"
        raise BadImageError(f"image {name} cannot be decoded: {reason}") from None


def is_uniform(image: Image8) -> bool:
    """Whether all pixels of an image (H, W, 3) are of one colour, as those of a photograph never are."""
    return bool((image == image[:1, :1]).all())


def _is_deep(image: Image.Image) -> bool:
    """Whether an image has 16 bits of grey, of which Pillow's conversion to RGB would make white.

    Raises:
        ValueError: Pillow would give other colours than the file has, or nobody knows which it has.
    """
    tags = getattr(image, "tag_v2", {})
    bits = max(tags.get(_BITS, (8,)))
    if not {1}.issuperset(tags.get(_FORMAT, (1,))):
        raise ValueError("it has signed or floating-point values, and what is white is not known; make it 8 bits")
    if tags.get(_PLANES) == 2 and bits > 8:  # Pillow reads their lower bytes
        raise ValueError(f"it has {bits} bits a colour, in planes; make it 8 bits")
    if image.mode != "F" and not image.mode.startswith("I"):
        return False
    # A PNG or PGM in mode "I" has 16 bits, which Pillow has brought to 0..65535. A TIFF may have 12, or 0 for white.
    known = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if not known or bits not in (8, 16) or tags.get(_PHOTOMETRIC, 1) != 1:
        raise ValueError(f"it has values of Pillow's mode {image.mode}, whose white is not known; make it 8 bits")
    return True
