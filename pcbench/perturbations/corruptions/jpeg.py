"""JPEG as Pillow has it."""

from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

DISK_QUALITY = 85  # that of the images of the published ImageNet-C


def jpeg_batch(images: Tensor, quality: int) -> Tensor:
    """Save (B, H, W, 3) uint8 images as JPEG and load them again; on the CPU, whatever the device."""
    out = np.empty(images.shape, np.uint8)
    for i, image in enumerate(images.cpu().numpy()):
        buffer = BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
        out[i] = np.asarray(Image.open(buffer))
    return torch.from_numpy(out).to(images.device)
