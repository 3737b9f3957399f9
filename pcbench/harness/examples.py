"""A few images of each cell, as the model saw them: small, so that a report can show them without the data set."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from PIL import Image
from torch import Tensor

EXAMPLES = "examples"
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

    def table(self, cell: Mapping[str, object]) -> pd.DataFrame:
        """A row for each example: the columns of the cell, image, label, thumbnail (a WebP file, bytes)."""
        rows = [
            {**cell, "image": name, "label": label, "thumbnail": content}
            for label, (name, content) in self._taken.items()
        ]
        return pd.DataFrame(rows)


def thumbnail(image: Tensor) -> bytes:
    """An image (3, H, W), shrunk to fit 96 x 96 pixels, as a WebP file. A smaller one keeps its size."""
    levels = (image.detach().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    picture = Image.fromarray(np.ascontiguousarray(levels))
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=_QUALITY)
    return buffer.getvalue()
