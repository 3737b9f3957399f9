"""Pictures of a folder shown to a network, which need no labels: for comparisons with people."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from pcbench.data.geometry import Geometry
from pcbench.data.images import decode_file, read_image
from pcbench.errors import UserError
from pcbench.models.resolve import Resolved

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def pictures_below(folder: Path) -> list[Path]:
    """The image files below a folder, at any depth, in the order of their names.

    Raises:
        UserError: no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder} of stimuli")
    found = sorted((p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file()), key=lambda p: p.name)
    if not found:
        raise UserError(f"{folder} holds no images ({', '.join(ENDINGS)})")
    return found


def shown(
    model: Resolved, files: list[Path], timesteps: int | None = None, device: str = "cpu", batch_size: int = 16
) -> Iterator[npt.NDArray[np.float64]]:
    """What a network makes of pictures, batch by batch.

    Args:
        model: resolved; its preprocessing is used.
        files: images.
        timesteps: T; None for the model's own.
        device: where to compute.
        batch_size: images at a time.

    Yields:
        Probabilities (T + 1, B, classes), float64.

    Raises:
        BadImageError: a file that cannot be read; it is named.
    """
    network = model.build(device)
    prepare = Geometry.of(model.preprocessing).prepare
    for start in range(0, len(files), batch_size):
        part = files[start : start + batch_size]
        pixels = np.stack([prepare(decode_file(file.name, read_image(file, file.name))) for file in part])
        images = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float().div(255)
        with torch.inference_mode():
            logits = network(images, timesteps=timesteps)
        yield logits.double().softmax(dim=-1).cpu().numpy()
