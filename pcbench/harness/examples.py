"""A few images of each cell, as the model saw them: small, so that a report can show them without the data set."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor

COUNT = 3
SIDE = 96
_QUALITY = 75


class Examples:
    """Collects thumbnails of the first images of different classes that come by.

    The choice depends on the order of the images only, so it is the same in every cell of a run, and whatever the
    batch size.
    """

    def __init__(self) -> None:
        self._taken: dict[int, tuple[str, bytes]] = {}

    def see(self, images: Tensor, labels: Sequence[int], ids: Sequence[str]) -> None:
        """Look at a batch (B, 3, H, W) on its way into the model. What lies beyond [0, 1] is clipped."""
        for row, (label, name) in enumerate(zip(labels, ids, strict=True)):
            if len(self._taken) == COUNT:
                return
            if label not in self._taken:
                self._taken[label] = name, thumbnail(images[row])

    def thumbnails(self, ids: Sequence[str]) -> dict[int, bytes]:
        """Row of each example among the ids -> its thumbnail, a WebP file."""
        place = {name: row for row, name in enumerate(ids)}
        return {place[name]: content for name, content in self._taken.values() if name in place}


def thumbnail(image: Tensor) -> bytes:
    """An image (3, H, W), shrunk to fit 96 x 96 pixels, as a WebP file. A smaller one keeps its size."""
    levels = (image.detach().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    picture = Image.fromarray(np.ascontiguousarray(levels))
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=_QUALITY)
    return buffer.getvalue()
