"""JPEG as Pillow has it."""

from io import BytesIO

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

DISK_QUALITY = 85  # that of the images of the published ImageNet-C


def to_pillow(images: Tensor) -> list[Image.Image]:
    """(B, H, W, 3) uint8 of any device as images of Pillow."""
    return [Image.fromarray(image) for image in images.cpu().numpy()]


def through_jpeg(image: Image.Image, quality: int) -> npt.NDArray[np.uint8]:
    """Save an image as JPEG and load it again: (H, W, 3)."""
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def jpeg_batch(images: Tensor, quality: int) -> Tensor:
    """Save (B, H, W, 3) uint8 images as JPEG and load them again; on the CPU, whatever the device."""
    out = np.empty(images.shape, np.uint8)
    for i, image in enumerate(to_pillow(images)):
        out[i] = through_jpeg(image, quality)
    return torch.from_numpy(out).to(images.device)
