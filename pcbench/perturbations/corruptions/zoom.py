"""Enlarging the middle of an image, linearly, as scipy.ndimage.zoom does."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pcbench.perturbations.corruptions.kernels import compiled, on_cpu

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


@lru_cache(maxsize=256)
def zoom_line(size: int, factor: float) -> tuple[Indices, Floats]:
    """For each of `size` pixels of a line enlarged by `factor` >= 1: the pixel below its source, and the part above.

    The middle ceil(size / factor) pixels become round(that * factor), end on end; what is more than `size` is cut off
    on both sides.
    """
    crop = int(np.ceil(size / factor))
    enlarged = round(crop * factor)
    top, trim = (size - crop) // 2, (enlarged - size) // 2
    position = (np.arange(size) + trim) * ((crop - 1) / max(enlarged - 1, 1))
    lower = np.minimum(position.astype(np.int64), crop - 2)
    return top + lower, (position - lower).astype(np.float32)


def add_zoomed(totals: Tensor, which: Sequence[int], x: Tensor, factor: float) -> None:
    """Add x, enlarged by factor, to some of the totals.

    Args:
        totals: (K, B, H, W, C) float32, contiguous.
        which: of the K.
        x: (B, H, W, C) float32, contiguous.
        factor: at least 1.
    """
    rows, columns = zoom_line(x.shape[1], factor), zoom_line(x.shape[2], factor)
    if on_cpu(x):
        channels = x.shape[3]
        source = columns[0][:, None] * channels + np.arange(channels)
        share = np.repeat(columns[1], channels)
        _zoom_loop(
            x.flatten(2).numpy(),
            *rows,
            source.ravel().astype(np.uint64),
            share,
            channels,
            np.array(which),
            totals.flatten(3).numpy(),
        )
        return
    for dim, (lower, part) in ((1, rows), (2, columns)):
        index = torch.from_numpy(lower).to(x.device)
        weight = torch.from_numpy(part).to(x.device).view([-1 if d == dim else 1 for d in range(4)])
        x = torch.lerp(x.index_select(dim, index), x.index_select(dim, index + 1), weight)
    for total in (totals[k] for k in which):
        total += x


@compiled
def _zoom_loop(
    x: Floats,
    rows: Indices,
    down: Floats,
    columns: npt.NDArray[np.uint64],
    right: Floats,
    channels: int,
    which: Indices,
    totals: Floats,
) -> None:
    line, wide = np.empty(x.shape[2], np.float32), np.empty(x.shape[2], np.float32)
    next_pixel = np.uint64(channels)
    for image in range(x.shape[0]):
        for i in range(rows.size):
            upper, lower, share = x[image, rows[i]], x[image, rows[i] + 1], down[i]
            for k in range(line.size):
                line[k] = upper[k] + (lower[k] - upper[k]) * share
            for k in range(wide.size):
                here = line[columns[k]]
                wide[k] = here + (line[columns[k] + next_pixel] - here) * right[k]
            for index in which:
                out = totals[index, image, i]
                for k in range(out.size):
                    out[k] += wide[k]
