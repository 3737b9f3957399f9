"""Bilinear samples of images at any position."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pcbench.perturbations.corruptions.kernels import compiled, on_cpu
from pcbench.perturbations.corruptions.linear import Border, reflection

Floats = npt.NDArray[np.float32]


def sample(image: Tensor, y: Tensor, x: Tensor, border: Border) -> Tensor:
    """Bilinear samples.

    Args:
        image: (B, H, W, 3) float32.
        y: (B, H', W') float32 rows in pixels, anywhere.
        x: the columns, likewise.
        border: "reflect" or "mirror": what lies outside.

    Returns:
        (B, H', W', 3) float32.
    """
    rows, columns = reflection(image.shape[1], border), reflection(image.shape[2], border)
    if on_cpu(image):
        out = np.empty((*y.shape, image.shape[3]), np.float32)
        _sample_loop(image.contiguous().numpy(), y.contiguous().numpy(), x.contiguous().numpy(), rows, columns, out)
        return torch.from_numpy(out)
    top, left = y.floor(), x.floor()
    fy, fx = (y - top).unsqueeze(3), (x - left).unsqueeze(3)
    y0, y1 = (_fold_torch(top.long() + i, image.shape[1], rows) for i in (0, 1))
    x0, x1 = (_fold_torch(left.long() + i, image.shape[2], columns) for i in (0, 1))
    which = torch.arange(len(image), device=image.device)[:, None, None]
    upper = image[which, y0, x0] * (1 - fx) + image[which, y0, x1] * fx
    lower = image[which, y1, x0] * (1 - fx) + image[which, y1, x1] * fx
    return upper * (1 - fy) + lower * fy


def _fold_torch(index: Tensor, size: int, rule: tuple[int, int]) -> Tensor:
    period, last = rule
    index = index % period
    return torch.where(index < size, index, last - index)


@compiled
def _fold(index: int, size: int, rule: tuple[int, int]) -> int:
    if 0 <= index < size:
        return index
    index %= rule[0]
    return index if index < size else rule[1] - index


@compiled
def _sample_loop(
    image: Floats, y: Floats, x: Floats, rows: tuple[int, int], columns: tuple[int, int], out: Floats
) -> None:
    height, width = image.shape[1], image.shape[2]
    for n in range(out.shape[0]):
        picture = image[n]
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                top, left = np.floor(y[n, i, j]), np.floor(x[n, i, j])
                fy, fx = y[n, i, j] - top, x[n, i, j] - left
                y0, y1 = _fold(int(top), height, rows), _fold(int(top) + 1, height, rows)
                x0, x1 = _fold(int(left), width, columns), _fold(int(left) + 1, width, columns)
                w00, w01, w10, w11 = (1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx
                a, b, c, d = picture[y0, x0], picture[y0, x1], picture[y1, x0], picture[y1, x1]
                for k in range(3):
                    out[n, i, j, k] = a[k] * w00 + b[k] * w01 + c[k] * w10 + d[k] * w11
