"""From an image file's pixels to the pixels that a network sees: resize and centre crop, in uint8.

Perturbations act on the result, as ImageNet-C's do, so a run prepares each image once for all its conditions.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from pcbench.data.images import Image8
from pcbench.models.base import Interpolation, Preprocessing

# torchvision's transforms of PIL images are these calls; importing them takes as long as importing torch
_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Geometry:
    """The part of a model's preprocessing that moves pixels: models that share it share prepared images.

    Attributes:
        size: (height, width) after the crop.
        resize: length of the short side before the crop; None for images that come in the right size.
        interpolation: of the resize.
        squash: whether the resize changes the proportions to those of the crop.
    """

    size: tuple[int, int]
    resize: int | None = None
    interpolation: Interpolation = "bilinear"
    squash: bool = False

    @classmethod
    def of(cls, preprocessing: Preprocessing) -> "Geometry":
        """The geometry of a model's preprocessing."""
        return cls(preprocessing.size, preprocessing.resize, preprocessing.interpolation, preprocessing.squash)

    def prepare(self, image: Image8) -> Image8:
        """Resize the short side (or both) and crop the centre: (H, W, 3) -> (*size, 3), uint8.

        A square image whose side lies between the crop and the resize length is taken as already prepared (as copies
        of ImageNet often are, at 224, 227 or 256 pixels) and only cropped: resizing it once more would blur it.
        """
        height, width = image.shape[:2]
        short = max(self.size) if self.resize is None else max(self.resize, *self.size)
        if (height, width) == self.size:
            return image
        picture = Image.fromarray(image)
        if height != width or not max(self.size) <= height <= short:
            long = int(short * max(height, width) / min(height, width))
            height, width = (short, long) if height <= width else (long, short)
            if self.squash:
                height, width = (int(side * short / max(self.size)) for side in self.size)
            picture = picture.resize((width, height), _RESAMPLING[self.interpolation])
        top, left = round((height - self.size[0]) / 2), round((width - self.size[1]) / 2)
        return np.asarray(picture.crop((left, top, left + self.size[1], top + self.size[0])))
