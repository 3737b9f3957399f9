import io

import numpy as np
import torch
from PIL import Image

from pcbench.harness.examples import COUNT, Examples, thumbnail


def test_the_first_images_of_different_classes_are_kept_whatever_the_batches() -> None:
    images = torch.rand(8, 3, 40, 50)
    labels = [4, 4, 1, 4, 1, 7, 2, 3]
    ids = [f"image{i}" for i in range(8)]
    whole, parts = Examples(), Examples()
    whole.see(images, labels, ids)
    for start in range(0, 8, 3):
        parts.see(images[start : start + 3], labels[start : start + 3], ids[start : start + 3])
    kept = whole.thumbnails(ids)
    assert list(kept) == [0, 2, 5]
    assert len(kept) == COUNT
    assert kept == parts.thumbnails(ids)


def test_a_thumbnail_is_the_picture_clipped_to_what_can_be_shown() -> None:
    image = torch.full((3, 192, 96), 0.5)
    image[0] = 2.0
    image[2] = -1.0
    shown = np.asarray(Image.open(io.BytesIO(thumbnail(image))))
    assert shown.shape == (96, 48, 3)
    assert np.abs(shown.reshape(-1, 3).mean(0) - [255, 128, 0]).max() < 6
